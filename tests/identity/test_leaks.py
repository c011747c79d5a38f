"""Every secret has a mark, and nothing that the gateway says to anybody else holds one."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from conftest import HERE, Gateway, Server, until

# Where each mark may be seen: in calls to its own provider or issuer.
MARKS = {
    "marker-openai-key": "openai",
    "marker-own-key": "openai",
    "marker-azure-secret": "issuer",
    "marker-azure-token": "azure",
    "marker-aws-secret": None,
    "marker-aws-token": "bedrock",
    "marker-google-token": "vertex",
    "marker-gemini-key": "gemini",
    "marker-anthropic-key": "anthropic",
    "marker-client": None,
    "marker-proxy": None,
    "marker-redis": None,
}
# What a client sends as its own credentials.
CLIENT = {
    name: "marker-client"
    for name in ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization",
                 "x-aigw-api-key", "x-aigw-aws-secret-access-key", "x-amz-security-token", "x-ai-eg-upstream-host"]
}
GREETING = {
    "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
    "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 3, "output_tokens": 2},
}


def issuer(token):
    """An issuer of tokens, with one token."""
    return Server(lambda _: (200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}))


def google_key():
    """Returns the key of a service account."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


@pytest.fixture
def shop(tmp_path):
    """The gateway with its providers, which fail as long as `up` does not name them."""
    up = set()

    def provider(name, greeting):
        refusal = {"error": {"message": "no", "type": "server_error"}}
        return Server(lambda _: (200, greeting) if name in up else (500, refusal))

    names = ["openai", "azure", "bedrock", "vertex", "gemini", "anthropic"]
    providers = {name: provider(name, GREETING) for name in names}
    providers["issuer"], providers["google"] = issuer("marker-azure-token"), issuer("marker-google-token")
    key = google_key()
    receiver = Server(lambda _: (200, {}))
    environment = {f"{name.upper()}_PORT": str(server.port) for name, server in providers.items()}
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "GOOGLE_KEY": json.dumps({
            "type": "service_account", "client_email": "me@project.iam.gserviceaccount.com", "private_key_id": "1",
            "private_key": key, "token_uri": f"http://127.0.0.1:{providers['google'].port}/token",
        }),
        "AI_GATEWAY_AZURE_PROXY_URL": "http://me:marker-proxy@127.0.0.1:1",
        "TOLLGATE_REDIS": "redis://:marker-redis@127.0.0.1:1/0",
    }
    gateway = Gateway(tmp_path, HERE / "leaks.yaml", environment)
    yield gateway, providers, receiver, up, key
    gateway.stop()


def test_nothing_leaks(shop):
    gateway, providers, receiver, up, key = shop
    marks = {**MARKS, **{line: None for line in key.splitlines()[1:-1]}}
    answers = [gateway.chat(headers=CLIENT)]
    assert answers[0][0] == 500, answers
    up.add("anthropic")
    answers.append(gateway.chat(headers={**CLIENT, "x-own-key": "marker-own-key"}))
    assert answers[1][0] == 200, answers
    # A body that cannot be read, and a path that nobody serves.
    answers.append(gateway.chat(headers=CLIENT, messages="marker"))
    until("spans arrive", lambda: any("traces" in request.path for request in receiver.requests))
    told = {path: gateway.get(path)[1] for path in ["/config", "/metrics", "/usage", "/credentials", "/debug/requests"]}
    for recent in json.loads(told["/debug/requests"]):
        told[recent["id"]] = gateway.get(f"/debug/requests/{recent['id']}")[1]
    gateway.stop()
    told["output"] = gateway.said()
    told["answers"] = json.dumps(answers)
    told["exports"] = b"".join(request.body for request in receiver.requests).decode("latin-1")
    assert len(told["output"]) > 1000 and len(told["exports"]) > 100
    for mark, owner in marks.items():
        for place, text in told.items():
            assert mark not in text, f"{mark} in {place}"
        for name, server in providers.items():
            seen = [f"{request.path} {request.headers} {request.body}" for request in server.requests]
            assert name == owner or not any(mark in text for text in seen), f"{mark} at {name}"
    # All of them have been asked, with what is theirs.
    for mark, owner in MARKS.items():
        if owner:
            seen = [f"{request.headers} {request.body}" for request in providers[owner].requests]
            assert any(mark in text for text in seen), f"{mark} not at {owner}"
