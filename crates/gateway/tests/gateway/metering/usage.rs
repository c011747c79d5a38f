//! What operators are told of counters: so many at a time.

use serde_json::{Value, json};

use super::declared::{Declared, limits};

#[tokio::test]
async fn counters_are_told_a_page_at_a_time() {
    let rule = "{clientSelectors: [{headers: [{name: x-user-id, type: Distinct}]}], limit: {requests: 9, unit: Year}}";
    let policy = limits("", "kind: HTTPRoute, name: route-0", &[rule]);
    let mut gateway = Declared::serve(&[&[("a", "one")]], &policy).await;
    for user in ["b/=&%", "a", "d", "c"] {
        assert_eq!(gateway.ask("a", &[("x-user-id", user)]).await, 200);
    }
    let whole = gateway.served.admin("/usage").await.json();
    assert_eq!(whole["next"], Value::Null);
    let (mut found, mut path) = (Vec::new(), "/usage?limit=3".to_owned());
    for (count, more) in [(3, true), (1, false)] {
        let page = gateway.served.admin(&path).await.json();
        let counters = page["counters"].as_array().expect("a list");
        assert_eq!(counters.len(), count, "{page}");
        found.extend(counters.iter().cloned());
        assert_eq!(page["next"].is_string(), more, "{page}");
        if let Some(next) = page["next"].as_str() {
            let next = percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC);
            path = format!("/usage?after={next}&limit=3");
        }
    }
    assert_eq!(json!(found), whole["counters"]);
    let full = ["rule=\"default/limits/rule/0\""];
    let full = gateway
        .served
        .metric("tollgate_limit_utilization_ratio", &full)
        .await;
    assert!((full - 1.0 / 9.0).abs() < 1e-9, "{full}");
    for path in ["/usage?limit=0", "/usage?limit=all"] {
        assert_eq!(gateway.served.admin(path).await.status, 400, "{path}");
    }
}
