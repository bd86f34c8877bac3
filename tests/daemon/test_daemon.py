"""The daemon as a whole, as the process that it is: its signals, its settings, and what the server is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from greenroom.jobs.ipc import DaemonMessage, Frames, HandedOver, Handover, encode
from greenroom.ops.asking import ask_drain
from greenroom.testing.fake_server import FakeWorker, job
from tests.daemon.daemons import House, open_house
from tests.jobs.greenrooms import PATIENCE


@pytest.fixture
async def house() -> AsyncIterator[House]:
    # pytest's own directory may be too deep for a unix socket's path.
    with TemporaryDirectory(prefix="gr-") as name:
        async with open_house(Path(name)) as opened:
            yield opened


async def update(worker: FakeWorker) -> tuple[str, str, str]:
    """The next job status that the server is told: the job, how it stands, and the error."""
    async with asyncio.timeout(PATIENCE):
        told = await worker.job_updates.get()
    return told.job_id, {1: "running", 2: "success", 3: "failed"}[int(told.status)], told.error


async def test_a_call_from_offer_to_end(house: House) -> None:
    daemon, worker = await house.open()
    await house.call(worker, "AJ_1")
    (known,) = (await house.status()).jobs
    assert (known.id, known.state, known.room, known.attempt, known.adopted) == (
        *("AJ_1", "running", "room-AJ_1", 1),
        False,
    )
    await worker.terminate("AJ_1")
    await daemon.said("job finished", job="AJ_1", outcome="success")
    daemon.kill(signal.SIGTERM)
    assert await daemon.exit() == 0
    assert worker.job_updates.empty(), "the server has ended it itself"


async def test_a_death_that_the_server_hears_nothing_of(house: House) -> None:
    daemon, worker = await house.open()
    await house.call(worker, "AJ_1")
    before = (await house.status()).jobs[0].pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await daemon.said("job joined", 2, job="AJ_1")
    (known,) = (await house.status()).jobs
    assert (known.state, known.attempt) == ("running", 2)
    assert known.pid != before
    # Of the participant that died; the call goes on.
    await worker.terminate("AJ_1")
    await house.until(lambda: house.entries("message dropped") or house.entries("termination dropped"))
    assert worker.job_updates.empty()
    assert len((await house.status()).jobs) == 1
    await daemon.end_now()
    assert await daemon.exit() == 0
    assert daemon.entries("job finished", outcome="success")


class TestTheDaemonDies:
    async def test_its_calls_are_adopted(self, house: House) -> None:
        daemon, worker = await house.open()
        for n in range(3):
            await house.call(worker, f"AJ_{n}")
        pids = {one.id: one.pid for one in (await house.status()).jobs}
        daemon.kill()
        await daemon.exit()
        _, again = await house.open()
        await house.until(lambda: len(house.entries("call adopted")) == 3)
        # Each says itself that it is in its room, after it has dialled.
        status = await house.until_status(lambda now: all(one.state == "running" for one in now.jobs))
        assert {one.id: one.pid for one in status.jobs} == pids
        assert all(one.adopted for one in status.jobs)
        assert status.free == status.max_jobs - 3
        # They are as much its own as any: it drains them, and ends them when it is told twice.
        second = house.daemons[-1]
        await house.call(again, "AJ_9")
        second.kill(signal.SIGTERM)
        await second.said("draining", jobs=4)
        second.kill(signal.SIGTERM)
        assert await second.exit() == 0
        assert len(second.entries("job finished", outcome="success")) == 4
        assert await update(again) == ("AJ_9", "success", "")
        assert len(second.entries("nobody to tell")) == 3

    async def test_and_they_may_die_and_come_back_under_the_next(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1", attributes={"journal": "/nowhere/one"})
        daemon.kill()
        await daemon.exit()
        await house.open()
        await house.until(lambda: house.entries("call adopted"))
        await house.until(lambda: len(house.entries("job joined")) == 2)
        (known,) = (await house.status()).jobs
        assert known.pid is not None
        os.kill(known.pid, signal.SIGKILL)
        await house.until(lambda: len(house.entries("job joined")) == 3)
        (known,) = (await house.status()).jobs
        assert (known.state, known.attempt, known.adopted) == ("running", 2, True)

    async def test_one_that_the_server_refuses_leaves_them_alone(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        pid = (await house.status()).jobs[0].pid
        daemon.kill()
        await daemon.exit()
        house.server.refuse(401)
        refused = await house.start()
        assert await refused.exit() == 1
        house.server.refuse(None)
        await house.open()
        await house.until(lambda: house.daemons[-1].entries("call adopted"))
        assert (await house.status()).jobs[0].pid == pid


class TestTakeover:
    async def test_calls_go_over_and_offers_find_somebody(self, house: House) -> None:
        daemon, old = await house.open()
        for n in range(3):
            await house.call(old, f"AJ_{n}")
        pids = {one.id: one.pid for one in (await house.status()).jobs}
        _, new = await house.open("--takeover")
        # Both are registered now: whoever is asked says yes, or the other one does.
        async with asyncio.timeout(PATIENCE):
            asked = job("AJ_9", room="ninth", agent_name="host")
            taker = old if not old.gone.is_set() and (await old.offer(asked)).available else new
            if taker is new:
                assert (await new.offer(asked)).available
            await taker.assign(asked)
        assert await daemon.exit() == 0
        await house.until(lambda: house.daemons[-1].entries("taken over"))
        await house.until(lambda: len(house.entries("job joined", job="AJ_9")) >= 1)

        await house.until(lambda: len(house.daemons[-1].entries("job joined")) == 4)
        found = {one.id: one.pid for one in (await house.status()).jobs if one.state == "running"}
        assert len(found) == 4
        assert pids.items() <= found.items(), "the same processes"
        assert not house.entries("job finished")
        # The socket is where it always was: the next one finds it.
        successor, _ = await house.open("--takeover")
        assert await house.daemons[1].exit() == 0
        await house.until(lambda: len(successor.entries("call adopted")) == 4)
        await successor.end_now()
        assert await successor.exit() == 0
        assert sorted(os.listdir(house.run_dir)) == ["daemon.lock"]

    async def test_a_signal_is_enough(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        daemon.kill(signal.SIGUSR2)
        begun = await daemon.said("takeover begins")
        assert await daemon.exit() == 0
        await house.until(lambda: daemon.entries("call adopted"))
        status = await house.status()
        assert status.pid == begun["pid"]
        assert [one.state for one in status.jobs] in (["starting"], ["running"])
        os.kill(status.pid, signal.SIGTERM)
        await daemon.said("asked to stop")
        os.kill(status.pid, signal.SIGTERM)
        await daemon.said("stopped", 2)

    async def test_without_a_running_one_it_just_starts(self, house: House) -> None:
        await house.open("--takeover")
        assert (await house.status()).jobs == ()

    async def test_two_in_one_place_are_not_allowed_without_it(self, house: House) -> None:
        await house.open()
        other = await house.start()
        assert await other.exit() == 1
        assert (await house.status()).pid == house.daemons[0].process.pid

    async def test_one_that_cannot_register_leaves_the_place_to_the_old_one(self, house: House) -> None:
        house.write("deadlines: {takeover: 0.5}")
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        house.server.hold_registration()
        late = await house.start("--takeover")
        assert await late.exit() == 1
        house.server.hold_registration(False)
        assert (await house.status()).pid == daemon.process.pid
        await house.call(worker, "AJ_2")

    async def test_one_that_dies_in_the_middle_is_as_if_it_had_never_come(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        # It has asked, and is gone when the place is free.
        reader, writer = await asyncio.open_unix_connection(house.run_dir / "jobs.sock")
        writer.write(encode(Handover(1, "9.9")))
        async with asyncio.timeout(PATIENCE):
            assert Frames(DaemonMessage).feed(await reader.read(4096)) == [HandedOver(1)]
        writer.close()
        await daemon.said("takeover failed")
        await daemon.said("calls are taken again")
        await house.call(worker, "AJ_2")
        assert len((await house.status()).jobs) == 2


class TestDrain:
    async def test_the_phases(self, house: House) -> None:
        house.write("deadlines: {drain: 0.5, wrap_up: 20}")
        daemon, worker = await house.open()
        await house.call(worker, "AJ_polite", metadata="wraps up")
        await house.call(worker, "AJ_stays", metadata="")
        daemon.kill(signal.SIGTERM)
        await daemon.said("calls are to come to an end", jobs=2)
        # One hears that the end has come, and ends by itself; its outcome is told.
        assert await update(worker) == ("AJ_polite", "success", "")
        status = await house.status()
        assert status.drain is not None
        assert status.drain.phase == "wrapping_up"
        assert 0 < status.drain.left <= 20
        assert not (await worker.offer(job("AJ_late", agent_name="host"))).available
        daemon.kill(signal.SIGTERM)
        assert await update(worker) == ("AJ_stays", "success", "")
        assert await daemon.exit() == 0

    async def test_the_last_call_ends_it(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        daemon.kill(signal.SIGTERM)
        await daemon.said("draining", jobs=1)
        await worker.terminate("AJ_1")
        assert await daemon.exit() == 0

    async def test_in_the_end_they_are_ended(self, house: House) -> None:
        house.write("deadlines: {drain: 0.2, wrap_up: 0.2}")
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        daemon.kill(signal.SIGTERM)
        assert await update(worker) == ("AJ_1", "success", "")
        assert await daemon.exit() == 0
        assert daemon.entries("ending the calls that are left", jobs=1)

    async def test_an_operator_may_ask_twice(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        for _ in range(2):
            status = await ask_drain(house.door)
            assert status.drain is not None
            assert status.drain.phase == "waiting"
        assert len(status.jobs) == 1
        await ask_drain(house.door, now=True)
        assert await update(worker) == ("AJ_1", "success", "")
        assert await daemon.exit() == 0

    async def test_a_call_that_dies_meanwhile_comes_back(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        pid = (await house.status()).jobs[0].pid
        assert pid is not None
        daemon.kill(signal.SIGTERM)
        await daemon.said("draining", jobs=1)
        os.kill(pid, signal.SIGKILL)
        await daemon.said("job joined", 2)
        daemon.kill(signal.SIGTERM)
        assert await daemon.exit() == 0


class TestDuplicates:
    async def test_a_call_that_the_server_forgot_gets_its_job_back(self, house: House) -> None:
        """A server that was restarted offers the room again while the agent is on its way back into it."""
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1", metadata="away", room="lobby", dispatch_id="AD_1")
        await house.until_status(lambda status: status.jobs[0].state == "away")
        again = job("AJ_2", room="lobby", agent_name="host", dispatch_id="AD_2")
        again.room.sid = "RM_another"
        async with asyncio.timeout(PATIENCE):
            answer = await worker.offer(again)
            assert (answer.available, answer.participant_identity) == (True, "agent-AJ_1")
            await worker.assign(again)
            assert (await worker.job_updates.get()).job_id == "AJ_2"
        status = await house.status()
        assert [one.id for one in status.jobs] == ["AJ_1"]
        assert status.free == status.max_jobs - 1
        # And now it can be ended by that.
        await worker.terminate("AJ_2")
        assert await update(worker) == ("AJ_1", "success", "")
        await daemon.said("job finished", job="AJ_1")
        assert len(daemon.entries("job joined")) == 1

    async def test_the_same_dispatch_is_not_served_twice(self, house: House) -> None:
        _, worker = await house.open()
        await house.call(worker, "AJ_1", room="lobby", dispatch_id="AD_1")
        async with asyncio.timeout(PATIENCE):
            answer = await worker.offer(job("AJ_2", room="lobby", agent_name="host", dispatch_id="AD_1"))
        assert answer.participant_identity == "agent-AJ_1"

    async def test_another_room_is_another_call(self, house: House) -> None:
        _, worker = await house.open()
        await house.call(worker, "AJ_1", dispatch_id="AD_1")
        await house.call(worker, "AJ_2", dispatch_id="AD_2")
        assert len((await house.status()).jobs) == 2


class TestReload:
    async def test_new_calls_have_the_new_settings(self, house: House) -> None:
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        before = (await house.status()).jobs[0].pid
        two = (
            "[{name: host, llm: {plugin: script}, instructions: y, accept: [{room: 'good.*'}]},"
            " {name: other, llm: {plugin: script}, instructions: z}]"
        )
        house.write("max_jobs: 3", agents=two)
        daemon.kill(signal.SIGHUP)
        other = await house.worker()
        assert other.registration.agent_name == "other"
        await daemon.said("settings changed", agents=["host", "other"])
        await house.call(other, "AJ_2", agent_name="other")
        assert not (await worker.offer(job("AJ_3", room="bad", agent_name="host"))).available
        await daemon.said("offer refused", reason="no_rule")
        await house.call(worker, "AJ_4", room="good-4")
        status = await house.status()
        assert {one.id: one.pid for one in status.jobs}["AJ_1"] == before
        assert (status.max_jobs, status.free, len(status.links)) == (3, 0, 2)
        # And one is taken away: its line goes when its call is over.
        house.write("max_jobs: 3")
        daemon.kill(signal.SIGHUP)
        await daemon.said("settings changed", 2)
        assert not other.gone.is_set()
        await other.terminate("AJ_2")
        async with asyncio.timeout(PATIENCE):
            await other.gone.wait()

    async def test_warm_processes_are_replaced(self, house: House) -> None:
        daemon, worker = await house.open()
        await daemon.said("process warm")
        house.write("memory_warn_mb: 900")
        daemon.kill(signal.SIGHUP)
        await daemon.said("process warm", 2)
        await daemon.said("process finished", outcome="retired")
        await house.call(worker, "AJ_1")
        (joined,) = daemon.entries("job joined")
        assert joined["pid"] != daemon.entries("process warm")[0]["pid"]

    @pytest.mark.parametrize(
        ("worker", "said"),
        [("warm: many", "worker.yaml:3: worker.warm"), ("deadlines: {drian: 1}", "worker.deadlines.drian")],
    )
    async def test_a_broken_file_changes_nothing(self, house: House, worker: str, said: str) -> None:
        daemon, connection = await house.open()
        house.write(worker)
        daemon.kill(signal.SIGHUP)
        entry = await daemon.said("settings not changed")
        assert said in str(entry["error"])
        await house.call(connection, "AJ_1")
        assert not daemon.entries("settings changed")

    async def test_an_agent_that_cannot_be_imported_is_a_broken_file_too(self, house: House) -> None:
        daemon, _ = await house.open()
        house.write(agents="[{name: host, agent: 'nowhere:Nobody'}]")
        daemon.kill(signal.SIGHUP)
        entry = await daemon.said("settings not changed")
        assert "agents[0].agent" in str(entry["error"])

    async def test_what_cannot_change_is_said(self, house: House) -> None:
        daemon, _ = await house.open()
        house.file.write_text(house.file.read_text().replace("run_dir: run,", "run_dir: elsewhere,"))
        daemon.kill(signal.SIGHUP)
        await daemon.said("setting not changed", key="worker.run_dir")
        await daemon.said("settings changed")


class TestTheServiceManager:
    async def test_what_it_hears(self, house: House) -> None:
        path = house.run_dir.parent / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            manager.setblocking(False)
            heard: list[str] = []
            asyncio.get_running_loop().add_reader(manager, lambda: heard.append(manager.recv(4096).decode()))

            def said(word: str) -> list[str]:
                return [message for message in heard if word in message.split("\n")]

            environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "100000"}
            daemon, worker = await house.open(environment=environment)
            await house.until(lambda: said("READY=1") and said("WATCHDOG=1"))
            await house.call(worker, "AJ_1")
            daemon.kill(signal.SIGHUP)
            await house.until(lambda: said("RELOADING=1") and len(said("READY=1")) == 2)
            daemon.kill(signal.SIGUSR2)
            begun = await daemon.said("takeover begins")
            await house.until(lambda: said(f"MAINPID={begun['pid']}"))
            assert "READY=1" in said(f"MAINPID={begun['pid']}")[0]
            assert await daemon.exit() == 0
            os.kill(int(begun["pid"]), signal.SIGTERM)
            await house.until(lambda: said("STOPPING=1"))
            asyncio.get_running_loop().remove_reader(manager)


class TestOffers:
    async def test_full(self, house: House) -> None:
        house.write("max_jobs: 1")
        daemon, worker = await house.open()
        await house.call(worker, "AJ_1")
        assert not (await worker.offer(job("AJ_2", agent_name="host"))).available
        await daemon.said("offer refused", reason="full")
        assert (await house.status()).refused == {"full": 1}

    async def test_the_agents_own_code_decides(self, house: House) -> None:
        house.write(agents="[{name: picky, llm: {plugin: script}, instructions: x}]")
        daemon, worker = await house.open()
        await daemon.said("process warm")

        async def asked(job_id: str, metadata: str) -> tuple[bool, str]:
            async with asyncio.timeout(PATIENCE):
                answer = await worker.offer(job(job_id, metadata=metadata, agent_name="picky"))
            return answer.available, answer.participant_identity

        assert await asked("AJ_1", "unwanted") == (False, "")
        await daemon.said("offer refused", job="AJ_1", reason="declined")
        assert await asked("AJ_2", "guest-7") == (True, "guest-7")
        assert await asked("AJ_3", "buggy") == (False, "")
        await daemon.said("offer refused", job="AJ_3", reason="undecided")
        # Too slow for the offer; the process is good again once it has come to an answer.
        assert await asked("AJ_4", "slow") == (False, "")
        await daemon.said("offer refused", job="AJ_4", reason="undecided")
        await worker.assign(job("AJ_2", metadata="guest-7", agent_name="picky", room="second"))
        await daemon.said("job joined", job="AJ_2")
        assert (await house.status()).free == (await house.status()).max_jobs - 1
