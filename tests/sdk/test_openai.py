"""The OpenAI SDK against upstreams of both forms."""

import asyncio
import json

import openai
import pytest
from conftest import PIXEL, SEEN, SERVED, settles
from pydantic import BaseModel

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Paris and London?"}


class Place(BaseModel):
    city: str
    population: int
    sights: list[str]


def say(text):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def test_chat(chat, model):
    reply = chat.chat.completions.create(model=model, messages=say("Hello, gate."))
    choice = reply.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content == "You said: Hello, gate."
    assert choice.finish_reason == "stop"
    assert reply.object == "chat.completion"
    assert reply.model == model
    assert reply.id and reply.created
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_chat_async(achat, model):
    async def ask():
        async with achat:
            texts = [f"Number {n}." for n in range(8)]
            replies = await asyncio.gather(
                *(achat.chat.completions.create(model=model, messages=say(text)) for text in texts)
            )
            return texts, [reply.choices[0].message.content for reply in replies]

    texts, said = asyncio.run(ask())
    assert said == [f"You said: {text}" for text in texts]


def test_the_limit_ends_the_answer(chat, model):
    reply = chat.chat.completions.create(
        model=model, messages=say("one two three four"), max_completion_tokens=3
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content.strip() == "You said: one"


def test_stream(chat, model):
    chunks = list(chat.chat.completions.create(model=model, messages=say("Hello, gate."), stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    # Nobody asked for usage, so every chunk belongs to the answer.
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    # A sign of life may come before anything is said, and says nothing.
    first = next(chunk for chunk in chunks if chunk.choices[0].delta.model_dump(exclude_none=True))
    assert first.choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "You said: Hello, gate."
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert reasons[-1] == "stop"


def test_stream_with_usage(chat, model):
    plain = chat.chat.completions.create(model=model, messages=say("Hello, gate."))
    stream = chat.chat.completions.create(
        model=model, messages=say("Hello, gate."), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == []
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (
        plain.usage.prompt_tokens,
        plain.usage.completion_tokens,
        plain.usage.total_tokens,
    )


def test_stream_async(achat, model):
    async def ask():
        async with achat:
            stream = await achat.chat.completions.create(
                model=model, messages=say("Hello, gate."), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()) == "You said: Hello, gate."


def test_stream_assembled(chat, model):
    with chat.chat.completions.stream(model=model, messages=[QUESTION], tools=[WEATHER]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    calls = final.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "London"}]


def test_tool_loop(chat, model):
    first = chat.chat.completions.create(model=model, messages=[QUESTION], tools=[WEATHER])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert [call.function.name for call in message.tool_calls] == ["get_weather"] * 2
    cities = [json.loads(call.function.arguments)["city"] for call in message.tool_calls]
    assert cities == ["Paris", "London"]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": said}
        for call, said in zip(message.tool_calls, ["sun", "rain"])
    ]
    second = chat.chat.completions.create(
        model=model, messages=[QUESTION, message, *results], tools=[WEATHER]
    )
    assert second.choices[0].message.content == "The tools say: sun; rain"
    assert second.choices[0].finish_reason == "stop"


def test_tool_loop_streamed(chat, model):
    stream = chat.chat.completions.create(model=model, messages=[QUESTION], tools=[WEATHER], stream=True)
    calls, reason = {}, None
    for chunk in stream:
        choice = chunk.choices[0]
        reason = choice.finish_reason or reason
        for delta in choice.delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += delta.id or ""
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
    assert reason == "tool_calls"
    assert sorted(calls) == [0, 1]
    assert [call["name"] for call in calls.values()] == ["get_weather"] * 2
    assert [json.loads(call["arguments"])["city"] for call in calls.values()] == ["Paris", "London"]
    said = [
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in calls.values()
            ],
        },
        *({"role": "tool", "tool_call_id": call["id"], "content": "fog"} for call in calls.values()),
    ]
    stream = chat.chat.completions.create(
        model=model, messages=[QUESTION, *said], tools=[WEATHER], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "The tools say: fog; fog"


@pytest.mark.parametrize(
    ("choice", "parallel", "count"),
    [
        ("auto", True, 2),
        ("auto", False, 1),
        ("required", True, 2),
        ("none", True, 0),
        ({"type": "function", "function": {"name": "get_weather"}}, False, 1),
    ],
)
def test_tool_choice(chat, model, choice, parallel, count):
    reply = chat.chat.completions.create(
        model=model,
        messages=[QUESTION],
        tools=[WEATHER],
        tool_choice=choice,
        parallel_tool_calls=parallel,
    )
    assert len(reply.choices[0].message.tool_calls or []) == count


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        (f"data:image/png;base64,{PIXEL}", SEEN),
        ("https://example.com/a.png", "I see https://example.com/a.png"),
    ],
)
def test_image(chat, model, url, seen):
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    reply = chat.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    assert reply.choices[0].message.content == seen


def test_structured_output(chat, model):
    reply = chat.chat.completions.parse(model=model, messages=say("Name a city."), response_format=Place)
    assert reply.choices[0].message.parsed == Place(city="sample", population=7, sights=["sample"])


def test_structured_output_streamed(chat, model):
    with chat.chat.completions.stream(
        model=model, messages=say("Name a city."), response_format=Place
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Place(city="sample", population=7, sights=["sample"])


def test_reasoning_is_counted(chat):
    reply = chat.chat.completions.create(model="gpt-5", messages=say("Think."), reasoning_effort="low")
    assert reply.usage.completion_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("claude-sonnet-4-5", {"reasoning_effort": "low"}),
        ("claude-sonnet-4-5", {"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 2048}}}),
        ("claude-opus-4-6", {"extra_body": {"thinking": {"type": "adaptive"}}}),
    ],
)
def test_reasoning_round_trip(chat, model, how):
    question = {"role": "user", "content": "Think about the weather in Paris."}
    arguments = {"model": model, "tools": [WEATHER], "max_completion_tokens": 8192, **how}
    first = chat.chat.completions.create(messages=[question], **arguments)
    message = first.choices[0].message
    assert message.reasoning_content.startswith("The user wrote")
    assert message.thinking_blocks[0]["signature"]
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sun"}
    # The upstream takes the thinking back only with the signature that it gave.
    second = chat.chat.completions.create(messages=[question, message, result], **arguments)
    assert second.choices[0].message.content == "The tools say: sun"


def test_effort_is_taken_without_thinking(chat):
    reply = chat.chat.completions.create(
        model="claude-opus-4-6", messages=say("Hi."), reasoning_effort="low"
    )
    assert reply.choices[0].message.content == "You said: Hi."


def test_the_model_is_renamed(chat):
    reply = chat.chat.completions.create(model="house-model", messages=say("Hi."))
    assert reply.choices[0].message.content == "You said: Hi."


def test_a_large_prompt(chat, model):
    text = "grain of sand " * 150_000
    reply = chat.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    assert len(text) > 2_000_000
    assert reply.choices[0].message.content == f"You wrote {len(text)} bytes"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors(chat, upstream, status, error, stream):
    with pytest.raises(error) as raised:
        chat.chat.completions.create(
            model=f"{upstream}-fail-{status}", messages=say("Hi."), stream=stream
        )
    assert type(raised.value) is error
    assert raised.value.status_code == status
    assert raised.value.body["message"] == "This failure was asked for."
    assert raised.value.body["type"]
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "2"


def test_the_upstream_refuses_the_key(chat):
    with pytest.raises(openai.AuthenticationError) as raised:
        chat.chat.completions.create(model="wrong-key", messages=say("Hi."))
    assert "not-the-key" not in raised.value.response.text


def test_an_unknown_model(chat):
    with pytest.raises(openai.NotFoundError) as raised:
        chat.chat.completions.create(model="gpt-4oo", messages=say("Hi."))
    assert raised.value.code == "model_not_found"
    assert "gpt-4o" in raised.value.body["message"]


def test_a_broken_request(chat, model):
    with pytest.raises(openai.BadRequestError):
        chat.chat.completions.create(model=model, messages=[{"role": "nobody", "content": "Hi."}])


def test_an_unknown_path(chat):
    with pytest.raises(openai.NotFoundError):
        chat.post("/nowhere", body={}, cast_to=object)


@pytest.mark.parametrize("stream", [False, True])
def test_the_client_gives_up(chat, upstream, stream):
    with pytest.raises(openai.APITimeoutError):
        chat.with_options(timeout=0.3).chat.completions.create(
            model=f"{upstream}-stall", messages=say("Hi."), stream=stream
        )
    assert settles()


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_gives_up(chat, stream):
    with pytest.raises(openai.InternalServerError) as raised:
        chat.chat.completions.create(model="stall-limited", messages=say("Hi."), stream=stream)
    assert raised.value.status_code == 504


def test_abort_in_mid_stream(chat, upstream):
    stream = chat.chat.completions.create(
        model=f"{upstream}-stall-stream", messages=say("Hi."), stream=True
    )
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    assert settles()


def test_models(chat):
    models = list(chat.models.list())
    assert {model.id for model in models} == SERVED
    assert {model.object for model in models} == {"model"}
    assert all(model.owned_by for model in models)
    [house] = [model for model in models if model.id == "house-model"]
    assert (house.owned_by, house.created) == ("house", 1767225600)
