"""An agent of LangChain that calls tools in a loop, on upstreams of every form."""

import pytest
from conftest import CLIENT_KEY, EVERYWHERE, GATEWAY
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return {"Paris": "sun", "London": "rain"}[city]


@pytest.mark.parametrize("model", EVERYWHERE)
@pytest.mark.parametrize("responses", [False, True])
def test_agent(model, responses):
    chat = ChatOpenAI(
        model=model,
        base_url=f"{GATEWAY}/v1",
        api_key=CLIENT_KEY,
        max_retries=0,
        use_responses_api=responses,
    )
    agent = create_agent(chat, [get_weather], system_prompt="Be brief.")
    question = {"role": "user", "content": "What is the weather in Paris and London?"}
    said = agent.invoke({"messages": [question]})["messages"]
    assert [message.type for message in said] == ["human", "ai", "tool", "tool", "ai"]
    assert said[-1].text == "The tools say: sun; rain"
