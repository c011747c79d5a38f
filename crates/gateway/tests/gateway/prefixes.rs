//! Endpoints below prefixes of their own.

use config::snapshot::Timeouts;
use gateway::{Options, Prefixes};
use testkit::{Reply, Upstream, client, fixture};

use crate::fixture::{CHAT, MESSAGES, MODEL, openai, options, serve_with};

#[tokio::test]
async fn clients_find_endpoints_where_they_were_moved() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let prefixes = Prefixes::parse("openai:/o,anthropic:/a").expect("prefixes");
    let options = Options {
        prefixes: prefixes.below("/ai"),
        ..options()
    };
    let served = serve_with(options, Timeouts::default(), [openai(&upstream)]).await;
    let (chat, message) = (
        fixture::openai::request(MODEL, false),
        fixture::messages::request(MODEL, false),
    );
    for (path, request, status) in [
        ("/ai/o/v1/chat/completions", &chat, 200),
        ("/ai/a/v1/messages", &message, 200),
        (CHAT, &chat, 404),
        (MESSAGES, &message, 404),
        ("/ai/v1/chat/completions", &chat, 404),
        ("/ai/a/v1/message", &message, 404),
    ] {
        let answer = served.post(path, request).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    // Errors are said in the format of the prefix, and name paths as clients have to write them.
    let answer = served.post("/ai/a/v1/message", &message).await;
    assert_eq!(answer.json()["type"], "error");
    assert!(
        answer.text().contains("did you mean POST /ai/a/v1/messages?"),
        "{}",
        answer.text()
    );
    let models = client::get(served.address, "/ai/o/v1/models", &[]).await;
    assert_eq!(models.json()["data"][0]["id"], MODEL);
    // Upstreams are asked at their own paths.
    assert!(upstream.requests().iter().all(|request| request.target == CHAT));
}
