"""What the tests of both SDKs share: clients, models and what the upstreams are known to say."""

import os
import time
import urllib.request

import anthropic
import openai
import pytest

GATEWAY = os.environ["GATEWAY_URL"]
ADMIN = os.environ["ADMIN_URL"]

# One model of each upstream form; every test runs against both.
MODELS = ["gpt-4o", "claude-sonnet-4-5"]
UPSTREAMS = ["openai", "anthropic"]
# One model of each form that an upstream can have.
EVERYWHERE = [
    "gpt-4o",
    "gpt-5-responses",
    "gpt-on-azure",
    "gpt-5-on-azure",
    "claude-sonnet-4-5",
    "claude-on-vertex",
    "claude-on-bedrock",
    "gemini-2.5-pro",
    "gemini-on-vertex",
]
# Of these, models that do not reason.
PLAIN = ["gpt-4o", "gpt-on-azure"]
SERVED = {
    "gpt-4o",
    "gpt-5",
    "claude-sonnet-4-5",
    "claude-opus-4-6",
    "house-model",
    "gpt-4o-transcribe",
    "house-voice",
    "gpt-image-1",
    "shared-voice",
    "gemini-2.5-pro",
    "gemini-embedding-001",
    "claude-on-bedrock",
    "gpt-on-azure",
    "gpt-5-on-azure",
    "claude-on-vertex",
    "gemini-on-vertex",
    "gpt-5-responses",
    "text-embedding-3-small",
    "tts-1",
    "omni-moderation-latest",
    "rerank-v3.5",
    "embed-v4.0",
    "wrong-key",
    "stall-limited",
}

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
SEEN = f"I see image/png ({len(PIXEL)} characters)"

# The credential of the client: it must never reach an upstream, which would refuse the request.
CLIENT_KEY = "sk-client-only"


@pytest.fixture
def chat() -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=CLIENT_KEY, max_retries=0)


@pytest.fixture
def achat() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=CLIENT_KEY, max_retries=0)


@pytest.fixture
def claude() -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{GATEWAY}/anthropic", api_key=CLIENT_KEY, max_retries=0)


@pytest.fixture
def aclaude() -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=f"{GATEWAY}/anthropic", api_key=CLIENT_KEY, max_retries=0)


@pytest.fixture(params=MODELS)
def model(request) -> str:
    return request.param


@pytest.fixture(params=UPSTREAMS)
def upstream(request) -> str:
    return request.param


def in_flight() -> float:
    """Returns the number of requests that the gateway is serving, as its metrics say."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = opener.open(f"{ADMIN}/metrics", timeout=5).read().decode()
    lines = [line for line in text.splitlines() if "in_flight" in line and not line.startswith("#")]
    assert lines, text
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def settles() -> bool:
    """Waits until nothing is in flight; a call that is not cancelled stays until its upstream ends, never."""
    deadline = time.monotonic() + 5
    while in_flight() > 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
