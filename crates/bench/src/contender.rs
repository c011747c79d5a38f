//! Who is measured: how each program is configured as a proxy in front of the mock upstream, and started.
//!
//! Every proxy does what its operators would have it do in production: two workers, kept connections to the
//! upstream, an access log on a file, metrics on.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{process::Process, script};

/// The model that the gateway relays.
pub(crate) const RELAYED: &str = "bench-relay";
/// The model that the gateway translates.
pub(crate) const TRANSLATED: &str = "bench-translate";
/// The model that the gateway translates to Bedrock Converse.
pub(crate) const CONVERSED: &str = "bench-converse";
/// The model that the gateway translates to Gemini.
pub(crate) const GENERATED: &str = "bench-gemini";
/// How many models are configured in "many" cases.
pub(crate) const MANY: usize = 10_000;
/// How many models are configured otherwise.
pub(crate) const FEW: usize = 10;

/// How many models a route has; teams that look after their own have few.
const PER_ROUTE: usize = 5;
/// How long the gateway waits for a file to stay as it is.
const SETTLED: Duration = Duration::from_millis(20);
/// What stands in place of the model of one route, once that is changed. It is long, so that it resembles no other.
const CHANGED: &str = "a-model-that-is-called-as-no-other-one-so-that-nobody-looks-for-it";

/// Where the mock upstream takes spans.
pub(crate) const RECEIVER: &str = "/v1/traces";

/// How long a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that stands between client and upstream.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// Names it in the report.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it is.
    pub(crate) binary: PathBuf,
}

/// What a contender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Envoy,
    Tollgate {
        models: usize,
        counters: Counters,
        telling: Telling,
    },
}

/// What the gateway tells of requests. Metrics it has in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Nothing: neither records nor decisions.
    Nothing,
    /// What it tells by default: a record of each, and the decisions about the last ones.
    Records,
    /// A span of each too, with what was said, to the receiver there.
    Spans(SocketAddr),
}

/// Where the gateway counts what requests have cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    /// Nowhere.
    None,
    /// In its memory.
    Memory,
    /// In the Redis there.
    Redis(SocketAddr),
}

/// A contender that answers.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// From its start to its first answer.
    pub(crate) ready: Duration,
}

impl Contender {
    /// Starts the program in front of `upstream` and waits until a request gets through it. Its files go to `dir`.
    pub(crate) fn start(&self, dir: &Path, upstream: SocketAddr) -> anyhow::Result<Running> {
        let address = free_address()?;
        let dir = dir.join(self.name);
        fs::create_dir_all(&dir)?;
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Nginx => {
                fs::write(dir.join("nginx.conf"), nginx(address, upstream))?;
                command
                    .arg("-p")
                    .arg(&dir)
                    .args(["-c", "nginx.conf", "-e", "error.log"]);
            }
            Kind::Envoy => {
                let log = dir.join("access.log");
                fs::remove_file(&log).ok();
                fs::write(dir.join("envoy.yaml"), envoy(address, upstream, &log))?;
                command.arg("-c").arg(dir.join("envoy.yaml"));
                command.args([
                    "--concurrency",
                    "2",
                    "--disable-hot-restart",
                    "--log-level",
                    "warn",
                ]);
            }
            Kind::Tollgate {
                models,
                counters,
                telling,
            } => {
                let mut resources = tollgate(address.port(), upstream, models);
                match counters {
                    Counters::None => {}
                    Counters::Memory | Counters::Redis(_) => resources.push_str(QUOTA),
                }
                fs::write(dir.join("tollgate.yaml"), resources)?;
                command.arg("run").arg(dir.join("tollgate.yaml"));
                command.args(["--admin-port", &free_address()?.port().to_string()]);
                match telling {
                    Telling::Nothing => command.args(["--access-log", "off", "--decisions", "0"]),
                    Telling::Records | Telling::Spans(_) => command.args(["--access-log", "json"]),
                };
                if let Telling::Spans(receiver) = telling {
                    let endpoint = format!("http://{receiver}{RECEIVER}");
                    command.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint);
                    command.env("OTEL_BSP_MAX_QUEUE_SIZE", "65536");
                }
                if let Counters::Redis(redis) = counters {
                    command.args(["--redis", &format!("redis://{redis}/0")]);
                }
            }
        }
        let start = Instant::now();
        let mut process = Process::start(command, &dir, self.name)?;
        if let Err(error) = answers(address, || process.ended()) {
            let said = fs::read_to_string(dir.join(format!("{}.err", self.name))).unwrap_or_default();
            let last = said
                .lines()
                .last()
                .unwrap_or("nothing on its standard error")
                .to_owned();
            return Err(error.context(format!("{} says: {last}", self.name)));
        }
        Ok(Running {
            process,
            address,
            ready: start.elapsed(),
        })
    }

    /// Changes one route of a gateway that runs in `dir`; returns how long it takes until that is served, once the file
    /// has settled.
    pub(crate) fn change(&self, dir: &Path, running: &Running) -> anyhow::Result<Duration> {
        let dir = dir.join(self.name);
        let path = dir.join("tollgate.yaml");
        let yaml = fs::read_to_string(&path)?.replacen("model-00005", CHANGED, 1);
        let next = dir.join("next.yaml");
        fs::write(&next, yaml)?;
        fs::rename(&next, &path)?;
        let start = Instant::now();
        answers_for(running.address, CHANGED, || false)?;
        Ok(start.elapsed().saturating_sub(SETTLED))
    }

    /// Returns whether it is the gateway with something switched on or off, of which less is measured.
    pub(crate) fn varies(&self) -> bool {
        match self.kind {
            Kind::Nginx | Kind::Envoy => false,
            Kind::Tollgate {
                counters, telling, ..
            } => counters != Counters::None || telling != Telling::Records,
        }
    }

    /// Returns the program's version, as it says itself.
    pub(crate) fn version(&self) -> String {
        let argument = match self.kind {
            Kind::Nginx => "-v",
            Kind::Envoy => "--version",
            Kind::Tollgate { .. } => "version",
        };
        let output = Command::new(&self.binary).arg(argument).output();
        let said = output
            .map(|output| [output.stdout, output.stderr].concat())
            .unwrap_or_default();
        version(&String::from_utf8_lossy(&said))
            .unwrap_or("unknown")
            .to_owned()
    }
}

/// Finds three numbers joined by dots: programs put their path, their name or a commit around them.
fn version(said: &str) -> Option<&str> {
    let words = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let is_version =
        |word: &&str| word.split('.').count() == 3 && word.split('.').all(|part| part.parse::<u32>().is_ok());
    words.map(|word| word.trim_start_matches('v')).find(is_version)
}

/// Waits until a request to `address` is answered with 200.
pub(crate) fn answers(address: SocketAddr, gave_up: impl FnMut() -> bool) -> anyhow::Result<()> {
    answers_for(address, RELAYED, gave_up)
}

fn answers_for(address: SocketAddr, model: &str, gave_up: impl FnMut() -> bool) -> anyhow::Result<()> {
    answers_to(address, script::CHAT, &script::prompt(model, false, 0), gave_up)
}

/// Waits until this request to `address` is answered with 200.
pub(crate) fn answers_to(
    address: SocketAddr,
    path: &str,
    body: &[u8],
    mut gave_up: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        path,
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    let try_once = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&request)?;
        let mut reply = [0; 512];
        let len = stream.read(&mut reply)?;
        Ok(String::from_utf8_lossy(reply.get(..len).unwrap_or_default()).into_owned())
    };
    let until = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < until {
        match try_once() {
            Ok(reply) if reply.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(reply) => last = reply,
            Err(error) => last = error.to_string(),
        }
        if gave_up() {
            bail!("it ended before it answered");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("it does not answer: {last}")
}

/// Returns an address that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}

fn nginx(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off;
worker_processes 2;
error_log error.log warn;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log access.log combined;
  keepalive_requests 100000000;
  client_max_body_size 0;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream mock {{
    server {upstream};
    keepalive 128;
    keepalive_requests 100000000;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"
    )
}

fn envoy(address: SocketAddr, upstream: SocketAddr, log: &Path) -> String {
    let (port, upstream, log) = (address.port(), upstream.port(), log.display());
    format!(
        r#"static_resources:
  listeners:
  - name: bench
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {log}
              log_format:
                json_format:
                  start_time: "%START_TIME%"
                  method: "%REQ(:METHOD)%"
                  path: "%REQ(:PATH)%"
                  protocol: "%PROTOCOL%"
                  authority: "%REQ(:AUTHORITY)%"
                  user_agent: "%REQ(USER-AGENT)%"
                  request_id: "%REQ(X-REQUEST-ID)%"
                  response_code: "%RESPONSE_CODE%"
                  response_flags: "%RESPONSE_FLAGS%"
                  bytes_received: "%BYTES_RECEIVED%"
                  bytes_sent: "%BYTES_SENT%"
                  duration: "%DURATION%"
                  upstream_host: "%UPSTREAM_HOST%"
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: bench
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: mock, timeout: 0s}}
  clusters:
  - name: mock
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: mock
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}
"#
    )
}

/// Returns the gateway's resources: one upstream in every form, and `models` models of which the measured ones come
/// last.
pub(crate) fn tollgate(port: u16, upstream: SocketAddr, models: usize) -> String {
    let mut yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: bench}}
spec: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: bench, namespace: default}}
spec:
  gatewayClassName: bench
  listeners: [{{name: http, protocol: HTTP, port: {port}}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: mock, namespace: default}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
",
        upstream.ip(),
        upstream.port()
    );
    for form in FORMS {
        backend(&mut yaml, form);
    }
    let fillers: Vec<String> = (FORMS.len()..models)
        .map(|index| format!("model-{index:05}"))
        .collect();
    for (index, models) in fillers.chunks(PER_ROUTE).enumerate() {
        route(&mut yaml, &format!("models-{index}"));
        for model in models {
            rule(&mut yaml, model, "openai");
        }
    }
    route(&mut yaml, "measured");
    for form in FORMS {
        rule(&mut yaml, form.model, form.name);
    }
    yaml
}

/// What every request of the measured models is held against, and never reaches.
const QUOTA: &str = "---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: QuotaPolicy
metadata: {name: quota, namespace: default}
spec:
  targetRefs:
    - {group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: openai}
    - {group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: anthropic}
  serviceQuota: {quota: {limit: 1000000000000, duration: 1d}}
";

/// A form in which the upstream is asked.
struct Form {
    name: &'static str,
    /// The model that is asked for in it.
    model: &'static str,
    schema: &'static str,
    /// The row of the provider, where the schema does not tell.
    provider: &'static str,
    policy: &'static str,
    /// The credential, and the member of the Secret that it is in.
    credential: &'static str,
    secret: &'static str,
}

const FORMS: &[Form] = &[
    Form {
        name: "openai",
        model: RELAYED,
        schema: "OpenAI",
        provider: "",
        policy: "APIKey",
        credential: "apiKey: {secretRef: {name: openai}}",
        secret: "apiKey: upstream-key",
    },
    Form {
        name: "anthropic",
        model: TRANSLATED,
        schema: "Anthropic",
        provider: "",
        policy: "AnthropicAPIKey",
        credential: "anthropicAPIKey: {secretRef: {name: anthropic}}",
        secret: "apiKey: upstream-key",
    },
    Form {
        name: "bedrock",
        model: CONVERSED,
        schema: "AWSBedrock",
        provider: "",
        policy: "AWSCredentials",
        credential: "awsCredentials: {region: us-east-1, credentialsFile: {secretRef: {name: bedrock}}}",
        secret: r#"credentials: "[default]\naws_access_key_id = upstream\naws_secret_access_key = upstream-key\n""#,
    },
    Form {
        name: "gemini",
        model: GENERATED,
        schema: "GCPVertexAI",
        provider: "google-ai-studio",
        policy: "APIKey",
        credential: "apiKey: {secretRef: {name: gemini}}",
        secret: "apiKey: upstream-key",
    },
];

fn backend(yaml: &mut String, form: &Form) {
    let Form {
        name,
        model: _,
        schema,
        provider,
        policy,
        credential,
        secret,
    } = form;
    let annotations = match provider {
        &"" => String::new(),
        provider => format!(", annotations: {{tollgate.dev/provider: {provider}}}"),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        yaml,
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: {name}, namespace: default{annotations}}}
spec:
  schema: {{name: {schema}}}
  backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: mock}}
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: default}}
stringData: {{{secret}}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{name: {name}, namespace: default}}
spec:
  targetRefs: [{{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: {name}}}]
  type: {policy}
  {credential}
"
    );
}

fn route(yaml: &mut String, name: &str) {
    let _ = write!(
        yaml,
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: {name}, namespace: default}}
spec:
  parentRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: bench}}]
  rules:
"
    );
}

fn rule(yaml: &mut String, model: &str, backend: &str) {
    let _ = writeln!(
        yaml,
        "  - matches:
    - headers: [{{type: Exact, name: x-ai-eg-model, value: {model}}}]
    backendRefs: [{{name: {backend}}}]"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let check = |said: &str, wanted: Option<&str>| assert_eq!(version(said), wanted);
        check("nginx version: nginx/1.22.1\n", Some("1.22.1"));
        check(
            "\nenvoy  version: 9e5580/1.40.0/Clean/RELEASE/BoringSSL\n",
            Some("1.40.0"),
        );
        check("tollgate 0.1.0 (rustc 1.95.0)", Some("0.1.0"));
        check("python3.11/site-packages", None);
    }

    #[test]
    fn every_model_is_configured_within_the_limits_of_a_route() {
        let check = |models: usize, routes: usize| {
            let yaml = tollgate(8080, SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)), models);
            assert_eq!(yaml.matches("name: x-ai-eg-model").count(), models);
            let documents = || {
                yaml.split("---\n")
                    .filter(|document| document.contains("kind: AIGatewayRoute"))
            };
            assert_eq!(documents().count(), routes);
            assert!(documents().all(|document| document.matches("- matches:").count() <= 15));
        };
        check(FEW, 3);
        check(MANY, 2001);
    }
}
