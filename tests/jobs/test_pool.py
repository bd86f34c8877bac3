"""Real processes: what the pool makes of them, each test with few of them and nothing that sleeps."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from pathlib import Path

import pytest
import structlog

from greenroom.jobs.breaker import TRIPS_AT
from greenroom.jobs.events import Outcome
from greenroom.jobs.lifecycle import State
from greenroom.jobs.pool import preload_items
from greenroom.settings import AgentSettings, ProviderSettings, Settings, WorkerSettings
from tests.jobs.conftest import Open
from tests.jobs.greenrooms import GreenRoom, deadlines, job, settings

WORDS = {
    "short": (Outcome.SUCCESS, ""),
    "leaves tasks": (Outcome.SUCCESS, ""),
    "raises": (Outcome.FAILED, "ValueError: the agent's bug"),
    "stays out": (Outcome.FAILED, "ConnectionError: the room is locked"),
    "exits": (Outcome.FAILED, "SystemExit: 3"),
    "crashes": (Outcome.CRASHED, "exited during the call: SIGSEGV"),
}


async def test_each_way_that_a_job_may_go(open_room: Open) -> None:
    room = await open_room()
    infos = [job(metadata) for metadata in WORDS]
    for info in infos:
        room.pool.start_job("host", info)
    for info in infos:
        await room.over(info)
    assert {info.metadata: (room.outcomes[info.id], room.errors[info.id]) for info in infos} == WORDS
    assert room.pool.jobs == {}


async def test_two_calls_are_two_processes_and_one_may_die(open_room: Open) -> None:
    room = await open_room(settings(warm=2))
    await room.warm(processes=2)
    first, second = job(), job()
    one, two = await room.started(first), await room.started(second)
    assert one.pid is not None
    assert {one.pid, two.pid} == set(room.pool.jobs.values())
    os.kill(one.pid, signal.SIGKILL)
    assert await room.over(first) is Outcome.CRASHED
    assert room.errors[first.id] == "exited during the call: SIGKILL"
    # The other still answers: it hears the order to end and says that it leaves.
    assert room.state(second) is State.RUNNING
    room.pool.end_job(second.id, "hang up")
    assert await room.over(second) is Outcome.SUCCESS
    assert room.errors[second.id] == ""
    await room.warm(processes=2)


async def test_a_warm_process_that_is_taken_or_dies_is_replaced(open_room: Open) -> None:
    room = await open_room()
    await room.warm()
    (taken,) = room.processes
    info = job()
    assert await room.started(info) is taken
    await room.warm()
    (warm,) = [process for process in room.processes if process is not taken]
    assert warm.pid is not None
    os.kill(warm.pid, signal.SIGKILL)
    await room.until(lambda: warm not in room.processes)
    await room.warm()
    assert room.state(info) is State.RUNNING


async def test_a_process_is_not_replaced_before_its_call_was_greeted(open_room: Open) -> None:
    room = await open_room(settings(warm=2))
    await room.warm(processes=2)
    first, second = job("never joins"), job()
    room.pool.start_job("host", first)
    assert len(room.processes) == 2  # another is warm: the machine is left to the call
    room.pool.start_job("host", second)
    assert len(room.processes) == 3  # none is
    await room.until(lambda: room.state(second) is State.RUNNING)
    await room.warm(processes=2)


async def test_a_call_that_is_not_joined_does_not_put_off_a_replacement_for_good(open_room: Open) -> None:
    room = await open_room(settings(warm=2))
    await room.warm(processes=2)
    room.pool.start_job("host", job("never joins"))
    assert len(room.processes) == 2
    await room.warm(processes=2)


async def test_jobs_without_a_warm_process_wait_for_the_next(open_room: Open) -> None:
    room = await open_room(settings(warm=0))
    infos = [job() for _ in range(3)]
    for info in infos:
        room.pool.start_job("host", info)
    assert list(room.pool.jobs.values()) == [None, None, None]
    await room.until(lambda: all(room.state(info) is State.RUNNING for info in infos))
    assert len(set(room.pool.jobs.values())) == 3
    assert room.shown["host"].waiting == 0


async def test_a_job_is_started_once(open_room: Open) -> None:
    room = await open_room(settings(warm=0))
    info = job()
    room.pool.start_job("host", info)
    room.pool.start_job("host", info)
    await room.until(lambda: room.state(info) is State.RUNNING)
    room.pool.start_job("host", info)
    assert len(room.processes) == 1


async def test_a_job_may_be_ended_before_it_has_a_process(open_room: Open) -> None:
    room = await open_room(settings("hanging", warm=0))
    info = job(agent="hanging")
    room.pool.start_job("hanging", info)
    room.pool.end_job(info.id, "the caller hung up")
    assert room.errors == {info.id: "ended before it started: the caller hung up"}
    assert room.outcomes == {info.id: Outcome.RETIRED}


async def test_the_outcome_is_told_before_the_room_is_left(open_room: Open) -> None:
    room = await open_room()
    room.mute = True
    info = job()
    process = await room.started(info)
    room.pool.end_job(info.id, "hang up")
    await room.until(lambda: info.id in room.errors)
    assert process.state is State.LEAVING
    room.pool.may_leave(info.id)
    assert await room.over(info) is Outcome.SUCCESS


class TestBoot:
    async def test_the_reason_is_known_and_logged_once(self, open_room: Open) -> None:
        with structlog.testing.capture_logs() as logs:
            room = await open_room(settings("broken"))
            await room.until(lambda: "broken" in room.shown and room.shown["broken"].boot_error)
            await room.until(lambda: room.pool._benches["broken"].breaker.failures == 2)
        assert room.shown["broken"].boot_error == "agents.py:3: agent: no such class"
        entries = [entry for entry in logs if entry["event"] == "agent does not boot"]
        assert [entry["exit"] for entry in entries] == ["BOOT_FAILED"]

    async def test_a_bug_is_logged_with_its_trace(self, open_room: Open) -> None:
        with structlog.testing.capture_logs() as logs:
            room = await open_room(settings("buggy"))
            await room.until(lambda: "buggy" in room.shown and room.shown["buggy"].boot_error)
        assert room.shown["buggy"].boot_error == "ZeroDivisionError: a bug"
        (entry,) = [entry for entry in logs if entry["event"] == "agent does not boot"]
        assert "in boot" in entry["exception"]

    async def test_failures_open_the_breaker_and_fail_who_waits(self, open_room: Open) -> None:
        room = await open_room(settings("exiting", "host"))
        await room.warm("host")
        info = job(agent="exiting")
        room.pool.start_job("exiting", info)
        assert await room.over(info) is Outcome.BOOT_FAILED
        error = "SystemExit: an import that exits"
        assert room.errors[info.id] == f"the agent does not boot: {error}"
        assert not room.shown["exiting"].bootable
        assert room.pool._benches["exiting"].breaker.failures == TRIPS_AT
        # One that comes later need not wait for the next attempt, and the other agent is not concerned.
        later = job(agent="exiting")
        room.pool.start_job("exiting", later)
        assert await room.over(later) is Outcome.BOOT_FAILED
        await room.started(job())

    async def test_an_agent_that_was_mended_boots(self, open_room: Open, tmp_path: Path) -> None:
        room = await open_room(settings("mended", state_dir=str(tmp_path)))
        await room.until(lambda: "mended" in room.shown and room.shown["mended"].boot_error)
        await asyncio.to_thread((tmp_path / "mended").touch)
        await room.warm("mended")
        assert room.shown["mended"].boot_error == ""

    async def test_death_and_silence_are_failures_too(self, open_room: Open, capfd: pytest.CaptureFixture[str]) -> None:
        room = await open_room(settings("dying", "hanging", limits=deadlines(boot=1)))
        await room.until(lambda: {"dying", "hanging"} <= room.shown.keys())
        await room.until(lambda: room.shown["hanging"].boot_error and room.shown["dying"].boot_error)
        assert room.shown["dying"].boot_error == "exited while booting: SIGKILL"
        assert room.shown["hanging"].boot_error == "did not boot within 1 s"
        # Before it was killed it was made to show where it hung.
        assert "_hang" in capfd.readouterr().err

    async def test_an_agent_may_use_a_loop_of_its_own(self, open_room: Open) -> None:
        room = await open_room(settings("looping"))
        await room.warm("looping")


class TestLadder:
    async def test_a_hung_loop_is_shown_and_killed(self, open_room: Open, capfd: pytest.CaptureFixture[str]) -> None:
        room = await open_room(settings(limits=deadlines(ping_timeout=1)))
        await room.warm()
        info = job("hangs")
        room.pool.start_job("host", info)
        assert await room.over(info) is Outcome.UNRESPONSIVE
        assert room.errors[info.id] == "did not answer for 1 s"
        assert "_hang" in capfd.readouterr().err

    async def test_sigterm_cancels_what_does_not_end_when_asked(self, open_room: Open) -> None:
        room = await open_room(settings(limits=deadlines(end=0.2)))
        info = job("cancellable")
        process = await room.started(info)
        with structlog.testing.capture_logs() as logs:
            room.pool.end_job(info.id, "hang up")
            assert await room.over(info) is Outcome.KILLED
        (end,) = [entry for entry in logs if entry["event"] == "process finished"]
        assert end["exit"] == "TERMINATED"
        assert process.state is State.DEAD

    async def test_sigkill_ends_what_survives_sigterm(self, open_room: Open) -> None:
        room = await open_room(settings(limits=deadlines(end=0.2, terminate=0.3)))
        info = job("stubborn")
        await room.started(info)
        with structlog.testing.capture_logs() as logs:
            room.pool.end_job(info.id, "hang up")
            assert await room.over(info) is Outcome.KILLED
        signals = [entry["signal"] for entry in logs if entry["event"] == "process signalled"]
        assert signals == ["SIGTERM", "SIGKILL"]

    async def test_a_room_that_is_not_joined(self, open_room: Open) -> None:
        room = await open_room(settings(limits=deadlines(connect=0.3)))
        await room.warm()
        info = job("never joins")
        room.pool.start_job("host", info)
        assert await room.over(info) is Outcome.FAILED
        assert room.errors[info.id] == "did not join the room within 0.3 s"

    async def test_sigterm_from_outside_ends_the_call_politely(self, open_room: Open) -> None:
        room = await open_room()
        info = job()
        process = await room.started(info)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        assert await room.over(info) is Outcome.SUCCESS


async def test_a_job_that_needs_too_much_memory_ends(open_room: Open) -> None:
    room = await open_room(settings(memory_limit_mb=80, memory_warn_mb=60))
    room.pool._scales.interval = 0.05
    good, fat = job(), job("fat")
    await room.started(good)
    await room.warm()
    room.pool.start_job("host", fat)
    assert await room.over(fat) is Outcome.OUT_OF_MEMORY
    assert "the limit is 80 MB" in room.errors[fat.id]
    assert room.state(good) is State.RUNNING
    room.pool.end_job(good.id, "hang up")
    await room.over(good)
    await room.until(lambda: not room.pool._scales.busy)


async def test_what_a_job_finds_in_its_process(open_room: Open, tmp_path: Path) -> None:
    room = await open_room(preload=("numpy",))
    await room.warm()
    report = tmp_path / "facts"
    await room.started(job("reports", to=str(report)))
    await room.until(lambda: report.exists() and report.read_text().endswith("}"))
    facts = ast.literal_eval(report.read_text())
    # The socket that it dialled, and of its event loop: the poll, two sockets to wake it.
    # libffi keeps its own file open, from 3.5 on, to map what it needs for callbacks.
    files = [file.partition(":")[0] for file in facts["files"] if "libffi" not in file]
    assert files == ["anon_inode", "socket", "socket", "socket"]
    assert facts["threads"] == 1
    assert (facts["session"], facts["name"], facts["oom"]) == (True, "greenroom-job", more_killable())
    assert (facts["openblas"], facts["sigterm_ignored"], facts["faulthandler"]) == ("1", False, True)


def more_killable() -> str:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    return str(min(1000, own + 300))


async def test_nothing_leaks_over_many_jobs(open_room: Open) -> None:
    room = await open_room(settings(warm=2))
    await room.warm(processes=2)
    await run_some(room, 4)
    before = held(room)
    await run_some(room, 26)
    assert held(room) == before
    assert len(room.outcomes) == 30
    assert set(room.outcomes.values()) == {Outcome.SUCCESS}


async def run_some(room: GreenRoom, number: int) -> None:
    infos = [job("short") for _ in range(number)]
    for info in infos:
        room.pool.start_job("host", info)
    await room.until(lambda: all(info.id in room.outcomes for info in infos))
    await room.until(lambda: room.shown["host"].warm == 2 and len(room.processes) == 2)


def held(room: GreenRoom) -> tuple[int, int, int, int]:
    """Files and threads of the daemon and of its fork server."""
    pid = room.pool.fork_server_pid
    assert pid is not None
    places = [f"/proc/{one}/{what}" for one in (os.getpid(), pid) for what in ("fd", "task")]
    one, two, three, four = (len(os.listdir(place)) for place in places)
    return one, two, three, four


class TestWhatJobsHearAndSay:
    async def test_that_the_end_has_come(self, open_room: Open) -> None:
        room = await open_room()
        info = job("wraps up")
        await room.started(info)
        room.pool.wrap_up(60, last=False)
        await room.until(lambda: len(room.changes) == 1)
        # One that comes later hears it too, and so does one whose line was away.
        late = job("wraps up")
        process = await room.started(late)
        await room.until(lambda: len(room.changes) == 2)
        assert process._line is not None
        process._line.abort()
        room.pool.wrap_up(30, last=True)
        assert await room.over(info) is Outcome.SUCCESS
        assert await room.over(late) is Outcome.SUCCESS
        assert {job_id for job_id, _ in room.changes} == {info.id, late.id}

    async def test_what_was_measured(self, open_room: Open) -> None:
        room = await open_room()
        info = job("measures")
        await room.started(info)
        await room.until(lambda: room.measures)
        assert room.measures[0].counted == (("turns", (("kind", "x"),), 2.0),)

    async def test_how_they_booted(self, open_room: Open) -> None:
        room = await open_room(settings("host", "broken"))
        await room.until(lambda: len(room.boots) == 2)
        assert dict(room.boots) == {"host": "", "broken": "agents.py:3: agent: no such class"}


class TestClosing:
    async def test_at_rest_it_keeps_what_was_promised_and_warms_nothing(self, open_room: Open) -> None:
        room = await open_room()
        first, promised = job(), job()
        await room.started(first)
        await room.warm()
        room.pool.rest()
        await room.started(promised)
        assert room.shown["host"].wanted == 0
        assert len(room.processes) == 2
        third = job()
        await room.started(third)
        for info in (first, promised, third):
            room.pool.end_job(info.id, "hang up")
            assert await room.over(info) is Outcome.SUCCESS
        assert room.processes == []
        room.pool.rouse()
        await room.warm()

    async def test_close_ends_everything(self, open_room: Open, run_dir: Path) -> None:
        room = await open_room(settings("host", "hanging"))
        info, waiting = job(), job(agent="hanging")
        await room.started(info)
        room.pool.start_job("hanging", waiting)
        pids = [process.pid for process in room.processes] + [room.pool.fork_server_pid]
        await room.pool.aclose()
        assert room.outcomes == {info.id: Outcome.SUCCESS, waiting.id: Outcome.RETIRED}
        assert not [pid for pid in pids if pid is not None and alive(pid)]
        assert not (run_dir / "jobs.sock").exists()
        late = job()
        room.pool.start_job("host", late)
        assert await room.over(late) is Outcome.RETIRED


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_preloaded() -> None:
    whole = Settings(
        server=settings().server,
        agents=(
            AgentSettings(name="a", stt=ProviderSettings("whisper"), vad=ProviderSettings("silero")),
            AgentSettings(name="b", stt=ProviderSettings("whisper")),
        ),
        worker=WorkerSettings(preload=("json",)),
    )
    assert preload_items(whole)[-3:] == ("plugin:silero", "plugin:whisper", "json")
