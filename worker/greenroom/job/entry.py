"""The way into a job's room: whether the room is still there, and with which token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from greenroom.clock import wall
from greenroom.errors import GreenroomError, JobError
from greenroom.job.rooms import find_room
from greenroom.job.tokens import agent_token, issued, outlives
from greenroom.redaction import hide, redact
from greenroom.room.caller import EndReason

if TYPE_CHECKING:
    from greenroom.jobs.ipc import JobInfo
    from greenroom.settings import ServerSettings

__all__ = ["CallOver", "Entry"]

log = structlog.get_logger(__name__)

WAITED = 2.0
"""A job that was assigned so many seconds ago may be for a room that is gone by now."""
SAME_MOMENT = 1.0
"""A room that was made no later than so many seconds after the job was assigned is the job's, whatever its sid: a
dispatch and a client's join at the same moment make the server create the room twice."""
ABOUT_TO_EXPIRE = 60.0
"""A token that holds for less is not joined with. Seconds."""


class CallOver(JobError):
    """There is nothing left to do for the call; the message is the reason."""


class Entry:
    """One job's."""

    def __init__(self, job: JobInfo, server: ServerSettings) -> None:
        self._job = job
        self._server = server

    def token(self) -> str:
        """To join with first: the job's own, unless it is about to expire, or another process has used it."""
        own = self._job.token
        return own if self._job.resume is None and outlives(own, ABOUT_TO_EXPIRE) else self.new_token()

    def new_token(self) -> str:
        token = agent_token(self._job, self._server)
        hide(token)
        return token

    async def sid(self) -> str:
        """The room's sid, as far as it is known. Raises ``CallOver`` when the room is gone, where there was time for
        that: to join it would make it anew.
        """
        job = self._job
        since = issued(job.token)
        if job.resume is None and (since is None or abs(wall() - since) < WAITED):
            return job.room_sid
        try:
            found = await asyncio.to_thread(find_room, self._server, job.room)
        except GreenroomError as error:
            log.warning("room not looked up", error=redact(str(error)))
            return job.room_sid
        another = found is not None and job.room_sid and found.sid and found.sid != job.room_sid
        if found is None or (another and (since is None or found.created > since + SAME_MOMENT)):
            log.info("room is gone", found=found.sid if found is not None else "")
            raise CallOver(str(EndReason.ROOM_DELETED))
        return found.sid or job.room_sid
