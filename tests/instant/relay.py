"""A way to the media server for browsers that holds one message back: the notice that a track is listened to.

Everything else of the signalling passes at once and in order. Media does not come this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from livekit.protocol.rtc import SignalResponse

__all__ = ["Relay", "relay"]

HOST = "127.0.0.1"


class Relay:
    """``delay``: how long the notice is held back, seconds. ``notices``: when each was let go (``time.monotonic``)."""

    def __init__(self, server: str) -> None:
        self.delay = 0.0
        self.url = ""
        self.notices: list[float] = []
        self._server = server.replace("ws", "http", 1)
        self._held: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        app.cleanup_ctx.append(self._connected)
        return app

    async def _connected(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as self._client:
            yield
            for task in self._held:
                task.cancel()
            await asyncio.gather(*self._held, return_exceptions=True)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        assert self._client is not None
        address = f"{self._server}{request.rel_url}"
        if request.headers.get("Upgrade", "").lower() != "websocket":
            async with self._client.request(request.method, address, data=await request.read()) as answer:
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    headers={"Access-Control-Allow-Origin": request.headers.get("Origin", "*")},
                )
        async with self._client.ws_connect(address, max_msg_size=0) as server:
            browser = web.WebSocketResponse(max_msg_size=0)
            await browser.prepare(request)
            up = asyncio.create_task(_forward(browser, server))
            try:
                async for message in server:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        await self._deliver(message.data, browser)
                    elif message.type is aiohttp.WSMsgType.TEXT:
                        await browser.send_str(message.data)
            except ConnectionError:
                pass  # the browser has gone
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
                await browser.close()
            return browser

    async def _deliver(self, data: bytes, browser: web.WebSocketResponse) -> None:
        if SignalResponse.FromString(data).WhichOneof("message") != "track_subscribed":
            await browser.send_bytes(data)
            return
        task = asyncio.create_task(self._hold(data, browser, self.delay))
        self._held.add(task)
        task.add_done_callback(self._held.discard)

    async def _hold(self, data: bytes, browser: web.WebSocketResponse, delay: float) -> None:
        await asyncio.sleep(delay)
        if not browser.closed:
            self.notices.append(asyncio.get_running_loop().time())
            await browser.send_bytes(data)


async def _forward(browser: web.WebSocketResponse, server: aiohttp.ClientWebSocketResponse) -> None:
    async for message in browser:
        if message.type is aiohttp.WSMsgType.BINARY:
            await server.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await server.send_str(message.data)
    await server.close()


@asynccontextmanager
async def relay(server: str) -> AsyncIterator[Relay]:
    """A relay to the media server at this ``ws://`` address."""
    made = Relay(server)
    runner = web.AppRunner(made.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        made.url = f"ws://{HOST}:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()
