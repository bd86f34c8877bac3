"""Where it happens: a media server, the users, and the worker that is measured."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

from livekit import api

from greenroom.embedded.mediaserver import MediaServer
from tests.bench.contract import AGENT, Knobs
from tests.bench.user import User, now
from tests.bench.worker import Contender, Worker

__all__ = ["House", "NoAgent"]

COME = 30.0
"""Seconds that an agent may take to come."""
LISTENING = 1.5
"""Seconds that a session is given to begin to listen."""


class NoAgent(RuntimeError):
    """None came."""


class House:
    """``async with House() as house``: a media server of its own, for all that is measured."""

    def __init__(self) -> None:
        self.users: list[User] = []
        self._server = MediaServer()
        self._stack = AsyncExitStack()
        self._api: api.LiveKitAPI

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._server)
        url = self._server.url.replace("ws", "http", 1)
        self._api = api.LiveKitAPI(url, self._server.api_key, self._server.api_secret)
        self._stack.push_async_callback(self._api.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.hang_up(*self.users)
        await self._stack.aclose()

    async def user(self, room: str = "") -> User:
        """Somebody in a room, of their own where none is named."""
        user = User(room or f"bench-{uuid.uuid4().hex[:10]}")
        await user.connect(self.url, self.token(user.identity, user.room_name))
        self.users.append(user)
        return user

    @property
    def url(self) -> str:
        return self._server.url

    def token(self, identity: str, room: str, *, agent: bool = False) -> str:
        """To join the room with, as a user or as an agent."""
        token = api.AccessToken(self._server.api_key, self._server.api_secret).with_identity(identity)
        grants = api.VideoGrants(room_join=True, room=room, agent=agent)
        return token.with_kind("agent" if agent else "standard").with_grants(grants).to_jwt()

    async def dispatch(self, user: User, knobs: Knobs) -> float:
        """Ask for an agent; when the request was sent."""
        at = now()
        request = api.CreateAgentDispatchRequest(agent_name=AGENT, room=user.room_name, metadata=knobs.encode())
        await self._api.agent_dispatch.create_dispatch(request)
        return at

    async def call(self, **knobs: Any) -> User:
        """A user with an agent that listens. Raises ``NoAgent``."""
        user = await self.user()
        await self.dispatch(user, Knobs(**knobs))
        if not await user.until(lambda: bool(user.agents and user.subscribed), timeout=COME):
            raise NoAgent(f"no agent came within {COME:.0f} s")
        await asyncio.sleep(LISTENING)
        return user

    async def hang_up(self, *users: User) -> None:
        """They leave, and their rooms are deleted."""
        for user in list(users):
            await self.leave(user)
            with suppress(api.TwirpError):
                await self._api.room.delete_room(api.DeleteRoomRequest(room=user.room_name))

    async def leave(self, user: User) -> None:
        """They leave; the room is left to the agent and to the server."""
        self.users.remove(user)
        await user.close()

    @asynccontextmanager
    async def worker(self, contender: Contender, *, idle: int) -> AsyncIterator[Worker]:
        """It has registered and settled; all calls end with it."""
        server = (self._server.url, self._server.api_key, self._server.api_secret)
        worker = Worker(contender, server=server, idle=idle)
        try:
            await worker.registered()
            await worker.settle()
            yield worker
        finally:
            await self.hang_up(*self.users)
            await worker.stop()
