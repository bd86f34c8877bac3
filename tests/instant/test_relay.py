"""The relay holds back one kind of message, and nothing else."""

from __future__ import annotations

import aiohttp
from aiohttp import web
from livekit.protocol.rtc import SignalResponse, TrackSubscribed

from tests.instant.relay import relay

NOTICE = SignalResponse(track_subscribed=TrackSubscribed(track_sid="TR_1")).SerializeToString()
OTHER = SignalResponse(refresh_token="next").SerializeToString()


async def test_only_the_notice_is_late() -> None:
    asked: list[str] = []

    async def signalling(request: web.Request) -> web.StreamResponse:
        asked.append(str(request.rel_url))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(NOTICE)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/rtc/v1", signalling)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with relay(f"ws://127.0.0.1:{port}") as passing, aiohttp.ClientSession() as client:
            passing.delay = 0.1
            async with client.ws_connect(f"{passing.url}/rtc/v1?access_token=a%2Bb") as socket:
                await socket.send_bytes(OTHER)
                assert [await socket.receive_bytes(), await socket.receive_bytes()] == [OTHER, NOTICE]
            assert len(passing.notices) == 1
    finally:
        await runner.cleanup()
    assert asked == ["/rtc/v1?access_token=a%2Bb"]
