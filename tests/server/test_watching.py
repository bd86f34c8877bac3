"""The watch on dispatches as timelines, with explicit times."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.server.watching import (
    TRANSITIONS,
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

JOB = Watched(job_id="AJ_1", room="lobby", dispatch_id="AD_1", identity="agent-1")
LOOK = Look("lobby")
THERE = Looked("lobby", {"AD_1", "AD_0"}, {"ann": "PA_ann", "agent-1": "PA_1"})
DELETED = Looked("lobby", {"AD_0"}, {"ann": "PA_ann", "agent-1": "PA_1"})
REPLACED = Looked("lobby", {"AD_0"}, {"ann": "PA_ann2", "agent-1": "PA_2"})
EMPTY = Looked("lobby", {"AD_0"}, {"ann": "PA_ann"})
GONE = Looked("lobby", None, None)
END = End("AJ_1", "its dispatch was deleted")


def play(machine: Dispatches, *events: tuple[float, Event]) -> list[tuple[float, Command]]:
    """Feed events at their times, with a tick at each deadline in between; the commands with their times."""
    commands: list[tuple[float, Command]] = []
    for at, event in events:
        while (deadline := machine.deadline()) is not None and deadline < at:
            commands += [(deadline, command) for command in machine.handle(Tick(), deadline)]
        commands += [(at, command) for command in machine.handle(event, at)]
    return commands


def watched(*, at: float = 0.0) -> Dispatches:
    """A machine with one job that no termination reaches, and that was seen with its dispatch."""
    machine = Dispatches(Pace())
    assert machine.handle(Added(JOB, reachable=False), at) == [LOOK]
    assert machine.handle(THERE, at + 0.1) == []
    assert machine.standing("AJ_1") is Standing.WATCHED
    return machine


def test_a_job_that_a_termination_reaches_is_looked_at_once() -> None:
    machine = Dispatches(Pace())
    assert play(machine, (0.0, Added(JOB, reachable=True)), (8.1, Tick())) == [(8.0, LOOK)]
    assert machine.deadline() is None
    assert machine.handle(THERE, 8.2) == []
    assert machine.standing("AJ_1") is Standing.SEEN
    assert machine.deadline() is None


@pytest.mark.parametrize("found", [EMPTY, GONE, DELETED, Looked("lobby", {"AD_1"}, {"ann": "PA_ann"})])
def test_what_was_not_seen_together_is_looked_for_again_and_concludes_nothing(found: Looked) -> None:
    machine = Dispatches(Pace())
    play(machine, (0.0, Added(JOB, reachable=True)), (8.1, found))
    assert machine.standing("AJ_1") is Standing.REACHABLE
    assert machine.deadline() == 16.1


def test_a_job_that_no_termination_reaches_any_more_is_looked_at_at_once_and_then_again() -> None:
    machine = Dispatches(Pace())
    play(machine, (0.0, Added(JOB, reachable=True)), (8.1, THERE))
    looks = play(machine, (20.0, Unreachable("AJ_1")), (20.1, THERE), (23.5, THERE), (26.6, THERE))
    assert looks == [(20.0, LOOK), (pytest.approx(23.1), LOOK), (26.5, LOOK)]
    assert machine.handle(Unreachable("AJ_1"), 27.0) == []


def test_a_dispatch_that_was_deleted_ends_its_job_when_that_is_seen_twice() -> None:
    machine = watched()
    assert play(machine, (3.2, DELETED), (6.3, DELETED)) == [(3.1, LOOK), (6.2, LOOK), (6.3, END)]
    assert machine.standing("AJ_1") is None
    assert machine.deadline() is None
    assert machine.handle(DELETED, 7.0) == []


def test_a_dispatch_that_was_deleted_while_the_link_was_gone_ends_its_job() -> None:
    machine = Dispatches(Pace())
    play(machine, (0.0, Added(JOB, reachable=True)), (8.1, THERE))
    ends = play(machine, (30.0, Unreachable("AJ_1")), (30.1, DELETED), (33.2, DELETED))
    assert ends[-1] == (33.2, END)


def test_a_dispatch_that_is_there_again_ends_nothing() -> None:
    machine = watched()
    play(machine, (3.2, DELETED), (6.3, THERE), (9.4, DELETED))
    assert machine.standing("AJ_1") is Standing.DOUBTED


def test_a_server_that_forgot_the_dispatch_ends_nothing() -> None:
    """It was restarted: the room is there, and all who were in it have come back as new participants."""
    machine = watched()
    play(machine, (3.2, REPLACED))
    assert machine.standing("AJ_1") is Standing.FORGOTTEN
    # It is looked at seldom from then on, in case that what was asked was one server of several.
    assert play(machine, (33.3, REPLACED)) == [(33.2, LOOK)]
    play(machine, (63.4, Looked("lobby", {"AD_1"}, {"agent-1": "PA_2"})))
    assert machine.standing("AJ_1") is Standing.WATCHED


def test_what_lost_its_first_sight_of_the_dispatch_is_forgotten_not_ended() -> None:
    machine = Dispatches(Pace())
    play(machine, (0.0, Added(JOB, reachable=False)), (0.1, DELETED), (40.0, DELETED))
    assert machine.standing("AJ_1") is Standing.FORGOTTEN


def test_nothing_is_concluded_about_a_job_that_is_away() -> None:
    """A store of rooms may hold participants of a node that has died."""
    machine = watched()
    play(machine, (3.2, DELETED))
    assert machine.standing("AJ_1") is Standing.DOUBTED
    ends = play(machine, (4.0, Away("AJ_1")), (6.3, DELETED), (9.4, DELETED), (12.5, EMPTY))
    assert machine.standing("AJ_1") is Standing.WATCHED
    assert all(command == LOOK for _, command in ends)
    play(machine, (13.0, Back("AJ_1")), (15.6, REPLACED))
    assert machine.standing("AJ_1") is Standing.FORGOTTEN


def test_a_room_that_stays_gone_ends_its_job() -> None:
    machine = watched()
    commands = play(machine, *((3.2 + 3.0 * turn, GONE) for turn in range(21)))
    assert commands[-1] == (63.2, End("AJ_1", "its room is gone"))


def test_a_room_that_comes_back_is_not_gone() -> None:
    machine = watched()
    play(machine, (3.2, GONE), (62.0, EMPTY), (65.1, GONE), (124.0, GONE))
    assert machine.standing("AJ_1") is Standing.WATCHED


def test_a_server_that_does_not_answer_is_asked_later_and_later() -> None:
    machine = watched()
    failed = LookFailed("lobby")
    looks = play(machine, (3.2, failed), (9.3, failed), (21.4, failed), (45.5, failed), (80.0, Tick()))
    assert [round(at, 1) for at, _ in looks] == [3.1, 9.2, 21.3, 45.4, 75.5]
    # One answer, and all is as before.
    machine.handle(THERE, 80.0)
    assert machine.deadline() == 83.0


def test_two_jobs_of_a_room_need_one_look() -> None:
    machine = Dispatches(Pace())
    other = Watched(job_id="AJ_2", room="lobby", dispatch_id="AD_2", identity="agent-2")
    assert machine.handle(Added(JOB, reachable=False), 0.0) == [LOOK]
    assert machine.handle(Added(other, reachable=False), 0.0) == []
    both = Looked("lobby", {"AD_1", "AD_2"}, {"agent-1": "PA_1", "agent-2": "PA_2"})
    one = Looked("lobby", {"AD_2"}, both.people)
    commands = play(machine, (0.1, both), (3.2, one), (6.3, one))
    assert [command for _, command in commands] == [LOOK, LOOK, END]
    assert machine.standing("AJ_2") is Standing.WATCHED


def test_many_jobs_share_the_looks() -> None:
    machine = Dispatches(Pace())
    for number in range(100):
        job = Watched(job_id=f"AJ_{number}", room=f"room-{number}", dispatch_id="AD", identity="agent")
        machine.handle(Added(job, reachable=False), 0.0)
        machine.handle(Looked(f"room-{number}", {"AD"}, {"agent": "PA"}), 0.0)
    looks = 0
    for number in range(100):
        looks += len(machine.handle(Looked(f"room-{number}", {"AD"}, {"agent": "PA"}), 1.0))
    deadline = machine.deadline()
    assert deadline is not None
    assert deadline >= 11.0
    assert looks == 0


def test_an_adopted_job_has_another_dispatch() -> None:
    machine = watched()
    play(machine, (3.2, REPLACED))
    renewed = Watched(job_id="AJ_1", room="lobby", dispatch_id="AD_2", identity="agent-1")
    play(machine, (4.0, Added(renewed, reachable=True)), (12.1, Looked("lobby", {"AD_2"}, {"agent-1": "PA_2"})))
    assert machine.standing("AJ_1") is Standing.SEEN


@pytest.mark.parametrize("event", [Unreachable("AJ_9"), Away("AJ_9"), Back("AJ_9"), Removed("AJ_9"), GONE])
def test_what_is_said_of_a_job_that_is_not_watched_means_nothing(event: Event) -> None:
    machine = Dispatches(Pace())
    assert machine.handle(event, 0.0) == []
    assert machine.deadline() is None


def test_the_table_has_one_row_for_a_state_and_an_event() -> None:
    rows = Counter((row.state, row.event) for row in TRANSITIONS)
    assert rows.most_common(1)[0][1] == 1
    assert {row.state for row in TRANSITIONS} == set(Standing)
    assert [row.state for row in TRANSITIONS if row.next is None] == [Standing.DOUBTED]


ids = st.sampled_from(["AJ_1", "AJ_2", "AJ_3"])
rooms = st.sampled_from(["lobby", "kitchen"])
dispatches = st.sets(st.sampled_from(["AD_1", "AD_2", "AD_3"]))
people = st.dictionaries(st.sampled_from(["agent-1", "agent-2", "ann"]), st.sampled_from(["PA_1", "PA_2", ""]))
jobs = st.builds(
    Watched,
    job_id=ids,
    room=rooms,
    dispatch_id=st.sampled_from(["AD_1", "AD_2"]),
    identity=st.sampled_from(["agent-1", "agent-2"]),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Added, jobs, st.booleans()),
    *(st.builds(kind, ids) for kind in (Unreachable, Away, Back, Removed)),
    st.builds(Looked, rooms, dispatches, people),
    st.builds(lambda room: Looked(room, None, None), rooms),
    st.builds(LookFailed, rooms),
    st.just(Tick()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 40), events), max_size=50))
def test_any_order_of_events_keeps_the_contract(story: list[tuple[float, Event]]) -> None:
    machine, now = Dispatches(Pace()), 0.0
    watched: dict[str, Watched] = {}
    unreachable: set[str] = set()
    for gap, event in story:
        now += gap
        match event:
            case Added(job=job, reachable=reachable):
                watched[job.job_id] = job
                (unreachable.discard if reachable else unreachable.add)(job.job_id)
            case Unreachable(job_id=job_id) if job_id in watched:
                unreachable.add(job_id)
            case Removed(job_id=job_id):
                watched.pop(job_id, None)
        for command in machine.handle(event, now):
            match command:
                case End(job_id=job_id):
                    assert isinstance(event, Looked)
                    assert watched.pop(job_id).room == event.room
                    assert job_id in unreachable, "a termination would have told"
                case Look(room=room):
                    assert any(job.room == room for job in watched.values())
        deadline = machine.deadline()
        assert deadline is None or deadline > now
        assert {job_id for job_id in ("AJ_1", "AJ_2", "AJ_3") if machine.standing(job_id)} == set(watched)
