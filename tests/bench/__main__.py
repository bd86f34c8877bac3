"""``make bench``: greenroom and livekit-agents side by side, on one media server, with the same models.

``python -m tests.bench`` takes all measures, ``... quick`` the shorter half, ``... growth`` only many calls at once.

Each round takes each measure, and each measure takes the contenders in turn, in an order that is turned around every
round. Progress goes to standard error, the table to standard output, every sample to ``--out``. ``--measures turn,cpu``
takes only these, ``--append`` adds rounds to the file, ``--table FILE`` shows one that is there, ``--agree FILE FILE``
says whether two runs do. ``README.md`` says what is measured, and what a worker has to do for it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench import agreement, curves, table
from tests.bench.cells import Cell, Outcome
from tests.bench.curves import GROWTH
from tests.bench.growth import CALLS, Growth
from tests.bench.house import House, NoAgent
from tests.bench.others import Others, alone, quiet
from tests.bench.picture import draw
from tests.bench.plan import ALONE, MEASURES, SIZES, Measure
from tests.bench.record import Environment, Record
from tests.bench.table import OURS, PEER, UNPRELOADED
from tests.bench.worker import Contender, WorkerFailed

__all__ = ["main"]

NOBODY = Contender(table.NOTHING, "")
MEMORY_ALONE = {UNPRELOADED: "memory"}
"""What contenders differ in only one measure are measured in."""
PEER_COMMAND = "{peer} {{here}}/peers/livekit_agents_worker.py start"
UNPRELOADED_COMMAND = f"env LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE=0 {PEER_COMMAND}"


@dataclass(frozen=True, slots=True)
class Run:
    """``pause``: seconds between two cells, for others who share the machine."""

    measures: Mapping[str, Measure]
    contenders: list[Contender]
    rounds: int
    out: Path
    lock: Path | None
    pause: float
    patience: float

    async def take(self, record: Record) -> None:
        first = record.rounds + 1
        async with House() as house:
            for number in range(first, first + self.rounds):
                for name in self.measures:
                    for contender in self._order(name, number):
                        cell = await self._cell(house, contender, name, number)
                        record.add(cell)
                        record.write(self.out)
                        _tell(_told(cell))
                        await asyncio.sleep(self.pause)

    def _order(self, measure: str, number: int) -> list[Contender]:
        if measure == ALONE:
            return [NOBODY]
        wanted = [each for each in self.contenders if MEMORY_ALONE.get(each.name, measure) == measure]
        return wanted if number % 2 else wanted[::-1]

    async def _cell(self, house: House, contender: Contender, name: str, number: int) -> Cell:
        async with alone(self.lock):
            await quiet(self.patience)
            others, began, error, outcome = Others(), time.monotonic(), "", Outcome()
            try:
                outcome = await self.measures[name].run(house, contender)
            except (WorkerFailed, NoAgent, psutil.Error) as failure:
                error = str(failure) or type(failure).__name__
            return Cell(
                contender=contender.name,
                round=number,
                measure=name,
                samples=dict(outcome.samples),
                checks=outcome.checks,
                foreign_cores=others.cores(),
                seconds=round(time.monotonic() - began, 1),
                error=error,
            )


def _told(cell: Cell) -> str:
    medians = {
        metric: round(sorted(samples)[len(samples) // 2], 2) for metric, samples in cell.samples.items() if samples
    }
    notes = {name: value for name, value in cell.checks.items() if name != "tones"}
    said = f"[{cell.round}] {cell.measure} {cell.contender} ({cell.seconds:g} s, others {cell.foreign_cores:g} cores)"
    return f"{said}: {cell.error or medians} {notes}\n"


def _contenders(arguments: argparse.Namespace) -> list[Contender]:
    ours = Contender(OURS, "{python} {here}/greenroom_worker.py")
    if arguments.contender:
        return [Contender.parse(text) for text in arguments.contender]
    if arguments.peer is None:
        return [ours]
    peer = Contender(PEER, PEER_COMMAND.format(peer=arguments.peer.absolute()))
    return [ours, peer, Contender(UNPRELOADED, UNPRELOADED_COMMAND.format(peer=arguments.peer.absolute()))]


def _measures(arguments: argparse.Namespace) -> Mapping[str, Measure]:
    size = SIZES[arguments.size]
    names = arguments.measures.split(",") if arguments.measures else list(size)
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise SystemExit(f"there is no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    chosen = {name: size.get(name, MEASURES[name]) for name in names}
    if GROWTH in chosen:
        chosen[GROWTH] = Growth(calls=tuple(arguments.calls), seconds=arguments.seconds)
    return chosen


def _tell(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _show(record: Record, *, picture: Path | None, document: Path | None) -> None:
    """The growth has a table and a picture of its own."""
    grown = any(cell.measure == GROWTH for cell in record.cells)
    compared = [cell for cell in record.cells if cell.measure != GROWTH]
    if compared:
        shown = f"{table.render(compared)}\n"
        sys.stdout.write(shown)
        if document is not None:
            table.put(shown, document)
    if grown:
        shown = f"{curves.render(record.cells)}\n"
        sys.stdout.write(shown)
        if document is not None:
            table.put(shown, document, begin=f"<!-- {GROWTH} -->", end=f"<!-- end of {GROWTH} -->")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(draw(record.summary) if compared else curves.draw(record.summary))


def _numbers(text: str) -> list[int]:
    return sorted({int(each) for each in text.split(",")})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure greenroom beside its peer.")
    parser.add_argument("size", nargs="?", choices=SIZES, default="full", help="which run it is; full")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measures", default="", metavar="NAME,NAME", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--calls", type=_numbers, default=CALLS, metavar="N,N", help="of growth: how many at once")
    parser.add_argument("--seconds", type=float, default=40.0, help="of growth: how long each number of calls talks")
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="the interpreter that has livekit-agents")
    parser.add_argument("--contender", action="append", metavar="NAME=COMMAND", help="in place of the usual ones")
    parser.add_argument("--out", type=Path, default=Path("build/bench/run.json"), metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="an SVG of the table")
    parser.add_argument("--document", type=Path, metavar="FILE", help="put the table between the document's marks")
    parser.add_argument("--append", action="store_true", help="add rounds to what the file has")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock while a cell is measured")
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="between two cells")
    parser.add_argument("--patience", type=float, default=30.0, metavar="SECONDS", help="waited for others to be idle")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only show a run")
    parser.add_argument("--agree", type=Path, nargs=2, metavar="FILE", help="only compare two runs")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.agree:
        first, second = (Record.read(file) for file in arguments.agree)
        agreements = agreement.agree(first.summary, second.summary)
        sys.stdout.write(f"{agreement.render(agreements)}\n")
        return 0 if all(each.holds for each in agreements) else 1
    if arguments.table:
        _show(Record.read(arguments.table), picture=arguments.picture, document=arguments.document)
        return 0
    contenders = _contenders(arguments)
    goes_on = arguments.append and arguments.out.exists()
    record = Record.read(arguments.out) if goes_on else Record(environment=Environment.here(contenders))
    run = Run(
        _measures(arguments),
        contenders,
        arguments.rounds,
        arguments.out,
        arguments.lock,
        arguments.pause,
        arguments.patience,
    )
    asyncio.run(run.take(record))
    _show(record, picture=arguments.picture, document=arguments.document)
    return 1 if any(cell.error for cell in record.cells) else 0


if __name__ == "__main__":
    sys.exit(main())
