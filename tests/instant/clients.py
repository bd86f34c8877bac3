"""Two callers in a real browser: the project's own page, and LiveKit's client as its documentation has it.

Their microphone is the Web Audio API playing samples that are known, so capture begins with the first of them at the
moment when the microphone is granted, and nothing (echo canceller, gain control, a fake device that starts when it
likes) stands between them and the browser's recorder and encoder.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from aiohttp import web
from playwright.async_api import Browser, Error, Page, async_playwright

from greenroom.embedded.console import ConsoleState, console_app, open_room, serve, static_directory
from greenroom.settings import ServerSettings
from tests.e2e.browser.conftest import FLAGS
from tests.instant.words import SAMPLE_RATE, Source

__all__ = ["Client", "Front", "chromium", "front"]

Client = Literal["page", "stock"]
Prepare = Callable[[Page], Awaitable[None]]
HOST = "127.0.0.1"
LIBRARY = Path(__file__).parents[2] / "web" / "node_modules" / "livekit-client" / "dist" / "livekit-client.umd.js"

MICROPHONE = """
(() => {
  const bytes = Uint8Array.from(atob("%(pcm)s"), (letter) => letter.charCodeAt(0));
  const samples = Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
  navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext({ sampleRate: %(rate)d });
    await context.resume();
    const buffer = context.createBuffer(1, samples.length, %(rate)d);
    buffer.copyToChannel(samples, 0);
    const microphone = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(microphone);
    source.start();
    captureBegan();
    return microphone.stream;
  };
})();
"""


class Front:
    """Where the two clients are served; their rooms are at ``server``, where no agent comes uncalled."""

    def __init__(self, server: ServerSettings, *, page: str, stock: str) -> None:
        self._server = server
        self._addresses: dict[Client, str] = {"page": page, "stock": stock}

    async def call(
        self,
        browser: Browser,
        client: Client,
        source: Source,
        *,
        prepare: Prepare | None = None,
    ) -> Call:
        """A new browser context that calls; returns when capture has begun. ``prepare``: the page, before it loads."""
        context = await browser.new_context()
        page = await context.new_page()
        if prepare is not None:
            await prepare(page)
        loop = asyncio.get_running_loop()
        began: asyncio.Future[float] = loop.create_future()

        def begin() -> None:
            if not began.done():
                began.set_result(loop.time())

        def fail(error: Error) -> None:
            if not began.done():
                began.set_exception(RuntimeError(f"the {client} raised {error}"))

        page.on("pageerror", fail)
        await page.expose_function("captureBegan", begin)
        pcm = base64.b64encode(source.pcm.tobytes()).decode()
        await page.add_init_script(MICROPHONE % {"pcm": pcm, "rate": SAMPLE_RATE})
        await page.goto(self._addresses[client])
        if client == "page":
            async with page.expect_response("**/token") as answered:
                await page.get_by_role("button", name="Talk").click()
            room = str((await (await answered.value).json())["room"])
        else:
            entrance = open_room(self._server, agent="")
            room = entrance.room
            await page.evaluate(f"void call({json.dumps(entrance.url)}, {json.dumps(entrance.token)})")
        async with asyncio.timeout(10.0):
            return Call(page, room, await began)


class Call:
    """``began``: when capture did, on the loop's clock."""

    def __init__(self, page: Page, room: str, began: float) -> None:
        self.page = page
        self.room = room
        self.began = began

    async def end(self) -> None:
        await self.page.context.close()


@asynccontextmanager
async def front(server: ServerSettings) -> AsyncIterator[Front]:
    """Serve both clients. ``server.url`` is where they are sent."""
    state = ConsoleState(server=server, agents=lambda: (), worker=lambda: ("ready", ""))
    page, page_port = await serve(console_app(state, static=static_directory()), port=0)
    stock_app = web.Application()
    here = Path(__file__).parent

    async def html(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(here / "stock.html")

    async def library(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(LIBRARY)

    stock_app.add_routes([web.get("/", html), web.get("/livekit-client.umd.js", library)])
    stock, stock_port = await serve(stock_app, port=0)
    try:
        yield Front(server, page=f"http://{HOST}:{page_port}/", stock=f"http://{HOST}:{stock_port}/")
    finally:
        await page.cleanup()
        await stock.cleanup()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=[*FLAGS, "--use-fake-ui-for-media-stream"]
        )
        try:
            yield browser
        finally:
            await browser.close()
