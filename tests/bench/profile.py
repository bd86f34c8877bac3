"""``python -m tests.bench.profile --turn --join --floor --idle --copies --call``: what time and memory are for.

======  ===========================================================================================================
turn    from the user's last voiced frame to the first frame of the reply that is heard, by the call's own journal
join    from the dispatch to the greeting, by the worker's log and what the user sees
floor   the same for LiveKit's client alone, from its token on: what a join takes that does nothing else
idle    a waiting worker: each process's memory, private and shared, by what it lies in, and its processor time
copies  of a warm process and of a call: how much of the fork server's memory it wrote to, and how much of each page
call    a silent and a talking call: processor time and wake-ups of each thread
======  ===========================================================================================================

User, worker and journal read the same clock of the machine, so their times are compared as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import psutil

from greenroom.dialog import events as ev
from greenroom.embedded.loglines import parse
from greenroom.journal.reader import Journal, read
from tests.bench.contract import Knobs
from tests.bench.copies import own_memory
from tests.bench.cost import talk, talking
from tests.bench.house import House
from tests.bench.table import OURS
from tests.bench.user import User, now
from tests.bench.worker import Contender, Worker

__all__ = ["main"]

WORKER = Contender(OURS, "{python} {here}/greenroom_worker.py")
TURNS = 10
JOINS = 6
BURST = 8
TALKING = 1, 6
WATCHED = 10.0
"""Seconds that threads are watched."""
SMALLEST = 0.3
"""MB of private memory from which a mapping is named."""


# --- a turn ---------------------------------------------------------------------------------------------------------

STEPS: Mapping[str, Callable[[ev.Event], bool]] = {
    "the words are there": lambda event: isinstance(event, ev.Transcribed) and event.final,
    "the voice has stopped": lambda event: isinstance(event, ev.UserStopped),
    "the turn is over": lambda event: isinstance(event, ev.HookFinished),
    "the model's first word": lambda event: isinstance(event, ev.Generated) and event.what == "first",
    "the voice's first sound": lambda event: isinstance(event, ev.Synthesised) and event.what == "first",
    "the first sample is on its way": lambda event: isinstance(event, ev.Played) and event.what == "started",
}
"""What happens in the worker between the user's last frame and the first that they hear, in order."""
HEARD = "heard"
VOICED = "last voiced sample, by the worker's clock"


async def turn(house: House) -> None:
    """Milliseconds after the user's last voiced frame was handed to the network."""
    async with house.worker(WORKER, idle=2) as worker:
        user = await house.call()
        await worker.settle(0.3)
        taken: list[tuple[float, float]] = []
        for _ in range(TURNS):
            last, heard = await user.ask()
            if heard is not None:
                taken.append((last, heard))
                await user.edge(loud=False, after=heard, timeout=6)
            await asyncio.sleep(0.5)
        journal = read(_journal(worker))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for last, heard in taken:
        for name, at in _steps(journal, last, heard):
            found[name].append(1000 * (at - last))
    _say("a turn: ms after the last voiced frame (models: 450)\n")
    for name in (VOICED, *STEPS, HEARD):
        if times := found[name]:
            low, high = min(times), max(times)
            _say(f"  {statistics.median(times):7.1f}  {low:7.1f} to {high:7.1f}  {name}\n")


def _steps(journal: Journal, last: float, heard: float) -> Iterator[tuple[str, float]]:
    for name, fits in STEPS.items():
        for at, event in journal.events:
            if last - 0.1 < at < heard + 0.1 and fits(event):
                yield name, at
                if isinstance(event, ev.UserStopped):
                    yield VOICED, event.at
                break
    yield HEARD, heard


def _journal(worker: Worker) -> Path:
    found = list(worker.log.parent.glob("journals/**/*.journal"))
    return max(found, key=lambda file: file.stat().st_mtime)


# --- a join ---------------------------------------------------------------------------------------------------------

SAID = ("offer accepted", "job assigned", "participant linked", "joined")


async def join(house: House) -> None:
    """Milliseconds after the dispatch was asked for."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    async with house.worker(WORKER, idle=2) as worker:
        for _ in range(JOINS):
            user = await house.user()
            await asyncio.sleep(0.5)
            for name, ms in await _join(house, worker, user):
                found[name].append(ms)
            await house.hang_up(user)
            await worker.settle()
    _say("a join: ms after the dispatch\n")
    _say_times(found)


def _say_times(found: Mapping[str, list[float]]) -> None:
    for name, times in sorted(found.items(), key=lambda entry: statistics.median(entry[1])):
        _say(f"  {statistics.median(times):7.1f}  {min(times):7.1f} to {max(times):7.1f}  {name}\n")


async def _join(house: House, worker: Worker, user: User) -> list[tuple[str, float]]:
    offset, lines = time.time() - now(), len(worker.log.read_text().splitlines())
    asked = await house.dispatch(user, Knobs(greet=True))
    found = [("user: dispatch answered", 1000 * (now() - asked))]
    await user.until(lambda: user.agents and user.active and user.subscribed, timeout=30)
    heard = await user.edge(loud=True, after=asked, timeout=10)
    for raw in worker.log.read_text().splitlines()[lines:]:
        line = parse(raw)
        if line.event in SAID and line.timestamp:
            at = datetime.datetime.fromisoformat(line.timestamp).timestamp() - offset
            found.append((f"worker: {line.event}", 1000 * (at - asked)))
    return [*found, *_seen(user, asked), ("user: hears the greeting", 1000 * ((heard or asked) - asked))]


def _seen(user: User, asked: float) -> list[tuple[str, float]]:
    seen = (("sees the agent", user.agents), ("sees it active", user.active), ("has its track", user.subscribed))
    return [(f"user: {name}", 1000 * (times[0] - asked)) for name, times in seen if times]


async def floor(house: House) -> None:
    """Milliseconds after a process that waits for a token has got it: one by one, and several at once."""
    for at_once, rounds in ((1, JOINS), (BURST, 1)):
        found: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            users = [await house.user() for _ in range(at_once)]
            bare = [await _bare(house) for _ in users]
            await asyncio.sleep(0.5)
            for name, ms in chain(*await asyncio.gather(*map(partial(_floor, house), users, bare))):
                found[name].append(ms)
            await house.hang_up(*users)
        _say(f"{at_once} at once of LiveKit's client alone: ms after it has its token\n")
        _say_times(found)


async def _bare(house: House) -> Process:
    bare = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.bare", house.url, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    assert bare.stdout is not None
    await bare.stdout.readline()
    return bare


async def _floor(house: House, user: User, bare: Process) -> list[tuple[str, float]]:
    assert bare.stdin is not None
    weight = _private(bare.pid)
    bare.stdin.write(f"{house.token('bare', user.room_name, agent=True)}\n".encode())
    asked = now()
    await user.until(lambda: user.agents and user.active and user.subscribed, timeout=30)
    heard = await user.edge(loud=True, after=asked, timeout=10)
    weight = _private(bare.pid) - weight
    await bare.wait()
    return [
        *_seen(user, asked),
        ("user: hears a tone", 1000 * ((heard or asked) - asked)),
        ("(MB that its memory has grown)", weight),
    ]


def _private(pid: int) -> float:
    return psutil.Process(pid).memory_full_info().uss / (1 << 20)


# --- a worker that waits ----------------------------------------------------------------------------------------------


async def idle(house: House) -> None:
    """Four warm processes: MB of each, and processor time of a minute."""
    async with house.worker(WORKER, idle=4) as worker:
        await asyncio.sleep(2)
        before, at = worker.cpu(), now()
        await asyncio.sleep(WATCHED)
        _say(f"a waiting worker: {60 * (worker.cpu() - before) / (now() - at):.2f} s of processor time a minute\n")
        _say(f"{worker.memory().pss:.1f} MB PSS in all\n")
        for process in worker.tree():
            _say_memory(process)


def _say_memory(process: psutil.Process) -> None:
    mappings = _mappings(process.pid)
    total: defaultdict[str, float] = defaultdict(float)
    for mapping in mappings.values():
        for key, value in mapping.items():
            total[key] += value
    command = process.cmdline()
    role = command[command.index("-m") + 1] if "-m" in command else " ".join(command)[:48]
    of_files = total["Private_Clean"] + total["Shared_Clean"]
    _say(
        f"{process.pid} {role}: PSS {total['Pss']:.1f}, private {total['Private_Dirty']:.1f}, "
        f"shared after a fork {total['Shared_Dirty']:.1f}, of files {of_files:.1f}\n"
    )
    for name, mapping in sorted(mappings.items(), key=lambda entry: -entry[1]["Private_Dirty"]):
        if mapping["Private_Dirty"] >= SMALLEST:
            _say(
                f"  {mapping['Private_Dirty']:6.1f} private  {mapping['Shared_Dirty']:6.1f} shared  {Path(name).name}\n"
            )


def _mappings(pid: int) -> dict[str, defaultdict[str, float]]:
    found: dict[str, defaultdict[str, float]] = {}
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            name = rest[4] if len(rest) > 4 else "anonymous"
            found.setdefault(name, defaultdict(float))
        elif rest[-1] == "kB":
            found[name][key[:-1]] += int(rest[0]) / 1024
    return found


async def copies(house: House) -> None:
    """MB that a process has of its own: pages of the fork server that it wrote to, and pages that are new."""
    async with house.worker(WORKER, idle=2) as worker:
        await house.call()
        await asyncio.sleep(WATCHED)
        (call,) = worker.job_processes()
        server = psutil.Process(call).ppid()
        warm = next(process.pid for process in psutil.Process(server).children() if process.pid != call)
        for role, pid in (("a warm process", warm), ("a silent call", call)):
            own = own_memory(pid, server)
            _say(f"{role}: {sum(own.copied.values()):.1f} MB copied from the fork server, {own.made:.1f} MB new\n")
            for most, size in own.copied.items():
                changed = f"up to {most} bytes differ" if most else "no byte differs any more"
                _say(f"  {size:6.1f} MB  in pages of which {changed}\n")


# --- a call -----------------------------------------------------------------------------------------------------------


async def call(house: House) -> None:
    """Of each thread of a call's process: share of a core, and wake-ups a second; of several calls the mean."""
    async with house.worker(WORKER, idle=2) as worker:
        await house.call()
        await asyncio.sleep(2)
        _say("a silent call\n")
        await _say_threads(worker.job_processes())
        for calls in TALKING:
            while len(house.users) < calls:
                await house.call()
            await asyncio.sleep(2)
            async with talking(house, partial(talk, turns=[0])):
                _say(f"of {calls} talking calls, each\n")
                await _say_threads(worker.job_processes())


@dataclass(frozen=True, slots=True)
class _Thread:
    name: str
    seconds: float
    switches: int


async def _say_threads(pids: Sequence[int]) -> None:
    before, at = [_threads(pid) for pid in pids], now()
    await asyncio.sleep(WATCHED)
    after, calls = [_threads(pid) for pid in pids], len(pids) * (now() - at)
    spent: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for begins, ends in zip(before, after, strict=True):
        for thread, end in ends.items():
            begin = begins.get(thread, _Thread(end.name, 0.0, 0))
            for place, value in enumerate(
                (1 / len(pids), (end.seconds - begin.seconds) / calls, (end.switches - begin.switches) / calls)
            ):
                spent[end.name][place] += value
    for name, (count, share, switches) in sorted(spent.items(), key=lambda entry: -entry[1][1]):
        if share > 0.0005:
            _say(f"  {100 * share:6.2f} % of a core  {switches:6.0f} wake-ups a second  {count:.0f} × {name}\n")
    total = sum(share for _, share, _ in spent.values())
    _say(f"  {100 * total:6.2f} % in all: {60 * total:.2f} s a minute\n")


def _threads(pid: int) -> dict[str, _Thread]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            stat = (task / "stat").read_text()
            name = stat[stat.index("(") + 1 : stat.rindex(")")]
            seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
            switches = [
                int(line.split()[1]) for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line
            ]
            found[task.name] = _Thread(name, seconds, sum(switches))
    return found


# --------------------------------------------------------------------------------------------------------------------

PROFILES: Mapping[str, Callable[[House], Awaitable[None]]] = {
    "turn": turn,
    "join": join,
    "floor": floor,
    "idle": idle,
    "copies": copies,
    "call": call,
}


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _profile(names: list[str]) -> None:
    async with House() as house:
        for name in names:
            await PROFILES[name](house)
            _say("\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description="Where time and memory go.")
    for name in PROFILES:
        parser.add_argument(
            f"--{name}", action="append_const", const=name, dest="names", help="only this, and others named so"
        )
    asyncio.run(_profile(parser.parse_args().names or list(PROFILES)))


if __name__ == "__main__":
    main()
