"""A real LiveKit server for the tests of this folder, and rooms that nobody else uses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from greenroom.embedded.mediaserver import MediaServer
from tests.room.people import House


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def media_server() -> AsyncIterator[MediaServer]:
    async with MediaServer() as server:
        yield server


@pytest.fixture
async def house(media_server: MediaServer) -> AsyncIterator[House]:
    async with House(media_server) as house:
        yield house
