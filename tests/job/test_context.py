"""The context of a job: who sees it, what it hides, and how a job ends by it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest
from livekit import rtc
from structlog.testing import capture_logs

from greenroom import JobContext, get_job_context
from greenroom.job.context import Job, JobRoom
from greenroom.jobs.ipc import JobInfo
from greenroom.settings import ServerSettings

SECRET = "a-secret-of-more-than-thirty-two-characters"
TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"
NOBODY = ServerSettings(url="ws://127.0.0.1:1", api_key="key", api_secret=SECRET)
INFO = JobInfo(
    id="AJ_1",
    room="hall",
    room_sid="RM_1",
    agent_name="host",
    url="ws://127.0.0.1:1",
    token=TOKEN,
    identity="agent-AJ_1",
    metadata='{"table": 4}',
    participant="ann",
    attributes={"tier": "gold"},
)


class Call:
    """What becomes of the call, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ended = asyncio.Event()

    @property
    def client(self) -> rtc.Room:
        raise AssertionError("no room here")

    def on_client(self, callback: Callable[[rtc.Room], None]) -> None:
        raise AssertionError("no room here")

    async def depart(self, reason: str) -> None:
        await asyncio.sleep(0)
        self.told.append(f"departs: {reason}")

    def end(self, reason: str) -> None:
        self.told.append(f"ends: {reason}")
        self.ended.set()


def context(call: Call | None = None) -> JobContext:
    return JobContext(Job.of(INFO), server=NOBODY, call=call or Call())


def test_without_a_job_the_error_says_what_it_is_for() -> None:
    with pytest.raises(RuntimeError, match="what runs in a call"):
        get_job_context()
    assert get_job_context(required=False) is None


def test_a_job_that_asks_the_server_nothing_does_not_load_the_client_for_it() -> None:
    program = "import sys, greenroom.job.runner; print(*{'aiohttp', 'livekit.api'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


async def test_tasks_and_threads_of_a_job_see_its_context_and_others_do_not() -> None:
    entered = asyncio.Event()

    async def job() -> None:
        mine = context()
        mine.enter()
        assert get_job_context() is mine
        assert await asyncio.create_task(asyncio.to_thread(get_job_context)) is mine
        entered.set()

    await asyncio.create_task(job())
    assert entered.is_set()
    assert get_job_context(required=False) is None


async def test_a_job_is_known_by_the_names_of_livekit() -> None:
    job = context().job
    assert job == Job("AJ_1", JobRoom("hall", "RM_1"), "host", '{"table": 4}', "ann", "", {"tier": "gold"})
    assert (job.room.name, job.metadata) == ("hall", '{"table": 4}')


async def test_nothing_shows_a_secret() -> None:
    shown = context()
    for text in (
        repr(shown),
        repr(shown.job),
        str(vars(shown.job.room) if hasattr(shown.job.room, "__dict__") else ""),
    ):
        assert SECRET not in text
        assert TOKEN not in text
    client = shown.api
    assert SECRET not in repr(client) + repr(client.room)
    await shown.close("over", timeout=1.0)


async def test_the_api_is_made_once_and_closed_with_the_job() -> None:
    mine = context()
    client = mine.api
    assert mine.api is client
    assert client._own_session.closed is False  # type: ignore[attr-defined]
    await mine.close("over", timeout=1.0)
    assert client._own_session.closed is True  # type: ignore[attr-defined]


async def test_a_thread_may_end_the_job() -> None:
    call = Call()
    await asyncio.to_thread(context(call).shutdown, "the shop closes")
    await asyncio.wait_for(call.ended.wait(), 5)
    assert call.told == ["ends: the shop closes"]


async def test_shutdown_callbacks_are_called_whatever_one_of_them_does() -> None:
    mine, called = context(), []

    async def saves() -> None:
        await asyncio.sleep(0)
        called.append("saves")

    async def says_why(reason: str) -> None:
        called.append(f"says why: {reason}")

    def fails() -> None:
        raise ValueError("the database is away")

    for callback in (fails, saves, says_why, lambda reason: called.append(f"plain: {reason}")):
        mine.add_shutdown_callback(callback)
    with capture_logs() as logs:
        await mine.close("caller_left", timeout=1.0)
    assert sorted(called) == ["plain: caller_left", "saves", "says why: caller_left"]
    assert [line["event"] for line in logs] == ["shutdown callback failed"]


async def test_a_shutdown_callback_that_hangs_is_given_up() -> None:
    mine, cancelled = context(), asyncio.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    mine.add_shutdown_callback(hangs)
    with capture_logs() as logs:
        await mine.close("caller_left", timeout=0.01)
    assert cancelled.is_set()
    assert [line["event"] for line in logs] == ["shutdown callbacks took too long"]


async def test_a_room_that_cannot_be_deleted_is_left_all_the_same() -> None:
    call = Call()
    mine = context(call)
    with capture_logs() as logs:
        await mine.delete_room()
        await mine.delete_room()
    assert call.told == ["departs: room_deleted", "ends: room_deleted"]
    (line,) = logs
    assert line["event"] == "room not deleted"
    assert "127.0.0.1:1" in line["error"]
    assert SECRET not in str(line)
    await mine.settle()
    await mine.close("over", timeout=1.0)


async def test_whoever_awaits_the_deletion_may_be_cancelled_and_it_goes_on() -> None:
    call = Call()
    mine = context(call)
    mine.delete_room().cancel()
    assert call.told == []
    await mine.settle()
    assert call.told == ["departs: room_deleted", "ends: room_deleted"]
    await mine.close("over", timeout=1.0)
