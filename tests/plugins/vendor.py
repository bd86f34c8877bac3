"""What the small servers that stand for vendors share: an address, a loop of their own, and faults on order."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, Self, TypeVar

from aiohttp import web

from tests.providers.contract.case import SECRET, Fault

__all__ = ["Vendor", "WebVendor", "cut"]

T = TypeVar("T")


class Vendor:
    """A server on a port of its own, in a thread of its own, so that it shares no loop with what is tested.

    ``key``: the one that it takes. ``under_way``: connections that it serves now; ``connections``: all of them so far.
    """

    def __init__(self) -> None:
        self.key = SECRET
        self.under_way = 0
        self.connections = 0
        self.address = ("127.0.0.1", 0)
        self._orders: deque[Fault] = deque()
        self._loop = asyncio.new_event_loop()
        self._tester: asyncio.AbstractEventLoop | None = None
        self._happened = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def order(self, fault: Fault | Literal[""], *, times: int = 1) -> None:
        """The next so many connections suffer this; ``""``: all goes well again."""
        self._orders.clear()
        if fault:
            self._orders.extend([fault] * times)

    def ordered(self) -> Fault | Literal[""]:
        """What the connection that is being made suffers; empty for nothing."""
        return self._orders.popleft() if self._orders else ""

    def happened(self) -> None:
        """Something has: who waits for it looks."""
        if self._tester is not None:
            self._tester.call_soon_threadsafe(self._happened.set)

    async def until(self, condition: Callable[[], object], *, within: float = 20.0) -> None:
        """Wait for something that happens here, or to whoever calls ``happened``."""
        async with asyncio.timeout(within):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the server's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    @contextmanager
    def working(self) -> Iterator[None]:
        self.under_way += 1
        self.connections += 1
        self.happened()
        try:
            yield
        finally:
            self.under_way -= 1
            self.happened()

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Self]:
        self._tester = asyncio.get_running_loop()
        thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__)
        thread.start()
        try:
            self.address = await self.do(self.open())
            yield self
        finally:
            await self.do(_settled())
            await self.do(self.close())
            await self.do(_settled())
            self._tester = None
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(thread.join)
            self._loop.close()

    async def open(self) -> tuple[str, int]:
        """Listen; where."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def _settled() -> None:
    """Let who has just come be in before the door is closed, which asyncio would leave between the two; and let what
    was closed be gone before its loop is."""
    for _ in range(10):
        await asyncio.sleep(0)


class WebVendor(Vendor):
    """One that is spoken to by HTTP and websockets: ``routes`` says what is where."""

    def __init__(self) -> None:
        super().__init__()
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    async def open(self) -> tuple[str, int]:
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        return str(host), int(port)

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def cut(socket: web.WebSocketResponse) -> None:
    """End a connection without a word; what was sent before still arrives."""
    transport = socket._req.transport if socket._req is not None else None
    if isinstance(transport, asyncio.Transport):
        transport.write_eof()
