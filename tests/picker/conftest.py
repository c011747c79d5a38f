"""What a gateway stands between here: pods that speak OpenAI's format, and a picker made of gRPC and Envoy's definitions."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from google.protobuf.unknown_fields import UnknownFieldSet

HERE = Path(__file__).parent
DESTINATION = "x-gateway-destination-endpoint"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, limit=20):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {limit} s"
        time.sleep(0.02)


class Pod(ThreadingHTTPServer):
    """Answers every chat, streamed if that is wanted, with the name of the model that it was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        """Whoever goes away has no more to say."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append((self.path, self.headers, asked))
        if asked.get("stream"):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for text in ("hel", "lo", None):
                delta = {"content": text} if text else {}
                choice = {"index": 0, "delta": delta, "finish_reason": None if text else "stop"}
                self.chunk({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "choices": [choice]})
            self.piece(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice], "usage": usage}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, document):
        self.piece(b"data: " + json.dumps(document).encode() + b"\n\n")

    def piece(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Seen:
    """What a picker has seen of one request."""

    def __init__(self):
        self.headers, self.body, self.reply_headers, self.reply_body = {}, b"", {}, b""
        self.messages, self.subset, self.served, self.config, self.ended = [], None, None, None, False


class Picker(external_processor_pb2_grpc.ExternalProcessorServicer):
    """Names endpoints, rewrites what it is told to, and knows every message that it has seen."""

    def __init__(self, *, endpoints=(), model=None, immediate=None, response_mode=None, certificate):
        self.endpoints, self.model, self.immediate = list(endpoints), model, immediate
        self.response_mode, self.seen, self.faults = response_mode, [], []
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(self, self.server)
        self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([certificate]))
        self.server.start()

    def Process(self, requests, context):
        seen = Seen()
        self.seen.append(seen)
        try:
            for request in requests:
                kind = request.WhichOneof("request")
                seen.messages.append(kind)
                unknown = UnknownFieldSet(request)
                if len(unknown) or kind is None:
                    self.faults.append(f"{kind}: {[field.field_number for field in unknown]}")
                yield from getattr(self, kind)(seen, request)
        except grpc.RpcError as error:
            self.faults.append(str(error))
        seen.ended = True

    def request_headers(self, seen, request):
        seen.config = request.protocol_config
        seen.headers = {header.key: header.raw_value.decode() for header in request.request_headers.headers.headers}
        known = request.metadata_context.filter_metadata
        if "envoy.lb.subset_hint" in known:
            seen.subset = list(known["envoy.lb.subset_hint"]["x-gateway-destination-endpoint-subset"])
        if seen.config.request_body_mode != 4 or request.request_headers.end_of_stream:
            yield self.named(seen)

    def named(self, seen):
        if self.immediate:
            status, body = self.immediate
            immediate = ext_proc.ImmediateResponse(body=body)
            immediate.status.code = status
            return ext_proc.ProcessingResponse(immediate_response=immediate)
        response = ext_proc.ProcessingResponse(request_headers=ext_proc.HeadersResponse())
        mutation = response.request_headers.response.header_mutation
        for name, value in ((DESTINATION, ",".join(self.endpoints)), ("x-picked", "yes")):
            option = mutation.set_headers.add()
            option.header.key, option.header.raw_value = name, value.encode()
        response.dynamic_metadata["envoy.lb"] = {DESTINATION: ",".join(self.endpoints)}
        if self.response_mode is not None:
            response.mode_override.request_body_mode = seen.config.request_body_mode
            response.mode_override.response_body_mode = self.response_mode
        return response

    def request_body(self, seen, request):
        seen.body += request.request_body.body
        if not request.request_body.end_of_stream:
            return
        duplex = seen.config.request_body_mode == 4
        if duplex:
            named = self.named(seen)
            yield named
            if named.WhichOneof("response") == "immediate_response":
                return
        body = seen.body
        if self.model:
            body = json.dumps({**json.loads(body), "model": self.model}).encode()
        response = ext_proc.ProcessingResponse(request_body=ext_proc.BodyResponse())
        mutation = response.request_body.response.body_mutation
        if not duplex:
            mutation.body = body
            yield response
            return
        for start in range(0, len(body), 50):
            mutation.streamed_response.body = body[start : start + 50]
            mutation.streamed_response.end_of_stream = start + 50 >= len(body)
            yield response

    def response_headers(self, seen, request):
        seen.reply_headers = {header.key: header.raw_value.decode() for header in request.response_headers.headers.headers}
        seen.served = request.metadata_context.filter_metadata["envoy.lb"]["x-gateway-destination-endpoint-served"]
        response = ext_proc.ProcessingResponse(response_headers=ext_proc.HeadersResponse())
        option = response.response_headers.response.header_mutation.set_headers.add()
        option.header.key, option.header.raw_value = "x-went-through-into-resp-headers", b"true"
        yield response

    def response_body(self, seen, request):
        seen.reply_body += request.response_body.body
        mode = self.response_mode if self.response_mode is not None else seen.config.response_body_mode
        response = ext_proc.ProcessingResponse(response_body=ext_proc.BodyResponse())
        if mode == 4:
            mutation = response.response_body.response.body_mutation.streamed_response
            mutation.body, mutation.end_of_stream = request.response_body.body, request.response_body.end_of_stream
        yield response


class Gateway:
    """The binary, over one picker and its pods."""

    def __init__(self, folder, picker, pod, mode, failure):
        self.port, self.admin = free_port(), free_port()
        environment = {
            "PICKER_PORT": str(picker),
            "POD_PORT": pod.address.rsplit(":", 1)[1],
            "BODY_MODE": mode,
            "FAILURE_MODE": failure,
        }
        command = [os.environ["TOLLGATE"], "run", HERE / "gateway.yaml", "--port", str(self.port)]
        self.log = folder / "err"
        with open(self.log, "wb") as err:
            self.process = subprocess.Popen(
                [*command, "--admin-port", str(self.admin)], env={**os.environ, **environment}, stdout=err, stderr=err
            )
        until("the gateway is ready", self.ready)

    def ready(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def chat(self, path="/v1/chat/completions", **more):
        body = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "hi"}], **more})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A key and a certificate that nobody has signed, as pickers have them."""
    folder = tmp_path_factory.mktemp("certificate")
    files = ["-keyout", folder / "key", "-out", folder / "certificate"]
    subject = ["-subj", "/CN=picker", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    subprocess.run(["openssl", "req", "-x509", *subject, *files], check=True, capture_output=True)
    return (folder / "key").read_bytes(), (folder / "certificate").read_bytes()


@pytest.fixture
def start(tmp_path, certificate):
    """Starts a gateway over a picker, both of which end with the test."""
    running = []

    def start(pod, mode="duplex", failure="FailClose", **plan):
        picker = Picker(certificate=certificate, **plan)
        running.append((Gateway(tmp_path, picker.port, pod, mode, failure), picker))
        return running[-1]

    yield start
    for gateway, picker in running:
        gateway.stop()
        picker.server.stop(None)
