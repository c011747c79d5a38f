"""Signatures of calls to AWS, compared with those that botocore makes of the same requests."""

import http.server
import json
import os
import random
import re
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "eu-central-1"
PLAIN = Credentials("AKIDPLAIN", "plain/secret+of=ours")
SESSION = Credentials("ASIASESSION", "session/secret", "session//token+with==signs")

# The seed makes every run the same; another number is another corpus.
SEED = 6
CASES = 400

NAME = "abcXYZ019-_.~:/%@$&+=!*'(),;?#[]{}|^`\"<>\\ éß漢"
TEXT = NAME + "\n\t\u0000\u2028😀"

CONFIG = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec: {{ gatewayClassName: tollgate, listeners: [{{ name: http, protocol: HTTP, port: {port} }}] }}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{ name: chat }}
spec:
  parentRefs: [{{ name: edge }}]
  rules:
    - matches: [{{ headers: [{{ type: RegularExpression, name: x-ai-eg-model, value: "session(?s:.*)" }}] }}]
      backendRefs: [{{ name: session }}]
    - matches: [{{ headers: [{{ type: RegularExpression, name: x-ai-eg-model, value: "plain(?s:.*)" }}] }}]
      backendRefs: [{{ name: plain }}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: upstream }}
spec: {{ endpoints: [{{ ip: {{ address: 127.0.0.1, port: {upstream} }} }}] }}
"""

BACKEND = """
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{ name: {name} }}
spec:
  schema: {{ name: AWSBedrock }}
  backendRef: {{ group: gateway.envoyproxy.io, kind: Backend, name: upstream }}
  bodyMutation: {{ set: [{{ path: marked, value: '"by the gateway"' }}] }}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{ name: {name} }}
spec:
  targetRefs: [{{ group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: {name} }}]
  type: AWSCredentials
  awsCredentials: {{ region: {region}, credentialsFile: {{ secretRef: {{ name: {name} }} }} }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: {name} }}
stringData:
  credentials: |
    [default]
    aws_access_key_id = {keys.access_key}
    aws_secret_access_key = {keys.secret_key}
    aws_session_token = {token}
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    """Keeps what arrives, and answers as Converse does."""

    protocol_version = "HTTP/1.1"
    # Head and body in one write, or each answer waits for an acknowledgement.
    wbufsize = 1 << 16
    received = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Upstream.received.append((self.path, dict(self.headers.items()), body))
        answer = json.dumps(
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = CONFIG.format(port=port, upstream=upstream.server_port)
    for name, keys in (("plain", PLAIN), ("session", SESSION)):
        config += BACKEND.format(name=name, keys=keys, token=keys.token or "", region=REGION)
    path = tmp_path_factory.mktemp("signatures") / "gateway.yaml"
    path.write_text(config)
    arguments = [os.environ["TOLLGATE"], "run", "--admin-port", "0", "--access-log", "off", str(path)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        while "listening on" not in said:
            said = process.stderr.readline()
            assert said, "the gateway ended"
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
    upstream.shutdown()


def text(source: random.Random, letters: str, longest: int) -> str:
    return "".join(source.choice(letters) for _ in range(source.randrange(longest)))


def corpus():
    source = random.Random(SEED)
    for case in range(CASES):
        model = source.choice(["plain", "session"]) + text(source, NAME, 40)
        body = {"model": model, "messages": [{"role": "user", "content": "x" + text(source, TEXT, 400)}]}
        headers = {
            "content-type": "application/json",
            "authorization": "Bearer sk-client",
            "x-amz-date": "20200101T000000Z",
            "x-amz-security-token": "client",
            "user-agent": "sdk/" + str(case),
        }
        for name in source.sample(["x-team", "x-amzn-bedrock-trace", "range", "via", "x-forwarded-for"], k=source.randrange(4)):
            headers[name] = text(source, "abc 123", 20).strip() or "v"
        yield body, headers


def test_every_signature_is_botocores(gateway):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for body, headers in corpus():
        count = len(Upstream.received)
        request = urllib.request.Request(f"{gateway}/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            opener.open(request, timeout=20).read()
        except urllib.error.HTTPError as error:
            pytest.fail(f"{body}: {error.read()}")
        assert len(Upstream.received) == count + 1
        path, sent, payload = Upstream.received[-1]
        sent = {name.lower(): value for name, value in sent.items()}
        assert json.loads(payload)["marked"] == "by the gateway"
        keys = SESSION if body["model"].startswith("session") else PLAIN
        assert sent["authorization"] == signature(keys, path, sent, payload), path
        assert sent.get("x-amz-security-token") == keys.token
        assert "sk-client" not in str(sent)


def signature(keys: Credentials, path: str, sent: dict, payload: bytes) -> str:
    """Returns the header that botocore makes for the same request at the same time."""
    signed = re.search("SignedHeaders=([^,]*)", sent["authorization"])[1].split(";")
    assert signed == sorted(["host", "x-amz-date"] + ["x-amz-security-token"] * bool(keys.token))
    headers = {name: sent[name] for name in signed}
    request = AWSRequest("POST", f"http://{sent['host']}{path}", headers, payload)
    request.context["timestamp"] = sent["x-amz-date"]
    signer = SigV4Auth(keys, "bedrock", REGION)
    canonical = signer.canonical_request(request)
    mark = signer.signature(signer.string_to_sign(request, canonical), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={mark}"
