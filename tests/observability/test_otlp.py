"""What the gateway tells is read by the official parsers: OTLP over HTTP and gRPC, and the text for Prometheus."""

import gzip
import json
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from running import Gateway, Tools

SERVICE = "/opentelemetry.proto.collector.{}Service/Export"


class Received:
    """What came, and of which signal."""

    def __init__(self):
        self.traces, self.metrics, self.logs, self.headers = [], [], [], []


class Http:
    """A receiver of OTLP over HTTP."""

    protocol = "http/protobuf"

    def __init__(self):
        received = self.received = Received()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                received.headers.append(dict(self.headers))
                if self.path == "/v1/traces":
                    received.traces.append(ExportTraceServiceRequest.FromString(body))
                elif self.path == "/v1/metrics":
                    received.metrics.append(ExportMetricsServiceRequest.FromString(body))
                elif self.path == "/v1/logs":
                    received.logs.append(ExportLogsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Grpc:
    """A receiver of OTLP over gRPC."""

    protocol = "grpc"

    def __init__(self):
        received = self.received = Received()

        def handler(request_type, response, into):
            def export(request, context):
                received.headers.append(dict(context.invocation_metadata()))
                into.append(request)
                return response

            return grpc.unary_unary_rpc_method_handler(
                export,
                request_deserializer=request_type.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )

        methods = {
            SERVICE.format("trace.v1.Trace"): handler(
                ExportTraceServiceRequest, ExportTraceServiceResponse(), received.traces
            ),
            SERVICE.format("metrics.v1.Metrics"): handler(
                ExportMetricsServiceRequest, ExportMetricsServiceResponse(), received.metrics
            ),
            SERVICE.format("logs.v1.Logs"): handler(
                ExportLogsServiceRequest, ExportLogsServiceResponse(), received.logs
            ),
        }

        class Generic(grpc.GenericRpcHandler):
            def service(self, details):
                return methods.get(details.method)

        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((Generic(),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(holder):
    return {pair.key: value(pair.value) for pair in holder}


@pytest.mark.parametrize("receiver", [Http, Grpc])
@pytest.mark.parametrize("temporality, compression", [("cumulative", "none"), ("delta", "gzip")])
def test_signals_are_what_the_specification_says(receiver, temporality, compression):
    receiver = receiver()
    gateway = Gateway(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            "OTEL_SERVICE_NAME": "under-test",
        }
    )
    gateway.ask(False)
    gateway.ask(True)
    # Records go to the receiver in place of standard output.
    assert gateway.end() == ""
    received = receiver.received
    assert all(headers.get("x-key") == "a b" for headers in received.headers)

    [resource] = received.traces[0].resource_spans
    assert attributes(resource.resource.attributes)["service.name"] == "under-test"
    assert resource.scope_spans[0].scope.name == "envoyproxy/ai-gateway"
    spans = all_spans(received)
    requests = [span for span in spans if span.name == "ChatCompletion"]
    assert len(requests) == 2
    for span in requests:
        found = attributes(span.attributes)
        assert found["openinference.span.kind"] == "LLM"
        assert found["llm.input_messages.0.message.content"] == "Hello"
        assert found["llm.output_messages.0.message.role"] == "assistant"
        assert found["llm.token_count.total"] > 0
        assert found["session.id"] == "s-1"
        assert span.status.code == 1 and span.start_time_unix_nano < span.end_time_unix_nano
        [attempt] = [other for other in spans if other.parent_span_id == span.span_id]
        assert attempt.trace_id == span.trace_id
    records = log_records(received)
    assert [record.trace_id for record in records] == [span.trace_id for span in requests]
    for record in records:
        found = attributes(record.attributes)
        assert found["gen_ai.request.model"] == "sim-1"
        assert found["response_code"] == 200 and found["outcome"] == "complete"
        assert found["gen_ai.usage.output_tokens"] > 0
        assert found["session.id"] == "s-1"
        assert "POST /v1/chat/completions status=200" in value(record.body)
        assert record.time_unix_nano > 0 and record.severity_number == 9
    assert [event.name for span in requests for event in span.events] == ["First Token Stream Event"]

    metrics = {
        metric.name: metric
        for resource in received.metrics[-1].resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    tokens = metrics["gen_ai.client.token.usage"]
    assert tokens.unit == "token"
    assert tokens.histogram.aggregation_temporality == {"delta": 1, "cumulative": 2}[temporality]
    kinds = {attributes(point.attributes)["gen_ai.token.type"] for point in tokens.histogram.data_points}
    assert {"input", "output"} <= kinds
    for point in tokens.histogram.data_points:
        assert sum(point.bucket_counts) == point.count
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    duration = metrics["gen_ai.server.request.duration"]
    assert duration.unit == "s"
    assert sum(point.count for point in duration.histogram.data_points) == 2


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_histograms_may_be_exponential(temporality):
    receiver = Http()
    gateway = Gateway(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
        }
    )
    for _ in range(3):
        gateway.ask(True)
    gateway.end()
    histograms = [
        metric.exponential_histogram
        for metric in metrics_of(receiver.received)
        if metric.name == "gen_ai.client.token.usage"
    ]
    for histogram in histograms:
        assert histogram.aggregation_temporality == {"delta": 1, "cumulative": 2}[temporality]
        for point in histogram.data_points:
            assert sum(point.positive.bucket_counts) + point.zero_count == point.count
    told = histograms if temporality == "delta" else histograms[-1:]
    points = [point for histogram in told for point in histogram.data_points]
    outputs = [point for point in points if attributes(point.attributes)["gen_ai.token.type"] == "output"]
    assert sum(point.count for point in outputs) == 3
    for point in outputs:
        # What the buckets say of the mean is as good as their width.
        base = 2 ** (2**-point.scale)
        bounds = [base ** (point.positive.offset + at) for at in range(len(point.positive.bucket_counts))]
        least = sum(bound * count for bound, count in zip(bounds, point.positive.bucket_counts))
        assert least <= point.sum <= least * base * 1.001 or point.count == 0


def test_the_console_is_told_json():
    gateway = Gateway({"OTEL_METRICS_EXPORTER": "console"}, arguments=["--access-log", "off"])
    gateway.ask(False)
    told = [json.loads(line) for line in gateway.end().splitlines()]
    metrics = {metric["name"]: metric for metric in told[-1]["metrics"]}
    assert told[-1]["resource"]["service.name"] == "ai-gateway"
    duration = metrics["gen_ai.server.request.duration"]
    assert duration["unit"] == "s" and duration["points"][0]["count"] == 1
    assert duration["points"][0]["attributes"]["gen_ai.operation.name"] == "chat"


def metrics_of(received):
    return [
        metric
        for request in received.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


def all_spans(received):
    return [
        span
        for request in received.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def log_records(received):
    return [
        record
        for request in received.logs
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def test_a_resource_names_a_receiver_of_records(tmp_path):
    receiver = Grpc()
    declared = tmp_path / "declared.yaml"
    declared.write_text(DECLARED % receiver.port)
    gateway = Gateway({}, [declared])
    gateway.ask(False)
    assert gateway.end() == ""
    received = receiver.received
    assert {headers.get("x-key") for headers in received.headers} == {"told"}
    [resource] = received.logs[0].resource_logs
    assert attributes(resource.resource.attributes) == {"service.name": "ai-gateway", "region": "north"}
    [record] = log_records(received)
    assert value(record.body) == "POST 404"
    assert attributes(record.attributes) == {"code": 404, "path": "/v1/chat/completions"}


DECLARED = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: logged}
spec:
  gatewayClassName: tollgate
  infrastructure:
    parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: records}
  listeners: [{name: http, protocol: HTTP, port: 1975}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: records}
spec:
  telemetry:
    accessLog:
      settings:
        - format:
            text: "%%REQ(:METHOD)%% %%RESPONSE_CODE%%"
            json: {code: "%%RESPONSE_CODE%%", path: "%%REQ(:PATH)%%", absent: "%%REQ(X-ABSENT)%%"}
          sinks:
            - type: OpenTelemetry
              openTelemetry:
                backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: collector}]
                headers: [{name: x-key, value: told}]
                resources: {region: north}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: collector}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: %d}}]
"""


@pytest.mark.parametrize("receiver", [Http, Grpc])
def test_messages_of_mcp_are_told(receiver, tmp_path):
    receiver, tools = receiver(), Tools()
    declared = tmp_path / "declared.yaml"
    declared.write_text(TOOLS % tools.port)
    gateway = Gateway(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol,
            "AI_GATEWAY_TRACING_SEMCONV": "gen_ai",
            "OTEL_AIGW_METRICS_REQUEST_HEADER_ATTRIBUTES": "x-team:team.id",
        },
        [declared],
    )
    accept = {"accept": "application/json, text/event-stream", "x-team": "red"}

    def ask(method, params, **headers):
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return gateway.send("/mcp", message, {**accept, **headers})

    opened = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    session = {"mcp-session-id": ask("initialize", opened).headers["mcp-session-id"]}
    ask("tools/list", {}, **session)
    ask("tools/call", {"name": "tools__echo", "arguments": {}, "_meta": {"X-Team": "blue"}}, **session)
    gateway.end()
    received = receiver.received
    spans = {span.name: span for span in all_spans(received)}
    assert set(spans) == {"initialize", "tools/list", "tools/call tools__echo"}
    for span in spans.values():
        assert (span.kind, span.status.code) == (3, 1)
        [event] = [event for event in span.events if event.name == "route to backend"]
        assert attributes(event.attributes)["mcp.backend.name"] == "tools"
    called = spans["tools/call tools__echo"]
    found = attributes(called.attributes)
    assert found["gen_ai.operation.name"] == "execute_tool" and found["gen_ai.tool.name"] == "tools__echo"
    assert attributes(spans["tools/list"].attributes)["mcp.tools.count"] == 1
    place = f"00-{called.trace_id.hex()}-{called.span_id.hex()}-01"
    assert ("tools/call", place, place) in tools.sent
    counts = {
        attributes(point.attributes)["mcp.method.name"]: attributes(point.attributes)
        for resource in received.metrics[-1].resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "mcp.method.count"
        for point in metric.sum.data_points
    }
    assert counts["tools/call"]["mcp.backend"] == "tools" and counts["tools/call"]["status"] == "success"
    families = {metric.name: metric for metric in metrics_of(received)}
    duration = families["mcp.request.duration"].histogram.data_points
    assert {attributes(point.attributes).get("mcp.backend") for point in duration} >= {"tools"}
    [opened] = families["mcp.initialization.duration"].histogram.data_points
    assert families["mcp.initialization.duration"].unit == "s" and opened.count == 1
    capabilities = families["mcp.capabilities.negotiated"].sum.data_points
    assert {attributes(point.attributes)["capability.type"] for point in capabilities} == {"tools"}
    assert attributes(capabilities[0].attributes)["capability.side"] == "server"
    assert counts["tools/list"]["team.id"] == "red" and counts["tools/call"]["team.id"] == "blue"
    record = {attributes(record.attributes).get("mcp.method.name"): record for record in log_records(received)}["tools/call"]
    assert record.trace_id == called.trace_id and record.span_id == called.span_id
    assert attributes(record.attributes)["mcp.provider.name"] == "tools"


TOOLS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tools}
spec:
  gatewayClassName: tollgate
  listeners: [{name: http, protocol: HTTP, port: 1975}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: tools}]
  path: /mcp
  backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: tools}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: tools}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: %d}}]
"""


def test_the_text_is_openmetrics():
    gateway = Gateway({})
    gateway.ask(True)
    text = gateway.metrics("application/openmetrics-text")
    gateway.end()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name in [
        "gen_ai_client_token_usage",
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "tollgate_requests",
        "tollgate_snapshots",
        "process_cpu_seconds",
        "process_resident_memory_bytes",
    ]:
        assert families[name].samples and families[name].documentation
