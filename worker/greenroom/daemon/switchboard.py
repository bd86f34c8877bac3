"""Between the lines to the server and the processes: who gets a slot, which job is whose, and what the server is told.

The parent's middle. It decides little itself: ``Admission`` counts, ``rooms.judge`` knows duplicates, the pool has the
processes. An offer is answered at once where it can be; who has to ask (the agent's own code, or the server which
dispatches there are) returns what is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import structlog

from greenroom.jobs.accept import AcceptRules
from greenroom.jobs.admission import Admission, Condition, Refusal, Refused
from greenroom.jobs.bench import Warmth
from greenroom.jobs.events import Outcome
from greenroom.jobs.ipc import Considered, JobInfo, Measured, RoomChanged
from greenroom.jobs.pool import Pool
from greenroom.jobs.recovery import Standing
from greenroom.ops import measures as m
from greenroom.ops.facts import JobState, JobStatus
from greenroom.ops.metrics import Metrics
from greenroom.server import rooms
from greenroom.server.dispatches import Watched
from greenroom.server.events import Acceptance, Answer, Assignment, JobType, Offer
from greenroom.server.events import Refusal as No
from greenroom.server.link import Link
from greenroom.settings import Settings

__all__ = ["SwitchOwner", "Switchboard", "Watch"]

log = structlog.get_logger(__name__)


class Watch(Protocol):
    """``server.dispatches.DispatchWatch``, as far as it is needed here."""

    def add(self, job: Watched, *, reachable: bool) -> None: ...
    def unreachable(self, job_id: str) -> None: ...
    def away(self, job_id: str) -> None: ...
    def back(self, job_id: str) -> None: ...
    def remove(self, job_id: str) -> None: ...


class SwitchOwner(Protocol):
    """Who is told of what concerns the worker as a whole."""

    def jobs_changed(self, jobs: int) -> None:
        """So many go on."""
        ...

    def capacity_changed(self) -> None:
        """The server may have to be told anew what this worker can take."""
        ...

    def warm_changed(self, warmth: Warmth) -> None: ...

    def compare(self, room: str) -> Awaitable[frozenset[str] | None]:
        """The dispatches that the server has for a room; ``None`` if it does not say."""
        ...


@dataclass(slots=True, eq=False)
class _Job:
    """One job from its assignment, or adoption, to the end of its last process.

    ``links``: by which it can be reported, under which id: its own, and those of offers that were adopted for it.
    """

    info: JobInfo
    began: float
    links: dict[str, Link] = field(default_factory=dict)
    adopted: bool = False
    dispatch_id: str = ""
    room_sid: str = ""
    joined: bool = False
    away: bool = False
    interrupted: bool = False
    ending: bool = False
    died: float | None = None


class Switchboard:
    """One worker's; the pool's owner. ``wire`` gives it the rest of the worker."""

    def __init__(
        self,
        settings: Settings,
        *,
        owner: SwitchOwner,
        metrics: Metrics,
        lag: Callable[[], float],
        memory_mb: Callable[[], float | None],
    ) -> None:
        self.admission = Admission(1)
        self._owner = owner
        self._metrics = metrics
        self._lag = lag
        self._memory_mb = memory_mb
        self._pool: Pool | None = None
        self._watch: Watch | None = None
        self._jobs: dict[str, _Job] = {}
        self._names: dict[str, str] = {}
        """The job that the id of an offer stands for which was adopted."""
        self._undecided: set[str] = set()
        self._warmth: dict[str, Warmth] = {}
        self._rules: dict[str, AcceptRules] = {}
        self.room_agents: frozenset[str] = frozenset()
        """Agents that a dispatch alone starts, before anybody has joined or published."""
        self._quiet = asyncio.Event()
        self.apply(settings)

    def wire(self, pool: Pool, watch: Watch | None) -> None:
        self._pool, self._watch = pool, watch

    def apply(self, settings: Settings) -> None:
        """Go by these settings from now on. Raises ``SettingsError`` for a rule that cannot be read, and is then as it
        was."""
        self._rules = {
            agent.name: AcceptRules(agent.accept, key=f"agents[{index}].accept")
            for index, agent in enumerate(settings.agents)
        }
        self.room_agents = frozenset(agent.name for agent in settings.agents if "room" in agent.job_types)
        worker = settings.worker
        self.admission.limit(worker.max_jobs, headroom_mb=worker.memory_headroom_mb, max_lag=worker.max_lag)
        known = {agent.name for agent in settings.agents}
        self._warmth = {name: warmth for name, warmth in self._warmth.items() if name in known}

    @property
    def jobs(self) -> int:
        """How many go on."""
        return len(self._jobs)

    @property
    def warmth(self) -> dict[str, Warmth]:
        return self._warmth

    def uses(self, link: Link) -> bool:
        """Whether a job's outcome is to be reported on it."""
        return any(link in job.links.values() for job in self._jobs.values())

    def refusal(self, agent: str) -> Refusal | None:
        """Why an offer for this agent would be refused now."""
        return self.admission.refusal(self._condition(agent))

    async def settle(self) -> None:
        """Returns when no accepted offer waits for its assignment, and no job for a process."""
        while self.admission.promised:
            self._quiet.clear()
            await self._quiet.wait()
        if self._pool is not None:
            await self._pool.settle()

    def end_all(self, reason: str) -> None:
        for job_id in list(self._jobs):
            self._end(job_id, reason)

    def statuses(self) -> tuple[JobStatus, ...]:
        """All jobs, for people."""
        return tuple(self._status(job) for job in self._jobs.values())

    # --- from the server ----------------------------------------------------------------------------------------------

    def decide(self, offer: Offer) -> Answer | Awaitable[Answer]:
        """Whether to take a job."""
        self._metrics.offered(offer.id, offer.agent_name, now=_now())
        self._undecided.add(offer.id)
        verdict = rooms.judge(offer, self._serving())
        if isinstance(verdict, rooms.Compare):
            return self._compare(offer, verdict)
        return self._judged(offer, verdict)

    def refused(self, agent: str, job_id: str, reason: str) -> None:
        """An offer was answered with no, here or by the link itself, which knows when there is no slot."""
        if job_id not in self._undecided:
            self._metrics.offered(job_id, agent, now=_now())
        self._undecided.discard(job_id)
        self._metrics.refused(job_id, reason)
        self._changed()

    def assigned(self, link: Link, assignment: Assignment) -> None:
        """A job has come."""
        offer = assignment.offer
        link.report(offer.id, "running")
        adopted = self._names.get(offer.id)
        if adopted is not None:
            self._attach(adopted, link, offer)
            return
        if self._pool is None or not self.admission.start(offer.id):
            log.warning("assigned too late", job=offer.id, room=offer.room)
            link.report(offer.id, "failed", "assigned too late")
            return
        self._metrics.assigned(offer.id, now=_now())
        info = JobInfo(
            id=offer.id,
            room=offer.room,
            room_sid=offer.room_sid,
            agent_name=offer.agent_name,
            url=assignment.url,
            token=assignment.token,
            identity=assignment.identity,
            job_type=offer.job_type,
            metadata=offer.metadata,
            dispatch_id=offer.dispatch_id,
            participant=offer.participant_identity,
            attributes=dict(offer.attributes),
            worker_id=assignment.worker_id,
        )
        self._open(info, link=link)
        self._pool.start_job(offer.agent_name, info)
        self._changed()

    def terminated(self, job_id: str, reason: str) -> None:
        """The server has ended a job."""
        self._end(self._names.get(job_id, job_id), reason)

    def given_up(self, job_id: str) -> None:
        """A job that was accepted does not come."""
        self._metrics.given_up(job_id)
        if self._names.pop(job_id, None) is None:
            self.admission.free(job_id)
        self._changed()

    def link_lost(self, link: Link) -> None:
        """No termination reaches the jobs that came by it."""
        for job_id, job in self._jobs.items():
            if link in job.links.values() and not self._reachable(job) and self._watch is not None:
                self._watch.unreachable(job_id)

    # --- from the pool: it is a ``PoolOwner`` -------------------------------------------------------------------------

    def adopted(self, job: JobInfo) -> None:
        self.admission.adopt(job.id)
        self._metrics.adopted(job.agent_name)
        self._open(job, link=None)
        self._changed()

    def joined(self, job: JobInfo) -> None:
        known = self._jobs.get(job.id)
        self._metrics.joined(job.id, now=_now())
        if known is None:
            return
        known.joined = True
        if known.died is not None:
            seconds = _now() - known.died
            self._metrics.observe(m.RECOVERY_SECONDS, seconds, agent=job.agent_name, stage="joined")
            log.info("call goes on", job=job.id, room=job.room, away=round(seconds, 3))
            known.died = None
        self._set_away(job.id, known, False)

    def recovering(self, job: JobInfo, outcome: Outcome) -> None:
        known = self._jobs[job.id]
        farewell = job.resume is not None and job.resume.farewell
        if farewell:
            self._metrics.count(m.JOBS_GIVEN_UP, agent=job.agent_name)
        else:
            self._metrics.count(m.RECOVERIES, agent=job.agent_name, died=outcome.value)
        known.info, known.joined = job, False
        known.died = _now()
        self._set_away(job.id, known, True)
        self._replaced(job.id, known)

    def room_changed(self, job_id: str, change: RoomChanged) -> None:
        known = self._jobs.get(job_id)
        if known is not None:
            if change.sid or change.state == "connected":  # back, and not told yet into which incarnation: unknown
                known.room_sid = change.sid
            self._set_away(job_id, known, change.state != "connected")
            if change.state != "connected":  # also a client that only reconnects may come back as another participant
                self._replaced(job_id, known)

    def measured(self, job: JobInfo, measured: Measured) -> None:
        self._metrics.merge(job.id, job.agent_name, measured)

    def leaving(self, job_id: str, error: str) -> None:
        """The call is over and its process waits in the room: the server has to hear of it first."""
        known = self._jobs.get(job_id)
        if known is None or self._pool is None:
            return
        known.ending = True
        told = [link.report(name, "failed" if error else "success", error) for name, link in known.links.items()]
        if not any(told):
            log.info("nobody to tell", job=job_id, room=known.info.room, error=error)
        self._pool.may_leave(job_id)

    def finished(self, job_id: str, outcome: Outcome) -> None:
        known = self._jobs.pop(job_id, None)
        self._names = {name: job for name, job in self._names.items() if job != job_id}
        self.admission.free(job_id)
        if known is not None:
            log.info("job finished", job=job_id, room=known.info.room, outcome=outcome.value)
            self._metrics.finished(job_id, known.info.agent_name, outcome.value, now=_now())
            if self._watch is not None:
                self._watch.remove(job_id)
            self._owner.jobs_changed(len(self._jobs))
        self._changed()

    def warm_changed(self, warmth: Warmth) -> None:
        self._warmth[warmth.agent] = warmth
        self._owner.warm_changed(warmth)
        self._changed()

    def booted(self, agent: str, seconds: float, error: str) -> None:
        self._metrics.count(m.BOOTS, agent=agent, outcome="failed" if error else "ready")
        if not error:
            self._metrics.observe(m.BOOT_SECONDS, seconds, agent=agent)

    def recycled(self, agent: str) -> None:
        self._metrics.count(m.PROCESSES_RECYCLED, agent=agent)

    # --- an offer -----------------------------------------------------------------------------------------------------

    def _judged(self, offer: Offer, verdict: rooms.Serve | rooms.Adopt) -> Answer | Awaitable[Answer]:
        if isinstance(verdict, rooms.Adopt):
            return self._adopt(offer, verdict)
        if not self._fits(offer):
            return No(Refusal.NO_RULE.value)
        decided = self.admission.reserve(offer.id, self._condition(offer.agent_name))
        if isinstance(decided, Refused):
            return No(decided.reason.value)
        warmth = self._warmth.get(offer.agent_name)
        if warmth is not None and warmth.considers and self._pool is not None:
            asked = self._pool.consider(offer.agent_name, _unsigned(offer))
            return self._considered(offer, asked)
        self._accepted(offer)
        self._changed()
        return _acceptance(offer)

    async def _compare(self, offer: Offer, verdict: rooms.Compare) -> Answer:
        answer = self._judged(offer, rooms.compared(verdict, await self._owner.compare(offer.room)))
        return answer if isinstance(answer, Acceptance | No) else await answer

    async def _considered(self, offer: Offer, asked: Awaitable[Considered]) -> Answer:
        """What the agent's own code says. The slot is held meanwhile."""
        taken = False
        try:
            decision = await asked
            if not decision.accepted:
                known = {one.value for one in Refusal}
                reason = decision.reason if decision.reason in known else Refusal.DECLINED.value
                log.info("agent declined", job=offer.id, room=offer.room, reason=decision.reason)
                return No(reason)
            taken = True
            self._accepted(offer)
            return _acceptance(offer, decision)
        finally:
            if not taken:
                self.admission.free(offer.id)
            self._changed()

    def _accepted(self, offer: Offer) -> None:
        self._undecided.discard(offer.id)
        self._metrics.accepted(offer.id, now=_now())

    def _fits(self, offer: Offer) -> bool:
        rules = self._rules.get(offer.agent_name)
        attributes = {**offer.participant_attributes, **offer.attributes}
        return rules is None or rules.takes(room=offer.room, metadata=offer.metadata, attributes=attributes)

    def _condition(self, agent: str) -> Condition:
        warmth = self._warmth.get(agent)
        return Condition(
            warm=warmth is None or warmth.bootable,
            memory_mb=self._memory_mb() if self.admission.headroom_mb else None,
            lag=self._lag(),
        )

    # --- the same call, offered again ---------------------------------------------------------------------------------

    def _serving(self) -> list[rooms.Serving]:
        return [
            rooms.Serving(
                job_id=job_id,
                agent_name=job.info.agent_name,
                job_type=cast("JobType", job.info.job_type),
                room=job.info.room,
                room_sid=job.room_sid,
                participant=job.info.participant,
                identity=job.info.identity,
                dispatch_id=job.dispatch_id,
                connection="away" if job.away else "connected" if job.joined else "unknown",
                interrupted=job.interrupted,
            )
            for job_id, job in self._jobs.items()
            if not job.ending
        ]

    def _adopt(self, offer: Offer, verdict: rooms.Adopt) -> Answer:
        if verdict.job_id not in self._jobs:
            return No(Refusal.SERVED.value)
        log.info("offer is for a call that goes on", job=offer.id, call=verdict.job_id, room=offer.room)
        self._names[offer.id] = verdict.job_id
        self._accepted(offer)
        return Acceptance(identity=verdict.identity, name=offer.agent_name or "agent")

    def _attach(self, job_id: str, link: Link, offer: Offer) -> None:
        """Another job of the server's stands for the same call: it can be ended and reported by that, too."""
        job = self._jobs.get(job_id)
        if job is None:
            link.report(offer.id, "success")
            return
        job.links[offer.id] = link
        job.dispatch_id, job.interrupted = offer.dispatch_id, False
        job.room_sid = offer.room_sid or job.room_sid
        self._observe(job, reachable=True)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _open(self, info: JobInfo, *, link: Link | None) -> None:
        job = _Job(info, _now(), adopted=link is None, dispatch_id=info.dispatch_id, room_sid=info.room_sid)
        if link is not None:
            job.links[info.id] = link
        self._jobs[info.id] = job
        self._observe(job, reachable=link is not None)
        self._owner.jobs_changed(len(self._jobs))

    def _observe(self, job: _Job, *, reachable: bool) -> None:
        info = job.info
        if self._watch is not None:
            watched = Watched(job_id=info.id, room=info.room, dispatch_id=job.dispatch_id, identity=info.identity)
            self._watch.add(watched, reachable=reachable)

    def _end(self, job_id: str, reason: str) -> None:
        job = self._jobs.get(job_id)
        if job is not None and self._pool is not None:
            job.ending = True
            self._pool.end_job(job_id, reason)

    def _reachable(self, job: _Job) -> bool:
        return any(link.owns(name) for name, link in job.links.items())

    def _replaced(self, job_id: str, job: _Job) -> None:
        """Another participant takes the place of the one that the server knows. It will end the job for that one,
        which is not the call's end, and cannot end the call any more."""
        for name, link in job.links.items():
            link.recovered(name)
        if self._watch is not None:
            self._watch.unreachable(job_id)

    def _set_away(self, job_id: str, job: _Job, away: bool) -> None:
        if away == job.away:
            return
        job.away = away
        job.interrupted = job.interrupted or away
        if self._watch is not None:
            (self._watch.away if away else self._watch.back)(job_id)

    def _status(self, job: _Job) -> JobStatus:
        call = None if self._pool is None else self._pool.calls.get(job.info.id)
        process = None if call is None else call.process
        resume = job.info.resume
        return JobStatus(
            id=job.info.id,
            room=job.info.room,
            agent_name=job.info.agent_name,
            state=_state(job, None if call is None else call.standing),
            seconds=_now() - job.began,
            pid=None if process is None else process.pid,
            attempt=1 if resume is None else resume.attempt,
            adopted=job.adopted,
            memory_mb=None if process is None else process.memory_mb,
        )

    def _changed(self) -> None:
        self._quiet.set()
        self._owner.capacity_changed()


def _state(job: _Job, standing: Standing | None) -> JobState:
    if job.ending or standing is Standing.ENDING:
        return "ending"
    if job.died is not None:
        return "recovering"
    if not job.joined:
        return "starting"
    return "away" if job.away else "running"


def _acceptance(offer: Offer, decision: Considered | None = None) -> Acceptance:
    """Who the agent will be. The identity holds the job's id: two of one identity in a room would evict each other."""
    identity, name = f"agent-{offer.id}", offer.agent_name or "agent"
    if decision is None:
        return Acceptance(identity=identity, name=name)
    return Acceptance(
        identity=decision.identity or identity,
        name=decision.name or name,
        metadata=decision.metadata,
        attributes=decision.attributes,
    )


def _unsigned(offer: Offer) -> JobInfo:
    """The job as the agent's code may consider it: nobody has been let in yet."""
    return JobInfo(
        id=offer.id,
        room=offer.room,
        room_sid=offer.room_sid,
        agent_name=offer.agent_name,
        url="",
        token="",
        identity="",
        job_type=offer.job_type,
        metadata=offer.metadata,
        dispatch_id=offer.dispatch_id,
        participant=offer.participant_identity,
        attributes=dict(offer.attributes),
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
