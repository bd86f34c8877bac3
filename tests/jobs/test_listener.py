from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom.errors import SettingsError
from greenroom.jobs.ipc import ChildMessage, Frames, Handover, Hello, encode
from greenroom.jobs.line import Line
from greenroom.jobs.listener import Listener, RunDirInUse


def ignore(line: Line, hello: Hello, pid: int) -> None:
    line.close()


def listening(run_dir: Path, on_hello: Callable[[Line, Hello, int], None]) -> Listener:
    listener = Listener(run_dir)
    listener.on_hello = on_hello
    return listener


async def knock(listener: Listener) -> None:
    """Dial, be heard and be hung up on."""
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(encode(Hello("slot", 1, "0.1")))
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


def make_open(run_dir: Path) -> None:
    run_dir.mkdir()
    run_dir.chmod(0o755)


def make_dead(run_dir: Path, name: str = "jobs.sock") -> None:
    run_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run_dir / name))


def make_file(run_dir: Path) -> None:
    run_dir.write_text("a file")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_says_who_dialled(run_dir: Path) -> None:
    dialled: asyncio.Future[tuple[Hello, int]] = asyncio.get_running_loop().create_future()

    def hello(line: Line, message: Hello, pid: int) -> None:
        line.close()
        dialled.set_result((message, pid))

    listener = listening(run_dir, hello)
    await listener.start()
    await knock(listener)
    # The pid is the kernel's word, whatever the message claims.
    assert await dialled == (Hello("slot", 1, "0.1"), os.getpid())
    await listener.aclose()


async def test_only_this_user_may_come_in(run_dir: Path) -> None:
    make_open(run_dir)
    listener = listening(run_dir, ignore)
    await listener.start()
    assert mode(run_dir) == 0o700
    await listener.aclose()
    assert not listener.path.exists()


async def test_a_dead_daemons_socket_is_replaced(run_dir: Path) -> None:
    make_dead(run_dir)
    listener = listening(run_dir, ignore)
    await listener.start()
    await knock(listener)
    await listener.aclose()


async def test_a_living_daemons_is_not(run_dir: Path) -> None:
    first, second = listening(run_dir, ignore), listening(run_dir, ignore)
    await first.start()
    with pytest.raises(SettingsError, match="in use by another daemon"):
        await second.start()
    await second.aclose()
    await knock(first)
    await first.aclose()


async def test_a_path_that_is_too_long_is_explained(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    with pytest.raises(SettingsError, match=r"worker.run_dir: .* bytes; expected at most 107: choose a shorter"):
        await listening(deep, ignore).start()
    assert not deep.exists()


async def test_a_directory_that_cannot_be_made_is_explained(run_dir: Path) -> None:
    make_file(run_dir)
    with pytest.raises(SettingsError, match=r"worker.run_dir: cannot listen on"):
        await listening(run_dir, ignore).start()


async def test_who_says_nothing_is_hung_up_on(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.jobs.listener.HELLO_TIMEOUT", 0.05)
    listener = listening(run_dir, ignore)
    await listener.start()
    reader, writer = await asyncio.open_unix_connection(listener.path)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    await listener.aclose()


def test_a_line_that_is_not_made_says_nothing() -> None:
    line = Line(Frames(ChildMessage), on_message=lambda *_: None, on_lost=lambda _: None)
    line.send(Hello("slot", 1, "0.1"))
    line.close()
    line.abort()
    with pytest.raises(ConnectionError):
        line.peer()


async def test_one_that_waits_beside_it_takes_its_place(run_dir: Path) -> None:
    first, second = listening(run_dir, ignore), Listener(run_dir, apart=True)
    second.on_hello = ignore
    await first.start()
    await second.start()
    line, via = second.addresses
    assert (line, via) == (str(run_dir / "jobs.sock"), str(run_dir / f"jobs-{os.getpid()}.sock"))
    with pytest.raises(RunDirInUse):
        await second.take_over()
    await first.release()
    await second.take_over()
    assert second.addresses == (line, "")
    await knock(second)
    # The first may close late: the file is the other one's by now.
    await first.aclose()
    await knock(second)
    await second.aclose()
    assert await asyncio.to_thread(os.listdir, run_dir) == ["daemon.lock"]


async def test_what_was_released_can_be_taken_back(run_dir: Path) -> None:
    listener = listening(run_dir, ignore)
    await listener.start()
    await listener.release()
    await listener.start()
    await knock(listener)
    await listener.aclose()


async def test_sockets_of_those_that_died_waiting_are_removed(run_dir: Path) -> None:
    await asyncio.to_thread(make_dead, run_dir, "jobs-1.sock")
    listener = listening(run_dir, ignore)
    await listener.start()
    assert sorted(await asyncio.to_thread(os.listdir, run_dir)) == ["daemon.lock", "jobs.sock"]
    await listener.aclose()


async def test_a_daemon_that_wants_the_place_is_announced(run_dir: Path) -> None:
    asked: list[int] = []

    def hand_over(line: Line, pid: int) -> None:
        asked.append(pid)
        line.close()

    listener = listening(run_dir, ignore)
    listener.on_handover = hand_over
    await listener.start()
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(encode(Handover(1, "0.2")))
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    assert asked == [os.getpid()]
    await listener.aclose()
