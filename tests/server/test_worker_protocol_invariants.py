"""What holds for the worker protocol in whatever order things happen."""

from __future__ import annotations

import struct
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import LocalProtocolError
from greenroom.server.events import (
    Acceptance,
    Announce,
    Assigned,
    CapacityChanged,
    CloseAsked,
    Command,
    Decide,
    DrainAsked,
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
    Offer,
    OfferAnswered,
    OfferReceived,
    PongReceived,
    Refusal,
    Registered,
    Registration,
    SendAvailability,
    SendJobStatus,
    SendPing,
    SendRegister,
    SendWorkerStatus,
    Start,
    Terminated,
    Tick,
)
from greenroom.server.protocol import Timing, WorkerProtocol, load_of

TARGET = 0.7
SENT = (SendRegister, SendAvailability, SendWorkerStatus, SendJobStatus, SendPing)

job_ids = st.sampled_from(["AJ_1", "AJ_2", "AJ_3"])
offers = st.builds(Offer, id=job_ids, job_type=st.just("room"), room=st.just("lobby"))
answers = st.one_of(st.just(Acceptance("agent")), st.just(Refusal("busy")))
capacities = st.integers(0, 4).flatmap(lambda total: st.builds(CapacityChanged, st.integers(0, total), st.just(total)))
events: st.SearchStrategy[Event] = st.one_of(
    st.just(LinkOpened()),
    st.just(LinkLost("reset")),
    st.builds(Registered, st.sampled_from(["AW_1", "AW_2"])),
    st.builds(OfferReceived, offers),
    st.builds(Assigned, offers, st.just(""), st.just("token")),
    st.builds(Terminated, job_ids),
    st.builds(PongReceived, st.integers(0, 4)),
    st.builds(Malformed, st.just("bytes")),
    st.builds(OfferAnswered, job_ids, answers),
    capacities,
    st.builds(JobStatusReported, job_ids, st.sampled_from(["running", "success", "failed"])),
    st.builds(JobRecovered, job_ids),
    st.just(Tick()),
)
# Closing ends a story, so it is rare.
rare: st.SearchStrategy[Event] = st.one_of(*[events] * 12, st.sampled_from([DrainAsked(), CloseAsked()]))
stories = st.lists(st.tuples(st.floats(0, 8), rare), max_size=60)
OPENED: list[tuple[float, Event]] = [
    (0.0, CapacityChanged(2, 2)),
    (0.0, LinkOpened()),
    (0.0, Registered("AW_1")),
]


def machine() -> WorkerProtocol:
    return WorkerProtocol(Registration("reception"), timing=Timing(), target_load=TARGET)


@settings(max_examples=300, deadline=None)
@given(stories, st.booleans())
def test_any_order_of_events_keeps_the_contract(story: list[tuple[float, Event]], opened: bool) -> None:
    protocol, now = machine(), 0.0
    for gap, event in (OPENED if opened else []) + story:
        now += gap
        before = protocol.state
        try:
            commands = protocol.handle(event, now)
        except LocalProtocolError:
            # Our own two mistakes: a second link, and an answer that nobody asked for. Never anything remote.
            assert isinstance(event, OfferAnswered) or (isinstance(event, LinkOpened) and before.value != "opening")
            continue
        deadline = protocol.deadline()
        assert deadline is None or deadline > now
        if protocol.state in (LinkState.OPENING, LinkState.CLOSED):
            assert deadline is None
        if any(isinstance(command, DropLink) for command in commands):
            assert protocol.state in (LinkState.OPENING, LinkState.CLOSED)
        if before in (LinkState.OPENING, LinkState.CLOSED) and not isinstance(event, LinkOpened):
            assert not any(isinstance(command, SENT) for command in commands)
        states = [command.state for command in commands if isinstance(command, Announce)]
        assert states[-1:] == ([protocol.state] if protocol.state is not before else [])


class Shell:
    """Answers ``Decide`` at once or some events later, and keeps count of what a daemon would hold."""

    def __init__(self, decisions: list[tuple[bool, bool]]) -> None:
        self.protocol = machine()
        self.decisions = decisions
        self.undecided: list[tuple[str, bool]] = []
        self.answered: Counter[str] = Counter()
        self.held: set[str] = set()
        self.started: set[str] = set()
        self.ended: set[str] = set()

    def decide(self, now: float) -> None:
        """What took its time is decided."""
        undecided, self.undecided = self.undecided, []
        for job_id, yes in undecided:
            self.feed(OfferAnswered(job_id, Acceptance("agent") if yes else Refusal("busy")), now)

    def feed(self, event: Event, now: float) -> None:
        for command in self.protocol.handle(event, now):
            self.perform(command, now)

    def perform(self, command: Command, now: float) -> None:
        match command:
            case Decide(offer=offer):
                yes, at_once = self.decisions.pop() if self.decisions else (True, True)
                if yes:
                    assert offer.id not in self.held
                    self.held.add(offer.id)
                self.undecided.append((offer.id, yes))
                if at_once:
                    self.decide(now)
            case SendAvailability(job_id=job_id):
                self.answered[job_id] += 1
            case GiveUp(job_id=job_id):
                assert job_id in self.held
                assert job_id not in self.started
                self.held.discard(job_id)
            case Start(assignment=assignment):
                assert assignment.offer.id in self.held
                assert assignment.offer.id not in self.started
                self.started.add(assignment.offer.id)
            case End(job_id=job_id):
                assert job_id in self.started
                assert job_id not in self.ended
                self.ended.add(job_id)
            case SendWorkerStatus(load=load, full=full):
                assert full or load < TARGET


@settings(max_examples=200, deadline=None)
@given(stories, st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_each_offer_that_reaches_a_registered_worker_is_answered_at_most_once_and_if_decided_at_once(
    story: list[tuple[float, Event]], decisions: list[tuple[bool, bool]]
) -> None:
    shell, now = Shell(decisions), 0.0
    for number, (gap, event) in enumerate(OPENED + story):
        now += gap
        while (deadline := shell.protocol.deadline()) is not None and deadline <= now:
            shell.feed(Tick(), deadline)
        match event:
            case OfferReceived(offer=offer):
                # Every other id is a fresh one, so that new and repeated offers both occur.
                job_id = offer.id if number % 2 else f"AJ_{number}"
                if job_id in shell.started and not shell.protocol.owns(job_id):
                    continue  # The server never offers a job under the id of one that has run.
                listening = shell.protocol.state in (LinkState.REGISTERED, LinkState.DRAINING)
                before, undecided = shell.answered[job_id], len(shell.undecided)
                repeated = any(waiting == job_id for waiting, _ in shell.undecided)
                shell.feed(OfferReceived(Offer(id=job_id, job_type="room", room="lobby")), now)
                answers = shell.answered[job_id] - before
                # One that takes its time is answered later: by whoever decides, or when the time is up.
                assert answers <= listening
                assert answers == listening or repeated or len(shell.undecided) == undecided + 1
            case OfferAnswered():
                shell.decide(now)  # Only the shell answers.
            case LinkOpened() if shell.protocol.state is not LinkState.OPENING:
                pass  # A link opens only after the one before.
            case _:
                shell.feed(event, now)
    shell.feed(CloseAsked(), now)
    shell.decide(now)
    assert shell.held == shell.started, "an accepted offer was neither started nor given up"


@given(
    st.integers(0, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))),
    st.floats(0.01, 1.0, allow_nan=False),
)
def test_load_is_below_the_target_exactly_while_a_slot_is_free(slots: tuple[int, int], target: float) -> None:
    free, total = slots
    (load,) = struct.unpack("f", struct.pack("f", load_of(free=free, total=total, target_load=target)))
    (compared,) = struct.unpack("f", struct.pack("f", target))
    assert (load < compared) is (free > 0)
    assert 0.0 <= load <= 1.0
