"""What a worker asks the server about dispatches: has a job of mine been ended, and has one never been begun?

The thin shells around ``watching.Dispatches`` and ``losses.Losses``.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection
from typing import Final

import structlog

from greenroom.clock import wall
from greenroom.errors import LinkLost, Rejected, ServerError
from greenroom.machine import Driver
from greenroom.server.api import ServerApi
from greenroom.server.losses import DEPLOYMENT, Losses, waiting
from greenroom.server.sightings import DispatchSeen
from greenroom.server.watching import (
    Added,
    Away,
    Back,
    Command,
    Dispatches,
    End,
    Event,
    Look,
    Looked,
    LookFailed,
    Pace,
    Removed,
    Standing,
    Tick,
    Unreachable,
    Watched,
)
from greenroom.settings import ReconcileSettings

__all__ = ["DispatchWatch", "Pace", "Reconciler", "Watched", "listed"]

_AT_ONCE: Final = 8
"""Requests under way for the watch; the rest wait."""
_ROOM_TIMEOUT: Final = 2.0
"""For the questions about one room. The server needs three seconds to find that a room is gone."""
_COMPARE_TIMEOUT: Final = 1.0
"""The server waits less than three seconds for the answer to an offer."""
_PAUSE: Final = 0.02
"""Between two rooms: no more than fifty are asked about in a second."""
_MOST_REMADE: Final = 10
"""In one pass."""
_SOONEST: Final = 0.5
_BACKOFF_MAX: Final = 60.0


async def listed(api: ServerApi, room: str) -> frozenset[str] | None:
    """The ids of a room's dispatches; ``None`` when the server does not say, within the time for an offer's answer."""
    try:
        async with asyncio.timeout(_COMPARE_TIMEOUT):
            return frozenset(each.id for each in await api.dispatches(room))
    except (ServerError, TimeoutError):
        return None


class DispatchWatch:
    """Ends the jobs that no termination reaches any more, when their dispatch is deleted. Made on the running loop.

    ``end`` hears (job id, reason), once for a job; it is called on the loop and must return at once.
    """

    def __init__(self, api: ServerApi, *, end: Callable[[str, str], None], pace: Pace | None = None) -> None:
        self._api = api
        self._end = end
        self._dispatches = Dispatches(pace or Pace())
        self._driver: Driver[Event, Command] = Driver(
            self._dispatches, self._perform, clock=asyncio.get_running_loop(), tick=Tick()
        )
        self._looks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._log = structlog.get_logger(__name__)

    def add(self, job: Watched, *, reachable: bool) -> None:
        """Watch a job, or know that it has another dispatch. ``reachable``: a termination would reach it."""
        self._driver.feed(Added(job, reachable))

    def unreachable(self, job_id: str) -> None:
        """No termination will: its link was lost, or its participant is not the first any more."""
        self._driver.feed(Unreachable(job_id))

    def away(self, job_id: str) -> None:
        """The job has lost its room, or its process, and comes back."""
        self._driver.feed(Away(job_id))

    def back(self, job_id: str) -> None:
        """It is there again."""
        self._driver.feed(Back(job_id))

    def remove(self, job_id: str) -> None:
        """The job is over."""
        self._driver.feed(Removed(job_id))

    def standing(self, job_id: str) -> Standing | None:
        """What is known of the job's dispatch; ``None`` if the job is not watched."""
        return self._dispatches.standing(job_id)

    async def aclose(self) -> None:
        """Look no more."""
        self._driver.close()
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)

    def _perform(self, command: Command) -> None:
        match command:
            case Look(room=room):
                look = asyncio.ensure_future(self._look(room))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)
            case End(job_id=job_id, reason=reason):
                self._log.info("job ended", job=job_id, reason=reason)
                self._end(job_id, reason)

    async def _look(self, room: str) -> None:
        try:
            async with self._slots:
                event: Event = await self._ask(room)
        except ServerError as error:
            self._log.debug("room not looked at", room=room, error=str(error))
            event = LookFailed(room)
        self._driver.feed(event)

    async def _ask(self, room: str) -> Looked:
        # Asked for its dispatches, a server says of a room that is gone what it says when it is in trouble.
        if not await self._api.rooms([room]):
            return Looked(room, None, None)
        dispatches = await self._api.dispatches(room)
        people = await self._api.people(room)
        return Looked(room, [each.id for each in dispatches], {each.identity: each.sid for each in people})


class Reconciler:
    """Finds the dispatches that the server has lost, and makes them again for this very worker.

    Every worker may do so: deleting the lost one is the lock, which only one of them gets. The new one carries a
    ``deployment`` of this worker alone, because among all workers the server may draw the silent one again; register
    each agent under it too.

    ``agents``: the names that are served here. ``able``: whether a job of that name would be taken now; lost dispatches
    are left to other workers while it would not. ``on_remade`` hears (agent name, room).
    """

    def __init__(
        self,
        api: ServerApi,
        settings: ReconcileSettings,
        *,
        agents: Callable[[], Collection[str]],
        able: Callable[[str], bool],
        on_remade: Callable[[str, str], None] | None = None,
    ) -> None:
        self.deployment = DEPLOYMENT + secrets.token_hex(6)
        self.remade = 0
        """How many dispatches were made again."""
        self.failures = 0
        """How many times the server could not be asked."""
        self._api = api
        self._interval = settings.interval
        self._agents = agents
        self._able = able
        self._on_remade = on_remade
        self._losses = Losses(settings.after)
        self._owed: DispatchSeen | None = None
        self._made: set[str] = set()
        self._closed = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Look again and again, until ``aclose``."""
        failures = 0
        while not self._closed.is_set():
            delay = self._interval
            try:
                delay = await self.look()
                failures = 0
            except ServerError as error:
                failures += 1
                self.failures += 1
                delay = min(self._interval * 2**failures, _BACKOFF_MAX)
                self._log.warning("dispatches not looked at", error=str(error), retry=delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._closed.wait()

    async def aclose(self) -> None:
        """Let ``run`` return after the room it is at."""
        self._closed.set()

    async def look(self) -> float:
        """Look at every room once and mend what is lost; the seconds until the next look. Raises ``ServerError``."""
        if self._owed is not None:
            await self._create_owed(self._owed)
        rooms = {room.name: room for room in await self._api.rooms()}
        seen: set[str] = set()
        known = set(self._made)
        delay = self._interval
        quota = _MOST_REMADE
        for name in [room.name for room in rooms.values() if room.people]:
            if self._closed.is_set():
                break
            dispatches = await self._dispatches(name)
            seen.update(each.id for each in dispatches)
            delays = self._delays(dispatches)
            delay = min([delay, *(each for each in delays if each > 0)])
            if any(each <= 0 for each in delays):
                for lost in (await self._lost(name, dispatches))[:quota]:
                    quota -= await self._make_again(lost)
            await asyncio.sleep(_PAUSE)
        self._losses.keep(seen, rooms=rooms)
        self._made -= known - seen
        return max(_SOONEST, delay)

    async def _dispatches(self, room: str) -> list[DispatchSeen]:
        """A room's dispatches; none where the room has gone since it was listed."""
        try:
            async with asyncio.timeout(_ROOM_TIMEOUT):
                return await self._api.dispatches(room)
        except (LinkLost, Rejected):
            raise
        except (ServerError, TimeoutError):
            return []

    def _delays(self, dispatches: list[DispatchSeen]) -> list[float]:
        """Seconds until each of them that has no job is lost."""
        now, server_time = self._now()
        served = waiting(dispatches, agents=self._agents())
        return [self._losses.due(each, now=now, server_time=server_time) - now for each in served]

    async def _lost(self, room: str, dispatches: list[DispatchSeen]) -> list[DispatchSeen]:
        people = await self._api.people(room)
        now, server_time = self._now()
        lost = self._losses.lost(dispatches, people, agents=self._agents(), now=now, server_time=server_time)
        return [each for each in lost if self._able(each.agent_name)]

    async def _make_again(self, lost: DispatchSeen) -> bool:
        """Delete and create. False if another worker was first."""
        if not await self._api.delete_dispatch(lost.id, room_name=lost.room):
            return False
        self._owed = lost
        await self._create(lost)
        return True

    async def _create(self, lost: DispatchSeen) -> None:
        self._created(lost, await self._api.create_dispatch(lost, deployment=self.deployment))

    async def _create_owed(self, lost: DispatchSeen) -> None:
        """Create what was deleted and could not be created: it may have been, and its room may be gone since."""
        rooms = await self._api.rooms([lost.room])
        if not rooms or not rooms[0].people:
            self._owed = None
            return
        ours = [each for each in await self._api.dispatches(lost.room) if each.deployment == self.deployment]
        for each in ours:
            if each.id not in self._made and (each.agent_name, each.metadata) == (lost.agent_name, lost.metadata):
                self._created(lost, each.id)
                return
        await self._create(lost)

    def _created(self, lost: DispatchSeen, made: str) -> None:
        self._owed = None
        self._made.add(made)
        self.remade += 1
        self._log.warning(
            "lost dispatch made again", agent_name=lost.agent_name, room=lost.room, lost=lost.id, made=made
        )
        if self._on_remade is not None:
            self._on_remade(lost.agent_name, lost.room)

    def _now(self) -> tuple[float, float | None]:
        """By our loop, and by the server's clock where that is known."""
        server_time = None if self._api.skew is None else wall() + self._api.skew
        return asyncio.get_running_loop().time(), server_time
