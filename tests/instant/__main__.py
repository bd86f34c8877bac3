"""``make test-instant``: every dispatch and delay for both clients, an agent that comes too late, and a question.

Prints a line for each run and what it should not have shown; exits with 1 when there is such a run. The columns are
explained in ``tests.instant.report``. ``python -m tests.instant stock,1,0.2 page,0.5,0`` makes only these runs, and
``--keep FOLDER`` keeps what was recorded, for ``tests.instant.tap.Tapped.read``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.instant.clients import Client
from tests.instant.question import ask
from tests.instant.report import Recordings, Report, report
from tests.instant.runs import House, Run, house
from tests.instant.seam import Ruler
from tests.instant.tap import RATE, Tapped
from tests.instant.transcript import Listener

__all__ = ["main"]

CLIENTS: tuple[Client, ...] = ("page", "stock")
DISPATCHES = (0.5, 1.0, 2.0, 4.0)
NOTICES = (0.0, 0.1, 0.2, 0.3)
MATRIX = tuple(
    Run(client=client, dispatch=dispatch, notice=notice)
    for client in CLIENTS
    for dispatch in DISPATCHES
    for notice in NOTICES
)
TOO_LATE = 11.0
"""After the client's patience: it has thrown away what it recorded."""
HEADER = (
    "                        head (ms)        seam (ms)                                  level  clock  join ->   words"
    "            transcript\n"
    "client  dispatch notice  unsent  lost    unsent overlap missing duplicated   pause     dB     ms  buffer s  sent"
    " broken doubled  heard / source\n"
)


async def measure(house: House, wanted: tuple[Run, ...], *, keep: Path | None) -> int:
    """Make the runs; return how many showed what they should not."""
    failed = 0
    taps: list[tuple[Run, Tapped]] = []
    for run in wanted:
        try:
            tapped = await house.run(run)
        except TimeoutError:
            _say(f"{run}: no agent came, or it wrote nothing down\n")
            failed += 1
            continue
        taps.append((run, tapped))
        if keep is not None:
            await asyncio.to_thread(tapped.write, keep / f"{run.client}-{run.dispatch:g}-{run.notice:g}.npz")
            await asyncio.to_thread(house.source.write, keep)
    # What needs the processor is done when no call needs it.
    ruler = Ruler(house.source.at(RATE), house.source.words, sample_rate=RATE)
    listener = Listener(house.source.at(RATE))
    _say(HEADER)
    for run, tapped in taps:
        recordings = Recordings.of(tapped)
        try:
            made = report(ruler, recordings, joined=tapped.joined)
        except ValueError as error:
            _say(f"{run}: {error}\n")
            failed += 1
            continue
        heard, said = await listener.compare(recordings.heard, begins=made.begins)
        _say(_line(run, made) + f"  {heard:5d} / {said}\n")
        for failure in made.failures:
            _say(f"        ^ {failure}\n")
        failed += bool(made.failures)
    return failed


def _line(run: Run, made: Report) -> str:
    seam = f"{'no buffer':>65}"
    if made.delivered is not None:
        lengths = (made.unsent, made.overlap, made.missing, made.duplicated, made.pause, made.clock)
        ms = [1000 * seconds for seconds in lengths]
        seam = f"{ms[0]:6.1f} {ms[1]:7.1f} {ms[2]:7.1f} {ms[3]:10.1f} {ms[4]:7.1f} "
        seam += f"{made.step:6.2f} {ms[5]:6.1f} {made.delivered:9.3f}"
    return (
        f"{run.client:7} {run.dispatch:8g} {run.notice:6g}  {1000 * made.unsent_head:6.1f} {1000 * made.head_loss:5.1f}"
        f"    {seam} {made.words:5d} {len(made.broken):6d} {len(made.doubled):7d}"
    )


async def measure_too_late(house: House) -> int:
    """An agent after the client's patience: nothing is sent to it, and it does not wait for what will not come."""
    tapped = await house.run(Run(client="page", dispatch=TOO_LATE, notice=0.0))
    first = tapped.heard[0].came - tapped.joined if tapped.heard else float("inf")
    _say(f"\nagent {TOO_LATE:g} s after capture began: {len(tapped.chunks)} chunks sent, ")
    _say(f"live audio heard {first:.3f} s after joining\n")
    failures = ["old audio was sent"] * bool(tapped.chunks) + ["the agent waited"] * (not first < 1.0)
    for failure in failures:
        _say(f"        ^ {failure}\n")
    return bool(failures)


async def measure_question(house: House) -> int:
    """A question that was over before the agent came."""
    try:
        answer = await ask(house, dispatch=2.5)
    except TimeoutError:
        _say("\na question that was over before the agent came was not answered\n")
        return 1
    _say(f"\n{answer.asked!r}, over {answer.early:.2f} s before the agent joined, was heard as {answer.heard!r}\n")
    _say(f"join -> first audible answer {answer.delay:.2f} s (whisper tiny.en, script, piper): {answer.answer!r}\n")
    for failure in answer.failures:
        _say(f"        ^ {failure}\n")
    return bool(answer.failures)


async def _measure_all(wanted: tuple[Run, ...], keep: Path | None) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="greenroom-instant-") as folder:
        async with house(Path(folder)) as running:
            failed = await measure(running, wanted or MATRIX, keep=keep)
            if not wanted:
                failed += await measure_too_late(running)
                failed += await measure_question(running)
    _say(f"\n{failed} failed; {time.monotonic() - began:.0f} s\n")
    return failed


def _parsed(text: str) -> Run:
    client, dispatch, notice = text.split(",")
    if client not in CLIENTS:
        raise argparse.ArgumentTypeError(f"{client} is no client; expected one of {', '.join(CLIENTS)}")
    return Run(client="page" if client == "page" else "stock", dispatch=float(dispatch), notice=float(notice))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instant", description="Measure instant connect.")
    parser.add_argument("runs", nargs="*", type=_parsed, metavar="CLIENT,DISPATCH,NOTICE")
    parser.add_argument("--keep", type=Path, help="a folder to keep the recordings in")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    return 1 if asyncio.run(_measure_all(tuple(arguments.runs), arguments.keep)) else 0


if __name__ == "__main__":
    sys.exit(main())
