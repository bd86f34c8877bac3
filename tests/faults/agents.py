"""The agents that things are done to, and those that do things to their worker."""

from __future__ import annotations

import asyncio
import signal
import time

from greenroom import Agent, function_tool, get_job_context
from tests.faults.voice import note

__all__ = ["Clinging", "Raising", "Stuck", "Teller"]

GREETING = "hum hum hum hum hello"
"""More than a word: what sounds in the moment that the caller's client needs to hear a track is lost on it."""
BOOKING = 1.5
"""Seconds that the tool takes."""
PIECE = 8 * 1024 * 1024
FOR_EVER = 3600.0


class Teller(Agent):
    """Greets, tells stories, and has tools that do what they should not."""

    async def on_enter(self) -> None:
        self.session.say(GREETING)

    @function_tool
    async def book(self) -> str:
        """Do something that must not be done twice."""
        note("tools", "began")
        await asyncio.sleep(BOOKING)
        note("tools", "done")
        return "booked"

    @function_tool
    async def block(self) -> str:
        """Stop the loop that carries the audio."""
        note("tools", "began")
        time.sleep(FOR_EVER)  # noqa: ASYNC251  # that is the fault
        return "booked"

    @function_tool
    async def leak(self) -> str:
        """Take memory until there is no more."""
        note("tools", "began")
        held: list[bytearray] = []
        while True:
            held.append(bytearray(b"x") * PIECE)
            await asyncio.sleep(0.02)

    @function_tool
    async def leave(self) -> None:
        """End the call."""
        get_job_context().shutdown("it was asked to")


class Raising(Agent):
    """Fails at the first step."""

    async def on_enter(self) -> None:
        raise RuntimeError("this agent cannot enter")


class Stuck(Agent):
    """Never gets into the room."""

    def __init__(self) -> None:
        super().__init__()
        time.sleep(FOR_EVER)


class Clinging(Teller):
    """Does not go when it is asked to, nor when it is told to."""

    async def on_exit(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(FOR_EVER)  # noqa: ASYNC251
