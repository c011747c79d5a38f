"""A server on the official SDK for Python; takes its port as an argument."""

import sys
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel

server = MCPServer("python")


class Who(BaseModel):
    name: str


async def who() -> Elicit[Who]:
    return Elicit("Who are you?", Who)


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def greet(who: Annotated[Who, Resolve(who)]) -> str:
    """Greets whoever the client says that it is."""
    return f"Hello, {who.name}!"


server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
