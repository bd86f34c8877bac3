"""``greenroom dev``: a media server, a worker and the page, on this machine; the worker anew when its files change."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web
from rich.console import Console
from rich.text import Text

from greenroom.embedded.console import HOST, ConsoleState, console_app, serve, static_directory
from greenroom.embedded.loglines import LogLine, render
from greenroom.embedded.stack import Observer, Stack
from greenroom.embedded.workerprocess import WorkerFailed
from greenroom.errors import GreenroomError, SettingsError

__all__ = ["run"]

PORT_ATTEMPTS = 20
_SKIPPED = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"})


def run(config: Path, *, port: int, reload: bool, open_browser: bool) -> int:
    """Run until Ctrl-C or SIGTERM, which is a good end: 0. What was wrong with the settings is 2, else 1.

    ``port``: of the page; where it is taken, the next free one. ``reload``: the worker starts anew when ``config``
    changes or, where an agent is Python code, a Python file beside it does.
    """
    terminal = _Terminal()
    try:
        asyncio.run(_until_signal(_Dev(config, port=port, open_browser=open_browser, terminal=terminal), reload=reload))
    except (GreenroomError, OSError) as error:
        terminal.fail(str(error))
        return 2 if isinstance(error, SettingsError) else 1
    return 0


async def _until_signal(dev: _Dev, *, reload: bool) -> None:
    task = asyncio.create_task(dev.run(reload=reload), name="dev")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, task)
    with suppress(asyncio.CancelledError):
        await task


def _stop(task: asyncio.Task[None]) -> None:
    """Once: a second Ctrl-C must not cut short what takes everything down, which is bounded in time."""
    if not task.cancelling():
        task.cancel()


class _Terminal:
    """What a person reads: our own sentences, and the worker's log between them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def tell(self, what: str, *, style: str = "") -> None:
        self._console.print(Text.assemble(("▸ ", "green"), (what, style)), soft_wrap=True)

    def fail(self, what: str) -> None:
        self._console.print(Text.assemble(("✗ ", "bold red"), what), soft_wrap=True)

    def log(self, line: LogLine) -> None:
        self._console.print(render(line), soft_wrap=True)

    def address(self, url: str) -> None:
        text = Text.assemble("\n  Talk at ", (url, "bold underline green"), "\n  Ctrl-C ends everything.\n")
        self._console.print(text, soft_wrap=True)


class _Dev:
    def __init__(self, config: Path, *, port: int, open_browser: bool, terminal: _Terminal) -> None:
        self._config = config
        self._port = port
        self._open_browser = open_browser
        self._terminal = terminal
        self._url = ""
        self._greeted = False
        self._following: asyncio.Task[None] | None = None

    async def run(self, *, reload: bool) -> None:
        """Run until cancelled, or without ``reload`` until the worker ends: then raises ``WorkerFailed``."""
        observer = Observer(progress=self._terminal.tell, log=self._terminal.log)
        async with Stack(self._config, observer=observer) as stack:
            self._terminal.tell("Starting the worker")
            runner, port = await self._serve(stack)
            self._url = f"http://{HOST}:{port}"
            try:
                await self._work(stack, reload=reload)
            finally:
                self._terminal.tell("Stopping")
                self._unfollow()
                await runner.cleanup()

    async def _serve(self, stack: Stack) -> tuple[web.AppRunner, int]:
        state = ConsoleState(
            server=stack.server,
            agents=lambda: tuple(agent.name for agent in stack.settings.agents),
            worker=lambda: (stack.worker.state, stack.worker.problem),
        )
        last = self._port + PORT_ATTEMPTS - 1 if self._port else 0
        for port in range(self._port, last + 1):
            try:
                return await serve(console_app(state, static=static_directory()), port=port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(f"ports {self._port} to {last} of {HOST} are taken; expected --port PORT")

    async def _work(self, stack: Stack, *, reload: bool) -> None:
        if reload and find_spec("watchfiles") is None:
            self._terminal.tell("Changes are not watched: watchfiles is not installed")
            reload = False
        if not reload:
            await stack.worker.wait_ready()
            await self._greet()
            await stack.worker.wait_ended()
            raise WorkerFailed(stack.worker.problem)
        self._follow(stack)
        async for names in _changes(stack):
            await self._reload(stack, names)

    async def _reload(self, stack: Stack, names: list[str]) -> None:
        self._terminal.tell(f"{', '.join(names)} changed")
        try:
            await stack.check()
        except SettingsError as error:
            self._terminal.fail(f"{error}\n  The worker goes on as it was.")
            return
        self._unfollow()
        self._terminal.tell("Starting the worker anew")
        try:
            await stack.restart_worker()
        except SettingsError as error:  # it changed again since the check
            self._terminal.fail(str(error))
        self._follow(stack)

    def _follow(self, stack: Stack) -> None:
        self._unfollow()
        self._following = asyncio.create_task(self._report(stack), name="follow the worker")

    def _unfollow(self) -> None:
        if self._following:
            self._following.cancel()

    async def _report(self, stack: Stack) -> None:
        """Say when the worker is ready, and when it has ended by itself."""
        try:
            await stack.worker.wait_ready()
            await self._greet()
            await stack.worker.wait_ended()
        except WorkerFailed:
            pass  # its state tells
        if stack.worker.state != "stopped":
            # What its log said last is on the screen already.
            reason = stack.worker.problem.partition(";")[0] or "the worker is not ready"
            self._terminal.fail(f"{reason}\n  It is started again when a file changes.")

    async def _greet(self) -> None:
        if self._greeted:
            self._terminal.tell("The worker is ready")
            return
        self._greeted = True
        self._terminal.address(self._url)
        if self._open_browser and _has_display():
            await asyncio.to_thread(webbrowser.open, self._url)


async def _changes(stack: Stack) -> AsyncIterator[list[str]]:
    """The names of the files that changed, a moment after they did."""
    from watchfiles import Change, awatch

    config = stack.config.absolute()

    def wanted(_: Change, path: str) -> bool:
        file = Path(path)
        if file == config:
            return True
        inside = file.relative_to(config.parent).parts[:-1] if file.is_relative_to(config.parent) else ("",)
        hidden = any(part in _SKIPPED or part.startswith(".") or not part for part in inside)
        return file.suffix == ".py" and not hidden and any(agent.agent for agent in stack.settings.agents)

    async for changes in awatch(config.parent, watch_filter=wanted, recursive=True):
        yield sorted({Path(path).name for _, path in changes})


def _has_display() -> bool:
    """Whether a browser would open a window, and not take over the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
