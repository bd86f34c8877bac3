"""Who is linked, who may return, and what ends a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.room.caller import (
    TABLE,
    Arrived,
    CallerEvent,
    CallerWatch,
    Departed,
    Departure,
    Disconnected,
    Drop,
    End,
    EndReason,
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
    st.just(Tick()),
)


@given(st.lists(st.tuples(events, st.floats(0, 30)), max_size=40))
def test_whatever_happens(happenings: list[tuple[CallerEvent, float]]) -> None:
    watch, now = CallerWatch(), 0.0
    linked: str | None = None
    callers: set[str] = set()
    ends = 0
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
        deadline = watch.deadline()
        assert deadline is None or (deadline >= now and linked is None and ends == 0)
    assert len(callers) <= 1
    assert ends <= 1
    assert (watch.state is State.ENDED) == (ends == 1)
