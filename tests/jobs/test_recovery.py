"""``Recovery`` by hand and under any order of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import LocalProtocolError
from greenroom.jobs.events import Outcome
from greenroom.jobs.recovery import (
    TRANSITIONS,
    EndAsked,
    Event,
    Free,
    Gone,
    Joined,
    Left,
    Lost,
    Recovery,
    Resume,
    Standing,
    Tell,
    Tick,
    Unserved,
)

CRASH = Lost(Outcome.CRASHED, "SIGSEGV")
CRASHED = [Tell("SIGSEGV"), Free(Outcome.CRASHED)]


def standing(call: Recovery) -> Standing:
    return call.state


def test_a_call_that_nothing_happens_to() -> None:
    call = Recovery(3)
    assert call.handle(Joined(), 0.0) == []
    assert call.handle(Left(), 1.0) == [Tell("")]
    assert call.handle(Gone(Outcome.SUCCESS), 2.0) == [Free(Outcome.SUCCESS)]
    assert call.state is Standing.OVER
    assert call.deadline() is None


def test_so_often_and_then_a_farewell() -> None:
    call = Recovery(2)
    assert call.handle(CRASH, 1.0) == [Resume(2, "SIGSEGV", farewell=False)]
    assert standing(call) is Standing.RECOVERING
    call.handle(Joined(), 2.0)
    assert standing(call) is Standing.SERVED
    # Whether it came as far as the room makes no difference.
    assert call.handle(CRASH, 3.0) == [Resume(3, "SIGSEGV", farewell=False)]
    assert call.handle(CRASH, 4.0) == [Resume(4, "SIGSEGV", farewell=True)]
    call.handle(Joined(), 5.0)
    assert call.state is Standing.PARTING
    assert call.handle(CRASH, 6.0) == CRASHED


def test_the_farewell_that_is_said() -> None:
    call = Recovery(1, attempt=2)
    assert call.handle(CRASH, 1.0) == [Resume(3, "SIGSEGV", farewell=True)]
    assert call.handle(Left("given up"), 2.0) == [Tell("given up")]
    assert call.handle(Gone(Outcome.FAILED), 2.1) == [Free(Outcome.FAILED)]


def test_recovery_may_be_off() -> None:
    assert Recovery(0).handle(CRASH, 1.0) == CRASHED


def test_an_earlier_daemons_attempts_count() -> None:
    assert Recovery(3, attempt=4).handle(CRASH, 1.0) == [Resume(5, "SIGSEGV", farewell=True)]
    assert Recovery(3, attempt=5, farewell=True).handle(CRASH, 1.0) == CRASHED


@pytest.mark.parametrize("before", [[], [CRASH], [CRASH, CRASH]])
def test_nothing_is_begun_again_for_what_is_to_end(before: list[Event]) -> None:
    call = Recovery(1)
    for event in (*before, EndAsked()):
        call.handle(event, 0.0)
    assert call.handle(CRASH, 1.0) == CRASHED


def test_no_process_is_to_be_had() -> None:
    call = Recovery(1)
    call.handle(CRASH, 0.0)
    commands = call.handle(Unserved(Outcome.BOOT_FAILED, "no memory"), 1.0)
    assert commands == [Tell("no memory"), Free(Outcome.BOOT_FAILED)]
    assert call.handle(EndAsked(), 2.0) == []


def test_a_process_that_goes_without_a_word_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="Gone while served"):
        Recovery(1).handle(Gone(Outcome.SUCCESS), 0.0)


EVENTS = st.sampled_from([Joined(), CRASH, EndAsked(), Left(), Left("x"), Unserved(Outcome.RETIRED, "none"), Tick()])


@given(st.integers(0, 3), st.lists(EVENTS, max_size=12))
def test_one_outcome_for_each_call(attempts: int, events: list[Event]) -> None:
    call = Recovery(attempts)
    seen: Counter[type] = Counter()
    for event in [*events, EndAsked(), CRASH]:
        commands = call.handle(event, 0.0)
        assert not seen[Free] or commands == []
        seen.update(map(type, commands))
        assert [type(command) for command in commands] in ([], [Resume], [Tell], [Tell, Free], [Free])
    assert seen[Tell] == seen[Free] == 1
    assert seen[Resume] <= attempts + 1


def test_the_table() -> None:
    keys = [(row.state, row.event, row.to) for row in TRANSITIONS]
    assert len(keys) == len(set(keys))
    assert {row.to for row in TRANSITIONS} == set(Standing)
    assert not [row for row in TRANSITIONS if row.state is Standing.OVER]
    assert all(row.rule for row in TRANSITIONS)
