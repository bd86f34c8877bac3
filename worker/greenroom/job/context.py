"""What the agent's code may know of the call that it serves, and do with it: LiveKit's ``JobContext``."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, overload

import structlog

from greenroom.redaction import redact
from greenroom.room.caller import EndReason

if TYPE_CHECKING:
    from livekit import api, rtc

    from greenroom.jobs.ipc import JobInfo
    from greenroom.settings import ServerSettings

__all__ = ["Call", "Job", "JobContext", "JobRoom", "get_job_context"]

DELETE_TIMEOUT = 8.0
"""Seconds for a deletion, with the time until what was said has been heard."""
UNKNOWN_ROOM = "not_found"
"""The server's word for a room that is gone already."""

log = structlog.get_logger(__name__)

ShutdownCallback: TypeAlias = Callable[[], object] | Callable[[str], object]

_current: ContextVar[JobContext] = ContextVar("job_context")


@dataclass(frozen=True, slots=True)
class JobRoom:
    """``sid`` is empty where the server did not say it."""

    name: str
    sid: str


@dataclass(frozen=True, slots=True)
class Job:
    """One dispatched job. ``participant``: the identity that it is for, empty when it is for the room.

    ``metadata``: what whoever dispatched it has sent along.
    """

    id: str
    room: JobRoom
    agent_name: str
    metadata: str = ""
    participant: str = ""
    dispatch_id: str = ""
    attributes: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(info: JobInfo) -> Job:
        return Job(
            id=info.id,
            room=JobRoom(info.room, info.room_sid),
            agent_name=info.agent_name,
            metadata=info.metadata,
            participant=info.participant,
            dispatch_id=info.dispatch_id,
            attributes=dict(info.attributes),
        )


class Call(Protocol):
    """What the context needs of whoever runs the job."""

    @property
    def client(self) -> rtc.Room: ...

    def on_client(self, callback: Callable[[rtc.Room], None]) -> None:
        """Call with the client, and with each that takes its place."""
        ...

    async def depart(self, reason: str) -> None:
        """What was said is heard, and the server knows that the job is over and went well."""
        ...

    def end(self, reason: str) -> None:
        """The agent leaves."""
        ...


class JobContext:
    """``get_job_context()`` returns it inside of a job."""

    def __init__(self, job: Job, *, server: ServerSettings, call: Call) -> None:
        self._job = job
        self._server = server
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._api: api.LiveKitAPI | None = None
        self._deletion: asyncio.Task[None] | None = None
        self._callbacks: list[ShutdownCallback] = []

    def __repr__(self) -> str:
        return f"<JobContext {self._job.id} in {self._job.room.name!r}>"

    def enter(self) -> None:
        """Be the context of the running task, and of all that it starts."""
        _current.set(self)

    @property
    def job(self) -> Job:
        return self._job

    @property
    def room(self) -> rtc.Room:
        """LiveKit's own object, to listen to its events or to send data. The agent's voice is not to be touched.

        It is another one after the room had to be entered anew: see ``on_room``.
        """
        return self._call.client

    def on_room(self, callback: Callable[[rtc.Room], None]) -> None:
        """Have ``callback(room)`` called, at once, and with each later room object before its first event: the place to
        register handlers on it, since they stay with the object.
        """
        self._call.on_client(callback)

    @property
    def api(self) -> api.LiveKitAPI:
        """LiveKit's client for the server, with the worker's credentials; closed when the job ends.

        The first use loads it, which takes up to half a second and 20 MB, and the loop that carries the audio waits:
        ``from livekit import api`` at the head of the agent's module has it done before there is a call. A request to
        delete the job's own room is made when what was said has been heard and the server knows that the job ends, and
        it ends the call.
        """
        if self._api is None:
            from greenroom.job.api import JobAPI

            self._api = JobAPI(self._server, room=self._job.room.name, departing=self._departing)
        return self._api

    def delete_room(self) -> asyncio.Future[None]:
        """End the call for everybody in it: what was said is heard, then the server deletes the room.

        It begins at once; await it to be there when it is done. It never raises: if the server refuses, that is logged,
        and the agent leaves alone.
        """
        if self._deletion is None:
            self._deletion = asyncio.create_task(self._delete_room(), name="delete room")
        return asyncio.shield(self._deletion)  # whoever awaits it is cancelled with the conversation

    def shutdown(self, reason: str = "shutdown") -> None:
        """End the job: the agent leaves, others stay in the room. Returns at once; may be called from a thread."""
        self._loop.call_soon_threadsafe(self._call.end, reason)

    def add_shutdown_callback(self, callback: ShutdownCallback) -> None:
        """Have ``callback()``, or ``callback(reason)`` if it takes an argument, called when the job is over.

        It may be a coroutine function. The agent has left then. All of them together have half of
        ``worker.deadlines.end``.
        """
        self._callbacks.append(callback)

    async def settle(self) -> None:
        """A deletion that was asked for is done."""
        if self._deletion is not None:
            await asyncio.wait((self._deletion,))

    async def close(self, reason: str, *, timeout: float) -> None:
        """The job is over: call who asked for it, then let go of the server."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(_called(callback, reason) for callback in self._callbacks))
        except TimeoutError:
            log.warning("shutdown callbacks took too long", seconds=timeout)
        if self._api is not None:
            await self._api.aclose()

    @asynccontextmanager
    async def _departing(self) -> AsyncIterator[None]:
        """What is done here ends the call, however it goes."""
        try:
            await self._call.depart(EndReason.ROOM_DELETED)
            yield
        finally:
            self._call.end(EndReason.ROOM_DELETED)

    async def _delete_room(self) -> None:
        try:
            # Loaded in a thread: the audio goes on meanwhile.
            loaded: Any = await asyncio.to_thread(import_module, "greenroom.job.api")
            async with asyncio.timeout(DELETE_TIMEOUT):
                await self.api.room.delete_room(loaded.DeleteRoomRequest(room=self._job.room.name))
        except Exception as error:  # noqa: BLE001  # the call is over in any case
            if getattr(error, "code", "") != UNKNOWN_ROOM:
                log.error("room not deleted", error=redact(str(error)) or type(error).__name__)


async def _called(callback: ShutdownCallback, reason: str) -> None:
    arguments = (reason,) if inspect.signature(callback).parameters else ()
    try:
        result = callback(*arguments)
        if isinstance(result, Awaitable):
            await result
    except Exception:  # a hook call
        log.exception("shutdown callback failed")


@overload
def get_job_context(*, required: Literal[True] = True) -> JobContext: ...
@overload
def get_job_context(*, required: bool) -> JobContext | None: ...
def get_job_context(*, required: bool = True) -> JobContext | None:
    """The context of the job that this code serves: in an agent's ``__init__``, its hooks, its tools and their tasks.

    Raises ``RuntimeError`` where there is none, or returns ``None`` if it is not ``required``.
    """
    context = _current.get(None)
    if context is None and required:
        raise RuntimeError(
            "there is no job here: get_job_context() is for what runs in a call, an agent's hooks and tools and the "
            "tasks they start; in a test, enter a JobContext of your own, or ask with required=False"
        )
    return context
