"""The OpenAI SDK's Responses against upstreams of every form."""

import json

import openai
import pytest
from conftest import EVERYWHERE, PIXEL, SEEN
from pydantic import BaseModel

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION = "What is the weather in Paris and London?"


class Place(BaseModel):
    city: str
    population: int


@pytest.fixture(params=EVERYWHERE)
def everywhere(request) -> str:
    return request.param


# Where Responses are translated the gateway keeps the answers; the played providers keep none.
TRANSLATED = [model for model in EVERYWHERE if model.startswith(("claude", "gemini"))]


def test_answer(chat, everywhere):
    reply = chat.responses.create(model=everywhere, instructions="Be brief.", input="Hello, gate.")
    assert reply.output_text == "You said: Hello, gate."
    assert reply.status == "completed"
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens


def test_stream(chat, everywhere):
    events = list(chat.responses.create(model=everywhere, input="Hello, gate.", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text == "You said: Hello, gate."


def test_picture(chat, everywhere):
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    content = [{"type": "input_text", "text": "What is this?"}, picture]
    reply = chat.responses.create(model=everywhere, input=[{"role": "user", "content": content}])
    assert reply.output_text == SEEN


def test_parsed(chat, everywhere):
    reply = chat.responses.parse(model=everywhere, input="Name a place.", text_format=Place)
    assert reply.output_parsed == Place(city="sample", population=7)


def test_tool_loop(chat, everywhere):
    with chat.responses.stream(model=everywhere, input=QUESTION, tools=[WEATHER], store=False) as stream:
        for _ in stream:
            pass
        first = stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Paris", "London"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": said}
        for call, said in zip(calls, ["sun", "rain"])
    ]
    said = [item.model_dump(exclude_none=True, exclude={"parsed_arguments", "namespace"}) for item in first.output]
    asked = [{"role": "user", "content": QUESTION}, *said, *results]
    second = chat.responses.create(model=everywhere, input=asked, tools=[WEATHER])
    assert second.output_text == "The tools say: sun; rain"


@pytest.mark.parametrize("translated", TRANSLATED)
def test_conversation_by_id(chat, translated):
    first = chat.responses.create(model=translated, input=QUESTION, tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": said}
        for call, said in zip(calls, ["sun", "rain"])
    ]
    second = chat.responses.create(
        model=translated, input=results, tools=[WEATHER], previous_response_id=first.id
    )
    assert second.output_text == "The tools say: sun; rain"
    assert second.previous_response_id == first.id
    assert chat.responses.retrieve(second.id).output_text == second.output_text
    chat.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        chat.responses.retrieve(second.id)


def test_input_tokens(chat, everywhere):
    counted = chat.responses.input_tokens.count(model=everywhere, input="Hello, gate.")
    assert counted.input_tokens > 0
