"""A server on the official SDK for Python; takes its port as an argument."""

import sys

from mcp.server import MCPServer

server = MCPServer("python")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
