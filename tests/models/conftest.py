from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import tests
from greenroom.models.host import Host
from greenroom.models.keeper import ModelHost
from greenroom.models.sharing import Sharing
from greenroom.models.wire import MAX_NOTICE, HostNotice, HostOrder, Keep, Wanted, pack, unpack_notice
from greenroom.ops.metrics import Metrics
from greenroom.providers import registry
from greenroom.settings import AgentSettings, Deadlines, ModelHostSettings, ProviderSettings, ServerSettings, Settings
from greenroom.settings import WorkerSettings as Worker
from tests.models.fakes import NAME, install

PATIENCE = 30.0
"""Far beyond what anything takes on a busy machine; a test that waits so long has failed."""


def python_path(place: Path) -> str:
    """Of processes that are to find the plugins in ``place``, and the tests."""
    return os.pathsep.join((str(place), str(Path(tests.__file__).parent.parent)))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path, for sockets; the fake plugins can be found, here and in processes that are started."""
    with TemporaryDirectory(prefix="gr-") as name:
        place = install(Path(name, "plugins"))
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.setenv("PYTHONPATH", python_path(place))
        yield Path(name)


class Notes:
    """What the models write down, a line each. ``str`` is the path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def __str__(self) -> str:
        return str(self._path)

    @property
    def text(self) -> str:
        return self._path.read_text()

    def count(self, word: str) -> int:
        return self.text.count(word)

    def replace(self, word: str, by: str) -> None:
        self._path.write_text(self.text.replace(word, by))


@pytest.fixture
def notes(folder: Path) -> Notes:
    return Notes(folder / "notes")


async def until(met: Callable[[], object]) -> None:
    """Looked at now and then: what is waited for happens in other tasks and processes."""
    async with asyncio.timeout(PATIENCE):
        while not met():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)


class RunningHost:
    """A host on this loop, with the daemon's end of its line."""

    def __init__(self, host: Host, control: socket.socket, path: Path) -> None:
        self.host = host
        self.path = path
        self.notices: list[HostNotice] = []
        self._control = control
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(control.fileno(), self._readable)

    def tell(self, order: HostOrder) -> None:
        self._control.send(pack(order))

    def keep(self, *models: Wanted) -> None:
        """Without any it has one that no test uses: a host that is to keep nothing leaves."""
        self.tell(Keep(models or (Wanted("turn", NAME, {"parallel": 3}),), 2, level="error", format="json"))

    def leave(self) -> None:
        """As a daemon that is gone."""
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()

    async def until(self, met: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not met():
                self._news.clear()
                await self._news.wait()

    def _readable(self) -> None:
        if data := self._control.recv(MAX_NOTICE):
            self.notices.append(unpack_notice(data))
            self._news.set()


@asynccontextmanager
async def open_host(folder: Path) -> AsyncIterator[RunningHost]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = folder / "host.sock"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()
    for one in (ours, theirs, listening):
        one.setblocking(False)
    host = Host(theirs, listening, logs=lambda *_, **__: None)
    running = asyncio.create_task(host.run())
    opened = RunningHost(host, ours, path)
    try:
        yield opened
    finally:
        if ours.fileno() >= 0:
            opened.leave()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        theirs.close()
        path.unlink()


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[RunningHost]:
    async with open_host(folder) as opened:
        yield opened


def provider(**options: Any) -> ProviderSettings:
    return ProviderSettings(NAME, options)


def settings(*kinds: str, memory_limit_mb: int = 0, ping_timeout: float = 15.0, **options: Any) -> Settings:
    """Of a worker whose agent uses the fake models of these kinds."""
    keys = {"stt": "stt", "tts": "tts", "turn": "turn_detector"}
    agent = AgentSettings(name="host", **{keys[kind]: provider(**options) for kind in kinds})  # type: ignore[arg-type]
    return Settings(
        server=ServerSettings(url="ws://localhost", api_key="key", api_secret="secret"),
        agents=(agent,),
        worker=Worker(
            model_host=ModelHostSettings(memory_limit_mb=memory_limit_mb),
            deadlines=Deadlines(ping_timeout=ping_timeout),
        ),
    )


class Keeping:
    """A keeper of real hosts, and the providers of one job."""

    def __init__(self, what: Settings, folder: Path) -> None:
        self.metrics = Metrics()
        self.keeper = ModelHost(what, run_dir=folder, metrics=self.metrics)
        self.sharing = Sharing(self.keeper.paths)

    def build(self, kind: registry.Kind, **options: Any) -> Any:
        return self.sharing.build(kind, provider(**options))

    async def ready(self) -> None:
        await until(lambda: (status := self.keeper.status()) is not None and status.ready)


@asynccontextmanager
async def keeping(what: Settings, folder: Path) -> AsyncIterator[Keeping]:
    run_dir = folder / "run"
    run_dir.mkdir(exist_ok=True)
    opened = Keeping(what, run_dir)
    opened.keeper.start()
    opened.keeper.settle()
    try:
        yield opened
    finally:
        await opened.sharing.aclose()
        await opened.keeper.aclose()
