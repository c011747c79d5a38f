//! Lists that are given page by page.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use testkit::{Reply, Upstream, client};

use crate::{
    served::{Served, plain, request, serve, snapshot},
    server::{echo, result, start, tool},
};

/// A server with three pages of tools, which fails while `broken` is set.
async fn book(broken: &Arc<AtomicBool>) -> Upstream {
    let broken = Arc::clone(broken);
    start(
        "book",
        Box::new(move |_, message| {
            if message["method"] != "tools/list" {
                return None;
            }
            if broken.load(Ordering::Relaxed) {
                return Some(Reply::whole(500, &[], ""));
            }
            let page = match message["params"]["cursor"].as_str() {
                None => json!({ "tools": [tool("a")], "nextCursor": "2" }),
                Some("2") => json!({ "tools": [tool("echo")], "nextCursor": "3" }),
                Some("3") => json!({ "tools": [tool("c")] }),
                Some(_) => return Some(Reply::whole(500, &[], "")),
            };
            Some(result(message, page))
        }),
    )
    .await
}

async fn serving(route: &str, book: &Upstream, other: &Upstream) -> Served {
    let route = format!("  pagination: cursor\n{route}");
    let mut served = serve(snapshot(&route, &plain(&[("other", other), ("book", book)]))).await;
    served.open().await;
    served
}

async fn page(served: &Served, cursor: &Value) -> Value {
    let mut params = json!({});
    if cursor.is_string() {
        params["cursor"] = cursor.clone();
    }
    served.ask("tools/list", params).await
}

fn names(page: &Value) -> Vec<&str> {
    let tools = page["result"]["tools"].as_array().expect("a list");
    tools
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect()
}

#[tokio::test]
async fn every_page_leads_to_the_next_until_all_are_given() {
    let broken = Arc::new(AtomicBool::new(false));
    let (book, other) = (book(&broken).await, echo("other").await);
    for (route, pages) in [
        (
            "",
            [
                vec!["other__echo", "other__hidden", "book__a"],
                vec!["book__echo"],
                vec!["book__c"],
            ],
        ),
        (
            "  toolNamePrefix: never",
            [vec!["echo", "hidden", "a"], vec!["book__echo"], vec!["c"]],
        ),
    ] {
        let served = serving(route, &book, &other).await;
        let mut cursor = Value::Null;
        for (index, expected) in pages.iter().enumerate() {
            let page = page(&served, &cursor).await;
            assert_eq!(names(&page), *expected);
            cursor = page["result"]["nextCursor"].clone();
            assert_eq!(cursor.is_string(), index < 2, "{page}");
        }
    }
}

#[tokio::test]
async fn cursors_are_good_where_they_are_from() {
    let broken = Arc::new(AtomicBool::new(false));
    let (book, other) = (book(&broken).await, echo("other").await);
    let served = serving("", &book, &other).await;
    let first = page(&served, &Value::Null).await;
    let cursor = first["result"]["nextCursor"].as_str().expect("a cursor");
    let tampered = format!("{}A", &cursor[..cursor.len() - 1]);
    let tampered = if tampered == cursor {
        format!("{cursor}A")
    } else {
        tampered
    };
    for wrong in ["2", "", &tampered] {
        let refused = served.ask("tools/list", json!({ "cursor": wrong })).await;
        assert_eq!(refused["error"]["code"], -32602, "{wrong}");
    }
    let elsewhere = served.ask("prompts/list", json!({ "cursor": cursor })).await;
    assert_eq!(elsewhere["error"]["code"], -32602);
    let params = json!({ "protocolVersion": "2025-06-18" });
    let opened = client::post(served.address, "/other", &[], &request(0, "initialize", &params)).await;
    let session = [("mcp-session-id", opened.header("mcp-session-id"))];
    let next = request(1, "tools/list", &json!({ "cursor": cursor }));
    let refused = client::post(served.address, "/other", &session, &next).await;
    assert_eq!(refused.json()["error"]["code"], -32602);
    // Another session of whoever it was given to goes on all the same.
    let again = serving("", &book, &other).await;
    assert_eq!(names(&page(&again, &json!(cursor)).await), ["book__echo"]);
}

#[tokio::test]
async fn a_page_names_who_is_missing() {
    let broken = Arc::new(AtomicBool::new(false));
    let (book, other) = (book(&broken).await, echo("other").await);
    let served = serving("", &book, &other).await;
    let first = page(&served, &Value::Null).await;
    broken.store(true, Ordering::Relaxed);
    let missing = json!([{ "backend": "book", "reason": "status 500" }]);
    let next = page(&served, &first["result"]["nextCursor"]).await;
    assert_eq!(
        next["error"]["data"]["backends"], missing,
        "nobody else has anything: {next}"
    );
    let first = page(&served, &Value::Null).await;
    assert_eq!(names(&first), ["other__echo", "other__hidden"]);
    assert_eq!(first["result"]["_meta"]["gateway/partial"], missing);
    assert_eq!(first["result"]["nextCursor"], Value::Null);
}
