"""A hundred thousand random conversations, on all cores: ``python -m tests.dialog.crowd``, or ``make test-dialog``.

They are held in batches, each with a seed of its own made of ``--seed`` and its number, so that the same command holds
the same conversations again, and ``--batch`` one batch of them alone. Most are scripts drawn at once, which takes
Hypothesis a third of a millisecond a conversation; one in fifty is a walk of its state machine, which chooses move by
move, and takes it more than ten times as long. Exits with 1 after a failure, which is shrunk and printed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .moves import Script, Talk, converse, scripts
from .tally import Tally

__all__ = ["Batch", "main"]

SIZE = 1000
"""Conversations in a batch."""
WALKS = SIZE // 50
"""Of these, walks of the state machine."""
STRIDE = 1_000_003
"""Between the seeds of two runs: more than any run has batches."""
PROGRESS = 5.0
"""Seconds between two lines."""
NO_LIMITS = settings(
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)


@dataclass
class Batch:
    """What came of a batch. ``failure``: the shrunk conversation, empty when all went well. ``processor``: seconds."""

    number: int
    tally: Tally = field(default_factory=Tally)
    failure: str = ""
    processor: float = 0.0

    def hold(self, run_seed: int) -> Batch:
        began = time.process_time()
        own = run_seed * STRIDE + self.number
        printed = StringIO()
        try:
            with self.tally.watching(), redirect_stdout(printed):
                self._scripts(own)
                self._walks(own)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is told and counted as a failure
            notes = "\n".join(getattr(error, "__notes__", []))
            self.failure = f"{type(error).__name__}: {error}\n{notes}\n{printed.getvalue()}".strip()
        self.processor = time.process_time() - began
        return self

    def _scripts(self, own: int) -> None:
        @seed(own)
        @settings(NO_LIMITS, max_examples=SIZE - WALKS)
        @given(scripts())
        def held(script: Script) -> None:
            self.tally.count(converse(script))

        held()

    def _walks(self, own: int) -> None:
        tally = self.tally

        class Counted(Talk):
            def teardown(self) -> None:
                super().teardown()
                tally.count(self.talk)

        run_state_machine_as_test(
            seed(own)(Counted), settings=settings(NO_LIMITS, max_examples=WALKS, stateful_step_count=25)
        )


def _hold(task: tuple[int, int]) -> Batch:
    run_seed, number = task
    return Batch(number).hold(run_seed)


def _settle_in() -> None:
    """A worker's process: what is loaded now stays, so the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@contextmanager
def _batches(run_seed: int, numbers: list[int], processes: int) -> Iterator[Iterator[Batch]]:
    tasks = [(run_seed, number) for number in numbers]
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(tasks)), initializer=_settle_in) as pool:
        yield pool.imap_unordered(_hold, tasks)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _gather(batches: Iterator[Batch], wanted: int, began: float) -> Batch:
    """All batches as one, up to the first that failed, or until all are done. Tells how it goes on."""
    total = Batch(-1)
    told = began
    for batch in batches:
        total.tally.add(batch.tally)
        total.processor += batch.processor
        if batch.failure:
            total.number, total.failure = batch.number, batch.failure
            break
        now = time.monotonic()
        if now - told >= PROGRESS:
            told = now
            _say(f"  {total.tally.conversations:>7,} of {wanted:,}  {now - began:4.0f} s")
    return total


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.dialog.crowd", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="hold other conversations")
    parser.add_argument("--batch", type=int, default=None, help="hold this batch alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)

    numbers = list(range(-(-options.conversations // SIZE))) if options.batch is None else [options.batch]
    wanted = len(numbers) * SIZE
    _say(f"{wanted:,} random conversations in {options.processes} processes, seed {options.seed}")
    began = time.monotonic()
    with _batches(options.seed, numbers, options.processes) as batches:
        total = _gather(batches, wanted, began)
    seconds = time.monotonic() - began
    if total.failure:
        _say(f"\nbatch {total.number} failed:\n\n{total.failure}\n")
        _say(f"again: python -m tests.dialog.crowd --seed {options.seed} --batch {total.number}")
    for line in total.tally.report():
        _say(line)
    rate = total.tally.conversations / max(seconds, 1e-3)
    outcome = "FAILED" if total.failure else "all went well"
    _say(f"{seconds:.0f} s, {total.processor:.0f} s of processor time, {rate:,.0f} a second: {outcome}")
    return 1 if total.failure else 0


if __name__ == "__main__":
    sys.exit(main())
