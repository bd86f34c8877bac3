"""A worker as a child process: started, watched through its log, and taken down with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from greenroom.embedded.loglines import LogLine, parse
from greenroom.errors import GreenroomError, SettingsError

__all__ = ["WorkerFailed", "WorkerProcess", "WorkerState", "check"]

WorkerState = Literal["starting", "ready", "failed", "stopped"]

READY_TIMEOUT = 120.0
"""Models are loaded before a worker is ready, the first time from a cold disk."""
INSIST_AFTER = 0.5
"""Asked once, a worker lets its calls come to their end; nobody here waits for that."""
KILL_AFTER = 4.0
LAST_LINES = 0.5
"""How long the log may still speak after its worker has gone, before that counts as the end."""
TAIL_LINES = 12
MAX_LINE = 1024 * 1024

LEASH = """\
trap 'kill -TERM "$worker"' TERM
exec 3<&0 </dev/null
"$@" 3<&- &
worker=$!
(read -r _ <&3; kill -TERM "$worker"; sleep 1; kill -TERM "$worker") 2>/dev/null &
watcher=$!
exec 3<&-
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; status=$?; done
kill "$watcher" 2>/dev/null
exit "$status"
"""
"""The worker is told to go when this shell's standard input closes: we hold the other end, and the kernel closes it
when we die, however we die. Asked twice, a worker does not wait for its calls."""


async def check(config: Path, *, environment: Mapping[str, str]) -> None:
    """Have a process of its own check the settings and the user's modules. Raises ``SettingsError`` with its words."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "greenroom", "check", "--quiet", "--", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        words = said.decode(errors="replace").strip()
        raise SettingsError(words or f"{config}: the check ended with exit code {process.returncode}")


class WorkerFailed(GreenroomError):
    """The worker ended or did not become ready; the message ends with what its log said last."""


class WorkerProcess:
    """One worker that runs ``config``, as ``greenroom start`` would.

    ``observe`` is told every line of its log. ``state`` follows the log: ``ready`` once the worker is registered and a
    warm process waits for the first call.
    """

    def __init__(self, config: Path, *, environment: Mapping[str, str], observe: Callable[[LogLine], None]) -> None:
        self.state: WorkerState = "stopped"
        self.problem = ""
        self._config = config
        self._environment = environment
        self._observe = observe
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._stopping = False
        self._missing = 0
        self._warm = False
        self._leash: int | None = None

    @property
    def pid(self) -> int | None:
        """Of the process group's first process, while there is one."""
        return self._process.pid if self._process else None

    async def start(self, *, registrations: int) -> None:
        """Start it; returns at once. ``wait_ready`` says what became of it.

        ``registrations``: how many the settings ask for, one for each agent and job type.
        """
        self.state, self.problem, self._stopping = "starting", "", False
        self._tail.clear()
        self._changed.clear()
        self._ended.clear()
        self._missing = registrations
        self._warm = False
        # The pipes are ours and not the subprocess's: asyncio holds a process for alive as long as one of its pipes is
        # open, and a job that outlives its worker keeps the log open.
        kept_stdin, self._leash = os.pipe()
        log, kept_log = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", LEASH, "greenroom"),
                *(sys.executable, "-P", "-m", "greenroom.embedded.worker", str(self._config)),
                stdin=kept_stdin,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=kept_log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        except BaseException:
            os.close(log)
            self._release()
            raise
        finally:
            os.close(kept_stdin)
            os.close(kept_log)
        self._watcher = asyncio.create_task(self._watch(self._process, log), name="worker process")

    async def wait_ready(self, *, timeout: float = READY_TIMEOUT) -> None:
        """Return once a call can be taken. Raises ``WorkerFailed`` when the worker ends first, or takes too long."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            raise WorkerFailed(self._with_tail(f"the worker was not ready within {timeout:.0f} s")) from None
        if self.state != "ready":
            raise WorkerFailed(self.problem or "the worker was stopped before it was ready")

    async def wait_ended(self) -> None:
        """Return once the process has gone, by itself or by ``stop``."""
        await self._ended.wait()

    async def stop(self) -> None:
        """Ask it to go, insist, and at last kill what is left of it; returns when nothing is."""
        process, watcher = self._process, self._watcher
        if process is None or watcher is None:
            return
        self._stopping = True
        family = await asyncio.to_thread(_family, process.pid)
        for patience in (INSIST_AFTER, KILL_AFTER):
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await process.wait()
        await asyncio.to_thread(_kill, [*family, *_family(process.pid)])
        self._release()
        await watcher
        self._process = self._watcher = None

    def _release(self) -> None:
        """Let go of the leash: what is still on it is told to go."""
        leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)

    async def _watch(self, process: asyncio.subprocess.Process, log: int) -> None:
        reader = asyncio.create_task(self._read(log), name="worker log")
        code = await process.wait()
        await asyncio.wait([reader], timeout=LAST_LINES)
        if self._stopping:
            self.state = "stopped"
        else:
            self.state = "failed"
            self.problem = self._with_tail(f"the worker ended ({_ending(code)})")
        self._changed.set()
        self._ended.set()
        await reader

    async def _read(self, log: int) -> None:
        stream = asyncio.StreamReader(limit=MAX_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(log, "rb", buffering=0)
        )
        try:
            while True:
                try:
                    raw = await stream.readline()
                except ValueError:
                    continue  # a line beyond the limit: the stream has dropped it
                if not raw:
                    return
                self._take(raw.decode(errors="replace"))
        finally:
            transport.close()

    def _take(self, raw: str) -> None:
        line = parse(raw)
        if not line.level or line.failure:
            self._tail.append(line.event if not line.fields else f"{line.event} {dict(line.fields)}")
            self._tail.extend(line.exception.splitlines()[-4:])
        # The daemon says "ready" once a process is warm, and each of its links "registered" when the server knows it.
        self._warm = self._warm or line.event == "ready"
        self._missing -= line.event == "registered"
        if self._warm and self._missing <= 0 and self.state == "starting":
            self.state = "ready"
            self._changed.set()
        if line.level or not self._stopping:  # once asked to stop, plain text is a shell's "Terminated"
            self._observe(line)

    def _with_tail(self, message: str) -> str:
        return "\n".join([f"{message}; what its log said last:", *self._tail]) if self._tail else message


def _ending(code: int) -> str:
    """The shell that holds the leash reports a signal as 128 and its number."""
    return f"killed by {signal.Signals(code - 128).name}" if 128 < code < 128 + signal.NSIG else f"exit code {code}"


def _family(leader: int) -> list[psutil.Process]:
    """The process, its descendants, and who else is of its session: a job that lost its parent is still one of us."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(leader)
        found = {each.pid: each for each in [process, *process.children(recursive=True)]}
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if pid not in found and os.getsid(pid) == leader:
                found[pid] = psutil.Process(pid)
    return list(found.values())


def _kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL what is still there. psutil knows a process by its start time too, so a reused pid is safe."""
    alive = [process for process in set(processes) if process.is_running()]
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_AFTER)
