"""Everything that can go wrong with a recording, on the real server with LiveKit's own client.

``pytest -s`` prints the table of docs/instant-connect.md.
"""

from __future__ import annotations

import asyncio
import threading

import pytest
from livekit.protocol import models

from greenroom.embedded.mediaserver import MediaServer
from greenroom.room.preconnect.intake import PROMISE
from tests.room.people import House
from tests.room.preconnect.faults import FAULTS, SPOKEN, Fault, Outcome, play

pytestmark = pytest.mark.e2e

AT_ONCE = 2
"""Calls at the same time."""


async def call(server: MediaServer, fault: Fault, gate: asyncio.Semaphore) -> Outcome:
    async with gate, House(server) as house:
        return await play(house, fault)


async def test_nothing_hangs_nothing_crashes_and_what_can_be_used_is(media_server: MediaServer) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    together = [fault for fault in FAULTS.values() if not fault.alone]
    calls = await asyncio.gather(*(call(media_server, fault, gate) for fault in together))
    made = {id(fault): outcome for fault, outcome in zip(together, calls, strict=True)}
    for fault in FAULTS.values():
        if fault.alone:
            made[id(fault)] = await call(media_server, fault, gate)
    outcomes = {name: made[id(fault)] for name, fault in FAULTS.items()}
    for row in table(outcomes):
        print(row)  # noqa: T201  # what `pytest -s` is for
    wrong = [problem for name, outcome in outcomes.items() for problem in problems(name, FAULTS[name], outcome)]
    assert wrong == []
    assert not [thread for thread in threading.enumerate() if thread.name == "decode recording" and thread.is_alive()]


def table(made: dict[str, Outcome]) -> list[str]:
    rows = ["| what | what is used | live audio after |", "|---|---|---|"]
    for name, outcome in made.items():
        report = outcome.first
        used = report.outcome not in ("refused", "missing")
        what = f"{report.seconds:.1f} s" if used else "nothing"
        told = [report] if used else outcome.reports
        why = "; ".join(dict.fromkeys(f"{each.outcome}: {each.reason}".removesuffix(": ") for each in told))
        why = f" ({why})" if why else ""
        rows.append(f"| {name} | {what}{why} | {outcome.waited:.2f} s |")
    return rows


def problems(name: str, fault: Fault, outcome: Outcome) -> list[str]:
    report, found = outcome.first, []
    if outcome.reports and report.outcome not in fault.used:
        found.append(f"{report.outcome} ({report.reason})")
    if not outcome.reports and fault.used:
        found.append("nothing was reported")
    if outcome.waited > fault.wait:
        found.append(f"live audio after {outcome.waited:.2f} s instead of {fault.wait:g}")
    whole = fault.seconds if report.outcome == "used" else 0.0
    if fault.seconds and not 0.85 * whole <= outcome.recorded <= 1.15 * fault.seconds:
        found.append(f"{outcome.recorded:.2f} s were used instead of {fault.seconds:g}")
    if whole == SPOKEN and outcome.likeness < 0.9:
        found.append(f"what was heard is not what was said: {outcome.likeness:.2f}")
    return [f"{name}: {problem}" for problem in found]


def test_the_promise_is_the_one_that_clients_make() -> None:
    assert models.AudioTrackFeature.TF_PRECONNECT_BUFFER == PROMISE
