"""A hotel's concierge: tools of an MCP server, a search that outlives an interruption, a colleague who takes over.

agents:
  - name: concierge
    agent: concierge:Concierge
    mcp:
      - {name: hotel, command: python, args: [hotel_tools.py]}  # or url: https://tools.example.com/mcp
    vad: {plugin: silero}
    stt: {plugin: whisper}
    llm: {plugin: script, rules: [{when: "restaurant", call: {tool: call_restaurant}}]}
    tts: {plugin: piper}
"""

from __future__ import annotations

import asyncio

from greenroom import Agent, function_tool


class Concierge(Agent):
    """Answers the phone of a hotel. Rooms and prices come from the MCP server of ``hotel_tools.py``."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the phone of the Blue Door hotel. Be brief and kind.")

    async def on_enter(self) -> None:
        self.session.say("Good day, this is the Blue Door. How can I help you?")

    @function_tool(on_interrupt="tell", on_duplicate="replace")
    async def find_tickets(self, show: str) -> str:
        """Look for tickets. Takes a while: the guest may talk on, and is told when they are found.

        Args:
            show: what the guest would like to see
        """
        await asyncio.sleep(3)  # a slow service
        return f"There are two seats left for {show}, at eight."

    @function_tool
    async def call_restaurant(self) -> tuple[Agent, str]:
        """Connect the guest with the restaurant."""
        return Restaurant(), "The restaurant is on the line now."


class Restaurant(Agent):
    """Takes the conversation over."""

    def __init__(self) -> None:
        super().__init__(instructions="You take bookings for the restaurant of the Blue Door hotel.")

    @function_tool
    async def book(self, people: int) -> str:
        """Book a table for tonight."""
        return f"A table for {people} is booked."
