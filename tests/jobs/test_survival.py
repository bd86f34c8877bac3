"""Calls that outlive the line, the fork server and the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Self

import pytest
import uvloop

import tests
from greenroom.errors import BootFailed
from greenroom.jobs.events import Outcome
from greenroom.jobs.ipc import Ping, encode
from greenroom.jobs.lifecycle import State
from greenroom.jobs.process import JobProcess
from tests.jobs.conftest import Open
from tests.jobs.greenrooms import PATIENCE, GreenRoom, job, settings


async def hang_up(room: GreenRoom, process: JobProcess) -> None:
    """The daemon's end of the line closes; returns when the process has dialled again."""
    line = process._line
    assert line is not None
    line.abort()
    await room.until(lambda: process._line not in (None, line))
    assert process.lifecycle.line


async def test_a_call_outlives_its_line(open_room: Open) -> None:
    room = await open_room()
    info = job()
    process = await room.started(info)
    pid = process.pid
    for _ in range(3):
        await hang_up(room, process)
    assert (process.state, process.pid) == (State.RUNNING, pid)
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS


async def test_what_was_said_into_a_dead_line_is_said_again(open_room: Open) -> None:
    room = await open_room()
    room.mute = True
    info = job()
    process = await room.started(info)
    room.pool.end_job(info.id, "hang up")
    await room.until(lambda: process.state is State.LEAVING)
    await hang_up(room, process)
    room.pool.may_leave(info.id)
    assert await room.over(info) is Outcome.SUCCESS


async def test_a_warm_process_dials_again_and_serves(open_room: Open) -> None:
    room = await open_room()
    await room.warm()
    (process,) = room.processes
    await hang_up(room, process)
    await room.until(lambda: process.available)
    info = job()
    assert await room.started(info) is process


async def test_a_fork_server_that_dies_is_replaced_and_the_calls_go_on(open_room: Open) -> None:
    room = await open_room()
    info = job()
    process = await room.started(info)
    await room.warm()
    first = room.pool.fork_server_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await room.until(lambda: room.pool.fork_server_pid not in (None, first))
    assert process.state is State.RUNNING
    # The warm one is still good, and what replaces it comes from the new fork server.
    await room.started(job())
    await room.warm()
    # Nobody collects the exit code any more, but that it ended is seen, and what it said before counts.
    room.pool.end_job(info.id, "hang up")
    assert await room.over(info) is Outcome.SUCCESS


def test_all_of_it_on_the_daemons_own_loop(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon runs on uvloop, whose sockets and watched files are its own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(tests.__file__).parent.parent))

    async def main() -> None:
        room = GreenRoom(run_dir)
        await room.pool.start()
        info = job()
        process = await room.started(info)
        await hang_up(room, process)
        first = room.pool.fork_server_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await room.until(lambda: room.pool.fork_server_pid not in (None, first))
        room.pool.end_job(info.id, "hang up")
        assert await room.over(info) is Outcome.SUCCESS
        await room.pool.aclose()

    uvloop.run(main())


async def test_a_death_without_a_fork_server_is_seen(open_room: Open) -> None:
    room = await open_room()
    info = job()
    process = await room.started(info)
    first = room.pool.fork_server_pid
    assert first is not None
    assert process.pid is not None
    os.kill(first, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    assert await room.over(info) is Outcome.CRASHED


async def test_a_hung_fork_server_is_replaced(open_room: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.jobs.forks.FORK_TIMEOUT", 0.2)
    room = await open_room(settings(warm=0))
    first = room.pool.fork_server_pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    info = job()
    room.pool.start_job("host", info)
    await room.until(lambda: room.state(info) is State.RUNNING)
    assert room.pool.fork_server_pid != first


async def test_a_preload_that_starts_a_thread_is_left_out(open_room: Open) -> None:
    room = await open_room(preload=("json", "tests.jobs.threaded", "no.such.module"))
    assert room.pool._forks._preload == ["json", "no.such.module"]
    await room.started(job())


@pytest.mark.parametrize(
    ("program", "why"), [("/bin/false", "exit code 1"), ("/no/such/python", "cannot be run: No such file or directory")]
)
async def test_a_fork_server_that_cannot_start_is_an_error(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    room = GreenRoom(run_dir)
    with pytest.raises(BootFailed, match=f"fork server did not start: {why}"):
        await room.pool.start()
    await room.pool.aclose()


async def test_a_stranger_is_shown_the_door(open_room: Open, run_dir: Path) -> None:
    room = await open_room()
    await room.warm()
    reader, writer = await asyncio.open_unix_connection(run_dir / "jobs.sock")
    writer.write(encode(Ping(1)))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await asyncio.wait_for(reader.readexactly(1), PATIENCE)
    writer.close()
    reader, writer = await asyncio.open_unix_connection(run_dir / "jobs.sock")
    writer.write(b"\xff" * 64)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await asyncio.wait_for(reader.readexactly(1), PATIENCE)
    writer.close()
    await room.started(job())


class TestTheDaemonIsKilled:
    """kill -9 of a daemon with a live call and a warm process."""

    @pytest.fixture
    async def left_behind(self, run_dir: Path) -> tuple[int, int, int]:
        """The pids of the job, the warm process and the fork server, just after."""
        # A pipe of its own: what the job inherits, such as the standard output, outlives the daemon.
        reading, writing = os.pipe()
        try:
            daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.jobs.daemon", str(run_dir), str(writing)),
                pass_fds=(writing,),
                env=os.environ | {"PYTHONPATH": str(Path(tests.__file__).parent.parent)},
            )
        finally:
            os.close(writing)
        try:
            words = await asyncio.wait_for(asyncio.to_thread(os.read, reading, 100), PATIENCE)
        finally:
            os.close(reading)
            daemon.kill()
            await daemon.wait()
        job_pid, warm_pid, server_pid = map(int, words.split())
        return job_pid, warm_pid, server_pid

    async def test_the_next_one_adopts_the_call(self, open_room: Open, left_behind: tuple[int, int, int]) -> None:
        job_pid, warm_pid, server_pid = left_behind
        with open_pidfd(job_pid), open_pidfd(warm_pid) as warm, open_pidfd(server_pid) as server:
            room = await open_room()
            await room.until(lambda: room.adoptions)
            (info,) = room.adoptions
            assert room.process(info).pid == job_pid
            assert info.token, "with all that is needed to end the call"
            await room.until(lambda: warm.gone and server.gone)
            room.pool.end_job(info.id, "hang up")
            assert await room.over(info) is Outcome.SUCCESS

    async def test_one_that_closes_leaves_it_alone(self, run_dir: Path, left_behind: tuple[int, int, int]) -> None:
        job_pid, warm_pid, _ = left_behind
        with open_pidfd(job_pid) as call, open_pidfd(warm_pid) as warm:
            room = GreenRoom(run_dir)
            room.pool._closing = True
            await room.pool.start()
            await room.until(lambda: room.pool._refused and warm.gone)
            assert not call.gone
            assert room.pool.jobs == {}
            # The first SIGTERM asks it to end; it leaves without a daemon's word.
            call.signal(signal.SIGTERM)
            await room.until(lambda: call.gone)
            await room.pool.aclose()

    async def test_an_adopted_call_comes_back_too(self, open_room: Open, left_behind: tuple[int, int, int]) -> None:
        job_pid, warm_pid, _ = left_behind
        with open_pidfd(job_pid) as call, open_pidfd(warm_pid):
            room = await open_room(settings(attempts=1))
            await room.until(lambda: room.in_room)
            (info,) = room.adoptions
            call.signal(signal.SIGKILL)
            await room.until(lambda: len(room.in_room) == 2)
            assert [(one.id, how) for one, how in room.resumed] == [(info.id, Outcome.CRASHED)]
            assert room.errors == {}
            room.pool.end_job(info.id, "hang up")
            assert await room.over(info) is Outcome.SUCCESS


class open_pidfd:  # noqa: N801  # reads as the function that it stands for
    """A process that is not ours, without mistaking another for it."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGKILL)
        os.close(self._fd)

    @property
    def gone(self) -> bool:
        return not self.signal(0)

    def signal(self, number: int) -> bool:
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return False
        return True
