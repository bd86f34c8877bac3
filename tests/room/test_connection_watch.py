"""Which disconnections are come back from, when, how often, and when that is given up."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.room.caller import EndReason
from greenroom.room.client import delays
from greenroom.room.connection import (
    PATIENCE,
    RETURNING,
    TABLE,
    Abandon,
    AttemptFailed,
    ConnectionCommand,
    ConnectionEvent,
    ConnectionWatch,
    Disconnected,
    Drop,
    End,
    Entered,
    Interrupted,
    Lose,
    Rejoin,
    Restored,
    Show,
    State,
    Tick,
)
from greenroom.testing.timeline import Timeline

SHUTDOWN, LOST = EndReason.SERVER_SHUTDOWN, EndReason.CONNECTION_LOST


def doubling() -> Iterator[float]:
    delay = 1.0
    while True:
        yield delay
        delay *= 2


def line(*, rejoin: float = 60.0) -> Timeline[ConnectionEvent, ConnectionCommand]:
    return Timeline(ConnectionWatch(rejoin=rejoin, delays=doubling), tick=Tick())


def test_what_the_client_mends_by_itself_is_only_shown() -> None:
    with line() as room:
        room.at(0, Entered()).expect(0, Show("connected")).wants_tick(None)
        room.at(5, Interrupted()).expect(5, Show("reconnecting")).wants_tick(5 + PATIENCE)
        room.at(8, Restored()).expect(8, Show("connected")).wants_tick(None)


def test_a_lost_room_is_entered_anew() -> None:
    with line() as room:
        room.at(0, Entered()).expect(0, Show("connected"))
        room.at(5, Disconnected(SHUTDOWN)).expect(5, Lose(SHUTDOWN), Show("rejoining"))
        room.expect(6, Rejoin(1))
        room.at(6.2, Entered()).expect(6.2, Show("connected")).wants_tick(None)


def test_delays_grow_from_attempt_to_attempt_and_begin_anew_with_each_loss() -> None:
    with line() as room:
        room.at(0, Entered()).expect(0, Show("connected"))
        room.at(5, Disconnected(LOST)).expect(5, Lose(LOST), Show("rejoining"))
        room.expect(6, Rejoin(1)).at(7, AttemptFailed())
        room.expect(9, Rejoin(2)).at(10, AttemptFailed())
        room.expect(14, Rejoin(3)).at(14, Entered()).expect(14, Show("connected"))
        room.at(20, Disconnected(SHUTDOWN)).expect(20, Lose(SHUTDOWN), Show("rejoining"))
        room.expect(21, Rejoin(1)).at(22, Entered()).expect(22, Show("connected"))


def test_coming_back_is_given_up_in_time_between_attempts_and_during_one() -> None:
    with line(rejoin=10) as room:
        room.at(0, Entered()).expect(0, Show("connected"))
        room.at(5, Disconnected(SHUTDOWN)).expect(5, Lose(SHUTDOWN), Show("rejoining"))
        room.expect(6, Rejoin(1)).at(7, AttemptFailed())
        room.expect(9, Rejoin(2)).at(12, AttemptFailed())
        room.expect(15, End(SHUTDOWN))
        room.at(16, Entered()).expect(16, Drop("Entered while ended"))
    with line(rejoin=10) as room:
        room.at(0, Entered()).expect(0, Show("connected"))
        room.at(5, Disconnected(LOST)).expect(5, Lose(LOST), Show("rejoining"))
        room.expect(6, Rejoin(1)).expect(15, End(LOST))


def test_a_connection_that_breaks_while_it_is_set_up_is_a_failed_attempt() -> None:
    with line() as room:
        room.at(0, Entered()).expect(0, Show("connected"))
        room.at(5, Disconnected(SHUTDOWN)).expect(5, Lose(SHUTDOWN), Show("rejoining"))
        room.expect(6, Rejoin(1))
        room.at(6.5, Disconnected(LOST)).expect(6.5, Abandon())
        room.expect(8.5, Rejoin(2))
        room.at(8.6, Disconnected(EndReason.DUPLICATE_IDENTITY)).expect(8.6, End(EndReason.DUPLICATE_IDENTITY))


def test_a_client_that_says_nothing_any_more_is_given_up() -> None:
    with line() as room:
        room.at(0, Entered()).expect(0, Show("connected"))
        room.at(5, Interrupted()).expect(5, Show("reconnecting"))
        room.expect(5 + PATIENCE, Abandon(), Lose(LOST), Show("rejoining"))
        room.at(5 + PATIENCE, Restored()).expect(5 + PATIENCE, Drop("Restored while lost"))
        room.expect(6 + PATIENCE, Rejoin(1))
        room.at(7 + PATIENCE, Entered()).expect(7 + PATIENCE, Show("connected"))


@pytest.mark.parametrize("reason", sorted(set(EndReason) - RETURNING))
def test_nobody_comes_back_who_was_put_out(reason: EndReason) -> None:
    for before in (Entered(), Interrupted()):
        watch = ConnectionWatch(rejoin=60, delays=doubling)
        watch.handle(Entered(), 0)
        watch.handle(before, 0)
        assert watch.handle(Disconnected(reason), 1) == [End(reason)]
        assert watch.deadline() is None


@pytest.mark.parametrize("reason", sorted(RETURNING))
def test_without_time_for_it_and_before_joining_nobody_comes_back(reason: EndReason) -> None:
    watch = ConnectionWatch(rejoin=0, delays=doubling)
    watch.handle(Entered(), 0)
    assert watch.handle(Disconnected(reason), 1) == [End(reason)]
    watch = ConnectionWatch(rejoin=60, delays=doubling)
    assert watch.handle(Disconnected(reason), 1) == [End(reason)]


def test_delays_grow_to_a_limit_and_are_spread() -> None:
    random.seed(1)
    many = [list(itertools.islice(delays(), 12)) for _ in range(200)]
    assert all(0.15 <= each[0] <= 0.375 for each in many)
    assert all(2.0 <= each[-1] <= 5.0 for each in many)
    assert len({each[0] for each in many}) == len(many)


events: st.SearchStrategy[ConnectionEvent] = st.one_of(
    st.sampled_from([Entered(), Interrupted(), Restored(), AttemptFailed(), Tick()]),
    st.builds(Disconnected, st.sampled_from(EndReason)),
)


@given(st.lists(st.tuples(events, st.floats(0, 40)), max_size=60), st.sampled_from([0.0, 10.0, 60.0]))
def test_whatever_happens(happenings: list[tuple[ConnectionEvent, float]], rejoin: float) -> None:
    watch, now = ConnectionWatch(rejoin=rejoin, delays=doubling), 0.0
    shown, lost_at, ends = "", 0.0, 0
    for event, gap in happenings:
        deadline = watch.deadline()
        now = now + gap if deadline is None else min(now + gap, deadline)
        before = watch.state
        commands = watch.handle(event, now)
        assert watch.state is before or watch.state in TABLE[before][type(event)]
        for command in commands:
            assert ends == 0 or isinstance(command, Drop)
            match command:
                case Show(state):
                    assert state != shown or state == "rejoining"
                    shown = state
                case Lose(reason):
                    assert reason in RETURNING
                    lost_at = now
                case Rejoin():
                    assert shown == "rejoining"
                    assert now < lost_at + rejoin
                case End():
                    ends += 1
                case Abandon():
                    assert watch.state is not State.CONNECTED
                case Drop(reason):
                    assert reason
                    assert len(commands) == 1
        deadline = watch.deadline()
        assert deadline is None or deadline >= now
        assert (watch.state is State.ENDED) == (ends == 1)
        if watch.state in (State.LOST, State.REJOINING):
            assert deadline is not None
            assert deadline <= lost_at + rejoin
