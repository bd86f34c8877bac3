from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from greenroom.jobs import control as module
from greenroom.jobs.control import JobControl
from greenroom.jobs.ipc import ChildMessage, Joined, Leaving


@pytest.fixture
def said() -> asyncio.Queue[ChildMessage]:
    return asyncio.Queue()


@pytest.fixture
def control(said: asyncio.Queue[ChildMessage]) -> JobControl:
    return JobControl(said.put_nowait)


def test_joined_says_how_long_it_took(control: JobControl, said: asyncio.Queue[ChildMessage]) -> None:
    control.joined()
    joined = said.get_nowait()
    assert isinstance(joined, Joined)
    assert 0 <= joined.seconds < 30


async def test_leaving_waits_for_the_word(control: JobControl, said: asyncio.Queue[ChildMessage]) -> None:
    leaving = asyncio.create_task(control.leaving("hung up", error="late"))
    assert await said.get() == Leaving("hung up", "late")
    assert not leaving.done()
    control.allow_leave()
    await leaving
    await control.leaving("again")
    assert said.empty()


async def test_leaving_does_not_wait_for_ever(control: JobControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVE_PATIENCE", 0.01)
    with capture_logs() as logs:
        await control.leaving("hung up")
        await control.leaving("hung up")
    assert [entry["event"] for entry in logs] == ["left without the daemon's word"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_without_a_daemon_it_waits_less(
    control: JobControl, said: asyncio.Queue[ChildMessage], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(module, "LEAVE_PATIENCE", 60.0)
    monkeypatch.setattr(module, "ALONE_PATIENCE", 0.01)
    if when == "before":
        control.line_changed(False)
    leaving = asyncio.create_task(control.leaving("hung up"))
    await said.get()
    if when == "meanwhile":
        control.line_changed(False)
    await asyncio.wait_for(leaving, 30)


async def test_the_end_is_heard_once_and_by_who_comes_late(control: JobControl) -> None:
    heard: list[tuple[str, float]] = []
    control.on_end(lambda reason, grace: heard.append((reason, grace)))
    assert not control.end_asked.is_set()
    control.ask_end("drain", 10.0)
    control.ask_end("close", 1.0)
    await control.end_asked.wait()
    assert heard == [("drain", 10.0)]
    assert (control.end_asked.reason, control.end_asked.grace) == ("drain", 1.0)
    control.on_end(lambda reason, grace: heard.append((reason, grace)))
    assert heard == [("drain", 10.0), ("drain", 1.0)]


def test_a_callback_that_raises_stops_no_other(control: JobControl) -> None:
    heard: list[str] = []

    def bad(reason: str, grace: float) -> None:
        raise ValueError("a bug")

    control.on_end(bad)
    control.on_end(lambda reason, grace: heard.append(reason))
    with capture_logs() as logs:
        control.ask_end("drain", 10.0)
    assert heard == ["drain"]
    assert [entry["event"] for entry in logs] == ["callback failed"]
