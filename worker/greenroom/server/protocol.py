"""The worker's side of the agent protocol: registering, offers, assignments, load, drain.

The rules, in words; ``TRANSITIONS`` below holds them as data, and the machine runs on that table.

- A worker registers as soon as its link is open. A server that does not confirm within ``Timing.register`` is left.
- ``Decide`` comes back as ``OfferAnswered``: in the same ``handle`` chain where nothing has to be waited for, else
  within ``Timing.decision``; an offer that is undecided then is refused, while the server still listens. An acceptance
  that comes after that, or to a worker that drains meanwhile, or whose link has gone, is given up. Offers that meet a
  full or draining worker are refused without asking anybody. A refusal lets the server ask another worker. An offer
  that comes twice gets the same answer twice.
- The server gives a job about three seconds from offer to answer, then drops it without a word. So an accepted offer
  whose assignment does not come within ``Timing.assignment`` is given up, and its slot is free again. An assignment
  that nobody waits for is reported as failed: the server would believe for ever that the job runs.
- Load is synthetic. The server compares it with its target load to choose a node, so a worker with a free slot stays
  below the target, and one without reports itself full with load 1. It hears of a change at once, and of no change
  every ``Timing.keepalive``.
- A server that stops answering looks like a quiet one: pings tell them apart. One ping is on the way at a time, and a
  link whose pong does not come within ``Timing.ping_timeout`` is dropped.
- A job belongs to the link that it was assigned on. When that is lost the job runs on, but no later link can report
  it: the server keeps nothing of the old one. Accepted offers that were not assigned yet die with the link.
- A server that is forced to stop ends every job, and 20 ms later its sockets die; the calls can go on once it is back.
  So a termination counts only when the link has outlived it by ``Timing.settle``.
- A job that was recovered, or whose client has connected anew, is another participant of the same identity. The server
  ends the job for the old one, so that one termination is dropped. It hears nothing of the job afterwards.
- Draining ends with the link: there is nothing that a new one could be told.
- What the server sends out of turn is dropped and counted. What the shell feeds out of turn is our bug and raises
  ``LocalProtocolError``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, get_args

from greenroom.errors import LocalProtocolError
from greenroom.server.events import (
    Acceptance,
    Announce,
    Assigned,
    Assignment,
    CapacityChanged,
    CloseAsked,
    Command,
    Decide,
    DrainAsked,
    Drop,
    DropLink,
    End,
    Event,
    GiveUp,
    JobRecovered,
    JobStatusReported,
    LinkLost,
    LinkOpened,
    LinkState,
    Malformed,
    OfferAnswered,
    OfferReceived,
    PongReceived,
    Refusal,
    Registered,
    Registration,
    RemoteEvent,
    SendAvailability,
    SendJobStatus,
    SendPing,
    SendRegister,
    SendWorkerStatus,
    Start,
    Terminated,
    Tick,
    Unsent,
)

__all__ = ["LOAD_MARGIN", "TRANSITIONS", "Timing", "Transition", "WorkerProtocol", "load_of"]

LOAD_MARGIN: Final = 0.98
"""The share of the target load that a worker uses; the rest keeps rounding to 32 bits from touching the target."""


# Time is an event too: each of these is a timer that the machine sets itself, and that ``Tick`` makes due.


@dataclass(frozen=True, slots=True)
class RegisterOverdue:
    """The server did not confirm the registration."""


@dataclass(frozen=True, slots=True)
class PingDue:
    """It is time to ask whether the server is there."""


@dataclass(frozen=True, slots=True)
class PongOverdue:
    """The server did not answer the ping."""


@dataclass(frozen=True, slots=True)
class StatusDue:
    """The server has not heard of our load for a while."""


@dataclass(frozen=True, slots=True)
class AssignmentOverdue:
    """An accepted offer led to nothing."""

    job_id: str


@dataclass(frozen=True, slots=True)
class DecisionOverdue:
    """Whether an offer is accepted was not decided in time."""

    job_id: str


@dataclass(frozen=True, slots=True)
class TerminationSettled:
    """The link has outlived a termination."""

    job_id: str


Timer: TypeAlias = (
    RegisterOverdue | PingDue | PongOverdue | StatusDue | AssignmentOverdue | DecisionOverdue | TerminationSettled
)

_OPENING, _REGISTERING, _REGISTERED, _DRAINING, _CLOSED = LinkState
_IDLE = (_OPENING, _CLOSED)
_WORKING = (_REGISTERED, _DRAINING)
_LINKED = (_REGISTERING, *_WORKING)
_ANY = tuple(LinkState)


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: in ``state``, ``event`` leads to ``next``; ``rule`` says what is done."""

    state: LinkState
    event: type
    next: LinkState
    rule: str


# States, event, the next state (None: the same), rule.
_ROWS: Final[tuple[tuple[tuple[LinkState, ...], type, LinkState | None, str], ...]] = (
    ((_OPENING,), LinkOpened, _REGISTERING, "register, and wait for the answer"),
    ((_REGISTERING,), Registered, _REGISTERED, "tell the load at once; begin to ping"),
    ((_REGISTERING,), RegisterOverdue, _OPENING, "drop the link"),
    ((_REGISTERED,), OfferReceived, None, "refuse when full; repeat an answer already given; else decide"),
    ((_DRAINING,), OfferReceived, None, "refuse; repeat an answer already given"),
    ((_REGISTERED,), OfferAnswered, None, "send the answer, unless it is late; wait for the assignment if accepted"),
    ((_DRAINING,), OfferAnswered, None, "refuse, and give an accepted offer up"),
    (_WORKING, DecisionOverdue, None, "refuse"),
    ((*_IDLE, _REGISTERING), OfferAnswered, None, "the link has gone meanwhile: give an accepted offer up"),
    (_WORKING, Assigned, None, "start an awaited job; drop any other and report it failed"),
    (_WORKING, AssignmentOverdue, None, "give the job up"),
    (_WORKING, Terminated, None, "let it settle for a running job; give up an awaited one; drop any other"),
    (_WORKING, TerminationSettled, None, "end the job"),
    (_ANY, JobRecovered, None, "drop what terminates the job for the participant that was replaced"),
    (_ANY, JobStatusReported, None, "send it for a job of this link, whose end frees its id; else say it was not sent"),
    (_WORKING, CapacityChanged, None, "tell the load if it has changed"),
    ((*_IDLE, _REGISTERING), CapacityChanged, None, "keep it for the registration"),
    (_WORKING, StatusDue, None, "tell the load again"),
    (_WORKING, PingDue, None, "ping"),
    (_WORKING, PongReceived, None, "take the round trip's time; the next ping is due an interval after the last"),
    ((_REGISTERED,), PongOverdue, _OPENING, "drop the link; give up what was accepted and not assigned"),
    ((_DRAINING,), PongOverdue, _CLOSED, "drop the link; give up what was accepted and not assigned"),
    (_ANY, Malformed, None, "drop it"),
    ((_REGISTERED,), DrainAsked, _DRAINING, "tell the server that we are full"),
    ((_DRAINING, _CLOSED), DrainAsked, None, "nothing more to do"),
    ((_OPENING,), DrainAsked, _CLOSED, "there is nothing to drain"),
    ((_REGISTERING,), DrainAsked, _CLOSED, "drop the link: there is nothing to drain"),
    ((_REGISTERING, _REGISTERED), LinkLost, _OPENING, "give up what was accepted and not assigned"),
    ((_DRAINING,), LinkLost, _CLOSED, "give up what was accepted and not assigned"),
    (_IDLE, LinkLost, None, "already given up"),
    (_LINKED, CloseAsked, _CLOSED, "end what was terminated; drop the link; give up what was not assigned"),
    (_IDLE, CloseAsked, _CLOSED, "there is no link to drop"),
)

_UNDECIDED: Final = Refusal("undecided")
_TERMINATED: Final = "terminated by the server"

TRANSITIONS: Final = tuple(
    Transition(state, event, next_ or state, rule) for states, event, next_, rule in _ROWS for state in states
)
_TABLE: Final = {(row.state, row.event): row for row in TRANSITIONS}
_REMOTE: Final = get_args(RemoteEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the line's steps may take, in seconds."""

    register: float = 10.0
    decision: float = 2.0
    assignment: float = 5.0
    settle: float = 0.3
    ping_interval: float = 5.0
    ping_timeout: float = 10.0
    keepalive: float = 10.0


def load_of(*, free: int, total: int, target_load: float) -> float:
    """What to report with ``free`` of ``total`` slots: below ``target_load`` while one is free, else 1."""
    if free == 0:
        return 1.0
    return target_load * LOAD_MARGIN * (total - free) / total


def _replaced(job_id: str) -> str:
    return f"{job_id} was terminated for the participant that was replaced"


class WorkerProtocol:
    """One registration with the server, over all its links. See the module for the rules.

    Before the first ``CapacityChanged`` there is no slot, so that nothing is accepted by accident.
    """

    def __init__(self, registration: Registration, *, timing: Timing | None = None, target_load: float = 0.7) -> None:
        self.registration = registration
        self.state = LinkState.OPENING
        self.registered: Registered | None = None
        """What the server said of itself and us; ``None`` while not registered."""
        self.round_trip: float | None = None
        """How long the last answered ping took, in seconds."""
        self._timing = timing or Timing()
        self._target_load = target_load
        self._free = self._total = 0
        self._told: tuple[float, bool] | None = None
        self._timers: dict[Timer, float] = {}
        self._ping = 0
        self._pinged = 0.0
        self._deciding: set[str] = set()
        self._orphaned: set[str] = set()
        self._awaited: dict[str, Acceptance] = {}
        self._running: dict[str, Acceptance] = {}
        self._recovered: set[str] = set()
        self._settling: set[str] = set()
        self._handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            LinkOpened: self._on_link_opened,
            LinkLost: self._on_link_lost,
            Registered: self._on_registered,
            RegisterOverdue: self._on_register_overdue,
            OfferReceived: self._on_offer,
            OfferAnswered: self._on_answer,
            Assigned: self._on_assigned,
            AssignmentOverdue: self._on_assignment_overdue,
            DecisionOverdue: self._on_decision_overdue,
            Terminated: self._on_terminated,
            TerminationSettled: self._on_termination_settled,
            JobRecovered: self._on_recovered,
            JobStatusReported: self._on_job_status,
            CapacityChanged: self._on_capacity,
            StatusDue: self._on_status_due,
            PingDue: self._on_ping_due,
            PongReceived: self._on_pong,
            PongOverdue: self._on_pong_overdue,
            Malformed: self._on_malformed,
            DrainAsked: self._on_drain,
            CloseAsked: self._on_close,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event. Raises ``LocalProtocolError`` for what only a bug of ours can feed."""
        commands = [] if isinstance(event, Tick) else self._step(event, now)
        while (timer := self._due(now)) is not None:
            del self._timers[timer]
            commands += self._step(timer, now)
        return commands

    def deadline(self) -> float | None:
        """When a ``Tick`` is wanted: always later than the last event."""
        return min(self._timers.values(), default=None)

    def owns(self, job_id: str) -> bool:
        """Whether the server listens for the status of this job on the present link."""
        return self.state in _WORKING and job_id in self._running

    def _step(self, event: Event | Timer, now: float) -> list[Command]:
        row = _TABLE.get((self.state, type(event)))
        if row is None:
            said = f"{type(event).__name__} while {self.state.value}"
            if isinstance(event, _REMOTE):
                return [Drop(said)]
            raise LocalProtocolError(f"worker protocol: {said}")
        changed = row.next is not self.state
        self.state = row.next
        commands = self._handlers[type(event)](event, now)
        return [*commands, Announce(self.state)] if changed else commands

    def _due(self, now: float) -> Timer | None:
        timer = min(self._timers, key=self._timers.__getitem__, default=None)
        return timer if timer is not None and self._timers[timer] <= now else None

    # ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_link_opened(self, _: LinkOpened, now: float) -> list[Command]:
        self._timers[RegisterOverdue()] = now + self._timing.register
        return [SendRegister(self.registration)]

    def _on_registered(self, event: Registered, now: float) -> list[Command]:
        self.registered = event
        del self._timers[RegisterOverdue()]
        self._timers[PingDue()] = now + self._timing.ping_interval
        return self._tell_status(now)

    def _on_register_overdue(self, _: RegisterOverdue, now: float) -> list[Command]:
        return [DropLink("no answer to the registration"), *self._forget("the registration failed")]

    def _on_link_lost(self, event: LinkLost, now: float) -> list[Command]:
        return self._forget(f"the link was lost: {event.reason}")

    def _on_drain(self, _: DrainAsked, now: float) -> list[Command]:
        if self.state is LinkState.DRAINING:
            return self._tell_status(now, only_news=True)
        return self._leave("drained")

    def _on_close(self, _: CloseAsked, now: float) -> list[Command]:
        return self._leave("closed")

    def _leave(self, reason: str) -> list[Command]:
        """Drop the link if there is one. While there is, a timer runs: for the registration, or for the status."""
        if not self._timers:
            return []
        # Leaving is our own doing: it is no sign that the server did not mean it.
        ended: list[Command] = [End(job_id, _TERMINATED) for job_id in sorted(self._settling)]
        self._settling.clear()
        return [*ended, DropLink(reason), *self._forget(f"the link was {reason}")]

    def _forget(self, reason: str) -> list[Command]:
        """End all that belonged to the link."""
        commands: list[Command] = [GiveUp(job_id, reason) for job_id in self._awaited]
        commands += [Drop(f"{job_id} was terminated, and then {reason}") for job_id in sorted(self._settling)]
        self._orphaned |= self._deciding
        for kept in (self._deciding, self._awaited, self._running, self._recovered, self._settling, self._timers):
            kept.clear()
        self._told = self.registered = self.round_trip = None
        return commands

    # ── is the server there ──────────────────────────────────────────────────────────────────────────────────────────

    def _on_ping_due(self, _: PingDue, now: float) -> list[Command]:
        self._ping += 1
        self._pinged = now
        self._timers[PongOverdue()] = now + self._timing.ping_timeout
        return [SendPing(self._ping)]

    def _on_pong(self, event: PongReceived, now: float) -> list[Command]:
        if PongOverdue() not in self._timers or event.number != self._ping:
            return [Drop("a pong for a ping that is not on the way")]
        del self._timers[PongOverdue()]
        self._timers[PingDue()] = self._pinged + self._timing.ping_interval
        self.round_trip = now - self._pinged
        return []

    def _on_pong_overdue(self, _: PongOverdue, now: float) -> list[Command]:
        reason = f"no answer to a ping for {self._timing.ping_timeout:g} s"
        return [DropLink(reason), *self._forget(f"the link was lost: {reason}")]

    def _on_malformed(self, event: Malformed, now: float) -> list[Command]:
        return [Drop(event.reason)]

    # ── load ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_capacity(self, event: CapacityChanged, now: float) -> list[Command]:
        if not 0 <= event.free <= event.total:
            raise LocalProtocolError(f"worker protocol: {event.free} of {event.total} slots are free")
        self._free, self._total = event.free, event.total
        return self._tell_status(now, only_news=True) if self.state in _WORKING else []

    def _on_status_due(self, _: StatusDue, now: float) -> list[Command]:
        return self._tell_status(now)

    def _tell_status(self, now: float, *, only_news: bool = False) -> list[Command]:
        full = self._free == 0 or self.state is LinkState.DRAINING
        load = 1.0 if full else load_of(free=self._free, total=self._total, target_load=self._target_load)
        if only_news and (load, full) == self._told:
            return []
        self._told = load, full
        self._timers[StatusDue()] = now + self._timing.keepalive
        return [SendWorkerStatus(load, full)]

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_offer(self, event: OfferReceived, now: float) -> list[Command]:
        job_id = event.offer.id
        if job_id in self._deciding:
            return [Drop(f"{job_id} was offered again while it is decided about")]
        given = self._awaited.get(job_id) or self._running.get(job_id)
        if given is not None:
            return [SendAvailability(job_id, given)]
        if self.state is LinkState.DRAINING:
            return [SendAvailability(job_id, Refusal("draining"))]
        if self._free == 0:
            return [SendAvailability(job_id, Refusal("full"))]
        if job_id in self._orphaned:
            # The answer to the first offer is still to come; it could not be told from one to this offer.
            return [SendAvailability(job_id, _UNDECIDED)]
        self._deciding.add(job_id)
        self._timers[DecisionOverdue(job_id)] = now + self._timing.decision
        return [Decide(event.offer)]

    def _on_answer(self, event: OfferAnswered, now: float) -> list[Command]:
        job_id, answer = event.job_id, event.answer
        accepted = isinstance(answer, Acceptance)
        if job_id in self._orphaned:
            self._orphaned.discard(job_id)
            return [GiveUp(job_id, "accepted too late")] if accepted else []
        if job_id not in self._deciding:
            raise LocalProtocolError(f"worker protocol: an answer for {job_id}, which was not offered")
        self._deciding.discard(job_id)
        del self._timers[DecisionOverdue(job_id)]
        if accepted and self.state is LinkState.DRAINING:
            return [SendAvailability(job_id, Refusal("draining")), GiveUp(job_id, "drains since the offer")]
        if isinstance(answer, Acceptance):
            self._awaited[job_id] = answer
            self._timers[AssignmentOverdue(job_id)] = now + self._timing.assignment
        return [SendAvailability(job_id, answer)]

    def _on_decision_overdue(self, event: DecisionOverdue, now: float) -> list[Command]:
        self._deciding.discard(event.job_id)
        self._orphaned.add(event.job_id)
        return [SendAvailability(event.job_id, _UNDECIDED)]

    def _on_assigned(self, event: Assigned, now: float) -> list[Command]:
        job_id = event.offer.id
        if job_id in self._running:
            return [Drop(f"{job_id} was assigned again")]
        acceptance = self._awaited.pop(job_id, None)
        if acceptance is None:
            reason = "assigned without, or too long after, an accepted offer"
            return [Drop(f"{job_id} was {reason}"), SendJobStatus(job_id, "failed", reason)]
        del self._timers[AssignmentOverdue(job_id)]
        self._running[job_id] = acceptance
        worker_id = self.registered.worker_id if self.registered is not None else ""
        assignment = Assignment(
            offer=event.offer, identity=acceptance.identity, worker_id=worker_id, url=event.url, token=event.token
        )
        return [Start(assignment)]

    def _on_assignment_overdue(self, event: AssignmentOverdue, now: float) -> list[Command]:
        del self._awaited[event.job_id]
        return [GiveUp(event.job_id, f"no assignment within {self._timing.assignment:g} s")]

    def _on_terminated(self, event: Terminated, now: float) -> list[Command]:
        job_id = event.job_id
        if self._running.pop(job_id, None) is not None:
            if job_id in self._recovered:
                self._recovered.discard(job_id)
                return [Drop(_replaced(job_id), replaced=True)]
            self._settling.add(job_id)
            self._timers[TerminationSettled(job_id)] = now + self._timing.settle
            return []
        if self._awaited.pop(job_id, None) is not None:
            del self._timers[AssignmentOverdue(job_id)]
            return [GiveUp(job_id, _TERMINATED)]
        return [Drop(f"{job_id} was terminated, which does not run here")]

    def _on_termination_settled(self, event: TerminationSettled, now: float) -> list[Command]:
        self._settling.discard(event.job_id)
        return [End(event.job_id, _TERMINATED)]

    def _on_recovered(self, event: JobRecovered, now: float) -> list[Command]:
        if event.job_id in self._settling:
            self._unsettle(event.job_id)
            return [Drop(_replaced(event.job_id), replaced=True)]
        if event.job_id in self._running:
            self._recovered.add(event.job_id)
        return []

    def _unsettle(self, job_id: str) -> None:
        if job_id in self._settling:
            self._settling.discard(job_id)
            del self._timers[TerminationSettled(job_id)]

    def _on_job_status(self, event: JobStatusReported, now: float) -> list[Command]:
        if event.status != "running":
            self._unsettle(event.job_id)
        if not self.owns(event.job_id):
            return [Unsent(event.job_id, event.status)]
        if event.status != "running":
            del self._running[event.job_id]
            self._recovered.discard(event.job_id)
        return [SendJobStatus(event.job_id, event.status, event.error)]
