"""A real Arize Phoenix takes the spans and tells of them what was said: prompts, tools, pictures, counts, errors."""

import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest

from running import Gateway, free_port, until

PHOENIX = os.environ["PHOENIX"]
PARENT = "0af7651916cd43dd8448eb211c80319c"
PICTURE = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Phoenix:
    """Keeps what it is told in a folder."""

    def __init__(self, folder):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.log = (folder / "phoenix.log").open("w")
        self.process = subprocess.Popen(
            [PHOENIX, "serve"],
            stdout=self.log,
            stderr=self.log,
            env={
                "HOME": str(folder),
                "PATH": os.environ["PATH"],
                "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(port),
                "PHOENIX_GRPC_PORT": str(free_port()),
                "PHOENIX_WORKING_DIR": str(folder),
                "PHOENIX_TELEMETRY_ENABLED": "false",
                "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            },
        )

    def get(self, path):
        try:
            with urllib.request.urlopen(f"{self.base}{path}", timeout=10) as answer:
                return json.load(answer)
        except (OSError, urllib.error.HTTPError, json.JSONDecodeError):
            return None

    def query(self, text):
        """Returns what the page of a trace would be given."""
        call = urllib.request.Request(
            f"{self.base}/graphql",
            data=json.dumps({"query": text}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(call, timeout=10) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def spans(self, count):
        """Returns the spans of requests in their order, as soon as there are `count`."""

        def found():
            told = self.get("/v1/projects/default/spans?limit=100") or {"data": []}
            spans = [span for span in told["data"] if span["name"] != "attempt"]
            return sorted(spans, key=lambda span: span["start_time"]) if len(spans) == count else None

        return until(found, "the spans have not arrived")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture
def phoenix(tmp_path):
    phoenix = Phoenix(tmp_path)
    try:
        until(lambda: phoenix.get("/v1/projects"), "it does not start", limit=300)
        yield phoenix
    finally:
        phoenix.end()


def exchanges(gateway):
    """Asks for one thing after another; returns how many they were."""
    chat, messages, responses = "/v1/chat/completions", "/anthropic/v1/messages", "/v1/responses"
    said = [
        {"role": "system", "content": "Be kind"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        },
    ]
    ask = {"role": "user", "content": "What is the weather in Paris?"}
    parent = {"traceparent": f"00-{PARENT}-b7ad6b7169203331-01"}
    gateway.post(chat, {"model": "sim-1", "messages": said, "temperature": 0.5}, parent)
    gateway.post(chat, {"model": "sim-1", "messages": [ask], "tools": [TOOL], "stream": True})
    gateway.post(messages, {"model": "claude-sim-1", "messages": [ask], "max_tokens": 64, "system": "Be kind"})
    gateway.post(responses, {"model": "sim-1", "input": "Hello", "instructions": "Be kind", "stream": True})
    gateway.post(chat, {"model": "sim-1", "messages": "no list"})
    return 5


def test_phoenix_tells_what_was_said(phoenix):
    gateway = Gateway(
        {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{phoenix.base}/v1/traces",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
        }
    )
    count = exchanges(gateway)
    gateway.end()
    looked, called, message, response, refused = phoenix.spans(count)

    assert looked["context"]["trace_id"] == PARENT
    for span in [looked, called, message, response, refused]:
        assert span["span_kind"] == "LLM"
        assert span["attributes"]["session.id"] == "s-1"

    found = looked["attributes"]
    assert (looked["name"], looked["status_code"]) == ("ChatCompletion", "OK")
    assert found["llm.system"] == "openai" and found["llm.model_name"] == "sim-1"
    assert json.loads(found["input.value"])["messages"][0]["content"] == "Be kind"
    assert found["llm.input_messages.0.message.role"] == "system"
    assert found["llm.input_messages.0.message.content"] == "Be kind"
    contents = "llm.input_messages.1.message.contents"
    assert found[f"{contents}.0.message_content.text"] == "Look"
    assert found[f"{contents}.1.message_content.image.image.url"] == PICTURE
    assert json.loads(found["llm.invocation_parameters"]) == {"model": "sim-1", "temperature": 0.5}
    assert found["llm.output_messages.0.message.role"] == "assistant"
    counts = {name: found[f"llm.token_count.{name}"] for name in ["prompt", "completion", "total"]}
    assert counts["prompt"] > 0 and counts["prompt"] + counts["completion"] == counts["total"]
    usage = json.loads(found["output.value"])["usage"]
    assert counts["total"] == usage["total_tokens"]

    found = called["attributes"]
    assert [event["name"] for event in called["events"]] == ["First Token Stream Event"]
    assert json.loads(found["llm.tools.0.tool.json_schema"]) == TOOL
    call = "llm.output_messages.0.message.tool_calls.0.tool_call"
    assert found[f"{call}.function.name"] == "get_weather"
    assert json.loads(found[f"{call}.function.arguments"]) == {"city": "Paris"}

    found = message["attributes"]
    assert (message["name"], found["llm.system"]) == ("Message", "anthropic")
    assert found["llm.input_messages.0.message.role"] == "system"
    assert found["llm.output_messages.0.message.content"]
    assert "llm.token_count.prompt_details.cache_read" in found

    found = response["attributes"]
    assert response["name"] == "Responses"
    assert found["llm.input_messages.1.message.content"] == "Hello"
    assert found["llm.output_messages.0.message.contents.0.message_content.text"]
    assert {event["name"] for event in response["events"]} == {"First Token Stream Event", "Response Completed Event"}

    assert refused["status_code"] == "ERROR"
    assert refused["status_message"].startswith("Error code: 400 - ")
    [event] = refused["events"]
    assert event["name"] == "exception"
    assert event["attributes"]["exception.type"] == "BadRequestError"

    # What its own pages show is counted from the same attributes.
    [project] = phoenix.query(
        "{ projects { edges { node { name traceCount tokenCountTotal tokenCountPrompt sessions(first: 10) { edges { node { sessionId } } } } } } }"
    )["projects"]["edges"]
    assert project["node"]["traceCount"] == count
    attributes = [span["attributes"] for span in [looked, called, message, response]]
    assert project["node"]["tokenCountTotal"] == sum(found["llm.token_count.total"] for found in attributes)
    assert project["node"]["tokenCountPrompt"] == sum(found["llm.token_count.prompt"] for found in attributes)
    assert [edge["node"]["sessionId"] for edge in project["node"]["sessions"]["edges"]] == ["s-1"]
