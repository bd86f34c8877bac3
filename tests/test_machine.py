"""The pump: order, re-entry, ticks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from greenroom.machine import Driver
from greenroom.testing.timeline import ManualClock


class Echo:
    """Commands what ``answers`` says of an event; wants ticks at ``when``."""

    def __init__(self, answers: dict[str, list[str]] | None = None) -> None:
        self.answers = answers or {}
        self.when: float | None = None
        self.seen: list[tuple[str, float]] = []

    def handle(self, event: str, now: float) -> list[str]:
        self.seen.append((event, now))
        if event == "tick":
            self.when = None
        if event.startswith("wait "):
            self.when = float(event.removeprefix("wait "))
        if event == "settle":
            self.when = None
        return self.answers.get(event, [])

    def deadline(self) -> float | None:
        return self.when


def drive(
    machine: Echo, clock: ManualClock, *, observe: Callable[[str, float], None] | None = None
) -> tuple[Driver[str, str], list[str]]:
    performed: list[str] = []
    return Driver(machine, performed.append, clock=clock, tick="tick", observe=observe), performed


def test_commands_are_performed_in_order() -> None:
    driver, performed = drive(Echo({"a": ["one", "two"], "b": ["three"]}), ManualClock())
    driver.feed("a")
    driver.feed("b")
    assert performed == ["one", "two", "three"]


def test_an_event_fed_while_a_command_is_performed_waits_for_the_rest() -> None:
    machine = Echo({"a": ["again", "after"], "b": ["last"]})
    performed: list[str] = []

    def perform(command: str) -> None:
        performed.append(command)
        if command == "again":
            driver.feed("b")
            assert machine.seen == [("a", 0.0)], "the machine was re-entered"

    driver = Driver(machine, perform, clock=ManualClock(), tick="tick")
    driver.feed("a")
    assert performed == ["again", "after", "last"]


def test_a_tick_comes_at_the_deadline_and_once() -> None:
    machine, clock = Echo(), ManualClock(start=10.0)
    driver, _ = drive(machine, clock)
    driver.feed("wait 12.5")
    clock.advance_to(12.4)
    assert machine.seen == [("wait 12.5", 10.0)]
    clock.advance_to(20.0)
    assert machine.seen == [("wait 12.5", 10.0), ("tick", 12.5)]
    assert clock.pending == 0


def test_a_deadline_that_moves_replaces_the_timer() -> None:
    machine, clock = Echo(), ManualClock()
    driver, _ = drive(machine, clock)
    driver.feed("wait 5")
    driver.feed("wait 3")
    assert clock.pending == 1
    clock.advance(10)
    assert machine.seen[2:] == [("tick", 3.0)]
    driver.feed("wait 20")
    driver.feed("settle")
    assert clock.pending == 0


def test_a_clock_that_rings_early_gives_no_tick_before_its_time() -> None:
    class Early(ManualClock):
        def call_at(self, when: float, callback: Callable[..., object], *args: object):  # type: ignore[no-untyped-def]
            early = when - 0.25 if self.time() < when - 0.25 else when
            return super().call_at(early, callback, *args)

    machine, clock = Echo(), Early()
    driver, _ = drive(machine, clock)
    driver.feed("wait 1")
    clock.advance(2)
    assert machine.seen == [("wait 1", 0.0), ("tick", 1.0)]


def test_the_observer_sees_each_event_before_it_is_handled() -> None:
    machine, seen = Echo({"a": ["x"]}), []
    clock = ManualClock(start=4.0)

    def observe(event: str, now: float) -> None:
        seen.append((event, now, len(machine.seen)))

    driver, _ = drive(machine, clock, observe=observe)
    driver.feed("a")
    driver.feed("b")
    assert seen == [("a", 4.0, 0), ("b", 4.0, 1)]


def test_nothing_happens_after_close() -> None:
    machine, clock = Echo({"a": ["x"]}), ManualClock()
    driver, performed = drive(machine, clock)
    driver.feed("wait 1")
    driver.close()
    driver.feed("a")
    clock.advance(5)
    assert performed == []
    assert machine.seen == [("wait 1", 0.0)]
    assert clock.pending == 0


def test_closing_from_within_a_command_ends_the_queue() -> None:
    machine = Echo({"a": ["close"]})
    performed: list[str] = []

    def perform(command: str) -> None:
        performed.append(command)
        driver.feed("b")
        driver.close()

    driver = Driver(machine, perform, clock=ManualClock(), tick="tick")
    driver.feed("a")
    assert machine.seen == [("a", 0.0)]


def test_an_error_in_a_command_leaves_the_driver_usable() -> None:
    machine = Echo({"a": ["bad"], "b": ["good"]})
    performed: list[str] = []

    def perform(command: str) -> None:
        if command == "bad":
            raise OSError(command)
        performed.append(command)

    driver = Driver(machine, perform, clock=ManualClock(), tick="tick")
    with pytest.raises(OSError, match="bad"):
        driver.feed("a")
    driver.feed("b")
    assert performed == ["good"]
