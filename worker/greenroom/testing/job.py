"""A job without a server, for tests of agents that ask for theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from greenroom.job.context import Job, JobContext, JobRoom
from greenroom.room.caller import EndReason
from greenroom.settings import ServerSettings

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.api import LiveKitAPI

__all__ = ["RehearsedJob"]


class RehearsedJob(JobContext):
    """``enter()`` it, then start the session: ``get_job_context()`` returns it to the agent.

    ``endings`` holds when the agent ended the call, on the loop's clock, and why.
    """

    def __init__(self, *, room: str = "rehearsal", metadata: str = "", participant: str = "") -> None:
        job = Job("AJ_rehearsal", JobRoom(room, ""), "", metadata=metadata, participant=participant)
        nowhere = ServerSettings(url="ws://localhost", api_key="key", api_secret="secret")  # noqa: S106  # nobody's
        super().__init__(job, server=nowhere, call=_Rehearsal(self))
        self.endings: list[tuple[float, str]] = []

    @property
    def api(self) -> LiveKitAPI:
        raise RuntimeError("a rehearsed job has no server to ask")

    def delete_room(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        deleted = loop.create_future()
        deleted.set_result(None)
        self.endings.append((loop.time(), EndReason.ROOM_DELETED))
        return deleted


class _Rehearsal:
    def __init__(self, job: RehearsedJob) -> None:
        self._job = job

    @property
    def client(self) -> rtc.Room:
        raise RuntimeError("a rehearsed job has no room")

    def on_client(self, callback: Callable[[rtc.Room], None]) -> None:
        """There is none."""

    async def depart(self, reason: str) -> None:
        """There is nobody to tell."""

    def end(self, reason: str) -> None:
        self._job.endings.append((asyncio.get_running_loop().time(), reason))
