"""An MCP server in a few lines, for ``concierge.py``: what a hotel's own system might offer."""

from __future__ import annotations

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PRICES = {"single": 80, "double": 120}

server: MCPServer[None] = MCPServer("hotel", log_level="WARNING")


@server.tool()
def price(room: str, nights: int = 1) -> str:
    """What a room costs. Rooms are single or double."""
    if room not in PRICES:
        raise ToolError(f"There are no {room} rooms; there are single and double ones.")
    return f"{PRICES[room] * nights} euros."


if __name__ == "__main__":
    server.run("stdio")
