"""Runs last: every request of the tests before it was recorded once, in the log as in the metrics."""

import json
import os
import time
import urllib.request
from collections import Counter

from conftest import ADMIN, settles


def metrics():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = opener.open(f"{ADMIN}/metrics", timeout=5).read().decode()
    return [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]


def records():
    with open(os.environ["ACCESS_LOG"]) as log:
        return [json.loads(line) for line in log if line.endswith("\n")]


def counted(name, label=""):
    return sum(float(value) for key, value in metrics() if key.startswith(name) and label in key)


def test_every_request_is_recorded_once():
    assert settles()
    total = counted("tollgate_requests_total")
    # The log is written in batches.
    deadline = time.monotonic() + 5
    while len(records()) < total and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = Counter(record["x-request-id"] for record in records())
    assert len(seen) == total > 0
    assert set(seen.values()) == {1}


def test_every_token_is_recorded_once():
    answered = [record for record in records() if record["response_code"] == 200]
    for kind, field in [("input", "input_tokens"), ("output", "output_tokens")]:
        tokens = [record.get(f"gen_ai.usage.{field}") for record in answered]
        tokens = [count for count in tokens if count is not None]
        label = f'gen_ai_token_type="{kind}"'
        assert counted("gen_ai_client_token_usage_sum", label) == sum(tokens) > 0
        assert counted("gen_ai_client_token_usage_count", label) == len(tokens)


def test_no_secret_and_no_content_is_recorded():
    with open(os.environ["ACCESS_LOG"]) as log:
        text = log.read()
    for word in ["sk-upstream-only", "sk-client-only", "not-the-key", "Hello, gate", "grain of sand"]:
        assert word not in text
