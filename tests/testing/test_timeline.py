"""The helper that other tests trust: it passes what is right, and says exactly what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from greenroom.testing.timeline import ManualClock, Timeline


@dataclass(frozen=True)
class Start:
    after: float


@dataclass(frozen=True)
class Tick:
    pass


@dataclass(frozen=True)
class Ring:
    n: int


@dataclass(frozen=True)
class Note:
    text: str


class Alarm:
    """Rings ``after`` seconds after each start, ``times`` times at that interval."""

    def __init__(self, *, times: int = 1, stuck: bool = False) -> None:
        self.times, self.stuck = times, stuck
        self.rung = 0
        self.gap = 0.0
        self.when: float | None = None

    def handle(self, event: Start | Tick, now: float) -> list[Ring | Note]:
        if isinstance(event, Start):
            self.gap, self.when, self.rung = event.after, now + event.after, 0
            return [Note("set")]
        if self.stuck:
            return []
        self.rung += 1
        self.when = now + self.gap if self.rung < self.times else None
        return [Ring(self.rung)]

    def deadline(self) -> float | None:
        return self.when


def line(alarm: Alarm, *, ignore: tuple[type[Note], ...] = (Note,)) -> Timeline[Start | Tick, Ring | Note]:
    return Timeline(alarm, tick=Tick(), ignore=ignore)


def test_ticks_come_at_deadlines_with_exact_times() -> None:
    with line(Alarm(times=3)) as timeline:
        timeline.at(1.2, Start(0.5)).wants_tick(1.7).expect(1.7, Ring(1)).expect(2.2, Ring(2)).quiet(until=2.6)
        timeline.expect(2.7, Ring(3)).wants_tick(None).quiet(until=100)


def test_a_wrong_time_is_told_with_both_sides() -> None:
    with pytest.raises(AssertionError) as caught:
        line(Alarm()).at(1.0, Start(0.5)).expect(1.6, Ring(1))
    text = str(caught.value)
    assert "expected:\n    1.600   Ring(n=1)" in text
    assert "got:\n    1.500   Ring(n=1)" in text
    assert "1.000 < Start(after=0.5)" in text


@pytest.mark.parametrize("expected", [(), (Ring(2),), (Ring(1), Ring(2))])
def test_other_commands_than_expected_fail(expected: tuple[Ring, ...]) -> None:
    with pytest.raises(AssertionError, match="Ring"):
        line(Alarm()).at(1.0, Start(0.5)).expect(1.5, *expected)


def test_an_unexpected_command_fails_at_the_next_event_and_at_the_end() -> None:
    with pytest.raises(AssertionError, match="got"):
        line(Alarm()).at(0.0, Start(1.0)).at(2.0, Start(1.0))
    with pytest.raises(AssertionError, match="got"), line(Alarm(), ignore=()) as timeline:
        timeline.at(0.0, Start(1.0))


def test_an_error_in_the_block_is_not_hidden_by_the_end() -> None:
    def block() -> None:
        with line(Alarm(), ignore=()) as timeline:
            timeline.at(0.0, Start(1.0))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        block()


def test_a_restless_machine_is_called_stuck() -> None:
    with pytest.raises(AssertionError, match="again and again"):
        line(Alarm(stuck=True)).at(0.0, Start(1.0)).quiet(until=2.0)


def test_a_deadline_in_the_past_fails() -> None:
    with pytest.raises(AssertionError, match="lies in the past"):
        line(Alarm()).at(5.0, Start(-1.0))


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(AssertionError, match="backwards"):
        line(Alarm()).at(5.0).at(4.0)


def test_manual_clock_rings_in_order_at_exact_times() -> None:
    clock = ManualClock(start=1.0)
    rung: list[tuple[str, float]] = []

    def ring(name: str) -> None:
        rung.append((name, clock.time()))
        if name == "first":
            clock.call_at(2.5, ring, "nested")

    clock.call_at(3.0, ring, "last")
    clock.call_at(2.0, ring, "first")
    clock.call_at(2.0, ring, "second")
    clock.call_at(2.2, ring, "cancelled").cancel()
    clock.call_at(0.5, ring, "overdue")
    assert clock.pending == 4
    clock.advance(1.5)
    assert rung == [("overdue", 1.0), ("first", 2.0), ("second", 2.0), ("nested", 2.5)]
    assert clock.time() == 2.5
    clock.advance(1.0)
    assert rung[-1] == ("last", 3.0)
    assert clock.time() == 3.5
    assert clock.pending == 0
