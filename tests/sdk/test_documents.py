"""What is asked for beside chat, by the SDKs of OpenAI and Cohere."""

import base64

import cohere
import openai
import pytest
from conftest import CLIENT_KEY, GATEWAY, PIXEL


@pytest.fixture
def ranker():
    return cohere.ClientV2(api_key=CLIENT_KEY, base_url=f"{GATEWAY}/cohere")


@pytest.mark.parametrize("model", ["text-embedding-3-small", "gemini-embedding-001", "embed-v4.0"])
@pytest.mark.parametrize("encoding", ["float", "base64", openai.omit])
def test_embeddings(chat, model, encoding):
    reply = chat.embeddings.create(model=model, input=["a", "bcd"], encoding_format=encoding)
    assert reply.model == model
    # The SDK decodes what it asked for itself, and leaves what its caller asked for.
    if encoding == "base64":
        assert all(isinstance(datum.embedding, str) for datum in reply.data)
    else:
        assert [datum.embedding for datum in reply.data] == [[1.0, 0.5], [3.0, 0.5]]


def test_pictures(chat):
    reply = chat.images.generate(model="gpt-image-1", prompt="a pixel")
    assert reply.data[0].b64_json == PIXEL
    assert base64.b64decode(reply.data[0].b64_json)
    assert reply.usage.total_tokens == 8


def test_speech(chat):
    with chat.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello, gate."
    ) as reply:
        assert reply.headers["content-type"] == "audio/mpeg"
        assert b"".join(reply.iter_bytes()) == b"ID3 sound"


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gemini-2.5-pro", "claude-on-bedrock"])
def test_a_text_is_continued_by_who_chats(chat, model):
    asked = {"model": model, "prompt": "Hello, gate.", "max_tokens": 64}
    reply = chat.completions.create(**asked)
    assert (reply.object, reply.choices[0].text) == ("text_completion", "You said: Hello, gate.")
    assert reply.usage.completion_tokens > 0
    pieces = list(chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    said = [choice.text for piece in pieces for choice in piece.choices]
    assert "".join(said) == "You said: Hello, gate."
    assert pieces[-2].choices[0].finish_reason == "stop" and pieces[-1].usage.prompt_tokens > 0


def test_moderation(chat):
    reply = chat.moderations.create(model="omni-moderation-latest", input="a bad word")
    assert reply.results[0].flagged


def test_one_model(chat, claude):
    assert chat.models.retrieve("gpt-4o").id == "gpt-4o"
    assert claude.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        chat.models.retrieve("nobody")


def test_counted_for_claude(claude):
    messages = [{"role": "user", "content": "Hello, gate."}]
    assert claude.messages.count_tokens(model="gemini-2.5-pro", messages=messages).input_tokens > 0
    assert claude.messages.count_tokens(model="gpt-4o", messages=messages).input_tokens > 0


def test_rerank(ranker):
    reply = ranker.rerank(model="rerank-v3.5", query="gate", documents=["a wall", "a gate"], top_n=2)
    assert [result.index for result in reply.results] == [1, 0]


def test_rerank_elsewhere(ranker):
    with pytest.raises(cohere.errors.UnprocessableEntityError) as refused:
        ranker.rerank(model="claude-sonnet-4-5", query="gate", documents=["a gate"])
    assert "does not serve" in str(refused.value.body)
