"""The stand-in for Bedrock, as AWS's own SDK finds it: what the gateway is tested against is what AWS says."""

import json
import os

import boto3
import pytest
from botocore.config import Config

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ASKED = [{"role": "user", "content": [{"text": "Hello, gate."}]}]


def bedrock(port: str):
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=f"http://127.0.0.1:{os.environ[port]}",
        region_name="us-east-1",
        aws_access_key_id=os.environ["UPSTREAM_KEY"],
        aws_secret_access_key="unused",
        config=Config(retries={"max_attempts": 0}),
    )


def test_answer():
    reply = bedrock("CONVERSE_UPSTREAM_PORT").converse(modelId=MODEL, messages=ASKED)
    assert reply["output"]["message"]["content"] == [{"text": "You said: Hello, gate."}]
    assert reply["stopReason"] == "end_turn"


def test_stream():
    reply = bedrock("CONVERSE_UPSTREAM_PORT").converse_stream(modelId=MODEL, messages=ASKED)
    events = list(reply["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(deltas) == "You said: Hello, gate."
    assert events[-2] == {"messageStop": {"stopReason": "end_turn"}}
    assert events[-1]["metadata"]["usage"]["totalTokens"] > 0


def test_wrapped_stream():
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Hello, gate."}],
    }
    reply = bedrock("INVOKE_UPSTREAM_PORT").invoke_model_with_response_stream(
        modelId=MODEL, body=json.dumps(body)
    )
    events = [json.loads(event["chunk"]["bytes"]) for event in reply["body"]]
    said = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(said) == "You said: Hello, gate."


def test_counts():
    client = bedrock("CONVERSE_UPSTREAM_PORT")
    counted = client.count_tokens(modelId=MODEL, input={"converse": {"messages": ASKED}})
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "Hello, gate."}],
    }
    invoked = client.count_tokens(modelId=MODEL, input={"invokeModel": {"body": json.dumps(body)}})
    assert counted["inputTokens"] == invoked["inputTokens"] > 0
    with pytest.raises(client.exceptions.ValidationException):
        client.count_tokens(modelId=f"us.{MODEL}", input={"converse": {"messages": ASKED}})


def test_refusals_are_exceptions():
    client = bedrock("CONVERSE_UPSTREAM_PORT")
    with pytest.raises(client.exceptions.ValidationException):
        client.converse(modelId=MODEL, messages=[*ASKED, *ASKED])
