"""What a worker weighs while calls go on: each process by its share of memory (PSS), and who has which model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from greenroom.jobs.memory import memory_mb
from tests.e2e.conftest import House, ask, open_house

__all__ = ["ALLOWED_MB", "CALLS", "Weighing", "Weight", "table", "weigh", "weigh_calls"]

CALLS = 8
ALLOWED_MB = 60.0
"""That each call beyond the first may weigh, times ``CALLS``."""
CONFIG = Path(__file__).with_name("calls.yaml")
QUESTION, ANSWER = "What time is it?", "half past four"
LIBRARIES = {"whisper": "libctranslate2", "piper": "onnxruntime_pybind"}
"""What is mapped into a process that has loaded the model."""
ROLES = ("daemon", "fork server", "model host", "calls and warm processes")


@dataclass(frozen=True, slots=True)
class Weight:
    """One process. ``models``: that it has loaded."""

    pid: int
    role: str
    mb: float
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weighing:
    """A worker with so many calls."""

    calls: int
    weights: tuple[Weight, ...]

    @property
    def mb(self) -> float:
        return sum(weight.mb for weight in self.weights)

    def loads(self, model: str) -> int:
        """In how many processes it is."""
        return sum(model in weight.models for weight in self.weights)

    def of(self, role: str) -> tuple[int, float]:
        """How many processes, and what they weigh together."""
        found = [weight.mb for weight in self.weights if weight.role == role]
        return len(found), sum(found)


def weigh(pid: int, *, calls: int) -> Weighing:
    """The daemon of this pid, and all that it has started."""
    daemon = psutil.Process(pid)
    weights = [_weighed(each, daemon) for each in (daemon, *daemon.children(recursive=True))]
    return Weighing(calls, tuple(weight for weight in weights if weight is not None))


def _weighed(process: psutil.Process, daemon: psutil.Process) -> Weight | None:
    try:
        command, maps = process.cmdline(), Path(f"/proc/{process.pid}/maps").read_text()
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
    except (OSError, psutil.NoSuchProcess):
        return None
    mb = memory_mb(process.pid)
    if mb is None:
        return None
    if process == daemon:
        role = ROLES[0]
    elif "greenroom.models.host" in command:
        role = ROLES[2]
    else:
        role = ROLES[3] if name == "greenroom-job" else ROLES[1]
    return Weight(process.pid, role, mb, tuple(model for model, library in LIBRARIES.items() if library in maps))


async def weigh_calls(folder: Path, *, calls: int = CALLS, shared: bool = True) -> tuple[Weighing, Weighing]:
    """With one call, and with so many at once: every caller has asked, and was answered."""
    async with _house(folder, shared=shared) as house, AsyncExitStack() as lines:
        (_, started) = await house.wait_line("starting", since=0.0, timeout=10.0)
        pid, weighings = int(started.fields["pid"]), []
        for number in range(1, calls + 1):
            caller = await lines.enter_async_context(house.call())
            answer = await ask(caller, QUESTION)
            if ANSWER not in answer:
                raise AssertionError(f"caller {number} asked {QUESTION!r}, and was answered {answer!r}")
            if number in (1, calls):
                weighings.append(await _weigh(pid, calls=number))
        return weighings[0], weighings[-1]


@asynccontextmanager
async def _house(folder: Path, *, shared: bool) -> AsyncIterator[House]:
    config = folder / "calls.yaml"
    text = CONFIG.read_text() + ("" if shared else "  model_host: {enabled: false}\n")
    await asyncio.to_thread(config.write_text, text)
    async with open_house(folder, config) as house:
        yield house


async def _weigh(pid: int, *, calls: int) -> Weighing:
    await asyncio.sleep(2.0)  # the next warm process is there, and nothing is being started
    return await asyncio.to_thread(weigh, pid, calls=calls)


def table(one: Weighing, many: Weighing) -> str:
    """Both, for people."""
    rows = [["", "1 call", f"{many.calls} calls", "more"]]
    for role in ROLES:
        (few, light), (lots, heavy) = one.of(role), many.of(role)
        rows.append([role, f"{light:.0f} MB ({few})", f"{heavy:.0f} MB ({lots})", f"{heavy - light:+.0f} MB"])
    rows.append(["all", f"{one.mb:.0f} MB", f"{many.mb:.0f} MB", f"{many.mb - one.mb:+.0f} MB"])
    rows += [[f"processes with {model}", str(one.loads(model)), str(many.loads(model)), ""] for model in LIBRARIES]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
