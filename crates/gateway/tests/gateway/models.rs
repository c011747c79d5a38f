//! The lists of models.

use testkit::{Reply, Upstream, client};

use crate::fixture::{openai, serve};

const OPENAI: &str =
    r#"{"data":[{"id":"m","created":1735689600,"object":"model","owned_by":"owner"}],"object":"list"}"#;

const MESSAGES: &str = r#"{"data":[{"id":"m","type":"model","display_name":"m","created_at":"2025-01-01T00:00:00Z"}],"first_id":"m","has_more":false,"last_id":"m"}"#;

#[tokio::test]
async fn the_lists_are_served_in_both_dialects() {
    let upstream = Upstream::start(Reply::new()).await;
    let served = serve([openai(&upstream)]).await;
    for (path, list) in [("/v1/models", OPENAI), ("/anthropic/v1/models?limit=1", MESSAGES)] {
        let answer = client::get(served.address, path, &[]).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, list));
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("content-length"), list.len().to_string());
    }
    served
        .metric_reaches("tollgate_requests_total", &["operation=\"models\""], 2.0)
        .await;
}

#[tokio::test]
async fn lists_come_in_pages_where_they_are_asked_for() {
    let upstream = Upstream::start(Reply::new()).await;
    let served = serve([openai(&upstream)]).await;
    for (query, status, list) in [
        ("", 200, MESSAGES),
        ("?after_id=m", 200, r#"{"data":[],"has_more":false}"#),
        ("?limit=0", 400, ""),
        ("?before_id=gone", 400, ""),
    ] {
        let answer = client::get(served.address, &format!("/anthropic/v1/models{query}"), &[]).await;
        assert_eq!(answer.status, status, "{query}");
        if status == 200 {
            assert_eq!(answer.text(), list, "{query}");
        } else {
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{query}");
        }
    }
}
