//! What is resolved again, after edits, is what is resolved from scratch.

use std::{collections::BTreeSet, fs, sync::Arc};

use config::{
    Memory, Report, Resolver, Resources, Snapshot, Surroundings, parse, parse_again, resolve,
    snapshot::{Candidate, Rule},
};
use insta::glob;
use proptest::{collection::vec, prelude::*};

/// Each document of each case is taken out and put back.
#[test]
fn a_document_that_goes_and_comes_back() {
    glob!("cases/*/input.yaml", |path| {
        let text = fs::read_to_string(path).expect("the case can be read");
        let documents: Vec<&str> = text.split("\n---\n").collect();
        let mut again = Again::default();
        again.check(&documents);
        for without in 0..documents.len() {
            let mut rest = documents.clone();
            rest.remove(without);
            again.check(&rest);
        }
        again.check(&documents);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Documents change, go, come and change places.
    #[test]
    fn edits_in_any_order(
        first in vec(any::<usize>(), SLOTS.len()),
        edits in vec((any::<usize>(), any::<usize>(), any::<usize>()), 1..16),
    ) {
        let mut documents: Vec<&str> = SLOTS.iter().zip(first).map(|(slot, one)| slot[one % slot.len()]).collect();
        let mut slots: Vec<usize> = (0..SLOTS.len()).collect();
        let mut again = Again::default();
        again.check(&documents);
        for (at, variant, to) in edits {
            let (at, to) = (at % documents.len(), to % documents.len());
            let slot = SLOTS[slots[at]];
            documents[at] = slot[variant % slot.len()];
            if variant % 5 == 0 {
                documents.swap(at, to);
                slots.swap(at, to);
            }
            again.check(&documents);
        }
    }
}

/// What stays is the same value as before, and what changes is not.
#[test]
fn plain_routes_that_stay_are_not_compiled_again() {
    let (mut memory, mut resolver) = (Memory::default(), Resolver::default());
    let mut resolved = |documents: &[&str]| {
        let text = documents.join("\n---\n");
        let surroundings = Surroundings {
            environment: &|_| None,
            reader: &|_| Err("no such file".to_owned()),
        };
        let mut resources = Resources::default();
        let _ = memory.turn([text.as_str()]);
        let faults = parse_again("input.yaml", &text, &surroundings, &mut memory, &mut resources);
        assert_eq!(faults, []);
        resolver.resolve(&resources, LOADED).0
    };
    let kept = |before: &Snapshot, after: &Snapshot| -> Vec<String> {
        let rules = |snapshot: &Snapshot| -> Vec<Arc<Rule>> {
            let listeners = snapshot.listeners.values();
            listeners
                .flat_map(|listener| listener.router.rules().cloned())
                .collect()
        };
        let known = rules(before);
        let is_kept = |rule: &Arc<Rule>| {
            let plain = rule.plain.as_ref().map(Arc::as_ptr);
            known
                .iter()
                .any(|known| known.plain.as_ref().map(Arc::as_ptr) == plain)
        };
        let kept: BTreeSet<String> = rules(after)
            .iter()
            .filter(|rule| is_kept(rule))
            .map(|rule| rule.route.to_string())
            .collect();
        kept.into_iter().collect()
    };
    let base = [GATEWAY, BACKEND, CLUSTER_SERVICE, SLICE, PLAIN_ROUTE, PLAIN_OTHER];
    let both = ["default/also", "default/plain"].map(str::to_owned).to_vec();
    let (also, plain) = (both[..1].to_vec(), both[1..].to_vec());
    let mut before = resolved(&base);
    for (at, document, expected) in [
        (0, GATEWAY, &both),
        // One of them is another route, and then a backend of one is.
        (5, PLAIN_OTHER_BROKEN, &plain),
        (5, PLAIN_OTHER, &plain),
        (3, SLICE_MOVED, &plain),
        (3, SLICE, &plain),
        (4, PLAIN_ROUTE_MOVED, &also),
        // Both call this one.
        (4, PLAIN_ROUTE, &also),
        (1, BACKEND_MOVED, &Vec::new()),
    ] {
        let mut documents = base;
        documents[at] = document;
        let after = resolved(&documents);
        assert_eq!(&kept(&before, &after), expected, "{document}");
        before = after;
    }
    let mut before = resolved(&[&base[..], &[PLAIN_ROUTE_EXTENDED, FILTER]].concat());
    let extended = vec!["default/extended".to_owned()];
    for (filter, expected) in [
        (FILTER, [both.clone(), extended.clone()].concat()),
        (FILTER_OTHER, both.clone()),
        (FILTER_OTHER, [both.clone(), extended].concat()),
    ] {
        let after = resolved(&[&base[..], &[PLAIN_ROUTE_EXTENDED, filter]].concat());
        let mut kept = kept(&before, &after);
        kept.sort_by_key(|route| route == "default/extended");
        assert_eq!(kept, expected, "{filter}");
        before = after;
    }
}

/// Reads and resolves one text after the other.
#[derive(Default)]
struct Again {
    memory: Memory,
    resolver: Resolver,
}

impl Again {
    /// Checks that `documents` mean what they mean to whoever sees them for the first time.
    fn check(&mut self, documents: &[&str]) {
        let text = documents.join("\n---\n");
        let surroundings = Surroundings {
            environment: &|_| None,
            reader: &|_| Err("no such file".to_owned()),
        };
        let (mut fresh, mut resources) = (Resources::default(), Resources::default());
        let faults = parse("input.yaml", &text, &surroundings, &mut fresh);
        let _ = self.memory.turn([text.as_str()]);
        let memory = &mut self.memory;
        let found = parse_again("input.yaml", &text, &surroundings, memory, &mut resources);
        assert_eq!(found, faults);
        let (wanted, report) = resolve(&fresh, LOADED);
        let again = self.resolver.resolve(&resources, LOADED);
        same((&again.0, &again.1), (&wanted, &report));
    }
}

/// When the process of these tests read its configuration.
const LOADED: u64 = 1_700_000_000;

#[track_caller]
fn same((snapshot, report): (&Snapshot, &Report), (wanted, said): (&Snapshot, &Report)) {
    assert_eq!(format!("{:#?}", report.entries), format!("{:#?}", said.entries));
    assert_eq!(snapshot.dump(), wanted.dump());
    assert_eq!(snapshot.outside.services, wanted.outside.services);
    assert_eq!(snapshot.outside.key_sets, wanted.outside.key_sets);
    for (listener, wanted) in snapshot.listeners.values().zip(wanted.listeners.values()) {
        let rules: Vec<_> = listener.router.rules().zip(wanted.router.rules()).collect();
        for (rule, wanted) in &rules {
            same_rule(rule, wanted);
        }
        // Rules that share a policy do so in both.
        let policies = |rule: &Arc<Rule>| rule.policies.as_ref().map(Arc::as_ptr);
        let traffic = |rule: &Arc<Rule>| rule.traffic.as_ref().map(Arc::as_ptr);
        for pair in rules.windows(2) {
            let [(one, wanted), (two, next)] = pair else {
                continue;
            };
            assert_eq!(policies(one) == policies(two), policies(wanted) == policies(next));
            assert_eq!(traffic(one) == traffic(two), traffic(wanted) == traffic(next));
        }
        assert_eq!(format!("{:#?}", listener.mcp), format!("{:#?}", wanted.mcp));
        for host in ["", "a.example.com", "b.example.com"] {
            assert_eq!(listener.router.models(host), wanted.router.models(host));
        }
    }
}

#[track_caller]
fn same_rule(rule: &Rule, wanted: &Rule) {
    assert_eq!(
        (&rule.route, rule.index, &rule.name),
        (&wanted.route, wanted.index, &wanted.name)
    );
    assert_eq!((rule.timeouts, &rule.costs), (wanted.timeouts, &wanted.costs));
    assert_eq!(format!("{:?}", rule.plain), format!("{:?}", wanted.plain));
    assert_eq!(rule.candidates.len(), wanted.candidates.len());
    for (candidate, wanted) in rule.candidates.iter().zip(wanted.candidates.iter()) {
        let place = |own: &Candidate| (Arc::clone(&own.id), own.weight, own.priority, own.model.clone());
        assert_eq!(place(candidate), place(wanted));
        assert_eq!(
            (&candidate.headers, &candidate.body),
            (&wanted.headers, &wanted.body)
        );
        // Secrets are compared here, and not shown.
        assert!(candidate.backend == wanted.backend, "{:?}", candidate.backend);
    }
}

/// What stands at each place of a configuration, one at a time.
const SLOTS: &[&[&str]] = &[
    &[GATEWAY, GATEWAY_COUNTING, NOTHING],
    &[CLOSED_GATEWAY, NOTHING],
    &[CONFIG, CONFIG_PRICED, CONFIG_PAID, CONFIG_BROKEN, NOTHING],
    &[BACKEND, BACKEND_MOVED, BACKEND_BROKEN, NOTHING],
    &[SERVICE, SERVICE_DRESSED, SERVICE_ELSEWHERE, NOTHING],
    &[FAR_SERVICE, NOTHING],
    &[GRANT, NOTHING],
    &[SECRET, SECRET_TURNED, NOTHING],
    &[CREDENTIAL, CREDENTIAL_PLAIN, NOTHING],
    &[QUOTA, QUOTA_LESS, NOTHING],
    &[TRAFFIC, TRAFFIC_OF_ROUTE, NOTHING],
    &[SECURITY, SECURITY_OF_ROUTE, NOTHING],
    &[ROUTE, ROUTE_LONGER, ROUTE_BROKEN, NOTHING],
    &[COUNTED, COUNTED_BADLY, NOTHING],
    &[FAR_ROUTE, NOTHING],
    &[PLAIN_ROUTE, PLAIN_ROUTE_MOVED, PLAIN_ROUTE_DRESSED, NOTHING],
    &[PLAIN_OTHER, PLAIN_OTHER_BROKEN, NOTHING],
    &[FILTER, FILTER_OTHER, NOTHING],
    &[CLUSTER_SERVICE, CLUSTER_SERVICE_STICKY, NOTHING],
    &[SLICE, SLICE_MOVED, NOTHING],
    &[TOOLS, TOOLS_CHOSEN, TOOLS_BROKEN, NOTHING],
    &["kind: Unknown", "# no document", "kind: [", NOTHING],
];

const NOTHING: &str = "# nothing\n# at all";

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: c
  listeners:
  - {name: http, protocol: HTTP, port: 8080}
  - {name: own, protocol: HTTP, port: 8080, hostname: a.example.com, allowedRoutes: {namespaces: {from: All}}}";
const GATEWAY_COUNTING: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, annotations: {aigateway.envoyproxy.io/gateway-config: all}}
spec: {gatewayClassName: c, listeners: [{name: http, protocol: HTTP, port: 8080}]}";
const CLOSED_GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other}
spec: {gatewayClassName: c, listeners: [{name: http, protocol: HTTP, port: 8081}]}";
const CONFIG: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: GatewayConfig
metadata: {name: all}
spec: {globalLLMRequestCosts: [{metadataKey: total, type: TotalToken}]}";
const CONFIG_PAID: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: GatewayConfig
metadata: {name: all, annotations: {tollgate.dev/prices: 'USD; input=1'}}
spec: {globalLLMRequestCosts: [{metadataKey: total, type: TotalToken}]}";
const CONFIG_PRICED: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: GatewayConfig
metadata: {name: all}
spec:
  globalLLMRequestCosts: [{metadataKey: total, type: CEL, cel: input_tokens * 2u}]
  forwardProxy: {address: '127.0.0.1:3128'}";
const CONFIG_BROKEN: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: GatewayConfig
metadata: {name: all}
spec: {globalLLMRequestCosts: [{metadataKey: total, type: CEL, cel: input_tokens *}]}";
const BACKEND: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: one}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 9000}}]}";
const BACKEND_MOVED: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: one}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 9001}}]}";
const BACKEND_BROKEN: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: one}
spec: {type: DynamicResolver}";
const SERVICE: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: one}
spec: {schema: {name: OpenAI}, backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: one}}";
const SERVICE_DRESSED: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: one}
spec:
  schema: {name: Anthropic}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: one}
  headerMutation: {set: [{name: x-a, value: b}]}";
const SERVICE_ELSEWHERE: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: one}
spec: {schema: {name: OpenAI}, backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: missing}}";
const FAR_SERVICE: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: far, namespace: far}
spec: {schema: {name: OpenAI}, backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: one, namespace: default}}";
const GRANT: &str = "apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: far, namespace: far}
spec:
  from: [{group: aigateway.envoyproxy.io, kind: AIGatewayRoute, namespace: default}]
  to: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend}]";
const SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {apiKey: first}";
const SECRET_TURNED: &str = "apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {apiKey: second}";
const CREDENTIAL: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: key}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: one}]
  type: APIKey
  apiKey: {secretRef: {name: key}}";
const CREDENTIAL_PLAIN: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: key}
spec: {type: APIKey, apiKey: {secretRef: {name: key}}}";
const QUOTA: &str = "apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: QuotaPolicy
metadata: {name: quota}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: one}]
  serviceQuota: {quota: {limit: 100, duration: 1h}}";
const QUOTA_LESS: &str = "apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: QuotaPolicy
metadata: {name: quota}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: one}]
  serviceQuota: {quota: {limit: 10, duration: 1h}}
  perModelQuotas: [{modelName: fast, quota: {bucketRules: [{quota: {limit: 5, duration: 1h}}]}}]";
const TRAFFIC: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: all}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  retry: {numRetries: 3}";
const TRAFFIC_OF_ROUTE: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: all}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: chat, sectionName: fast}
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: plain}
  timeout: {http: {requestTimeout: 9s}}";
const SECURITY: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: guard}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  authorization: {defaultAction: Deny}";
const SECURITY_OF_ROUTE: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: guard}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: chat}]
  authorization: {defaultAction: Allow}";
const ROUTE: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: edge}]
  rules:
  - name: fast
    matches: [{headers: [{name: x-ai-eg-model, value: fast}]}]
    backendRefs: [{name: one, headerMutation: {set: [{name: x-ai-eg-a, value: b}]}}, {name: missing}]";
const ROUTE_LONGER: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: edge}, {name: other}]
  hostnames: [a.example.com, '*.example.com']
  rules:
  - name: fast
    matches: [{headers: [{name: x-ai-eg-model, value: fast}]}, {headers: [{name: x-ai-eg-other, value: x}]}]
    backendRefs: [{name: one, modelNameOverride: faster, priority: 1}]
  - matches: [{headers: [{name: x-ai-eg-model, value: slow}]}]
    backendRefs: [{name: one, weight: 0}]";
const ROUTE_BROKEN: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{headers: [{name: x-ai-eg-model, type: RegularExpression, value: '('}]}]
    backendRefs: [{name: one}]";
const COUNTED: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: counted, creationTimestamp: 2024-01-01T00:00:00Z}
spec:
  parentRefs: [{name: edge}, {name: gone}]
  llmRequestCosts: [{metadataKey: out, type: OutputToken}]
  rules: [{matches: [{headers: [{name: x-ai-eg-model, value: fast}, {name: x-b, value: c}]}], backendRefs: [{name: one}]}]";
const COUNTED_BADLY: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: counted}
spec:
  parentRefs: [{name: edge}]
  llmRequestCosts: [{metadataKey: out, type: CEL, cel: '1 +'}]
  rules: [{backendRefs: [{name: one}]}]";
const FAR_ROUTE: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: across}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{headers: [{name: x-ai-eg-model, value: far}]}], backendRefs: [{name: far, namespace: far}]}]";
const PLAIN_ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{path: {value: /site}}], backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: one}]}]";
const PLAIN_ROUTE_MOVED: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain}
spec:
  parentRefs: [{name: other}]
  rules: [{matches: [{path: {type: Exact, value: /site}}], backendRefs: [{name: missing, port: 80}]}]";
const PLAIN_ROUTE_DRESSED: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain}
spec:
  parentRefs: [{name: edge}, {name: other}]
  hostnames: ['*.example.com']
  rules:
  - name: whole
    matches: [{path: {value: /a}, method: GET, headers: [{name: x-a, value: b}]}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: c}]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: cluster, port: 80}, percent: 10}}
    - {type: CORS, cors: {allowOrigins: ['https://a.example']}}
    - {type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: extends}}
    backendRefs:
    - {group: gateway.envoyproxy.io, kind: Backend, name: one, weight: 3}
    - {name: cluster, port: 80, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-b]}}]}
    retry: {attempts: 1}
  - backendRefs: [{name: cluster, port: 80}]";
const PLAIN_ROUTE_EXTENDED: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: extended}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {value: /extended}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: extends}}
    backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: one}]";
const PLAIN_OTHER: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: also}
spec:
  parentRefs: [{name: edge}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: cluster, port: 80}}}]
    backendRefs: [{name: cluster, port: 80}, {group: gateway.envoyproxy.io, kind: Backend, name: one}]";
const PLAIN_OTHER_BROKEN: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: also}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{path: {type: RegularExpression, value: '/('}}], backendRefs: [{name: cluster, port: 81}]}]";
const FILTER: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: HTTPRouteFilter
metadata: {name: extends}
spec: {urlRewrite: {hostname: {type: Backend}}}";
const FILTER_OTHER: &str = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: HTTPRouteFilter
metadata: {name: extends}
spec: {directResponse: {statusCode: 418}}";
const CLUSTER_SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: cluster}
spec: {ports: [{port: 80}]}";
const CLUSTER_SERVICE_STICKY: &str = "apiVersion: v1
kind: Service
metadata: {name: cluster}
spec: {ports: [{port: 80, appProtocol: kubernetes.io/h2c}], sessionAffinity: ClientIP}";
const SLICE: &str = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cluster, labels: {kubernetes.io/service-name: cluster}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]
ports: [{port: 9000}]";
const SLICE_MOVED: &str = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cluster, labels: {kubernetes.io/service-name: cluster}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: false}}]
ports: [{port: 9001}]";
const TOOLS: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: edge}]
  backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: one}]";
const TOOLS_CHOSEN: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: edge}, {name: other}]
  headers: [{name: x-a, value: '1'}]
  backendRefs:
  - {group: gateway.envoyproxy.io, kind: Backend, name: one, toolSelector: {includeRegex: ['a.*']}}
  - {name: cluster, port: 80, alias: second, toolSelector: {exclude: [b]}}";
const TOOLS_BROKEN: &str = "apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: edge}]
  headers: [{name: x-a, type: RegularExpression, value: '('}]
  backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: one, toolSelector: {includeRegex: ['(']}}]";
