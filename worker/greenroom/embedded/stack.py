"""All that a conversation needs, on this machine: a media server and a worker, brought up and taken down together."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from greenroom.embedded.loglines import LogLine, severity
from greenroom.embedded.mediaserver import MediaServer
from greenroom.embedded.workerprocess import WorkerProcess, check
from greenroom.errors import LinkLost, SettingsError
from greenroom.settings import ServerSettings, Settings
from greenroom.settings_file import SERVER_VARIABLES, load

__all__ = ["Observer", "Stack", "environment_of", "probe", "read_settings"]

PROBE_TIMEOUT = 5.0
NOWHERE = ServerSettings(url="ws://nowhere.invalid", api_key="none", api_secret="none")  # noqa: S106  # no secret
"""Stands in for a media server while it is found out whether one is named."""


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told what goes on: ``progress`` a sentence for a person, ``log`` each line of the worker's log."""

    progress: Callable[[str], None]
    log: Callable[[LogLine], None]


class Stack:
    """A media server and a worker for ``config``, as an async context.

    The media server is the one that the configuration or the environment names; where neither does, or with
    ``own_server``, one of our own on free ports. Entering returns as soon as the worker is started:
    ``worker.wait_ready`` says when it takes calls. Leaving takes down what was started, the worker's jobs included.
    The worker's sockets are in a directory of this stack's own, so that it can run beside others; its journals too
    with ``traceless``. Raises ``SettingsError``, ``LinkLost`` when the named server does not answer, and
    ``MediaServerError``.
    """

    def __init__(self, config: Path, *, observer: Observer, own_server: bool = False, traceless: bool = False) -> None:
        self.config = config
        self._observer = observer
        self._own_server = own_server
        self._traceless = traceless
        self._settings: Settings | None = None
        self._server: ServerSettings | None = None
        self._worker: WorkerProcess | None = None
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._settings, named = await asyncio.to_thread(
                read_settings, self.config, environ=os.environ, own_server=self._own_server
            )
            checking = asyncio.create_task(check(self.config, environment=environment_of(named or NOWHERE)))
            self._exit.push_async_callback(_abandon, checking)
            self._server = await self._find_server(named)
            await checking
            self._worker = await self._make_worker(self._server)
            await self._worker.start(registrations=self._registrations())
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    @property
    def settings(self) -> Settings:
        """What the file says, as of the last time that it was right. The server in it is ``server`` only if named."""
        assert self._settings is not None, "the stack was not entered"  # noqa: S101
        return self._settings

    @property
    def server(self) -> ServerSettings:
        """Address and credentials of the media server."""
        assert self._server is not None, "the stack was not entered"  # noqa: S101
        return self._server

    @property
    def worker(self) -> WorkerProcess:
        """The worker's process."""
        assert self._worker is not None, "the stack was not entered"  # noqa: S101
        return self._worker

    async def check(self) -> None:
        """Raises ``SettingsError`` when the files are not right now. Nothing else changes."""
        await check(self.config, environment=environment_of(self.server))

    async def restart_worker(self) -> None:
        """Start the worker anew with what the files say now; calls that go on end. Raises ``SettingsError``."""
        environ = {**os.environ, **environment_of(self.server)}
        self._settings, _ = await asyncio.to_thread(read_settings, self.config, environ=environ)
        await self.worker.stop()
        await self.worker.start(registrations=self._registrations())

    def _registrations(self) -> int:
        return sum(len(agent.job_types) for agent in self.settings.agents)

    def _show(self, line: LogLine) -> None:
        """The worker speaks of more than the settings want: it has to say when it is ready."""
        if line.severity >= severity(self.settings.logs.level):
            self._observer.log(line)

    async def _find_server(self, named: ServerSettings | None) -> ServerSettings:
        if named is not None:
            self._observer.progress(f"Using the media server at {named.url}")
            await probe(named)
            return named
        self._observer.progress("Starting a media server")
        media = MediaServer(progress=self._observer.progress)
        await self._exit.enter_async_context(media)
        return ServerSettings(url=media.url, api_key=media.api_key, api_secret=media.api_secret)

    async def _make_worker(self, server: ServerSettings) -> WorkerProcess:
        directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="greenroom-dev-")
        self._exit.push_async_callback(asyncio.to_thread, shutil.rmtree, directory, ignore_errors=True)
        environment = environment_of(server) | {"RUNTIME_DIRECTORY": f"{directory}/run"}
        if self._traceless:
            environment["STATE_DIRECTORY"] = f"{directory}/state"
        worker = WorkerProcess(self.config, environment=environment, observe=self._show)
        self._exit.push_async_callback(worker.stop)
        return worker


async def _abandon(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def environment_of(server: ServerSettings) -> dict[str, str]:
    """The variables that point a worker to this server."""
    return {variable: getattr(server, key) for key, variable in SERVER_VARIABLES.items()}


def read_settings(
    config: Path, *, environ: Mapping[str, str], own_server: bool = False
) -> tuple[Settings, ServerSettings | None]:
    """What the file says, and the media server that it or, where it leaves that open, the environment names.

    ``own_server``: what the environment names does not count, and the file must not name one. Raises ``SettingsError``.
    """
    nowhere = environment_of(NOWHERE)
    given = {name: value for name, value in environ.items() if value or name not in nowhere}
    settings = load(config, environ={**given, **nowhere} if own_server else {**nowhere, **given})
    server = settings.server
    if server.url == NOWHERE.url:
        return settings, None
    if own_server:
        message = f"{server.url} is named here; expected nothing or ${{LIVEKIT_URL}}, to bring a media server along"
        raise SettingsError(message, file=str(config), key="server.url")
    for key, variable in SERVER_VARIABLES.items():
        if getattr(server, key) == getattr(NOWHERE, key):
            message = f"missing, for the media server at {server.url}; expected it here or in {variable}"
            raise SettingsError(message, file=str(config), key=f"server.{key}")
    return settings, server


async def probe(server: ServerSettings) -> None:
    """Return when a LiveKit server answers at the address. Raises ``LinkLost`` that says what it did instead."""
    url = server.url.replace("ws", "http", 1) if server.url.startswith("ws") else server.url
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT)) as client,
            client.get(url) as response,
        ):
            if response.status < 500:
                return
            reason = f"HTTP {response.status}"
    except TimeoutError:
        reason = f"no answer within {PROBE_TIMEOUT:.0f} s"
    except (aiohttp.ClientError, ValueError) as error:
        reason = str(error) or type(error).__name__
    raise LinkLost(f"no LiveKit server answers at {server.url} ({reason})")
