"""The machine of several models' health."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.providers.resilience.health import (
    TURNS,
    Answered,
    Condition,
    Event,
    Failed,
    Health,
    Recovered,
    Tick,
    TrialFailed,
    Try,
)


def test_who_failed_comes_last_until_a_trial_is_answered() -> None:
    health = Health(3)
    assert health.order() == (0, 1, 2)
    assert health.handle(Failed(0), 10.0) == []
    assert health.order() == (1, 2, 0)
    assert health.deadline() == 15.0
    assert health.handle(Tick(), 15.0) == [Try(0)]
    assert health.deadline() is None
    assert health.order() == (1, 2, 0)
    assert health.handle(Answered(0), 15.5) == [Recovered(0)]
    assert health.order() == (0, 1, 2)


def test_trials_become_rarer() -> None:
    health, now, waits = Health(2), 0.0, []
    health.handle(Failed(0), now)
    for _ in range(6):
        due = health.deadline() or 0.0
        waits.append(due - now)
        assert health.handle(Tick(), due) == [Try(0)]
        now = due + 1.0
        health.handle(TrialFailed(0), now)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_vendor_that_asks_for_time_is_given_it() -> None:
    health = Health(2)
    health.handle(Failed(0, wait=30.0), 1.0)
    assert health.deadline() == 31.0


def test_a_request_that_had_nobody_better_is_no_news_unless_it_is_answered() -> None:
    health = Health(2)
    health.handle(Failed(0), 0.0)
    health.handle(Failed(1), 1.0)
    assert health.order() == (0, 1)
    health.handle(Failed(0), 4.0)
    assert health.deadline() == 5.0
    assert health.handle(Answered(1), 4.5) == [Recovered(1)]
    assert health.order() == (1, 0)
    assert health.handle(Answered(1), 4.6) == []


def test_a_trial_that_comes_late_changes_nothing() -> None:
    health = Health(2)
    health.handle(Failed(0), 0.0)
    health.handle(Tick(), 5.0)
    health.handle(Answered(0), 5.1)  # a request
    assert health.handle(TrialFailed(0), 6.0) == []
    assert health.condition(0) is Condition.WELL


@settings(deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from([Answered, Failed, TrialFailed, Tick]), st.integers(0, 3), st.floats(0, 9))),
)
def test_whatever_happens(count: int, story: list[tuple[type[Event], int, float]]) -> None:
    health, now = Health(count), 0.0
    tried: set[int] = set()
    for kind, number, gap in story:
        before = [health.condition(one) for one in range(count)]
        deadline = health.deadline()
        assert deadline is None or deadline >= now
        now = min(now + gap, deadline if deadline is not None else now + gap)
        late = now == deadline
        event = Tick() if late or kind is Tick else kind(number % count)  # type: ignore[call-arg]
        for command in health.handle(event, now):
            assert isinstance(command, Recovered) or before[command.model] is Condition.ILL
            tried = tried | {command.model} if isinstance(command, Try) else tried - {command.model}
        for one, condition in enumerate(before):
            assert health.condition(one) is condition or health.condition(one) in TURNS[condition]
        order = health.order()
        assert sorted(order) == list(range(count))
        well = [one for one in order if health.condition(one) is Condition.WELL]
        assert list(order[: len(well)]) == sorted(well)
