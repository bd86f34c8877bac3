"""A socket's file stays when its server is closed, whatever Python does by itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from greenroom.unixsocket import serve


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_file_stays(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    path = tmp_path / "jobs.sock"

    async def serve_once() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(path))
            listening.listen()
            listening.setblocking(False)
            accepted = asyncio.Event()

            class Door(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    transport.close()
                    accepted.set()

            server = await serve(Door, listening)
            _, writer = await asyncio.open_unix_connection(str(path))
            await accepted.wait()
            writer.close()
            server.close()
            await server.wait_closed()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve_once())
    assert path.is_socket()
