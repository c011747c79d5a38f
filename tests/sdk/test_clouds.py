"""The stand-ins for Azure and Vertex AI, as the clouds' own SDKs find them: what the gateway is tested against is theirs."""

import os

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

KEY = os.environ["UPSTREAM_KEY"]
ASKED = [{"role": "user", "content": "Hello, gate."}]
SAID = "You said: Hello, gate."


def at(name: str) -> str:
    return f"http://127.0.0.1:{os.environ[f'{name}_UPSTREAM_PORT']}"


def azure(key: str = KEY) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=at("AZURE"), api_version="2025-04-01-preview", api_key=key, max_retries=0
    )


def claude(token: str = KEY) -> anthropic.AnthropicVertex:
    return anthropic.AnthropicVertex(
        region="europe-west4",
        project_id="project",
        access_token=token,
        base_url=f"{at('VERTEX_CLAUDE')}/v1",
        max_retries=0,
    )


def gemini() -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="project",
        location="europe-west4",
        credentials=Credentials(KEY),
        http_options=types.HttpOptions(base_url=at("VERTEX"), api_version="v1"),
    )


def test_azure():
    reply = azure().chat.completions.create(model="gpt-4o", messages=ASKED)
    assert reply.choices[0].message.content == SAID
    chunks = azure().chat.completions.create(model="gpt-4o", messages=ASKED, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
    assert azure().responses.create(model="gpt-5", input="Hello, gate.").output_text == SAID
    with pytest.raises(openai.AuthenticationError):
        azure("other").chat.completions.create(model="gpt-4o", messages=ASKED)


def test_claude_on_vertex():
    model = "claude-sonnet-4-5@20250929"
    reply = claude().messages.create(model=model, max_tokens=64, messages=ASKED)
    assert reply.content[0].text == SAID
    with claude().messages.stream(model=model, max_tokens=64, messages=ASKED) as stream:
        assert stream.get_final_text() == SAID
    assert claude().messages.count_tokens(model=model, messages=ASKED).input_tokens > 0
    with pytest.raises(anthropic.AuthenticationError):
        claude("other").messages.create(model=model, max_tokens=64, messages=ASKED)


def test_gemini_on_vertex():
    model, client = "gemini-2.5-pro", gemini()
    assert client.models.generate_content(model=model, contents="Hello, gate.").text == SAID
    chunks = client.models.generate_content_stream(model=model, contents="Hello, gate.")
    assert "".join(chunk.text or "" for chunk in chunks) == SAID
    assert client.models.count_tokens(model=model, contents="Hello, gate.").total_tokens > 0
