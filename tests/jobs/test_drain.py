"""``Drain`` by hand and under any order of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.jobs.drain import (
    LAST,
    TRANSITIONS,
    Drain,
    EndAll,
    Event,
    JobsChanged,
    Leave,
    Phase,
    Refuse,
    StopAsked,
    TellWrapUp,
    Tick,
)
from greenroom.settings import Deadlines

LIMITS = Deadlines(drain=100, wrap_up=30, end=10, terminate=2)


def draining(jobs: int = 2, **changes: float) -> Drain:
    """At 10 it was asked to stop, with so many calls."""
    drain = Drain(Deadlines(**{"drain": 100, "wrap_up": 30, "end": 10, "terminate": 2, **changes}))
    drain.handle(JobsChanged(jobs), 0.0)
    drain.handle(StopAsked(), 10.0)
    return drain


def phase(drain: Drain) -> Phase:
    return drain.phase


def test_all_phases() -> None:
    drain = Drain(LIMITS)
    assert drain.handle(JobsChanged(2), 0.0) == []
    assert drain.deadline() is None
    assert drain.handle(StopAsked(), 10.0) == [Refuse(), TellWrapUp(130.0, last=False)]
    assert (phase(drain), drain.deadline(), drain.left(60.0)) == (Phase.WAITING, 110.0, 50.0)
    assert drain.handle(Tick(), 110.0) == [TellWrapUp(30.0, last=True)]
    assert (phase(drain), drain.deadline()) == (Phase.WRAPPING_UP, 140.0)
    assert drain.handle(JobsChanged(1), 120.0) == []
    assert drain.handle(Tick(), 140.0) == [EndAll()]
    assert (phase(drain), drain.deadline()) == (Phase.ENDING, 154.0 + LAST)
    assert drain.handle(Tick(), 155.0) == [Leave()]
    assert drain.handle(JobsChanged(0), 156.0) == []
    assert (phase(drain), drain.deadline()) == (Phase.OVER, None)


def test_it_leaves_with_the_last_call() -> None:
    drain = draining()
    assert drain.handle(JobsChanged(1), 20.0) == []
    assert drain.handle(JobsChanged(0), 30.0) == [Leave()]


def test_without_a_call_it_leaves_at_once() -> None:
    assert Drain(LIMITS).handle(StopAsked(), 1.0) == [Refuse(), Leave()]


def test_nobody_leaves_who_was_not_asked_to() -> None:
    drain = Drain(LIMITS)
    assert drain.handle(JobsChanged(1), 1.0) == []
    assert drain.handle(JobsChanged(0), 2.0) == []
    assert drain.phase is Phase.SERVING


@pytest.mark.parametrize("when", [11.0, 120.0])
def test_to_ask_again_is_to_end_now(when: float) -> None:
    drain = draining()
    drain.handle(Tick(), when)
    assert drain.handle(StopAsked(), when) == [EndAll()]
    assert drain.handle(StopAsked(), when) == []
    assert drain.handle(JobsChanged(0), when + 1) == [Leave()]


def test_now_may_be_asked_for_at_once() -> None:
    drain = Drain(LIMITS)
    drain.handle(JobsChanged(1), 0.0)
    assert drain.handle(StopAsked(now=True), 1.0) == [Refuse(), EndAll()]


def test_the_last_word_may_be_left_out() -> None:
    drain = draining(wrap_up=0)
    assert drain.handle(Tick(), 110.0) == [EndAll()]


def test_an_early_tick_is_none() -> None:
    drain = draining()
    assert drain.handle(Tick(), 109.0) == []
    assert drain.phase is Phase.WAITING


EVENTS = st.one_of(st.just(StopAsked()), st.just(StopAsked(now=True)), st.builds(JobsChanged, st.integers(0, 2)))


@given(st.lists(st.tuples(EVENTS, st.floats(0, 60))), st.sampled_from([0.0, 30.0]))
def test_it_always_comes_to_its_end(events: list[tuple[Event, float]], wrap_up: float) -> None:
    drain = Drain(Deadlines(drain=100, wrap_up=wrap_up, end=10, terminate=2))
    now = 0.0
    seen: Counter[type] = Counter()

    def pass_time(until: float) -> None:
        while (due := drain.deadline()) is not None and due <= until:
            seen.update(map(type, drain.handle(Tick(), due)))

    for event, gap in [*events, (JobsChanged(1), 0.0), (StopAsked(), 0.0)]:
        now += gap
        pass_time(now)
        seen.update(map(type, drain.handle(event, now)))
    pass_time(now + 1000)
    assert drain.phase is Phase.OVER
    assert seen[Refuse] == seen[Leave] == 1
    assert seen[EndAll] <= 1
    assert seen[TellWrapUp] <= 2


def test_the_table() -> None:
    keys = [(row.state, row.event, row.to) for row in TRANSITIONS]
    assert len(keys) == len(set(keys))
    assert {row.to for row in TRANSITIONS} == set(Phase)
    assert not [row for row in TRANSITIONS if row.state is Phase.OVER]
