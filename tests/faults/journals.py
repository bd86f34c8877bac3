"""The journal that a recovery needs is broken: the call goes on all the same, from its beginning."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from tests.faults.house import AGENT
from tests.faults.jobs import PATIENCE, Struck, settled
from tests.faults.scenario import Trial, missing

__all__ = ["JournalBroken", "journal_scenarios"]


def _cut(data: bytes) -> bytes:
    """No whole line is left."""
    return data[:40]


def _flipped(data: bytes) -> bytes:
    """Some bits of a line in the middle."""
    place = data.index(b"\n", len(data) // 2) - 20
    return data[:place] + bytes(byte ^ 0x04 for byte in data[place : place + 4]) + data[place + 4 :]


def _other(data: bytes) -> bytes:
    """Another version's, to begin with."""
    return re.sub(rb'"greenroom_journal":\d+', b'"greenroom_journal":99', data, count=1)


class JournalBroken(Struck):
    """What was said before is gone; that is what is documented. That it is gone is in the log."""

    times = 3
    forgets = True
    spoil: ClassVar[Callable[[bytes], bytes]]

    async def run(self) -> Trial:
        async with self.house.call(name=AGENT) as call:
            asked = time.monotonic()
            await call.caller.say("recall")
            answered = await self.house.hears(call, "fine", after=asked, timeout=PATIENCE)
            await call.caller.wait_quiet(after=answered, timeout=PATIENCE)
            (journal,) = self.worker.journals(call)
            self._break(journal)
            began = time.monotonic()
            seconds = await self.heard_again(call, word="hello")
            await call.caller.wait_quiet(after=time.monotonic(), timeout=PATIENCE)
            lost = missing(["hello", "recall", "fine", "hello"], await call.history())
            wrong = [*settled(call, await call.agents())]
            warned = self.worker.log.find("call begins afresh", since=began)
            if not any(str(journal) in line.fields["reason"] for _, line in warned):
                wrong.append(f"the log does not say that {journal.name} is broken")
            return Trial(seconds, words_lost=len(lost), wrong=tuple(wrong))

    def _break(self, journal: Path) -> None:
        journal.write_bytes(type(self).spoil(journal.read_bytes()))


def journal_scenarios() -> Iterator[type[JournalBroken]]:
    for name, how, spoil in (
        ("journal-cut", "cut off in its first line", _cut),
        ("journal-flipped", "with flipped bits", _flipped),
        ("journal-version", "of another version", _other),
    ):
        said = {"name": name, "fault": f"`kill -9` of a job whose journal is {how}", "spoil": staticmethod(spoil)}
        yield type("JournalBroken", (JournalBroken,), {"__module__": __name__, **said})
