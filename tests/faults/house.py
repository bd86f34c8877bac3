"""A media server, and workers as they run in production: started by command, watched by their logs, killed at will."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from livekit import api

from greenroom.embedded.loglines import LogLine, parse
from greenroom.embedded.mediaserver import MediaServer
from greenroom.server.dispatch import create_dispatch, mint_user_token
from greenroom.settings import ServerSettings
from tests.faults.caller import Caller
from tests.faults.leash import MARK, marked
from tests.faults.voice import FOLDER, Asked, asked, install
from tests.faults.waiting import Missed, Noticeboard, until

__all__ = ["AGENT", "Call", "Daemon", "Dispatch", "House", "Log", "Worker", "agent", "alive"]

AGENT = "teller"
ROOT = Path(__file__).parents[2]
START = 90.0
"""Seconds that a worker may take to be ready: half a second of work, on a machine that may have much else to do."""
STOP = 8.0
COME = 30.0
"""Seconds that an agent may take to greet."""
TAIL = 12
MAX_LINE = 1024 * 1024

Dispatch = str
"""``explicit``: by the API; ``token``: by the caller's; ``automatic``: an agent without a name comes to every room."""


def agent(cls: str = "Teller", *, name: str = AGENT, **settings: Any) -> dict[str, Any]:
    """An agent of ``tests.faults.agents``, as the YAML has it."""
    models = {kind: {"plugin": "chords"} for kind in ("vad", "stt", "llm", "tts")}
    turns = {"min_delay": 0.2, "dead_air": {"enabled": False}, "away_after": 0.0}
    recovery = {"farewell": "sorry goodbye"}
    return {
        "name": name,
        "agent": f"tests.faults.agents:{cls}",
        **models,
        "turns": turns,
        **settings,
        "recovery": recovery | settings.get("recovery", {}),
    }


class Log:
    """What all daemons of one worker, and their jobs, have said: each line with when it was read."""

    def __init__(self, path: Path) -> None:
        self.lines: list[tuple[float, LogLine]] = []
        self._path = path
        self._board = Noticeboard()
        self._transport: asyncio.ReadTransport | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> int:
        """The file descriptor that the log is written to."""
        read, write = os.pipe()
        stream = asyncio.StreamReader(limit=MAX_LINE)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read, "rb", buffering=0)
        )
        self._task = asyncio.create_task(self._read(stream), name="log")
        return write

    async def close(self) -> None:
        if self._transport is not None and self._task is not None:
            self._transport.close()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def find(self, event: str, *, since: float = 0.0, **fields: Any) -> list[tuple[float, LogLine]]:
        """The lines of this event that have these fields, since a moment."""
        return [
            (when, line)
            for when, line in self.lines
            if when >= since
            and line.event == event
            and all(line.fields.get(name) == value for name, value in fields.items())
        ]

    async def until(self, event: str, *, since: float = 0.0, timeout: float, **fields: Any) -> tuple[float, LogLine]:
        """The first such line. Raises ``Missed`` with what the log said last."""
        what = f"the log says {event!r} {fields or ''}".rstrip()
        try:
            return await self._board.until(
                lambda: next(iter(self.find(event, since=since, **fields)), None), what=what, timeout=timeout
            )
        except Missed as missed:
            raise Missed(f"{missed}\n{self.tail()}") from None

    def warnings(self, *, since: float) -> list[LogLine]:
        return [line for when, line in self.lines if when >= since and line.level in ("warning", "error", "critical")]

    def tail(self, lines: int = TAIL) -> str:
        said = [(f"    {when:.2f} {line.event} {dict(line.fields)}", line.exception) for when, line in self.lines]
        return "\n".join("\n".join((text, *trace.splitlines()[-6:])) for text, trace in said[-lines:])

    async def _read(self, stream: asyncio.StreamReader) -> None:
        with self._path.open("ab", buffering=0) as copy:
            while raw := await stream.readline():
                copy.write(raw)
                self.lines.append((time.monotonic(), parse(raw.decode(errors="replace"))))
                self._board.changed()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Daemon:
    """One process of ``greenroom start``: ours, or one that a daemon of ours has started."""

    def __init__(self, process: psutil.Process, log: Log, *, began: float) -> None:
        self.pid = process.pid
        self.began = began
        self.code: int | None = None
        """Its exit code, once it has ended; 0 for one that is not our child."""
        self._process = process
        self._log = log

    @property
    def running(self) -> bool:
        if self.code is None:
            try:
                self.code = self._process.wait(timeout=0) or 0
            except psutil.TimeoutExpired:
                if isinstance(self._process, psutil.Popen) or alive(self.pid):
                    return True
                self.code = 0  # whose child it was has not collected it
        return False

    def send(self, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(number)

    async def ended(self, *, timeout: float) -> int:
        """Its exit code. Raises ``Missed``."""
        try:
            await until(lambda: True if not self.running else None, what=f"daemon {self.pid} ends", timeout=timeout)
        except Missed as missed:
            raise Missed(f"{missed}\n{self._log.tail(30)}") from None
        return self.code or 0


class Worker:
    """One configuration and its run directory; daemons come and go in it."""

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str], agents: Sequence[Mapping[str, Any]], **settings: Any
    ) -> None:
        self.folder = folder
        self.config = folder / "worker.yaml"
        self.log = Log(folder / "log")
        self.daemons: list[Daemon] = []
        self._environment = environment
        self._agents = agents
        self._written: int | None = None
        folder.mkdir()
        worker: dict[str, Any] = {
            "max_jobs": 8,
            "warm": 2,
            "run_dir": str(folder / "run"),
            "state_dir": str(folder / "state"),
            "admin": {"port": 0},
            "memory_headroom_mb": 0,
            "max_lag": 0.0,
        }
        document = {"agents": list(agents), "worker": worker | settings, "logs": {"format": "json"}}
        self.config.write_text(json.dumps(document, indent=1))  # which every YAML reader reads

    async def start(self, *options: str, ready: bool = True) -> Daemon:
        """A new daemon. ``ready``: wait until it takes calls."""
        if self._written is None:
            self._written = await self.log.open()
        began = time.monotonic()
        process = psutil.Popen(
            [sys.executable, "-P", "-m", "greenroom", "start", "-c", str(self.config), *options],
            stdin=subprocess.DEVNULL,
            stdout=self._written,
            stderr=self._written,
            env={**os.environ, **self._environment},
            cwd=self.folder,
            start_new_session=True,
        )
        daemon = Daemon(process, self.log, began=began)
        self.daemons.append(daemon)
        if ready:
            await self.registered(daemon)
        return daemon

    async def registered(self, daemon: Daemon) -> None:
        """Wait until the server knows all agents of this daemon."""

        def found() -> bool | None:
            lines = self.log.find("registered", since=daemon.began)
            if len(lines) >= len(self._agents):
                return True
            if not daemon.running:
                raise Missed(f"daemon {daemon.pid} ended with {daemon.code}\n{self.log.tail(30)}")
            return None

        try:
            await until(found, what=f"daemon {daemon.pid} is registered", timeout=START)
        except Missed as missed:
            raise Missed(f"{missed}\n{self.log.tail(30)}") from None

    def follow(self, pid: int, *, began: float) -> Daemon:
        """A daemon that another one has started."""
        daemon = Daemon(psutil.Process(pid), self.log, began=began)
        self.daemons.append(daemon)
        return daemon

    async def stop(self) -> None:
        """Every daemon is asked twice, which ends its calls, and killed if that is not enough."""
        for daemon in self.daemons:
            for number, patience in ((signal.SIGTERM, 0.5), (signal.SIGTERM, STOP), (signal.SIGKILL, STOP)):
                if daemon.running:
                    daemon.send(signal.SIGCONT)
                    daemon.send(number)
                    with suppress(Missed):
                        await daemon.ended(timeout=patience)

    async def close(self) -> None:
        """Nothing of it runs any more; let go of its log."""
        if self._written is not None:
            os.close(self._written)
        await self.log.close()

    def pid(self, call: Call, *, since: float = 0.0) -> int:
        """The process that serves a call."""
        lines = self.log.find("joined", since=since, room=call.room)
        return int(lines[-1][1].fields["pid"])

    def job(self, call: Call) -> str:
        return str(self.log.find("joined", room=call.room)[-1][1].fields["job"])

    def journals(self, call: Call) -> list[Path]:
        """Of one call, the oldest first."""
        found = (self.folder / "state" / "journals").glob(f"{self.job(call)}*.journal")
        return sorted(found, key=lambda path: path.stat().st_mtime)


class Call:
    """A caller in a room of their own, and what their agent is told."""

    def __init__(self, caller: Caller, *, house: House, dispatch: str = "") -> None:
        self.caller = caller
        self.room = caller.room
        self.dispatch = dispatch
        self._house = house

    def asked(self) -> list[Asked]:
        """What the language model was told in this call, so far."""
        return asked(self._house.folder, self.room)

    def tools(self) -> list[str]:
        """What the tools did in this call."""
        path = self._house.folder / f"{self.room}.tools"
        return path.read_text().split() if path.exists() else []

    async def history(self, *, timeout: float = 10.0) -> list[str]:
        """What the agent knows: all words of the conversation, as its model is told them with the next question."""
        before = len(self.asked())
        await self.caller.say("recall")
        last = await until(
            lambda: next(iter(self.asked()[before:]), None), what=f"the model is asked in {self.room}", timeout=timeout
        )
        return last.words

    async def agents(self) -> set[str]:
        """The agents that are in the room, as the server sees it."""
        request = api.ListParticipantsRequest(room=self.room)
        answer = await self._house.api.room.list_participants(request)
        return {one.identity for one in answer.participants if one.kind == api.ParticipantInfo.Kind.AGENT}


class House:
    """The running whole, in a folder of its own; nothing of it is left when it is closed."""

    def __init__(self, folder: Path, *, options: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.media = MediaServer(log_file=folder / "server.log", options=options)
        self.workers: list[Worker] = []
        self._mark = uuid.uuid4().hex
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        install(self.folder / "path")
        try:
            await self._stack.enter_async_context(self.media)
            self.api = await self._stack.enter_async_context(
                api.LiveKitAPI(self.media.url, self.media.api_key, self.media.api_secret)
            )
            self._leash = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.leash", self._mark),
                stdin=asyncio.subprocess.PIPE,
                cwd=ROOT,
                start_new_session=True,
            )
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        assert self._leash.stdin is not None
        self._leash.stdin.close()
        await self._leash.wait()
        for worker in self.workers:
            for daemon in worker.daemons:
                await daemon.ended(timeout=STOP)
            await worker.close()
        await self._stack.aclose()

    @property
    def server(self) -> ServerSettings:
        return ServerSettings(url=self.media.url, api_key=self.media.api_key, api_secret=self.media.api_secret)

    @property
    def environment(self) -> dict[str, str]:
        """Of whatever is started here."""
        path = (str(ROOT), str(self.folder / "path"), os.environ.get("PYTHONPATH", ""))
        return {
            "LIVEKIT_URL": self.media.url,
            "LIVEKIT_API_KEY": self.media.api_key,
            "LIVEKIT_API_SECRET": self.media.api_secret,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            FOLDER: str(self.folder),
            MARK: self._mark,
        }

    def processes(self) -> list[psutil.Process]:
        """All that was started here, and by whom was."""
        return marked(self._mark)

    def worker(
        self,
        *agents: Mapping[str, Any],
        name: str = "worker",
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Worker:
        """A worker that is not started yet. ``environment``: variables that it has besides ours."""
        variables = {**self.environment, **(environment or {})}
        worker = Worker(self.folder / name, environment=variables, agents=agents or (agent(),), **settings)
        self.workers.append(worker)
        return worker

    @asynccontextmanager
    async def call(
        self, *, dispatch: Dispatch = "token", name: str = AGENT, greeted: bool = True
    ) -> AsyncIterator[Call]:
        """A caller in a new room. ``greeted``: the agent has come and said hello."""
        room = f"faults-{uuid.uuid4().hex[:8]}"
        asks = name if dispatch == "token" else None
        token = mint_user_token(self.server, room=room, identity="caller", agent_name=asks)
        async with Caller(self.media.url, token, room=room) as caller:
            call = Call(caller, house=self)
            if dispatch == "explicit":
                call.dispatch = await create_dispatch(self.server, room=room, agent_name=name)
            if greeted:
                greeting = await self.hears(call, "hello", timeout=COME)
                await caller.wait_quiet(after=greeting, timeout=COME, seconds=0.4)
            try:
                yield call
            finally:
                await self._over(room)

    async def hears(self, call: Call, word: str = "", *, after: float = 0.0, track: int = 0, timeout: float) -> float:
        """When the caller hears a word. Raises ``Missed`` with what the workers said last."""
        try:
            return (await call.caller.wait_word(word, after=after, track=track, timeout=timeout)).began
        except Missed as missed:
            raise Missed(f"{missed}; heard: {self._last_words(call)}\n{self.tail()}") from None

    def tail(self) -> str:
        return "\n".join(worker.log.tail() for worker in self.workers)

    def _last_words(self, call: Call) -> str:
        words = " ".join(one.word for one in call.caller.words[-12:]) or "nothing"
        return f"{words}; agents: {sorted(call.caller.agents)}, tracks: {call.caller.brought or 'none'}"

    async def _over(self, room: str) -> None:
        """The room is deleted, so that no trial is disturbed by what the one before has left."""
        with suppress(api.TwirpError, OSError):
            await self.api.room.delete_room(api.DeleteRoomRequest(room=room))
