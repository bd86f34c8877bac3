"""Time that jumps, and does not when the world outside is at work."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from greenroom.testing.virtual_time import Deadlock, LeakedTasks, VirtualTimeLoop, run, virtual_time


@virtual_time
async def test_an_hour_takes_no_time() -> None:
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(3600)
    assert loop.time() == 3600
    assert time.monotonic() - began < 60


@virtual_time
async def test_times_are_exact_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    rung: list[tuple[str, float]] = []

    def ring(name: str) -> None:
        rung.append((name, loop.time()))

    for name, when in (("c", 0.3), ("a", 0.1), ("b", 0.1), ("d", 0.7)):
        loop.call_at(when, ring, name)
    loop.call_at(0.2, ring, "cancelled").cancel()
    await asyncio.sleep(0.7)
    await asyncio.sleep(0)
    assert rung == [("a", 0.1), ("b", 0.1), ("c", 0.3), ("d", 0.7)]


@virtual_time
async def test_the_same_interleaving_every_time() -> None:
    log: list[tuple[float, int]] = []

    async def worker(n: int, gap: float) -> None:
        for _ in range(5):
            await asyncio.sleep(gap)
            log.append((round(asyncio.get_running_loop().time(), 9), n))

    await asyncio.gather(worker(1, 0.3), worker(2, 0.5))
    assert log == [
        (0.3, 1), (0.5, 2), (0.6, 1), (0.9, 1), (1.0, 2), (1.2, 1), (1.5, 2), (1.5, 1), (2.0, 2), (2.5, 2),
    ]  # fmt: skip


@virtual_time
async def test_a_timeout_fires_at_its_time() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.Event().wait()
    assert loop.time() == 5


@virtual_time
async def test_executor_work_takes_no_virtual_time() -> None:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    order: list[str] = []
    loop.call_at(0.001, order.append, "timer")
    thread = loop.run_in_executor(None, release.wait)
    threading.Timer(0.05, release.set).start()
    assert await thread
    order.append("thread")
    assert loop.time() == 0
    await asyncio.sleep(0.01)
    assert order == ["thread", "timer"]
    assert await asyncio.to_thread(lambda: 7) == 7
    assert loop.time() == pytest.approx(0.01)


@virtual_time
async def test_outside_work_is_waited_for() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    done = asyncio.Event()
    with loop.outside_work():
        threading.Timer(0.05, lambda: loop.call_soon_threadsafe(done.set)).start()
        await done.wait()
    assert loop.time() == 0


@virtual_time
async def test_time_passes_at_its_real_pace_while_a_socket_is_open() -> None:
    loop = asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    began_real, began = time.monotonic(), loop.time()
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
    assert 0.05 <= loop.time() - began <= time.monotonic() - began_real, "no more than really passed"
    await asyncio.sleep(1000)
    assert loop.time() > 1000


def test_a_deadlock_names_who_waits() -> None:
    async def hopeless() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(hopeless(), name="the one that waits")
        await task

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert "the one that waits" in str(caught.value)
    assert "await asyncio.Event().wait()" in str(caught.value)


def test_leaked_tasks_fail() -> None:
    async def lingering() -> None:
        await asyncio.sleep(100)

    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        kept.append(asyncio.create_task(lingering(), name="the one left behind"))

    with pytest.raises(LeakedTasks, match="the one left behind"):
        run(main())
    assert kept[0].cancelled()


def test_a_task_that_was_cancelled_is_no_leak() -> None:
    kept: list[asyncio.Task[None]] = []

    async def main() -> int:
        kept.append(asyncio.create_task(asyncio.sleep(100)))
        await asyncio.sleep(1)
        kept[0].cancel()
        return 3

    assert run(main()) == 3
    assert kept[0].cancelled()


def test_errors_come_through() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(main())


def test_time_starts_where_told() -> None:
    async def main() -> float:
        await asyncio.sleep(1.5)
        return asyncio.get_running_loop().time()

    assert run(main(), start=100.0) == 101.5


@pytest.fixture
def number() -> int:
    return 5


@pytest.mark.parametrize("seconds", [1, 2])
@virtual_time
async def test_fixtures_and_parameters_reach_the_test(number: int, seconds: int) -> None:
    await asyncio.sleep(seconds)
    assert (asyncio.get_running_loop().time(), number) == (seconds, 5)
