"""The worker protocol as tables and timelines, with explicit times."""

from __future__ import annotations

from collections import Counter

import pytest

from greenroom.errors import LocalProtocolError
from greenroom.server.events import (
    Acceptance,
    Announce,
    Answer,
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
    Unsent,
)
from greenroom.server.protocol import TRANSITIONS, Timing, WorkerProtocol, load_of

RECEPTION = Registration("reception", "", "room")
TIMING = Timing(register=10.0, assignment=5.0, ping_interval=5.0, ping_timeout=10.0, keepalive=1000.0)
YES = Acceptance("agent-AJ_1", attributes={"floor": "2"})


def offer(job_id: str = "AJ_1") -> Offer:
    return Offer(id=job_id, job_type="room", room="lobby", room_sid="RM_1")


def assigned(job_id: str = "AJ_1", *, url: str = "") -> Assigned:
    return Assigned(offer(job_id), url, "the-token")


def opening(*, timing: Timing = TIMING) -> WorkerProtocol:
    machine = WorkerProtocol(RECEPTION, timing=timing, target_load=0.7)
    assert machine.handle(CapacityChanged(4, 4), 0.0) == []
    return machine


def registered(*, timing: Timing = TIMING) -> WorkerProtocol:
    """A machine that was registered at 0.0 with four free slots."""
    machine = opening(timing=timing)
    machine.handle(LinkOpened(), 0.0)
    machine.handle(Registered("AW_1", "1.13.5", "ND_1"), 0.0)
    return machine


def accepted(job_id: str = "AJ_1", *, at: float = 1.0) -> WorkerProtocol:
    """... and that has accepted a job."""
    machine = registered()
    machine.handle(OfferReceived(offer(job_id)), at)
    machine.handle(OfferAnswered(job_id, YES), at)
    return machine


def running(job_id: str = "AJ_1") -> WorkerProtocol:
    """... which then was assigned."""
    machine = accepted(job_id)
    machine.handle(assigned(job_id), 1.1)
    return machine


def play(machine: WorkerProtocol, *events: tuple[float, Event]) -> list[tuple[float, Command]]:
    """Feed events at their times, with a tick at each deadline in between; return the commands with their times."""
    commands: list[tuple[float, Command]] = []
    for at, event in events:
        while (deadline := machine.deadline()) is not None and deadline < at:
            commands += [(deadline, command) for command in machine.handle(Tick(), deadline)]
        commands += [(at, command) for command in machine.handle(event, at)]
    return commands


# ── registering ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_registers_as_soon_as_the_link_is_open_and_then_tells_its_load() -> None:
    machine = opening()
    assert machine.deadline() is None
    assert machine.handle(LinkOpened(), 1.0) == [SendRegister(RECEPTION), Announce(LinkState.REGISTERING)]
    assert machine.registered is None
    confirmation = Registered("AW_1", "1.13.5", "ND_1")
    assert machine.handle(confirmation, 1.1) == [SendWorkerStatus(0.0, False), Announce(LinkState.REGISTERED)]
    assert machine.registered == confirmation


def test_a_server_that_does_not_confirm_is_left() -> None:
    machine = opening()
    machine.handle(LinkOpened(), 1.0)
    assert machine.deadline() == 11.0
    assert machine.handle(Tick(), 10.9) == []
    dropped = [DropLink("no answer to the registration"), Announce(LinkState.OPENING)]
    assert machine.handle(Tick(), 11.0) == dropped
    assert machine.deadline() is None
    # The shell's word that the socket is gone adds nothing, and the next link starts afresh.
    assert machine.handle(LinkLost("dropped"), 11.1) == []
    assert machine.handle(LinkOpened(), 12.0)[0] == SendRegister(RECEPTION)


def test_a_worker_that_was_told_no_capacity_registers_as_full() -> None:
    machine = WorkerProtocol(RECEPTION)
    machine.handle(LinkOpened(), 0.0)
    assert machine.handle(Registered("AW_1"), 0.0)[0] == SendWorkerStatus(1.0, True)
    assert machine.handle(OfferReceived(offer()), 0.1) == [SendAvailability("AJ_1", Refusal("full"))]


@pytest.mark.parametrize(
    ("machine", "event", "reason"),
    [
        (opening(), Registered("AW_1"), "Registered while opening"),
        (opening(), OfferReceived(offer()), "OfferReceived while opening"),
        (opening(), assigned(), "Assigned while opening"),
        (opening(), Terminated("AJ_1"), "Terminated while opening"),
        (opening(), PongReceived(1), "PongReceived while opening"),
        (registered(), Registered("AW_2"), "Registered while registered"),
        (registered(), PongReceived(1), "a pong for a ping that is not on the way"),
        (registered(), Terminated("AJ_9"), "AJ_9 was terminated, which does not run here"),
        (registered(), Malformed("a text frame"), "a text frame"),
        (running(), assigned(), "AJ_1 was assigned again"),
    ],
)
def test_what_the_server_sends_out_of_turn_is_dropped(machine: WorkerProtocol, event: Event, reason: str) -> None:
    before = machine.state
    assert machine.handle(event, 2.0) == [Drop(reason)]
    assert machine.state is before


@pytest.mark.parametrize(
    ("machine", "event"),
    [
        (registered(), LinkOpened()),
        (registered(), OfferAnswered("AJ_1", YES)),
        (opening(), OfferAnswered("AJ_1", YES)),
        (registered(), CapacityChanged(5, 4)),
        (registered(), CapacityChanged(-1, 4)),
    ],
)
def test_what_only_a_bug_of_ours_can_feed_raises(machine: WorkerProtocol, event: Event) -> None:
    with pytest.raises(LocalProtocolError, match="worker protocol"):
        machine.handle(event, 2.0)


def test_an_acceptance_without_an_identity_cannot_be_made() -> None:
    with pytest.raises(LocalProtocolError, match="identity"):
        Acceptance("")


# ── offers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [YES, Refusal("no warm process")])
def test_an_offer_is_decided_and_answered_at_once(answer: Answer) -> None:
    machine = registered()
    assert machine.handle(OfferReceived(offer()), 1.0) == [Decide(offer())]
    assert machine.handle(OfferAnswered("AJ_1", answer), 1.0) == [SendAvailability("AJ_1", answer)]


def test_a_full_worker_refuses_without_asking() -> None:
    machine = registered()
    machine.handle(CapacityChanged(0, 4), 0.5)
    assert machine.handle(OfferReceived(offer()), 1.0) == [SendAvailability("AJ_1", Refusal("full"))]


def test_a_draining_worker_refuses_without_asking() -> None:
    machine = registered()
    machine.handle(DrainAsked(), 0.5)
    assert machine.handle(OfferReceived(offer()), 1.0) == [SendAvailability("AJ_1", Refusal("draining"))]


@pytest.mark.parametrize("machine", [accepted(), running()])
def test_an_offer_that_comes_twice_gets_the_same_answer_twice(machine: WorkerProtocol) -> None:
    again = [SendAvailability("AJ_1", YES)]
    assert machine.handle(OfferReceived(offer()), 2.0) == again
    machine.handle(CapacityChanged(0, 4), 2.1)
    assert machine.handle(OfferReceived(offer()), 2.2) == again
    machine.handle(DrainAsked(), 2.3)
    assert machine.handle(OfferReceived(offer()), 2.4) == again


def test_a_refused_offer_that_comes_again_is_decided_again() -> None:
    machine = registered()
    machine.handle(OfferReceived(offer()), 1.0)
    machine.handle(OfferAnswered("AJ_1", Refusal("busy")), 1.0)
    assert machine.handle(OfferReceived(offer()), 2.0) == [Decide(offer())]


def test_an_offer_repeated_while_it_is_decided_leads_to_one_answer() -> None:
    machine = registered()
    machine.handle(OfferReceived(offer()), 1.0)
    assert machine.handle(OfferReceived(offer()), 1.0) == [Drop("AJ_1 was offered again while it is decided about")]
    assert machine.handle(OfferAnswered("AJ_1", YES), 1.0) == [SendAvailability("AJ_1", YES)]


@pytest.mark.parametrize("loss", [LinkLost("reset"), CloseAsked()])
def test_an_answer_that_the_link_did_not_outlive_frees_its_slot(loss: Event) -> None:
    machine = registered()
    machine.handle(OfferReceived(offer()), 1.0)
    machine.handle(OfferReceived(offer("AJ_2")), 1.0)
    machine.handle(loss, 1.0)
    gone = GiveUp("AJ_1", "accepted too late")
    assert machine.handle(OfferAnswered("AJ_1", YES), 1.0) == [gone]
    assert machine.handle(OfferAnswered("AJ_2", Refusal("busy")), 1.0) == []


def test_an_answer_may_take_its_time_and_others_pass_it_by() -> None:
    machine = registered()
    machine.handle(OfferReceived(offer()), 1.0)
    machine.handle(OfferReceived(offer("AJ_2")), 1.1)
    assert machine.handle(OfferAnswered("AJ_2", YES), 1.1) == [SendAvailability("AJ_2", YES)]
    assert machine.deadline() == 3.0
    assert machine.handle(OfferAnswered("AJ_1", YES), 2.9) == [SendAvailability("AJ_1", YES)]
    assert isinstance(machine.handle(assigned(), 3.0)[0], Start)


@pytest.mark.parametrize(
    ("late", "then"), [(YES, [GiveUp("AJ_1", "accepted too late")]), (Refusal("no"), [])], ids=["yes", "no"]
)
def test_what_is_undecided_is_refused_while_the_server_listens(late: Answer, then: list[Command]) -> None:
    machine = registered()
    machine.handle(OfferReceived(offer()), 1.0)
    undecided = [SendAvailability("AJ_1", Refusal("undecided"))]
    assert machine.handle(Tick(), 3.0) == undecided
    # Offered again before the answer has come: it must not be taken for an answer to this.
    assert machine.handle(OfferReceived(offer()), 3.5) == undecided
    assert machine.handle(OfferAnswered("AJ_1", late), 4.0) == then
    assert machine.handle(OfferReceived(offer()), 4.5) == [Decide(offer())]


def test_an_offer_that_is_decided_during_a_drain_is_refused() -> None:
    machine = registered()
    for job_id in ("AJ_1", "AJ_2"):
        machine.handle(OfferReceived(offer(job_id)), 1.0)
    machine.handle(DrainAsked(), 1.1)
    refused, no = SendAvailability("AJ_1", Refusal("draining")), Refusal("busy")
    assert machine.handle(OfferAnswered("AJ_1", YES), 1.2) == [refused, GiveUp("AJ_1", "drains since the offer")]
    assert machine.handle(OfferAnswered("AJ_2", no), 1.2) == [SendAvailability("AJ_2", no)]


# ── assignments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_assignment_starts_the_accepted_job() -> None:
    machine = accepted()
    start = Start(
        Assignment(offer=offer(), identity="agent-AJ_1", worker_id="AW_1", url="ws://other", token="the-token")
    )
    assert machine.handle(assigned(url="ws://other"), 1.2) == [start]
    assert machine.owns("AJ_1")
    assert "the-token" not in repr(start)
    assert "the-token" not in repr(assigned())


def test_an_assignment_that_does_not_come_is_given_up_and_a_late_one_is_reported_failed() -> None:
    machine = accepted(at=1.0)
    # Another job's assignment does not count for this one.
    machine.handle(OfferReceived(offer("AJ_2")), 2.0)
    machine.handle(OfferAnswered("AJ_2", Acceptance("agent-AJ_2")), 2.0)
    machine.handle(assigned("AJ_2"), 2.1)
    commands = play(machine, (6.5, assigned("AJ_1")))
    late = "assigned without, or too long after, an accepted offer"
    assert commands == [
        (5.0, SendPing(1)),
        (6.0, GiveUp("AJ_1", "no assignment within 5 s")),
        (6.5, Drop(f"AJ_1 was {late}")),
        (6.5, SendJobStatus("AJ_1", "failed", late)),
    ]
    assert not machine.owns("AJ_1")
    assert machine.owns("AJ_2")


def test_an_assignment_in_time_is_taken_even_when_the_tick_is_late() -> None:
    machine = accepted(at=1.0)
    assert isinstance(machine.handle(assigned(), 6.001)[0], Start)


def test_a_job_that_was_never_offered_is_not_started() -> None:
    commands = registered().handle(assigned("AJ_7"), 1.0)
    assert [type(command) for command in commands] == [Drop, SendJobStatus]


@pytest.mark.parametrize("loss", [LinkLost("reset"), CloseAsked()])
def test_accepted_offers_die_with_the_link(loss: Event) -> None:
    commands = accepted().handle(loss, 2.0)
    assert [command.job_id for command in commands if isinstance(command, GiveUp)] == ["AJ_1"]
    assert not any(isinstance(command, GiveUp) for command in running().handle(loss, 2.0))


# ── terminations and job status ──────────────────────────────────────────────────────────────────────────────────────


END = End("AJ_1", "terminated by the server")
REPLACED = Drop("AJ_1 was terminated for the participant that was replaced", replaced=True)


def test_a_termination_ends_a_running_job_once_when_the_link_outlives_it() -> None:
    machine = running()
    assert machine.handle(Terminated("AJ_1"), 2.0) == []
    assert machine.deadline() == 2.3
    assert machine.handle(Terminated("AJ_1"), 2.1) == [Drop("AJ_1 was terminated, which does not run here")]
    assert machine.handle(JobStatusReported("AJ_1", "running"), 2.2) == [Unsent("AJ_1", "running")]
    assert machine.handle(Tick(), 2.3) == [END]
    assert machine.handle(JobStatusReported("AJ_1", "success"), 2.4) == [Unsent("AJ_1", "success")]


def test_a_termination_that_the_link_does_not_outlive_was_a_server_that_stopped() -> None:
    machine = running()
    machine.handle(Terminated("AJ_1"), 2.0)
    reason = "AJ_1 was terminated, and then the link was lost: closed by the server"
    lost = machine.handle(LinkLost("closed by the server"), 2.02)
    assert lost == [Drop(reason), Announce(LinkState.OPENING)]
    assert machine.deadline() is None
    machine.handle(LinkOpened(), 2.1)
    machine.handle(Registered("AW_2"), 2.1)
    assert END not in [command for _, command in play(machine, (9.0, CapacityChanged(4, 4)))]


def test_a_job_that_ends_while_its_termination_settles_is_not_ended_again() -> None:
    machine = running()
    machine.handle(Terminated("AJ_1"), 2.0)
    assert machine.handle(JobStatusReported("AJ_1", "success"), 2.1) == [Unsent("AJ_1", "success")]
    assert END not in [command for _, command in play(machine, (4.0, CapacityChanged(4, 4)))]


def test_leaving_the_server_ends_what_it_had_terminated() -> None:
    machine = running()
    machine.handle(Terminated("AJ_1"), 2.0)
    assert machine.handle(CloseAsked(), 2.1) == [END, DropLink("closed"), Announce(LinkState.CLOSED)]


def test_the_termination_of_a_participant_that_was_replaced_ends_nothing() -> None:
    machine = running()
    assert machine.handle(JobRecovered("AJ_1"), 2.0) == []
    assert machine.handle(JobRecovered("AJ_1"), 2.1) == []
    # Until the server has ended the job it listens, should the replacement not come off.
    assert machine.owns("AJ_1")
    assert machine.handle(Terminated("AJ_1"), 2.2) == [REPLACED]
    assert not machine.owns("AJ_1")
    assert machine.handle(JobStatusReported("AJ_1", "success"), 4.0) == [Unsent("AJ_1", "success")]


def test_a_job_that_was_terminated_before_its_recovery_was_known_lives_on() -> None:
    machine = running()
    machine.handle(Terminated("AJ_1"), 2.0)
    assert machine.handle(JobRecovered("AJ_1"), 2.2) == [REPLACED]
    assert END not in [command for _, command in play(machine, (4.0, CapacityChanged(4, 4)))]


def test_a_recovered_job_can_still_be_reported_failed() -> None:
    machine = running()
    machine.handle(JobRecovered("AJ_1"), 2.0)
    failed = JobStatusReported("AJ_1", "failed", "gone")
    assert machine.handle(failed, 2.1) == [SendJobStatus("AJ_1", "failed", "gone")]
    assert machine.handle(Terminated("AJ_1"), 2.2) == [Drop("AJ_1 was terminated, which does not run here")]


@pytest.mark.parametrize("machine", [registered(), opening(), accepted()])
def test_the_recovery_of_a_job_that_is_not_the_links_means_nothing(machine: WorkerProtocol) -> None:
    assert machine.handle(JobRecovered("AJ_1"), 2.0) == []


def test_a_termination_before_the_assignment_gives_the_job_up() -> None:
    machine = accepted()
    assert machine.handle(Terminated("AJ_1"), 2.0) == [GiveUp("AJ_1", "terminated by the server")]
    assert play(machine, (7.0, PongReceived(9)))[1:] == [(7.0, Drop("a pong for a ping that is not on the way"))]


def test_a_job_is_reported_on_its_own_link_until_it_ends() -> None:
    machine = running()
    assert machine.handle(JobStatusReported("AJ_1", "running"), 1.2) == [SendJobStatus("AJ_1", "running")]
    ended = JobStatusReported("AJ_1", "failed", "the process died")
    assert machine.handle(ended, 3.0) == [SendJobStatus("AJ_1", "failed", "the process died")]
    assert machine.handle(ended, 3.1) == [Unsent("AJ_1", "failed")]


def test_after_a_reconnect_a_job_belongs_to_no_link() -> None:
    machine = running()
    machine.handle(LinkLost("reset"), 2.0)
    assert machine.handle(JobStatusReported("AJ_1", "running"), 2.1) == [Unsent("AJ_1", "running")]
    machine.handle(LinkOpened(), 3.0)
    machine.handle(Registered("AW_2"), 3.0)
    assert machine.handle(JobStatusReported("AJ_1", "success"), 3.1) == [Unsent("AJ_1", "success")]


# ── load ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_load_stays_under_the_target_while_a_slot_is_free() -> None:
    machine = registered()
    told = [machine.handle(CapacityChanged(free, 4), 1.0) for free in (3, 2, 1, 0, 1)]
    assert told == [
        [SendWorkerStatus(0.7 * 0.98 * 1 / 4, False)],
        [SendWorkerStatus(0.7 * 0.98 * 2 / 4, False)],
        [SendWorkerStatus(0.7 * 0.98 * 3 / 4, False)],
        [SendWorkerStatus(1.0, True)],
        [SendWorkerStatus(0.7 * 0.98 * 3 / 4, False)],
    ]
    assert load_of(free=0, total=0, target_load=0.7) == 1.0


def test_an_unchanged_load_is_not_told_again() -> None:
    assert registered().handle(CapacityChanged(4, 4), 1.0) == []
    assert registered().handle(CapacityChanged(8, 8), 1.0) == []


def test_load_is_repeated_as_keep_alive_counted_from_the_last_time_it_was_told() -> None:
    machine = registered(timing=Timing(ping_interval=500.0, keepalive=10.0))
    commands = play(machine, (4.0, CapacityChanged(2, 4)), (24.5, CapacityChanged(2, 4)))
    half = SendWorkerStatus(0.7 * 0.98 / 2, False)
    assert commands == [(4.0, half), (14.0, half), (24.0, half)]


# ── is the server there ──────────────────────────────────────────────────────────────────────────────────────────────


def test_pings_follow_each_other_at_their_interval() -> None:
    commands = play(registered(), (5.2, PongReceived(1)), (10.1, PongReceived(2)), (14.0, PongReceived(2)))
    assert commands == [
        (5.0, SendPing(1)),
        (10.0, SendPing(2)),
        (14.0, Drop("a pong for a ping that is not on the way")),
    ]


def test_a_pong_tells_the_round_trip() -> None:
    machine = registered()
    play(machine, (5.25, PongReceived(1)))
    assert machine.round_trip == 0.25


def test_a_slow_pong_does_not_move_the_next_ping() -> None:
    assert play(registered(), (12.0, PongReceived(1))) == [(5.0, SendPing(1)), (12.0, SendPing(2))]


def test_a_half_open_link_is_dropped() -> None:
    machine = registered()
    commands = play(
        machine,
        (14.0, OfferReceived(offer())),
        (14.0, OfferAnswered("AJ_1", YES)),
        (15.5, JobStatusReported("", "running")),
    )
    reason = "no answer to a ping for 10 s"
    assert commands == [
        (5.0, SendPing(1)),
        (14.0, Decide(offer())),
        (14.0, SendAvailability("AJ_1", YES)),
        (15.0, DropLink(reason)),
        (15.0, GiveUp("AJ_1", f"the link was lost: {reason}")),
        (15.0, Announce(LinkState.OPENING)),
        (15.5, Unsent("", "running")),
    ]
    assert machine.deadline() is None


# ── drain and close ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_draining_tells_full_and_keeps_the_jobs_until_the_link_ends() -> None:
    machine = running()
    assert machine.handle(DrainAsked(), 2.0) == [SendWorkerStatus(1.0, True), Announce(LinkState.DRAINING)]
    assert machine.handle(DrainAsked(), 2.1) == []
    assert machine.handle(CapacityChanged(3, 4), 2.2) == []
    assert machine.handle(JobStatusReported("AJ_1", "success"), 2.3) == [SendJobStatus("AJ_1", "success")]
    assert machine.handle(LinkLost("server gone"), 3.0) == [Announce(LinkState.CLOSED)]
    assert machine.deadline() is None


def test_a_full_worker_that_drains_has_nothing_new_to_tell() -> None:
    machine = registered()
    machine.handle(CapacityChanged(0, 4), 1.0)
    assert machine.handle(DrainAsked(), 2.0) == [Announce(LinkState.DRAINING)]


def test_an_offer_accepted_before_the_drain_is_still_assigned() -> None:
    machine = accepted()
    machine.handle(DrainAsked(), 1.5)
    assert isinstance(machine.handle(assigned(), 1.6)[0], Start)


def test_a_half_open_link_ends_a_drain() -> None:
    machine = registered()
    machine.handle(DrainAsked(), 1.0)
    assert [command for _, command in play(machine, (20.0, DrainAsked()))] == [
        SendPing(1),
        DropLink("no answer to a ping for 10 s"),
        Announce(LinkState.CLOSED),
    ]


def test_a_worker_that_is_not_registered_has_nothing_to_drain() -> None:
    assert opening().handle(DrainAsked(), 1.0) == [Announce(LinkState.CLOSED)]
    machine = opening()
    machine.handle(LinkOpened(), 1.0)
    assert machine.handle(DrainAsked(), 1.1) == [DropLink("drained"), Announce(LinkState.CLOSED)]


def test_closing_is_final() -> None:
    machine = running()
    assert machine.handle(CloseAsked(), 2.0) == [DropLink("closed"), Announce(LinkState.CLOSED)]
    assert machine.handle(CloseAsked(), 2.1) == []
    assert machine.handle(LinkLost("closed"), 2.2) == []
    assert machine.handle(CapacityChanged(1, 4), 2.3) == []
    assert machine.handle(OfferReceived(offer()), 2.4) == [Drop("OfferReceived while closed")]
    with pytest.raises(LocalProtocolError):
        machine.handle(LinkOpened(), 2.5)
    assert machine.deadline() is None
    assert opening().handle(CloseAsked(), 1.0) == [Announce(LinkState.CLOSED)]


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_one_row_for_a_state_and_an_event() -> None:
    rows = Counter((row.state, row.event) for row in TRANSITIONS)
    assert rows.most_common(1)[0][1] == 1
    assert {row.state for row in TRANSITIONS} == set(LinkState)
    assert all(row.rule for row in TRANSITIONS)


def test_every_state_leads_to_closed_and_closed_nowhere() -> None:
    assert {row.state for row in TRANSITIONS if row.event is CloseAsked} == set(LinkState)
    assert {row.next for row in TRANSITIONS if row.state is LinkState.CLOSED} == {LinkState.CLOSED}
