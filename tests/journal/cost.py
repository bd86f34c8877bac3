"""What a journal costs for each event: ``python -m tests.journal.cost``. Processor time, the best of several rounds."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from greenroom.dialog.dialog import Dialog
from greenroom.journal.format import Encoder, summary
from greenroom.journal.masking import Mask
from greenroom.journal.writer import JournalWriter, header
from greenroom.settings import JournalSettings
from tests.dialog.conversation import Conversation
from tests.dialog.moves import LONGEST, VARIETY, _script, converse

__all__ = ["Cost", "measure"]

PATTERNS = (r"\b\d(?:[ -]?\d){11,18}\b", r"[\w.+-]+@[\w-]+\.[\w.]+")


class Cost:
    """Conversations to be written down, and what each part of that takes."""

    def __init__(self, conversations: int, *, seed: int = 1) -> None:
        chosen = random.Random(seed)
        self._talks = [converse(_script(chosen.randbytes(VARIETY + LONGEST))) for _ in range(conversations)]
        self.events = sum(len(talk.events) for talk in self._talks)
        self.bytes = 0

    def parts(self) -> dict[str, float]:
        """Microseconds an event."""
        return {
            "mask": self._time(self._mask),
            "mask, two patterns": self._time(lambda: self._mask(PATTERNS)),
            "encode": self._time(self._encode),
            "digest": self._time(self._digest),
            "decide along": self._time(self._decide),
            "all, and written": self._write(),
        }

    def _time(self, work: Callable[[], None]) -> float:
        best = float("inf")
        for _ in range(5):
            began = time.process_time()
            work()
            best = min(best, time.process_time() - began)
        return best / self.events * 1e6

    def _mask(self, patterns: tuple[str, ...] = ()) -> None:
        mask = Mask(patterns)
        for talk in self._talks:
            for _, event in talk.events:
                mask.event(event)

    def _encode(self) -> None:
        encoder = Encoder()
        for talk in self._talks:
            for now, event in talk.events:
                encoder.event(event, now, "Commit 12345678")

    def _digest(self) -> None:
        for talk in self._talks:
            for commands in talk.commands:
                summary(commands)

    def _decide(self) -> None:
        for talk in self._talks:
            dialog = Dialog(talk.circumstances.rules)
            for now, event in talk.events:
                dialog.handle(event, now)

    def _write(self) -> float:
        """Microseconds an event, without what is done once a call."""
        best = float("inf")
        for _ in range(5):
            with tempfile.TemporaryDirectory() as folder:
                best = min(best, sum(self._write_one(Path(folder), str(n), one) for n, one in enumerate(self._talks)))
                self.bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
        return best / self.events * 1e6

    def _write_one(self, folder: Path, job: str, talk: Conversation) -> float:
        facts = header(job=job, room="r", agent="a", rules=talk.circumstances.rules, began=0.0)
        writer = JournalWriter(folder, facts, settings=JournalSettings())
        began = time.process_time()
        for now, event in talk.events:
            writer.write(event, now)
        took = time.process_time() - began
        writer.close()
        return took


def measure(conversations: int) -> str:
    """A table for people."""
    cost = Cost(conversations)
    rows = [f"{name:<20} {microseconds:6.1f} µs" for name, microseconds in cost.parts().items()]
    return "\n".join([f"{cost.events} events", *rows, f"{'bytes':<20} {cost.bytes / cost.events:6.0f}"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.journal.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=200)
    sys.stdout.write(measure(parser.parse_args(arguments).conversations) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
