"""The official SDK for Python as a client of the gateway, and as a server behind it."""

import os

import pytest
from mcp import Client
from mcp.types import ElicitResult

GATEWAY = os.environ["GATEWAY_URL"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_tools_of_every_server_are_listed_and_called(mode: str):
    async with Client(f"{GATEWAY}/mcp", mode=mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"fixture__test_simple_text", "modern__test_simple_text", "everything__echo", "program__echo", "python__add"} <= set(names)
        assert names.index("fixture__test_simple_text") < names.index("everything__echo")
        for server in ["everything", "program"]:
            called = await client.call_tool(f"{server}__echo", {"message": "hi"})
            assert called.content[0].text == "Echo: hi"
        called = await client.call_tool("python__add", {"a": 1, "b": 2})
        assert called.structured_content == {"result": 3}


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_resources_and_prompts_lead_back(mode: str):
    async with Client(f"{GATEWAY}/mcp", mode=mode) as client:
        resources = (await client.list_resources()).resources
        uri = next(resource.uri for resource in resources if "static-text" in str(resource.uri))
        assert str(uri) == "fixture+test://static-text"
        read = await client.read_resource(uri)
        assert str(read.contents[0].uri) == str(uri)
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert "fixture__test_simple_prompt" in prompts
        got = await client.get_prompt("fixture__test_simple_prompt")
        assert "simple prompt" in got.messages[0].content.text


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize(
    "tool", ["fixture__test_elicitation", "modern__test_input_required_result_elicitation", "python__greet"]
)
async def test_servers_of_either_line_ask_and_are_answered(mode: str, tool: str):
    async def answer(_context, _params) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with Client(f"{GATEWAY}/mcp", mode=mode, elicitation_callback=answer) as client:
        called = await client.call_tool(tool, {"message": "?"} if tool.startswith("fixture") else {})
        assert "Ada" in called.content[0].text
