"""A server that nobody may have spoken to wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from .server import RealtimeServer

EXPECTED = {"response_cancel_not_active", "rate_limit_exceeded"}
"""A response may be over before it is cancelled; the other is a refusal that tests order."""


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with RealtimeServer().started() as server:
        yield server
        wrong = [complaint for complaint in server.complaints if complaint["code"] not in EXPECTED]
        assert wrong == []
