"""What coding agents do, by the SDKs that they are made with: loops of tools that think, on every upstream."""

import json

import pytest
from conftest import EVERYWHERE, PLAIN

WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "cache_control": {"type": "ephemeral"},
}
QUESTION = "What is the weather in Paris and London?"
SAID = ["sun", "rain"]
# As Claude Code sends them: some that not every upstream takes, and one that nobody knows.
FLAGS = [
    "claude-code-20250219",
    "interleaved-thinking-2025-05-14",
    "context-management-2025-06-27",
    "prompt-caching-scope-2026-01-05",
]
# Where what the model thought comes back signed: chat completions show no proof of it.
SEALED = [model for model in EVERYWHERE if model not in PLAIN]


def assert_sealed(seals, model):
    """Every thought is sealed; Gemini signs what follows a thought, so that its seal is a block of its own, the last."""
    assert seals and (seals[-1] if model.startswith("gemini") else all(seals))


@pytest.fixture(params=EVERYWHERE)
def everywhere(request) -> str:
    return request.param


@pytest.mark.parametrize("streamed", [False, True])
def test_claude_code_loops_with_thinking(claude, everywhere, streamed):
    def ask(messages):
        arguments = {
            "model": everywhere,
            "max_tokens": 4096,
            "betas": FLAGS,
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2"},
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            ],
            "messages": messages,
            "tools": [WEATHER],
            "metadata": {"user_id": "user_1"},
        }
        if not streamed:
            return claude.beta.messages.create(**arguments)
        with claude.beta.messages.stream(**arguments) as stream:
            return stream.get_final_message()

    asked = {"role": "user", "content": QUESTION}
    first = ask([asked])
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"city": "Paris"}, {"city": "London"}]
    thoughts = [block for block in first.content if block.type in ("thinking", "redacted_thinking")]
    if everywhere in SEALED:
        assert_sealed([getattr(block, "signature", None) or getattr(block, "data", None) for block in thoughts], everywhere)
    said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}
    for block in said["content"]:
        block.pop("caller", None)
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in zip(calls, SAID)
    ]
    # Strict upstreams refuse reasoning that is not, to the letter, what they signed.
    second = ask([asked, said, {"role": "user", "content": results}])
    assert second.content[-1].text == "The tools say: sun; rain"


def test_claude_code_counts_before_it_asks(claude, everywhere):
    counted = claude.beta.messages.count_tokens(
        model=everywhere,
        betas=FLAGS,
        system="Be brief.",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[WEATHER],
    )
    assert counted.input_tokens > 0


@pytest.mark.parametrize("model", [*EVERYWHERE, "gpt-5"])
def test_codex_loops_with_reasoning_items(chat, model):
    # One that does not reason is not asked to: OpenAI refuses that.
    reasoning = {} if model in PLAIN else {"reasoning": {"effort": "medium", "summary": "auto"}}

    def ask(items):
        with chat.responses.stream(
            model=model,
            instructions="Be brief.",
            input=items,
            tools=[
                {
                    "type": "function",
                    "name": "get_weather",
                    "description": WEATHER["description"],
                    "parameters": {**WEATHER["input_schema"], "additionalProperties": False},
                    "strict": True,
                }
            ],
            **reasoning,
            include=["reasoning.encrypted_content"] if reasoning else [],
            parallel_tool_calls=True,
            prompt_cache_key="session-1",
            store=False,
        ) as stream:
            kinds = [event.type for event in stream]
            assert kinds[-1] == "response.completed"
            return stream.get_final_response()

    asked = {"role": "user", "content": QUESTION}
    first = ask([asked])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Paris", "London"]
    thoughts = [item for item in first.output if item.type == "reasoning"]
    if model in SEALED:
        assert_sealed([item.encrypted_content for item in thoughts], model)
    drop = {"parsed_arguments", "namespace"}
    said = [item.model_dump(exclude_none=True, exclude=drop) for item in first.output]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": text}
        for call, text in zip(calls, SAID)
    ]
    assert ask([asked, *said, *results]).output_text == "The tools say: sun; rain"
