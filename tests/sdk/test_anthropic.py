"""The Anthropic SDK against upstreams of both forms."""

import asyncio

import anthropic
import pytest
from conftest import PIXEL, SEEN, SERVED, settles
from pydantic import BaseModel

WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Paris and London?"}


class Place(BaseModel):
    city: str
    population: int
    sights: list[str]


def say(text):
    return {
        "max_tokens": 64,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": text}],
    }


def image():
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


def test_message(claude, model):
    reply = claude.messages.create(model=model, **say("Hello, gate."))
    assert (reply.type, reply.role, reply.model) == ("message", "assistant", model)
    assert [block.type for block in reply.content] == ["text"]
    assert reply.content[0].text == "You said: Hello, gate."
    assert reply.stop_reason == "end_turn"
    assert reply.id and reply._request_id
    assert reply.usage.input_tokens > 0 and reply.usage.output_tokens > 0


def test_message_async(aclaude, model):
    async def ask():
        async with aclaude:
            texts = [f"Number {n}." for n in range(8)]
            replies = await asyncio.gather(
                *(aclaude.messages.create(model=model, **say(text)) for text in texts)
            )
            return texts, [reply.content[0].text for reply in replies]

    texts, said = asyncio.run(ask())
    assert said == [f"You said: {text}" for text in texts]


def test_the_limit_ends_the_answer(claude, model):
    reply = claude.messages.create(model=model, **{**say("one two three four"), "max_tokens": 3})
    assert reply.stop_reason == "max_tokens"
    assert reply.content[0].text.strip() == "You said: one"


def test_blocks_of_system_and_marks(claude, model):
    system = [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
    ]
    reply = claude.messages.create(model=model, **{**say("Hi."), "system": system})
    assert reply.content[0].text == "You said: Hi."


def test_stream(claude, model):
    plain = claude.messages.create(model=model, **say("Hello, gate."))
    events = list(claude.messages.create(model=model, stream=True, **say("Hello, gate.")))
    kinds = [event.type for event in events if event.type != "ping"]
    words = kinds.count("content_block_delta")
    assert words > 1
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * words,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas) == "You said: Hello, gate."
    [closing] = [event for event in events if event.type == "message_delta"]
    assert closing.delta.stop_reason == "end_turn"
    assert closing.usage.output_tokens == plain.usage.output_tokens


def test_stream_assembled(claude, model):
    plain = claude.messages.create(model=model, **say("Hello, gate."))
    with claude.messages.stream(model=model, **say("Hello, gate.")) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == final.content[0].text == "You said: Hello, gate."
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        plain.usage.input_tokens,
        plain.usage.output_tokens,
    )


def test_stream_async(aclaude, model):
    async def ask():
        async with aclaude:
            async with aclaude.messages.stream(model=model, **say("Hello, gate.")) as stream:
                return await stream.get_final_text()

    assert asyncio.run(ask()) == "You said: Hello, gate."


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_loop(claude, model, streamed):
    def ask(messages):
        arguments = {"model": model, "max_tokens": 256, "messages": messages, "tools": [WEATHER]}
        if not streamed:
            return claude.messages.create(**arguments)
        with claude.messages.stream(**arguments) as stream:
            return stream.get_final_message()

    first = ask([QUESTION])
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "London"}),
    ]
    assert len({call.id for call in calls}) == 2
    results = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": "sun"},
        {"type": "tool_result", "tool_use_id": calls[1].id, "content": [{"type": "text", "text": "rain"}]},
    ]
    second = ask(
        [
            QUESTION,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": results},
        ]
    )
    assert second.stop_reason == "end_turn"
    assert second.content[-1].text == "The tools say: sun; rain"


def test_a_picture_as_the_result_of_a_tool(claude, model):
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image()]}
    reply = claude.messages.create(
        model=model,
        max_tokens=64,
        tools=[WEATHER],
        messages=[
            QUESTION,
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ],
    )
    assert f"image/png ({len(PIXEL)} characters)" in reply.content[0].text


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        ({"type": "auto"}, 2),
        ({"type": "auto", "disable_parallel_tool_use": True}, 1),
        ({"type": "any"}, 2),
        ({"type": "none"}, 0),
        ({"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}, 1),
    ],
)
def test_tool_choice(claude, model, choice, count):
    reply = claude.messages.create(
        model=model, max_tokens=256, messages=[QUESTION], tools=[WEATHER], tool_choice=choice
    )
    assert len([block for block in reply.content if block.type == "tool_use"]) == count


@pytest.mark.parametrize(
    ("block", "seen"),
    [
        (image(), SEEN),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            "I see https://example.com/a.png",
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"},
            },
            "I see application/pdf (12 characters)",
        ),
    ],
)
def test_media(claude, model, block, seen):
    content = [block, {"type": "text", "text": "What is this?"}]
    reply = claude.messages.create(
        model=model, max_tokens=64, messages=[{"role": "user", "content": content}]
    )
    assert reply.content[0].text == seen


def test_structured_output(claude, model):
    reply = claude.messages.parse(model=model, output_format=Place, **say("Name a city."))
    assert reply.parsed_output == Place(city="sample", population=7, sights=["sample"])


@pytest.mark.parametrize("streamed", [False, True])
def test_thinking_round_trip(claude, streamed):
    def ask(messages):
        arguments = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 4096,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": messages,
            "tools": [WEATHER],
        }
        if not streamed:
            return claude.messages.create(**arguments)
        with claude.messages.stream(**arguments) as stream:
            return stream.get_final_message()

    first = ask([QUESTION])
    assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sun"} for block in first.content[1:]
    ]
    # The upstream takes the thinking back only with the signature that it gave.
    second = ask(
        [
            QUESTION,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": results},
        ]
    )
    assert second.content[-1].text == "The tools say: sun; sun"


def test_thinking_asked_of_the_other_form(claude):
    reply = claude.messages.create(
        model="gpt-5",
        max_tokens=4096,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "Think."}],
    )
    assert reply.content[-1].text == "You said: Think."


def test_thinking_of_the_other_form_is_not_replayed(claude):
    """What one provider has sealed is nothing to the other, and the conversation goes on."""
    first = claude.messages.create(
        model="claude-sonnet-4-5",
        max_tokens=4096,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "Think."}],
    )
    second = claude.messages.create(
        model="gpt-4o",
        max_tokens=4096,
        messages=[
            {"role": "user", "content": "Think."},
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": "Go on."},
        ],
    )
    assert second.content[-1].text == "You said: Go on."


def test_a_large_prompt(claude, model):
    text = "grain of sand " * 150_000
    reply = claude.messages.create(
        model=model, max_tokens=64, messages=[{"role": "user", "content": text}]
    )
    assert len(text) > 2_000_000
    assert reply.content[0].text == f"You wrote {len(text)} bytes"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (422, anthropic.UnprocessableEntityError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (503, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors(claude, upstream, status, error, stream):
    with pytest.raises(error) as raised:
        claude.messages.create(model=f"{upstream}-fail-{status}", stream=stream, **say("Hi."))
    assert raised.value.status_code == status
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["message"] == "This failure was asked for."
    assert raised.value.body["error"]["type"] in ERROR_TYPES[status]
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "2"


ERROR_TYPES = {
    400: {"invalid_request_error"},
    401: {"authentication_error"},
    403: {"permission_error"},
    404: {"not_found_error"},
    422: {"invalid_request_error"},
    429: {"rate_limit_error"},
    500: {"api_error"},
    503: {"api_error", "overloaded_error"},
    529: {"overloaded_error"},
}


def test_an_unknown_model(claude):
    with pytest.raises(anthropic.NotFoundError) as raised:
        claude.messages.create(model="claude-sonnet-4-55", **say("Hi."))
    assert raised.value.body["error"]["type"] == "not_found_error"
    assert "claude-sonnet-4-5" in raised.value.body["error"]["message"]


def test_a_broken_request(claude, model):
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model=model, max_tokens=64, messages=[{"role": "nobody", "content": "Hi."}])


@pytest.mark.parametrize("stream", [False, True])
def test_the_client_gives_up(claude, upstream, stream):
    with pytest.raises(anthropic.APITimeoutError):
        claude.with_options(timeout=0.3).messages.create(
            model=f"{upstream}-stall", stream=stream, **say("Hi.")
        )
    assert settles()


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_gives_up(claude, stream):
    with pytest.raises(anthropic.APIStatusError) as raised:
        claude.messages.create(model="stall-limited", stream=stream, **say("Hi."))
    assert raised.value.status_code == 504
    assert raised.value.body["error"]["type"] == "timeout_error"


def test_abort_in_mid_stream(claude, upstream):
    stream = claude.messages.create(model=f"{upstream}-stall-stream", stream=True, **say("Hi."))
    for event in stream:
        if event.type == "content_block_delta":
            break
    stream.close()
    assert settles()


def test_models(claude):
    models = list(claude.models.list(limit=1000))
    assert {model.id for model in models} == SERVED
    assert {model.type for model in models} == {"model"}
    assert all(model.display_name and model.created_at for model in models)
