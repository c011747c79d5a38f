"""Google's SDK against upstreams of every form."""

import base64

import pytest
from conftest import CLIENT_KEY, EVERYWHERE, GATEWAY, PIXEL, SEEN
from google import genai
from google.genai import types

QUESTION = "What is the weather in Paris and London?"


def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return {"Paris": "sun", "London": "rain"}[city]


@pytest.fixture
def gemini():
    options = types.HttpOptions(base_url=GATEWAY, api_version="v1beta")
    return genai.Client(api_key=CLIENT_KEY, http_options=options)


@pytest.fixture(params=EVERYWHERE)
def everywhere(request) -> str:
    return request.param


def test_answer(gemini, everywhere):
    config = types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=64)
    reply = gemini.models.generate_content(model=everywhere, contents="Hello, gate.", config=config)
    assert reply.text == "You said: Hello, gate."
    assert reply.candidates[0].finish_reason == types.FinishReason.STOP
    assert reply.usage_metadata.prompt_token_count > 0


def test_stream(gemini, everywhere):
    chunks = list(gemini.models.generate_content_stream(model=everywhere, contents="Hello, gate."))
    assert "".join(chunk.text or "" for chunk in chunks) == "You said: Hello, gate."
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.candidates_token_count > 0


def test_picture(gemini, everywhere):
    picture = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    reply = gemini.models.generate_content(model=everywhere, contents=["What is this?", picture])
    assert reply.text == SEEN


def test_tools_are_called_by_the_sdk(gemini, everywhere):
    config = types.GenerateContentConfig(tools=[get_weather])
    reply = gemini.models.generate_content(model=everywhere, contents=QUESTION, config=config)
    assert reply.text.startswith("The tools say: ")
    assert "sun" in reply.text and "rain" in reply.text


def test_schema(gemini, everywhere):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_json_schema={**schema, "additionalProperties": False}
    )
    reply = gemini.models.generate_content(model=everywhere, contents="Name a place.", config=config)
    assert reply.text == '{"city":"sample"}'


def test_tokens_are_counted(gemini, everywhere):
    counted = gemini.models.count_tokens(model=everywhere, contents="Hello, gate.")
    assert counted.total_tokens > 0


def test_errors_are_the_sdks(gemini):
    with pytest.raises(genai.errors.ClientError) as refused:
        gemini.models.generate_content(model="nobody", contents="Hello, gate.")
    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")
