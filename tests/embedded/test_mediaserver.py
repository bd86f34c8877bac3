"""The real LiveKit server, started, ended and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from greenroom.embedded import binary, mediaserver
from greenroom.embedded.mediaserver import (
    Binary,
    MediaServer,
    MediaServerError,
    MediaServerFailed,
    MediaServerUnavailable,
    Ports,
    main,
)

pytestmark = pytest.mark.e2e

Substitute = Callable[[str], None]


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with MediaServer() as running:
        yield running


@pytest.fixture
def substitute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Substitute:
    """Have a shell script take the server's place."""

    def write(script: str) -> None:
        file = tmp_path / "livekit-server"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setenv(binary.OVERRIDE, str(file))

    return write


async def health(port: int) -> str:
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as response:
        return await response.text()


async def test_serves_its_own_credentials(server: MediaServer) -> None:
    assert server.running
    assert server.url == f"ws://127.0.0.1:{server.ports.signal}"
    assert await health(server.ports.signal) == "OK"
    assert len(server.api_secret) >= 32
    assert server.api_secret not in repr(server)
    assert "starting LiveKit server" in server.log_tail()


async def test_two_at_once(server: MediaServer) -> None:
    async with MediaServer() as other:
        assert other.ports != server.ports
        assert other.api_secret != server.api_secret
        assert await health(other.ports.signal) == await health(server.ports.signal) == "OK"


async def test_stopped_server_is_gone_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with MediaServer() as server:
        (directory,) = tmp_path.glob("greenroom-livekit-*")  # noqa: ASYNC240
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "livekit.yaml").stat().st_mode & 0o777 == 0o600
    assert not server.running
    assert not directory.exists()
    with pytest.raises(aiohttp.ClientConnectionError):
        await health(server.ports.signal)


async def test_restart_keeps_ports_and_credentials(server: MediaServer) -> None:
    before = (server.url, server.ports, server.api_key, server.api_secret)
    await server.restart()
    assert (server.url, server.ports, server.api_key, server.api_secret) == before
    assert await health(server.ports.signal) == "OK"


async def test_start_after_a_crash(server: MediaServer) -> None:
    ports = server.ports
    await server.kill()
    assert not server.running
    with pytest.raises(aiohttp.ClientConnectionError):
        await health(ports.signal)
    await server.start()
    await server.start()
    assert server.ports == ports
    assert await health(ports.signal) == "OK"


async def test_end_is_awaited(server: MediaServer) -> None:
    ended = asyncio.create_task(server.wait())
    await server.stop()
    assert await ended == 0
    assert await server.wait() == 0


async def test_given_ports_credentials_and_options() -> None:
    ports = Ports.free()
    server = MediaServer(ports=ports, api_key="devkey", api_secret="s" * 32, options={"room": {"empty_timeout": 7}})
    assert server.url == f"ws://127.0.0.1:{ports.signal}"
    async with server:
        assert (server.ports, server.api_key, server.api_secret) == (ports, "devkey", "s" * 32)
        assert await health(ports.signal) == "OK"


async def test_no_ports_before_the_first_start() -> None:
    with pytest.raises(MediaServerError, match="before its first start"):
        _ = MediaServer().url


async def test_given_port_that_is_taken(server: MediaServer) -> None:
    """The other server answers on that port, and must not be taken for ours."""
    taken = Ports(signal=server.ports.signal, tcp=Ports.free().tcp, udp=Ports.free().udp)
    with pytest.raises(MediaServerFailed, match=rf"needs ports {taken.signal} and .* one is taken"):
        await MediaServer(ports=taken).start()


async def test_lost_race_for_a_free_port_is_run_again(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = [server.ports, Ports.free()]
    monkeypatch.setattr(Ports, "free", lambda: offers.pop(0))
    async with MediaServer() as other:
        assert not offers
        assert await health(other.ports.signal) == "OK"


async def test_udp_port_that_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        free = Ports.free()
        with pytest.raises(MediaServerFailed, match="one is taken"):
            await MediaServer(ports=Ports(signal=free.signal, tcp=free.tcp, udp=holder.getsockname()[1])).start()


async def test_server_that_ends_at_once_shows_its_log(substitute: Substitute, tmp_path: Path) -> None:
    substitute("echo could not parse config: no such key; exit 3")
    log = tmp_path / "server.log"
    log.write_text("address already in use, said by an earlier run\n")
    with pytest.raises(MediaServerFailed) as caught:
        await MediaServer(log_file=log).start()
    assert str(caught.value).endswith("exit status 3; the end of its log:\ncould not parse config: no such key")


async def test_server_that_never_answers_is_ended(
    substitute: Substitute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediaserver, "START_TIMEOUT", 0.5)
    substitute(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(MediaServerFailed, match=r"(?s)did not answer within .*\(empty\)"):
        await MediaServer().start()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_settings_in_the_environment_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_CONFIG", "port: none")
    monkeypatch.setenv("LIVEKIT_KEYS", "stranger: secret")
    async with MediaServer() as server:
        assert await health(server.ports.signal) == "OK"


async def test_image_is_run_with_the_same_leash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Docker client of the test's own runs the container's command with the real server on this machine."""
    real = binary.ensure()
    client = tmp_path / "docker"
    client.write_text(
        f"""#!/bin/sh
        [ "$1 $2 $3 $4 $5 $6 $7" = "run --rm --interactive --network host --env LIVEKIT_CONFIG" ] || exit 9
        [ "$8 $9" = "--entrypoint /bin/sh" ] || exit 9
        shift 9; [ "$1 $2 $4 $5" = "{binary.IMAGE} -c livekit-server /livekit-server" ] || exit 9
        exec /bin/sh -c "$3" livekit-server {real.path}
        """
    )
    client.chmod(0o755)
    monkeypatch.setattr(mediaserver, "ensure", lambda _: Binary("docker", client))
    async with MediaServer() as server:
        assert await health(server.ports.signal) == "OK"
        await server.kill()
        with pytest.raises(aiohttp.ClientConnectionError):
            await health(server.ports.signal)
        await server.start()
        assert await health(server.ports.signal) == "OK"


PARENT = """
import asyncio
import signal
from greenroom.embedded.mediaserver import MediaServer

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background

async def main():
    async with MediaServer() as server:
        print(server.ports.signal, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_server_never_outlives_us(how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert parent.stdout
    port = int(await parent.stdout.readline())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        parent.send_signal(how)
        async with asyncio.timeout(30):
            with suppress(ConnectionResetError):
                await reader.read()
            await parent.wait()
    finally:
        writer.close()
        if parent.returncode is None:
            parent.kill()
            await parent.wait()
    assert not list(tmp_path.glob("greenroom-livekit-*"))  # noqa: ASYNC240
    with pytest.raises(aiohttp.ClientConnectionError):
        await health(port)


async def test_cancelled_start_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(binary.OVERRIDE, raising=False)
    monkeypatch.setattr(binary, "PROGRESS_INTERVAL", 0.05)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec /bin/sleep 60\n")
    go.chmod(0o755)
    building = asyncio.Event()

    def watch(line: str) -> None:
        if line.startswith("  ") and (tmp_path / "pid").exists():
            building.set()

    start = asyncio.create_task(MediaServer(progress=watch).start())
    await building.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await asyncio.get_running_loop().shutdown_default_executor()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_command_prints_where_the_server_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ensure"]) == 0
    assert capsys.readouterr().out == f"{binary.ensure().path}\n"
    monkeypatch.setattr(mediaserver, "find", lambda: None)
    assert main(["find"]) == 1
    monkeypatch.setenv(binary.OVERRIDE, "/nowhere")
    with pytest.raises(MediaServerUnavailable):
        binary.ensure()
    assert main(["ensure"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {binary.OVERRIDE} names")
