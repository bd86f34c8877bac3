"""Tries a scenario as often as is wanted; a trial that breaks off costs its calls, not those after it."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.scenario import Row, Scenario, Trial

__all__ = ["try_out"]

GIVE_UP = 3
"""Trials in a row that broke off: the rest would, too."""


async def try_out(
    kind: type[Scenario], *, times: int, say: Callable[[str], None] = lambda _: None, keep: Path | None = None
) -> Row:
    """All trials of one scenario. ``say`` is told of each; ``keep``: where logs, journals and notes are left."""
    row, broken = Row(kind), 0
    while len(row.trials) < times and broken < GIVE_UP:
        async with AsyncExitStack() as stack:
            folder = _folder(stack, kind, keep)
            try:
                scenario = kind(folder)
                await scenario.open(stack)
                while len(row.trials) < times:
                    began = time.monotonic()
                    trial = await scenario.run()
                    row.trials.append(trial)
                    broken = 0
                    say(_said(len(row.trials), trial, took=time.monotonic() - began))
                row.wrong += await scenario.close()
                say("".join(f"         {each}\n" for each in scenario.noted))
            except Exception as error:  # noqa: BLE001  # whatever it was, it is this trial's
                broken += 1
                text = f"{error}" if isinstance(error, AssertionError) else traceback.format_exc()
                row.trials.append(Trial(lost=kind.calls, wrong=(text or type(error).__name__,)))
                say(f"    {len(row.trials):3d}  broke off: {text}\n")
    return row


def _folder(stack: AsyncExitStack, kind: type[Scenario], keep: Path | None) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greenroom-faults-")))
    keep.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=keep))


def _said(number: int, trial: Trial, *, took: float) -> str:
    heard = f"heard again after {trial.seconds:5.2f} s" if trial.seconds is not None else "done"
    costs = f", {trial.lost} calls and {trial.words_lost} words lost" if trial.lost or trial.words_lost else ""
    wrong = "".join(f"\n         ^ {each}" for each in trial.wrong)
    return f"    {number:3d}  {heard}{costs}  ({took:.1f} s){wrong}\n"
