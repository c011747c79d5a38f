"""A real Prometheus scrapes the gateway under load: its linter finds nothing, no panel of the dashboard is empty, rules say
something, and native histograms are read."""

import json
import os
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from running import Gateway, Tools, free_port, until

PROMETHEUS = Path(os.environ["PROMETHEUS"])
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"
RULES = Path(__file__).parents[2] / "docs" / "prometheus-rules.yaml"
RECORDS = [
    "tollgate:errors:ratio_rate5m",
    "tollgate:first_token:p95_rate5m",
    "tollgate:overhead:p99_rate5m",
    "tollgate:spending:rate1h",
]
VARIABLES = {"$provider": ".*", "$model": ".*", "$route": ".*", "$__range": "1m"}


class Prometheus:
    """Scrapes addresses every second."""

    def __init__(self, folder, *addresses, features=()):
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{RULES}']\n"
            f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: {list(addresses)}}}]}}]\n"
        )
        subprocess.run([PROMETHEUS / "promtool", "check", "config", configuration], check=True, capture_output=True)
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.log = (folder / "prometheus.log").open("w")
        self.process = subprocess.Popen(
            [
                PROMETHEUS / "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *(f"--enable-feature={feature}" for feature in features),
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def ask(self, query):
        """Returns the values that `query` has now, without those that are no number."""
        url = f"{self.base}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            # It is not ready yet.
            if error.code == 503:
                return []
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        except OSError:
            return []
        return [row for row in found if row["value"][1] != "NaN"]

    def end(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


class Load:
    """Asks for answers and streams until it is ended, for a model that exists and for one that does not, and for tools where
    there are some."""

    def __init__(self, gateway, tools=False):
        self.ended = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(gateway, model, stream))
            for model, stream in [("sim-1", False), ("sim-1", True), ("absent", False)]
        ]
        if tools:
            self.threads.append(threading.Thread(target=self.call, args=(gateway,)))
        for thread in self.threads:
            thread.start()

    def run(self, gateway, model, stream):
        while not self.ended.is_set():
            gateway.ask(stream, model)

    def call(self, gateway):
        def ask(method, params, **headers):
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return gateway.send("/mcp", message, {"accept": "application/json, text/event-stream", **headers})

        opened = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        session = {"mcp-session-id": ask("initialize", opened).headers["mcp-session-id"]}
        while not self.ended.is_set():
            ask("tools/call", {"name": "tools__echo", "arguments": {}}, **session)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def queries():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, f"{panel['title']}: a variable that the dashboard does not declare: {query}"
            yield panel["title"], query


@pytest.fixture
def gateway():
    gateway = Gateway({})
    yield gateway
    gateway.end()


@pytest.fixture
def declared(tmp_path, gateway):
    """A gateway with routes, limits, costs and tools, in front of the other one."""
    tools = Tools()
    written = tmp_path / "declared.yaml"
    host, port = gateway.address.split(":")
    written.write_text(DECLARED % (host, port, tools.port))
    declared = Gateway({}, [written])
    yield declared
    declared.end()


def test_no_panel_is_empty(tmp_path, gateway, declared):
    loads = [Load(gateway), Load(declared, tools=True)]
    prometheus = Prometheus(tmp_path, gateway.admin, declared.admin)
    try:
        for title, query in queries():
            until(lambda: prometheus.ask(query), f"{title}: {query} has no value")
        for record in RECORDS:
            until(lambda: prometheus.ask(record), f"{record} has no value")
        assert [up["value"][1] for up in prometheus.ask("up")] == ["1", "1"]
        [(route, cost)] = {
            (row["metric"]["route"], row["metric"]["cost"]) for row in prometheus.ask("tollgate_costs_total")
        }
        assert (route, cost) == ("default/chat", "micro_dollars")
        [spent] = prometheus.ask("tollgate_spending_total")
        assert (spent["metric"]["route"], spent["metric"]["currency"]) == ("default/chat", "USD")
    finally:
        for load in loads:
            load.end()
        prometheus.end()


def test_the_rules_are_sound():
    checked = subprocess.run([PROMETHEUS / "promtool", "check", "rules", RULES], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_native_histograms_are_read(tmp_path):
    gateway = Gateway({}, arguments=["--native-histograms"])
    load = Load(gateway)
    prometheus = Prometheus(tmp_path, gateway.admin, features=["native-histograms"])
    name = "gen_ai_server_request_duration_seconds"
    try:
        query = f"histogram_quantile(0.95, sum(rate({name}[1m])))"
        [found] = until(lambda: prometheus.ask(query), f"{query} has no value")
        assert 0 < float(found["value"][1]) < 60
        query = f"sum(histogram_count({name}))"
        [found] = until(lambda: prometheus.ask(query), f"{query} has no value")
        assert float(found["value"][1]) >= 1
        counters = until(lambda: prometheus.ask("tollgate_requests_total"), "counters have no value")
        assert counters
    finally:
        load.end()
        prometheus.end()
        gateway.end()


def test_the_linter_finds_nothing(gateway):
    gateway.ask(False, "sim-1")
    gateway.ask(True, "sim-1")
    text = gateway.metrics("text/plain")
    linted = subprocess.run(
        [PROMETHEUS / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


DECLARED = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  gatewayClassName: tollgate
  listeners: [{name: http, protocol: HTTP, port: 1975}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: gateway}]
  llmRequestCosts: [{metadataKey: micro_dollars, type: CEL, cel: "input_tokens * 3u + output_tokens * 12u"}]
  rules:
    - matches: [{headers: [{name: x-ai-eg-model, value: sim-1}]}]
      backendRefs: [{name: simulated}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: simulated, annotations: {tollgate.dev/prices: "USD; sim-1: input=2, output=8"}}
spec:
  schema: {name: OpenAI}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: simulated}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: simulated}
spec:
  endpoints: [{ip: {address: %s, port: %s}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: limits}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: chat}]
  circuitBreaker: {maxConnections: 1}
  rateLimit:
    type: Global
    global: {rules: [{limit: {requests: 1000000, unit: Hour}}]}
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: QuotaPolicy
metadata: {name: quota}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: simulated}]
  serviceQuota: {quota: {limit: 1000000000, duration: 1mo}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: gateway}]
  path: /mcp
  backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: tools}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: tools}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: %d}}]
"""
