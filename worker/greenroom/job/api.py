"""LiveKit's client for the server, as a job has it. Its import takes a third of a second and 20 MB: on demand only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import aiohttp
from livekit.api import DeleteRoomRequest, DeleteRoomResponse, LiveKitAPI
from livekit.api.room_service import RoomService

from greenroom.settings import ServerSettings

__all__ = ["DeleteRoomRequest", "JobAPI"]

TIMEOUT = 10.0
"""Seconds for one request."""


Departing = Callable[[], AbstractAsyncContextManager[None]]


class JobAPI(LiveKitAPI):
    """``departing`` is entered to delete the job's own room: the call is over with it."""

    def __init__(self, server: ServerSettings, *, room: str, departing: Departing) -> None:
        session = self._own_session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        super().__init__(server.url, server.api_key, server.api_secret, session=session)
        self._rooms = _Rooms(session, server, own=room, departing=departing)

    @property
    def room(self) -> RoomService:
        return self._rooms

    async def aclose(self) -> None:
        await self._own_session.close()


class _Rooms(RoomService):
    def __init__(
        self, session: aiohttp.ClientSession, server: ServerSettings, *, own: str, departing: Departing
    ) -> None:
        super().__init__(session, server.url, server.api_key, server.api_secret)
        self._own = own
        self._departing = departing

    async def delete_room(self, delete: DeleteRoomRequest) -> DeleteRoomResponse:
        if delete.room != self._own:
            return await super().delete_room(delete)
        async with self._departing():
            return await super().delete_room(delete)
