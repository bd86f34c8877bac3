"""The caller of ``greenroom call`` in a room of the real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from greenroom.embedded.caller import Caller
from greenroom.embedded.console import Entrance
from greenroom.embedded.mediaserver import MediaServer
from tests.room.people import PATIENCE, House, tone

pytestmark = pytest.mark.e2e

RATE = 24_000


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with MediaServer() as server, House(server) as house:
        yield house


async def spoken(house: House, caller: Caller, seconds: float) -> None:
    """The agent comes, an earlier one makes room for it, and says something that is heard."""
    agent = await house.agent()
    speaker = await agent.open_speaker()
    await speaker.wait_ready()
    began = time.monotonic()
    await speaker.push(tone(seconds, sample_rate=RATE))
    await caller.wait_for_voice(after=began, timeout=PATIENCE)


async def test_an_agent_that_comes_back_is_heard_once(house: House) -> None:
    entrance = Entrance(house.server.url, house.token("ann"), house.room, "ann")
    async with Caller(entrance, said=lambda *_: None) as caller:
        await spoken(house, caller, 0.3)
        await spoken(house, caller, 0.3)
        ears = [task for task in asyncio.all_tasks() if task.get_name() == "ear"]
        assert len(ears) == 1, "the track of the agent that is gone is still listened to"
