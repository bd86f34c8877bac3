"""All lines to the media server: one for each agent and job type, as the settings have it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import structlog

from greenroom.daemon.switchboard import Switchboard
from greenroom.errors import Rejected
from greenroom.ops import measures as m
from greenroom.ops.facts import LinkStatus
from greenroom.ops.metrics import Metrics
from greenroom.server.events import Assignment
from greenroom.server.link import Link, LinkState, Registration
from greenroom.settings import ServerSettings, Settings

__all__ = ["Registrations"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes a line another one."""

    server: ServerSettings
    registration: Registration


class Registrations:
    """Made and used on the daemon's loop. ``deployment``: a second name that each agent is registered under as well."""

    def __init__(self, switchboard: Switchboard, *, metrics: Metrics) -> None:
        self._switchboard = switchboard
        self._metrics = metrics
        self._links: dict[_Key, Link] = {}
        self._retired: list[Link] = []
        self._states: dict[Link, LinkState] = {}
        self._tasks: dict[Link, asyncio.Task[None]] = {}
        self._dropped: dict[Link, int] = {}
        self._replaced: dict[Link, int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._open = True
        self._changed = asyncio.Event()
        self._failed: BaseException | None = None

    def apply(self, settings: Settings, *, deployment: str = "") -> None:
        """Have the lines that these settings ask for: new ones are made, others take no more jobs and go when those
        that they brought are over."""
        wanted = [
            _Key(settings.server, Registration(agent.name, agent.namespace, job_type, deployed))
            for agent in settings.agents
            for job_type in agent.job_types
            for deployed in dict.fromkeys(("", deployment))
        ]
        for key in [key for key in self._links if key not in wanted]:
            link = self._links.pop(key)
            self._retired.append(link)
            link.drain()
        for key in wanted:
            if key not in self._links:
                self._start(key, settings.worker.deadlines.assignment)
        self.tell_capacity()
        self.tidy()

    async def registered(self) -> None:
        """Returns once the server knows all of them. Raises ``Rejected`` when it refuses one."""
        while not all(self._states.get(link) is LinkState.REGISTERED for link in self._links.values()):
            self.check()
            self._changed.clear()
            await self._changed.wait()

    async def failure(self) -> None:
        """Returns once the server has refused one of them for good; ``check`` says why."""
        while self._failed is None:
            self._changed.clear()
            await self._changed.wait()

    def check(self) -> None:
        """Raise what ended one of them for good, ``Rejected`` as a rule."""
        if self._failed is not None:
            raise self._failed

    def tell_capacity(self) -> None:
        """All share the slots; one whose agent would be refused has none."""
        admission = self._switchboard.admission
        for key, link in self._links.items():
            refused = self._switchboard.refusal(key.registration.agent_name) is not None
            link.set_capacity(0 if refused else admission.available, admission.total)

    def tidy(self) -> None:
        """Let lines go that are not wanted any more and have no job."""
        for link in [link for link in self._retired if not self._switchboard.uses(link)]:
            self._retired.remove(link)
            closing = asyncio.ensure_future(self._close(link))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def drain(self) -> None:
        """Take no more jobs, for good; those that run can still be reported."""
        self._open = False
        for link in self:
            link.drain()

    async def aclose(self) -> None:
        """Leave the server, after what was reported has been written."""
        self._open = False
        tasks = list(self._tasks.values())
        await asyncio.gather(*(link.aclose() for link in self))
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)

    def statuses(self) -> tuple[LinkStatus, ...]:
        """For people."""
        self._count_dropped()
        return tuple(
            LinkStatus(
                agent_name=link.registration.agent_name,
                job_type=link.registration.job_type,
                namespace=link.registration.namespace,
                state=link.state.value,
                worker_id=link.worker_id,
                server_version=link.server_version,
                round_trip=link.round_trip,
                dropped=link.dropped,
            )
            for link in self._links.values()
            if not link.registration.deployment
        )

    def __iter__(self) -> Iterator[Link]:
        return iter([*self._links.values(), *self._retired])

    # --- one line -----------------------------------------------------------------------------------------------------

    def _start(self, key: _Key, assignment_timeout: float) -> None:
        link: Link

        def start(assignment: Assignment) -> None:
            self._switchboard.assigned(link, assignment)

        link = Link(
            key.server,
            key.registration,
            decide=self._switchboard.decide,
            start=start,
            end=self._switchboard.terminated,
            give_up=self._switchboard.given_up,
            on_state=lambda state: self._state_changed(link, state),
            on_refused=partial(self._switchboard.refused, key.registration.agent_name),
            assignment_timeout=assignment_timeout,
        )
        self._links[key] = link
        task = self._tasks[link] = asyncio.ensure_future(link.run())
        task.add_done_callback(lambda task: self._ended(link, task))

    def _state_changed(self, link: Link, state: LinkState) -> None:
        before = self._states.get(link, LinkState.OPENING)
        self._states[link] = state
        name, job_type = link.registration.agent_name, link.registration.job_type
        log.debug("registration", agent_name=name, job_type=job_type, state=state.value)
        lost = state is LinkState.OPENING or (state is LinkState.CLOSED and self._open)
        if lost and before in (LinkState.REGISTERED, LinkState.DRAINING):
            self._metrics.count(m.LINKS_LOST, agent=name, job_type=job_type)
            self._switchboard.link_lost(link)
        self._changed.set()

    def _ended(self, link: Link, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if not isinstance(error, Rejected):
            log.error("registration failed", agent_name=link.registration.agent_name, exc_info=error)
        self._failed = self._failed or error
        self._changed.set()

    def _count_dropped(self) -> None:
        for link in self:
            new = link.dropped - self._dropped.get(link, 0)
            if new:
                name, job_type = link.registration.agent_name, link.registration.job_type
                self._metrics.count(m.MESSAGES_DROPPED, new, agent=name, job_type=job_type)
                self._dropped[link] = link.dropped
            replaced = link.terminations_dropped - self._replaced.get(link, 0)
            if replaced:
                self._metrics.count(m.TERMINATIONS_DROPPED, replaced, agent=link.registration.agent_name)
                self._replaced[link] = link.terminations_dropped

    async def _close(self, link: Link) -> None:
        await link.aclose()
        await asyncio.gather(self._tasks[link], return_exceptions=True)
        for table in (self._states, self._tasks, self._dropped, self._replaced):
            table.pop(link, None)
