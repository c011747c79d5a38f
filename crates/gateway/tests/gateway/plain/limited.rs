//! Limits of requests that are told apart by their paths and parameters: whichever way a client writes those, they are the
//! ones that the route is found by and the endpoint is asked for.

use testkit::client;

use super::{EVERYTHING, Setup};

/// Makes requests under a limit of one for those that `selector` selects; all of `targets` are selected.
async fn check(selector: &str, targets: &[&str]) {
    for target in targets {
        let policy = format!(
            "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{name: limits}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: everything}}]
  rateLimit: {{global: {{rules: [{{clientSelectors: [{{{selector}}}], limit: {{requests: 1, unit: Year}}}}]}}}}
"
        );
        let setup = Setup::new(&format!("{EVERYTHING}{policy}")).await;
        let address = setup.served.address;
        assert_eq!(
            client::get(address, targets[0], &[]).await.status,
            200,
            "{selector}"
        );
        assert_eq!(
            client::get(address, target, &[]).await.status,
            429,
            "{selector} {target}"
        );
        assert_eq!(client::get(address, "/other?t=other", &[]).await.status, 200);
    }
}

#[tokio::test]
async fn a_path_is_one_however_it_is_written() {
    let targets = [
        "/admin/x",
        "/%61dmin/x",
        "//admin/x",
        "/a/../admin/x",
        "/./admin/x",
    ];
    check("path: {type: Exact, value: /admin/x}", &targets).await;
    check("path: {type: PathPrefix, value: /admin}", &targets).await;
    check("path: {type: RegularExpression, value: /adm.*}", &targets).await;
}

#[tokio::test]
async fn a_parameter_is_one_however_it_is_written() {
    let targets = [
        "/?t=free",
        "/?%74=free",
        "/?t=fr%65e",
        "/?a=b&t=free&t=paid",
        "/?&t=free",
    ];
    check("queryParams: [{name: t, value: free}]", &targets).await;
    check(
        "queryParams: [{name: t, type: RegularExpression, value: fre+}]",
        &targets,
    )
    .await;
}

/// Each value is counted by itself, and only by itself.
#[tokio::test]
async fn values_are_counted_as_they_are_read() {
    let policy = "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: limits}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: everything}]
  rateLimit: {global: {rules: [{clientSelectors: [{queryParams: [{name: t, type: Distinct}]}], limit: {requests: 1, unit: Year}}]}}
";
    let setup = Setup::new(&format!("{EVERYTHING}{policy}")).await;
    for (target, status) in [("/?t=a", 200), ("/?t=%61", 429), ("/?t=b", 200), ("/", 200)] {
        let answer = client::get(setup.served.address, target, &[]).await;
        assert_eq!(answer.status, status, "{target}");
    }
}
