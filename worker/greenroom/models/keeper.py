"""The daemon's side of the model host: started when a model is to be shared, started again when it dies.

The daemon listens, the host accepts: who dials while no host runs waits in the socket's queue for the next one. Each
daemon makes a host of its own, on a socket beside the one of the daemon that it takes the place of; the old host goes
on for the calls that it has, and ends with the last of them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from greenroom.errors import SettingsError
from greenroom.jobs import programs
from greenroom.jobs.exits import describe
from greenroom.jobs.forks import ENVIRONMENT, delays
from greenroom.jobs.memory import memory_mb
from greenroom.models.wire import (
    MAX_NOTICE,
    Counted,
    Held,
    Holding,
    HostNotice,
    HostOrder,
    Keep,
    Ping,
    Pong,
    Unneeded,
    Wanted,
    pack,
    unpack_notice,
)
from greenroom.ops import measures as m
from greenroom.ops.facts import ModelHostStatus, ModelStatus
from greenroom.ops.metrics import Metrics
from greenroom.settings import ProviderSettings, Settings

__all__ = ["MODELS_SOCKET", "ModelHost", "wanted"]

MODELS_SOCKET = "models.sock"
INTERVAL = 5.0
"""Seconds between two looks at the host while there are calls."""
DUMP_TIME = 0.2
"""Seconds for a host that hangs to write down where."""
STEADY = 10.0
"""A host that lived so long is replaced at once, one that died sooner after a growing delay."""

_MAX_PATH = 107
"""Bytes of a unix socket's path, by the kernel's ``sockaddr_un``."""
_KEY = "worker.run_dir"
log = structlog.get_logger(__name__)


def wanted(settings: Settings) -> tuple[Wanted, ...]:
    """The models that may be shared: of kinds that can be, unless the settings say otherwise."""
    if not settings.worker.model_host.enabled:
        return ()
    found: list[Wanted] = []
    for agent in settings.agents:
        for kind, provider in (("stt", agent.stt), ("tts", agent.tts), ("turn", agent.turn_detector)):
            found += [
                Wanted(kind, one.plugin, one.options, bool(one.shared))
                for one in _chain(provider)
                if one.shared is not False
            ]
    return tuple(one for i, one in enumerate(found) if one not in found[:i])


def _chain(provider: ProviderSettings | None) -> Iterator[ProviderSettings]:
    """A model and those that take its place."""
    if provider is not None:
        yield provider
        for one in provider.fallback:
            yield from _chain(one)


@dataclass(slots=True)
class _Life:
    """One run of the program."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    gone: asyncio.Future[None]
    held: tuple[Held, ...] = ()
    ready: bool = False
    unneeded: bool = False
    pings: int = 0
    owed: float | None = None
    """Since when an answer to a ping is due."""


class ModelHost:
    """One worker's. Made, and used, on the daemon's loop."""

    def __init__(self, settings: Settings, *, run_dir: Path, metrics: Metrics) -> None:
        self._run_dir = run_dir
        self._path = run_dir / MODELS_SOCKET
        self._own = run_dir / f"models-{os.getpid()}.sock"
        self._metrics = metrics
        self._settings = settings
        self._wanted = wanted(settings)
        self._listening: socket.socket | None = None
        self._life: _Life | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closing = False
        self._letting_go = False
        self._unneeded = False
        self._restarts = 0
        self._memory_mb: float | None = None
        self._calls = 0

    @property
    def paths(self) -> tuple[str, ...]:
        """What a job is to dial, in this order: our own socket, which becomes the worker's, and the worker's. None
        where nothing is shared."""
        return (str(self._own), str(self._path)) if self._settings.worker.model_host.enabled else ()

    @property
    def pid(self) -> int | None:
        return None if self._life is None else self._life.process.pid

    def start(self) -> None:
        """Listen, on a socket beside the worker's, and have a host if one is wanted. Raises ``SettingsError``."""
        self._listening = self._listen()
        self._run()

    def settle(self) -> None:
        """The run directory is ours: be where jobs look. Raises ``SettingsError``."""
        try:
            with _alone_in(self._run_dir):
                self._own.rename(self._path)
                for left in self._run_dir.glob("models-*.sock"):
                    if not _listens(left):
                        left.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot listen on {self._path}: {error.strerror}", key=_KEY) from error

    def keep(self, settings: Settings) -> None:
        """The settings are these from now on."""
        self._settings, self._wanted = settings, wanted(settings)
        self._unneeded = False
        if self._life is not None:
            self._order(self._life)
        self._run()

    def calls_changed(self, calls: int) -> None:
        """While there are any, the host is looked at now and then."""
        self._calls = calls
        if calls and self._looking is None and not self._closing:
            self._looking = asyncio.ensure_future(self._look())

    def status(self) -> ModelHostStatus | None:
        """``None`` where nothing is shared."""
        if self._unneeded or not (self._wanted or self._life):
            return None
        life = self._life
        return ModelHostStatus(
            pid=self.pid,
            ready=life is not None and life.ready,
            restarts=self._restarts,
            memory_mb=self._memory_mb if life is not None else None,
            models=()
            if life is None
            else tuple(ModelStatus(kind=one.kind, provider=one.plugin, users=one.users) for one in life.held),
        )

    async def let_go(self) -> None:
        """Leave the host to the calls that use it. Who dials our path still reaches it, until another daemon's is
        there."""
        await self._close(kill=False)

    async def aclose(self) -> None:
        """End it; the jobs are over by now."""
        await self._close(kill=True)
        await asyncio.to_thread(self._remove)

    async def _close(self, *, kill: bool) -> None:
        self._closing = True
        for task in (self._looking, self._keeper):
            if task is not None and (task is self._looking or self._life is None):
                task.cancel()
        self._letting_go = not kill
        if self._life is not None and not self._life.gone.done():
            self._life.gone.set_result(None)
        await asyncio.gather(*(task for task in (self._looking, self._keeper) if task), return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    # --- one host after another ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._wanted and not self._unneeded and not self._closing and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.create_task(self._keep_one(), name="model host")

    async def _keep_one(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = delays()
        while not self._closing and self._wanted:
            began = loop.time()
            try:
                life = await self._live()
            except OSError as error:
                steady, why = False, f"cannot be run: {error.strerror}"
            else:
                if life.unneeded:
                    self._unneeded = True
                    return
                steady, why = loop.time() - began >= STEADY, describe(life.process.returncode)
            if self._closing:
                return
            self._restarts += 1
            self._metrics.count(m.MODEL_HOST_RESTARTS)
            log.error("model host died", exit=why)
            if steady:
                backoff = delays()
            else:
                await asyncio.sleep(next(backoff))

    async def _live(self) -> _Life:
        """Start it and see it to its end, or to ours."""
        loop = asyncio.get_running_loop()
        process, ours = await programs.start(self._spawn)
        life = self._life = _Life(process, ours, loop.create_future())
        loop.add_reader(ours.fileno(), self._readable, life)
        self._order(life)
        try:
            if not self._closing:
                await life.gone
        finally:
            self._life = None
            loop.remove_reader(ours.fileno())
            ours.close()
            if self._letting_go:
                process.returncode = 0  # it is nobody's child from here on: Popen would complain that it still runs
            else:
                process.kill()
                await asyncio.shield(asyncio.to_thread(process.wait))
        return life

    def _spawn(self, control: int) -> subprocess.Popen[bytes]:
        listening = -1 if self._listening is None else self._listening.fileno()
        # -P: a file in the working directory must not stand in for a module of the standard library.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "greenroom.models.host", str(control), str(listening)],
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            pass_fds=(control, listening),
            start_new_session=True,
        )

    def _order(self, life: _Life) -> None:
        host, logs = self._settings.worker.model_host, self._settings.logs
        self._tell(life, Keep(self._wanted, host.threads, logs.level, logs.format))

    def _tell(self, life: _Life, order: HostOrder) -> None:
        try:
            life.control.send(pack(order))
        except OSError as error:
            log.error("model host not told", error=error.strerror)

    def _readable(self, life: _Life) -> None:
        """One message, or the end."""
        try:
            data = life.control.recv(MAX_NOTICE)
            if data:
                self._heard(life, unpack_notice(data))
                return
        except BlockingIOError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            log.error("model host's line broken", error=str(error))
        asyncio.get_running_loop().remove_reader(life.control.fileno())
        if not life.gone.done():
            life.gone.set_result(None)

    def _heard(self, life: _Life, notice: HostNotice) -> None:
        match notice:
            case Holding(models, ready):
                if ready and not life.ready:
                    log.info(
                        "model host ready",
                        pid=life.process.pid,
                        models=[f"{one.kind} {one.plugin}" for one in models],
                    )
                life.held, life.ready = models, ready
                if ready and self._looking is None and not self._closing:
                    self._looking = asyncio.ensure_future(self._look())
            case Unneeded():
                life.unneeded = True
            case Pong():
                life.owed = None
            case Counted():
                self._count(notice)

    def _count(self, counted: Counted) -> None:
        for kind, plugin, outcome, number in counted.requests:
            self._metrics.count(m.MODEL_HOST_REQUESTS, number, kind=kind, provider=plugin, outcome=outcome)
        for kind, plugin, stage, seconds in counted.seconds:
            self._metrics.observe(m.MODEL_HOST_SECONDS, seconds, kind=kind, provider=plugin, stage=stage)

    # --- watching it --------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Weigh it, and see whether it answers: once, and again while there are calls."""
        try:
            while True:
                if (life := self._life) is not None:
                    await self._weigh(life)
                    self._ping(life)
                if not self._calls:
                    return
                await asyncio.sleep(INTERVAL)
        finally:
            self._looking = None

    async def _weigh(self, life: _Life) -> None:
        self._memory_mb = await asyncio.to_thread(memory_mb, life.process.pid)
        limit = self._settings.worker.model_host.memory_limit_mb
        if limit and self._memory_mb is not None and self._memory_mb > limit and life is self._life:
            log.error("model host uses too much memory", memory_mb=round(self._memory_mb), limit_mb=limit)
            life.process.kill()

    def _ping(self, life: _Life) -> None:
        """A host that has not answered for ``ping_timeout`` hangs."""
        now, allowed = asyncio.get_running_loop().time(), self._settings.worker.deadlines.ping_timeout
        if life is not self._life or not life.ready:
            return
        if life.owed is None:
            life.owed = now
            life.pings += 1
            self._tell(life, Ping(life.pings))
        elif now - life.owed > allowed:
            log.error("model host hangs", pid=life.process.pid, seconds=allowed)
            life.process.send_signal(signal.SIGUSR1)  # it says where, in its log
            asyncio.get_running_loop().call_later(DUMP_TIME, life.process.kill)

    # --- the socket ---------------------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        where = os.fsencode(self._own)
        if len(where) > _MAX_PATH:
            problem = f"the path of the socket {self._own} has {len(where)} bytes; expected at most {_MAX_PATH}"
            raise SettingsError(f"{problem}: choose a shorter directory", key=_KEY)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._own.unlink(missing_ok=True)
            listening.bind(os.fspath(self._own))
            self._own.chmod(0o600)
            listening.listen(128)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise SettingsError(f"cannot listen on {self._own}: {error.strerror}", key=_KEY) from error
        return listening

    def _remove(self) -> None:
        """Our sockets' files, unless they are another daemon's by now."""
        self._own.unlink(missing_ok=True)
        with suppress(OSError), _alone_in(self._run_dir):
            if not _listens(self._path):
                self._path.unlink(missing_ok=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other daemon changes what is in the folder meanwhile: one that leaves may not remove its heir's socket."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dialling:
        try:
            dialling.connect(os.fspath(path))
        except OSError:
            return False
    return True
