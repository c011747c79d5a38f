"""What a picker sees, and what becomes of what it says."""

import json

import pytest
from conftest import Pod, free_port, until

STREAMED, BUFFERED, DUPLEX = 1, 2, 4


@pytest.mark.parametrize("mode", ["duplex", "buffered"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_picker_names_and_rewrites(start, mode, stream):
    pod = Pod()
    gateway, picker = start(pod, mode, endpoints=[pod.address], model="lora")
    status, headers, body = gateway.chat(stream=stream)
    assert status == 200, body
    assert headers["x-went-through-into-resp-headers"] == "true"
    assert "lora" in body and ("[DONE]" in body) == stream
    (path, sent, asked), = pod.requests
    assert path == "/v1/chat/completions" and asked["model"] == "lora"
    assert sent["x-picked"] == "yes" and sent["x-gateway-destination-endpoint"] is None
    until("the picker has heard the end", lambda: picker.seen[0].ended)
    seen, = picker.seen
    number = {"duplex": DUPLEX, "buffered": BUFFERED}[mode]
    assert (seen.config.request_body_mode, seen.config.response_body_mode) == (number, number)
    assert seen.headers[":path"] == path and seen.headers[":method"] == "POST"
    assert seen.headers["x-ai-eg-model"] == "llama"
    assert json.loads(seen.body)["model"] == "llama"
    assert seen.subset == [pod.address] and seen.served == pod.address
    assert seen.reply_headers[":status"] == "200"
    assert ("[DONE]" in seen.reply_body.decode()) == stream
    assert not picker.faults, picker.faults


def test_a_picker_asks_for_replies_in_pieces(start):
    pod = Pod()
    gateway, picker = start(pod, "buffered", endpoints=[pod.address], response_mode=STREAMED)
    status, _, body = gateway.chat(stream=True)
    assert status == 200 and "[DONE]" in body
    assert picker.seen[0].messages.count("response_body") > 1
    assert not picker.faults, picker.faults


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("mode", ["duplex", "buffered"])
def test_what_a_picker_answers_is_the_answer(start, mode, status):
    pod = Pod()
    gateway, picker = start(pod, mode, "FailOpen", immediate=(status, b"dropped"))
    answered, _, body = gateway.chat()
    assert (answered, body) == (status, "dropped")
    assert not pod.requests and not picker.faults


def test_those_named_are_asked_in_order(start):
    pod = Pod()
    gateway, picker = start(pod, endpoints=[f"127.0.0.1:{free_port()}", pod.address])
    assert gateway.chat()[0] == 200
    assert picker.seen[0].served == pod.address and len(picker.seen) == 1


def test_plain_requests_are_shown(start):
    pod = Pod()
    gateway, picker = start(pod, endpoints=[pod.address])
    assert gateway.chat("/plain/chat")[0] == 200
    assert pod.requests[0][0] == "/plain/chat"
    assert "x-ai-eg-model" not in picker.seen[0].headers
    assert not picker.faults, picker.faults


@pytest.mark.parametrize(("failure", "status"), [("FailClose", 503), ("FailOpen", 200)])
def test_a_picker_that_is_gone(start, failure, status):
    pod = Pod()
    gateway, picker = start(pod, failure=failure, endpoints=[pod.address])
    picker.server.stop(None).wait()
    assert gateway.chat()[0] == status
