"""The counterparts of a gateway: an upstream that checks signatures, issuers, and moto's token service."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from moto.server import ThreadedMotoServer
from moto.sts.models import sts_backends

HERE = Path(__file__).parent
ACCOUNT = "123456789012"
KEYS = ("AKIAMARKERKEYOFTHETEST", "marker-secret-of-the-test", "marker-token-of-the-test")
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, limit=20):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {limit} s"
        time.sleep(0.02)


class Server(ThreadingHTTPServer):
    """A server that answers with what `answer` makes of a request: status, document and headers."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.requests = answer, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def handle_error(self, *_):
        """Whoever goes away has no more to say."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = SimpleNamespace(command=self.command, path=self.path, headers=self.headers, body=body)
        self.server.requests.append(request)
        status, document, *headers = self.server.answer(request)
        body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = reply

    def log_message(self, *_):
        pass


def bedrock(known):
    """An upstream that answers whoever signs with one of the keys that `known` returns, by their ids."""

    def answer(request):
        given = request.headers["authorization"]
        key = given.split("Credential=")[1].split("/")[0]
        secret, token = known()[key]
        assert request.headers.get("x-amz-security-token") == token, "the token of another key"
        signed = given.split("SignedHeaders=")[1].split(",")[0].split(";")
        again = botocore.awsrequest.AWSRequest("POST", f"http://{request.headers['host']}{request.path}", data=request.body)
        for name in signed:
            again.headers[name] = request.headers[name]
        again.context["timestamp"] = request.headers["x-amz-date"]
        signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(key, secret, token), "bedrock", "us-east-1")
        canonical = signer.canonical_request(again)
        signature = signer.signature(signer.string_to_sign(again, canonical), again)
        if not given.endswith(f"Signature={signature}"):
            return 403, {"message": "The request signature we calculated does not match"}
        return 200, ANSWER

    return Server(answer)


class Gateway:
    """The binary, with nothing of AWS in its environment but what is given."""

    def __init__(self, folder, config, environment, arguments=()):
        self.port, self.admin, self.folder = free_port(), free_port(), folder
        names = ("AWS_", "AI_GATEWAY_", "OTEL_", "TOLLGATE")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        none = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(folder)}
        command = [os.environ["TOLLGATE"], "run", config, "--port", str(self.port), "--admin-port", str(self.admin)]
        with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
            self.process = subprocess.Popen(
                [*command, "--access-log", "json", "--log-level", "trace", *arguments],
                env={**clean, **none, **environment}, stdout=out, stderr=err,
            )
        until("the gateway is ready", self.ready)

    def ready(self):
        assert self.process.poll() is None, self.said()
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def chat(self, model="claude", headers=None, **more):
        body = json.dumps({"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}], **more})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def said(self):
        """Returns everything that was written to standard output and error."""
        return (self.folder / "out").read_text() + (self.folder / "err").read_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="session")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def start(tmp_path):
    """Starts gateways, which end with the test."""
    gateways = []

    def start(environment, known, config="gateway.yaml"):
        upstream = bedrock(known)
        gateways.append(Gateway(tmp_path, HERE / config, {**environment, "UPSTREAM_PORT": str(upstream.port)}))
        return gateways[-1]

    yield start
    for gateway in gateways:
        gateway.stop()


def lent():
    """Returns the keys that moto has lent."""
    roles = sts_backends[ACCOUNT]["aws"].assumed_roles
    return {role.access_key_id: (role.secret_access_key, role.session_token) for role in roles}
