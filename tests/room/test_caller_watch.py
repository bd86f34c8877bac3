"""Who is linked, who may return, and what ends a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.room.caller import (
    TABLE,
    Arrived,
    Away,
    Back,
    CallerEvent,
    CallerWatch,
    Departed,
    Departure,
    Disconnected,
    Drop,
    End,
    EndReason,
    Hurry,
    Link,
    State,
    Tick,
    Unlink,
)
from greenroom.testing.timeline import Timeline


def line(watch: CallerWatch) -> Timeline[CallerEvent, Link | Unlink | End | Drop]:
    return Timeline(watch, tick=Tick())


def test_the_first_who_can_call_is_linked_and_stays() -> None:
    with line(CallerWatch()) as room:
        room.at(0, Arrived("recorder", can_call=False)).expect(0, Drop("cannot be a caller"))
        room.at(1, Arrived("ann", can_call=True)).expect(1, Link("ann", returned=False))
        room.at(2, Arrived("bob", can_call=True)).expect(2, Drop("not the caller"))
        room.at(3, Departed("bob", Departure.LEFT)).expect(3, Drop("not the linked participant"))
        room.quiet(until=1000).wants_tick(None)


def test_a_job_that_names_a_participant_waits_for_that_one() -> None:
    with line(CallerWatch(participant="bob")) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Drop("not the caller"))
        room.at(1, Arrived("bob", can_call=False)).expect(1, Link("bob", returned=False))


def test_a_broken_connection_has_its_grace() -> None:
    with line(CallerWatch(lost_grace=20)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", Departure.LOST)).expect(5, Unlink("ann", Departure.LOST, 20))
        room.quiet(until=24.9).expect(25, End(EndReason.CALLER_LOST))


def test_who_returns_in_time_is_linked_again() -> None:
    with line(CallerWatch(lost_grace=20)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", Departure.REPLACED)).expect(5, Unlink("ann", Departure.REPLACED, 20))
        room.at(6, Arrived("bob", can_call=True)).expect(6, Drop("not the caller"))
        room.at(24, Arrived("ann", can_call=True)).expect(24, Link("ann", returned=True)).quiet(until=1000)


def test_an_orderly_leave_waits_only_for_a_client_that_reconnects() -> None:
    with line(CallerWatch(left_grace=2)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", Departure.LEFT)).expect(5, Unlink("ann", Departure.LEFT, 2))
        room.at(6, Arrived("ann", can_call=True)).expect(6, Link("ann", returned=True))
        room.at(7, Departed("ann", Departure.LEFT)).expect(7, Unlink("ann", Departure.LEFT, 2))
        room.expect(9, End(EndReason.CALLER_LEFT))
        room.at(10, Arrived("ann", can_call=True)).expect(10, Drop("Arrived while ended"))


def test_in_a_hurry_an_orderly_leave_waits_less_and_a_broken_connection_as_ever() -> None:
    with line(CallerWatch(left_grace=2, lost_grace=20)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(1, Hurry(1.5)).expect(1)
        room.at(5, Departed("ann", Departure.LOST)).expect(5, Unlink("ann", Departure.LOST, 20))
        room.at(10, Hurry(1)).quiet(until=20)
        room.at(20, Arrived("ann", can_call=True)).expect(20, Link("ann", returned=True))
        room.at(30, Hurry(9), Departed("ann", Departure.LEFT)).expect(30, Unlink("ann", Departure.LEFT, 1))
        room.expect(31, End(EndReason.CALLER_LEFT))
    with line(CallerWatch(left_grace=2)) as room:
        room.at(0, Hurry(9), Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", Departure.LEFT)).expect(5, Unlink("ann", Departure.LEFT, 2))
        room.at(5.2, Hurry(1.5)).expect(6.7, End(EndReason.CALLER_LEFT))


def test_without_grace_the_call_ends_at_once() -> None:
    with line(CallerWatch(left_grace=0)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", Departure.LEFT))
        room.expect(5, Unlink("ann", Departure.LEFT, 0), End(EndReason.CALLER_LEFT))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (Departure.REMOVED, EndReason.CALLER_REMOVED),
        (Departure.REFUSED, EndReason.CALLER_REFUSED),
        (Departure.ROOM_DELETED, EndReason.ROOM_DELETED),
        (Departure.ROOM_CLOSED, EndReason.ROOM_CLOSED),
    ],
)
def test_nobody_returns_from_some_departures(how: Departure, reason: EndReason) -> None:
    with line(CallerWatch()) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", how)).expect(5, Unlink("ann", how, 0.0), End(reason))


def test_no_grace_runs_out_while_we_are_away_ourselves() -> None:
    with line(CallerWatch(lost_grace=20)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Away()).at(5.1, Departed("ann", Departure.LOST)).expect(5.1, Unlink("ann", Departure.LOST, 20))
        room.quiet(until=100).wants_tick(None)
        room.at(100, Back()).quiet(until=119.9)
        room.at(119.95, Arrived("ann", can_call=True)).expect(119.95, Link("ann", returned=True)).wants_tick(None)
        room.at(130, Away()).at(131, Departed("ann", Departure.LEFT)).expect(131, Unlink("ann", Departure.LEFT, 20))
        room.at(140, Back()).expect(160, End(EndReason.CALLER_LOST))


def test_who_was_missing_before_has_a_new_grace_when_we_are_back() -> None:
    with line(CallerWatch(lost_grace=20, left_grace=2)) as room:
        room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
        room.at(5, Departed("ann", Departure.LEFT)).expect(5, Unlink("ann", Departure.LEFT, 2))
        room.at(6, Away()).quiet(until=50)
        room.at(50, Back()).expect(70, End(EndReason.CALLER_LEFT))


def test_a_connection_that_is_soon_whole_again_changes_nothing() -> None:
    with line(CallerWatch()) as room:
        room.at(0, Away()).at(1, Back()).expect(1)
        room.at(2, Arrived("ann", can_call=True)).expect(2, Link("ann", returned=False))
        room.at(5, Away(), Away()).at(6, Back()).quiet(until=100)
        room.at(100, Back()).expect(100, Drop("not away"))


def test_without_grace_who_is_not_there_when_we_are_back_has_ended_the_call() -> None:
    for there in (True, False):
        with line(CallerWatch(lost_grace=0)) as room:
            room.at(0, Arrived("ann", can_call=True)).expect(0, Link("ann", returned=False))
            room.at(5, Away(), Departed("ann", Departure.LOST)).expect(5, Unlink("ann", Departure.LOST, 0))
            if there:
                room.at(9, Arrived("ann", can_call=True)).expect(9, Link("ann", returned=True))
                room.at(9, Back()).quiet(until=100)
            else:
                room.at(9, Back()).expect(9, End(EndReason.CALLER_LOST))


@pytest.mark.parametrize("reason", list(EndReason))
def test_our_own_disconnection_ends_the_call_in_every_state(reason: EndReason) -> None:
    for state in (State.WAITING, State.LINKED, State.MISSING):
        watch = CallerWatch()
        if state is not State.WAITING:
            watch.handle(Arrived("ann", can_call=True), 0)
        if state is State.MISSING:
            watch.handle(Departed("ann", Departure.LOST), 1)
        assert watch.state is state
        assert watch.handle(Disconnected(reason), 2) == [End(reason)]
        assert watch.deadline() is None


identities = st.sampled_from(["ann", "bob", "eve"])
events: st.SearchStrategy[CallerEvent] = st.one_of(
    st.builds(Arrived, identities, can_call=st.booleans()),
    st.builds(Departed, identities, st.sampled_from(Departure)),
    st.builds(Disconnected, st.sampled_from(EndReason)),
    st.sampled_from([Away(), Back(), Hurry(1.0), Tick()]),
)


@given(st.lists(st.tuples(events, st.floats(0, 30)), max_size=40))
def test_whatever_happens(happenings: list[tuple[CallerEvent, float]]) -> None:
    watch, now = CallerWatch(), 0.0
    linked: str | None = None
    callers: set[str] = set()
    ends = 0
    away = False
    for event, gap in happenings:
        deadline = watch.deadline()
        now = now + gap if deadline is None else min(now + gap, deadline)
        before = watch.state
        commands = watch.handle(event, now)
        assert watch.state is before or watch.state in TABLE[before][type(event)]
        for command in commands:
            match command:
                case Link(identity):
                    assert linked is None
                    assert ends == 0
                    linked = identity
                    callers.add(identity)
                case Unlink(identity):
                    assert linked == identity
                    linked = None
                case End():
                    ends += 1
                case Drop(reason):
                    assert reason
                    assert len(commands) == 1
        away = (away or isinstance(event, Away)) and not isinstance(event, Back)
        deadline = watch.deadline()
        assert deadline is None or not away
        assert deadline is None or (deadline >= now and linked is None and ends == 0)
    assert len(callers) <= 1
    assert ends <= 1
    assert (watch.state is State.ENDED) == (ends == 1)
