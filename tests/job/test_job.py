"""One job from its assignment to its end, in this process: the real server, and an account of what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from livekit import api, rtc

from greenroom import Agent, SessionOptions, get_job_context
from greenroom.embedded.mediaserver import MediaServer
from greenroom.job.runner import Runner
from greenroom.jobs.control import JobControl
from greenroom.jobs.ipc import ChildMessage, JobInfo, Joined, Leaving, Measured, RoomChanged
from greenroom.journal.reader import read
from greenroom.journal.shelf import survey
from greenroom.settings import AgentSettings, Deadlines, ProviderSettings, ServerSettings, Settings, WorkerSettings
from tests.e2e.alignment import stretches
from tests.e2e.speaking import RATE, frames, signature
from tests.room.people import PATIENCE, House, running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SOUND = signature()[: 2 * RATE]


class Unfinished(Agent):
    def __init__(self) -> None:
        """A mistake that is easily made: the base class is not initialised."""


class Impatient(Agent):
    def session_options(self, options: SessionOptions) -> SessionOptions:
        raise TimeoutError("the customer's file did not come")


class Guest(Agent):
    """Deletes the room when it has spoken, in the words of ``hang_up``."""

    reasons: list[str]

    async def on_enter(self) -> None:
        context = get_job_context()
        Guest.reasons = []
        context.add_shutdown_callback(Guest.reasons.append)
        assert context.room.name == context.job.room.name
        await self.session.say(audio=frames(SOUND))
        await self.hang_up()

    async def hang_up(self) -> None:
        await get_job_context().delete_room()


class Caller(Guest):
    """The same as LiveKit's documentation has it."""

    async def hang_up(self) -> None:
        context = get_job_context()
        await context.api.room.delete_room(api.DeleteRoomRequest(room=context.room.name))


class Leaver(Agent):
    async def on_enter(self) -> None:
        get_job_context().shutdown("all was said")


class Drained(Agent):
    """Says goodbye when the worker is about to stop."""

    told: list[tuple[float, bool]]

    def __init__(self) -> None:
        super().__init__()
        Drained.told = []

    async def on_enter(self) -> None:
        await self.session.say(audio=frames(SOUND[: RATE // 2]))

    async def on_drain(self, seconds: float, last: bool) -> None:
        Drained.told.append((seconds, last))
        if last:
            get_job_context().shutdown("drained")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def media_server() -> AsyncIterator[MediaServer]:
    async with MediaServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def house(media_server: MediaServer) -> AsyncIterator[House]:
    async with House(media_server) as house:
        yield house


class Shift:
    """One job of one agent, and what the daemon would hear of it."""

    def __init__(
        self,
        house: House,
        agent: str,
        folder: Path,
        *,
        deadlines: Deadlines | None = None,
        turn_detector: ProviderSettings | None = None,
    ) -> None:
        self.told: list[ChildMessage] = []
        self.present: list[bool] = []
        """Whether the agent was still in the room when each was said."""
        self.joined = asyncio.Event()
        self._house = house
        self._control = JobControl(self._say)
        self._runner = Runner()
        server = house.server
        settings = Settings(
            server=ServerSettings(url=server.url, api_key=server.api_key, api_secret=server.api_secret),
            agents=(AgentSettings(agent=f"{__name__}:{agent}" if agent else "", turn_detector=turn_detector),),
            worker=WorkerSettings(state_dir=str(folder), deadlines=deadlines or Deadlines()),
            file=str(folder / "agents.yaml"),
        )
        self._runner.boot(settings.encode(), "")

    async def work(self) -> None:
        info = JobInfo(
            id="AJ_test",
            room=self._house.room,
            room_sid="",
            agent_name="",
            url=self._house.server.url,
            token=self._house.token("agent", agent=True),
            identity="agent",
        )
        async with asyncio.timeout(30):
            await self._runner.run(info, self._control)

    def wrap_up(self, seconds: float, *, last: bool) -> None:
        self._control.ask_wrap_up(seconds, last=last)

    @property
    def leaving(self) -> Leaving:
        (message,) = [message for message in self.told if isinstance(message, Leaving)]
        return message

    def _say(self, message: ChildMessage) -> None:
        self.told.append(message)
        if isinstance(message, Joined):
            self.joined.set()
        if isinstance(message, Leaving):
            task = asyncio.get_running_loop().create_task(self._look())
            task.add_done_callback(lambda _: self._control.allow_leave())

    async def _look(self) -> None:
        self.present.append("agent" in await self._house.present())


async def alone(house: House) -> None:
    """Only the caller is left in the room. The server takes a moment to see an agent out."""
    async with asyncio.timeout(PATIENCE):
        while await house.present() != {"ann"}:
            pass


async def test_a_job_that_fails_with_a_foreign_error_is_reported_failed(house: House, tmp_path: Path) -> None:
    await house.enter("ann")
    shift = Shift(house, "Unfinished", tmp_path)
    with pytest.raises(RuntimeError, match=r"has not called super\(\)\.__init__\(\)"):
        await shift.work()
    assert any(isinstance(message, Joined) for message in shift.told)
    assert shift.leaving.reason == "failed"
    assert "Unfinished" in shift.leaving.error
    assert shift.present == [True]
    await alone(house)


async def test_a_timeout_in_the_agents_code_is_a_failure(house: House, tmp_path: Path) -> None:
    await house.enter("ann")
    shift = Shift(house, "Impatient", tmp_path)
    with pytest.raises(TimeoutError, match="customer's file"):
        await shift.work()
    assert shift.leaving == Leaving("failed", "the customer's file did not come")


async def test_a_job_to_which_nobody_comes_ends_well(house: House, tmp_path: Path) -> None:
    shift = Shift(house, "", tmp_path, deadlines=Deadlines(participant=0.2))
    await shift.work()
    assert shift.leaving == Leaving("no participant came", "")


async def test_a_job_that_is_cancelled_is_reported_failed(house: House, tmp_path: Path) -> None:
    await house.enter("ann")
    shift = Shift(house, "", tmp_path)
    work = asyncio.create_task(shift.work())
    await asyncio.wait_for(shift.joined.wait(), PATIENCE)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert shift.leaving.error


async def test_an_agent_may_leave_by_itself_and_others_stay(house: House, tmp_path: Path) -> None:
    await house.enter("ann")
    shift = Shift(house, "Leaver", tmp_path)
    await shift.work()
    assert shift.leaving == Leaving("all was said", "")
    await alone(house)


async def test_a_call_that_is_to_wrap_up_tells_its_agent(house: House, tmp_path: Path) -> None:
    ann = await house.enter("ann")
    ann.listen(sample_rate=RATE)
    shift = Shift(house, "Drained", tmp_path)
    shift.wrap_up(60.0, last=False)
    async with running(shift.work()) as (work,):
        await ann.hear_sound(0.2)
        shift.wrap_up(5.0, last=True)
        await work
    (early, last) = Drained.told
    assert (early[1], last) == (False, (5.0, True))
    assert early[0] == pytest.approx(60.0, abs=5.0)
    assert shift.leaving == Leaving("drained", "")


async def test_what_a_call_measures_reaches_the_daemon_before_the_job_is_over(house: House, tmp_path: Path) -> None:
    ann = await house.enter("ann")
    ann.listen(sample_rate=RATE)
    shift = Shift(house, "Guest", tmp_path)
    await shift.work()
    sent = [message for message in shift.told if isinstance(message, Measured)]
    observed = {name: value for measured in sent for name, _, value in measured.observed}
    counted = {name for measured in sent for name, _, _ in measured.counted}
    assert 0.0 < observed["greenroom_dispatch_seconds"] < PATIENCE
    assert counted == {"greenroom_journal_bytes_total", "greenroom_speeches_total"}
    assert shift.told.index(sent[0]) < shift.told.index(shift.leaving)
    states = [message.state for message in shift.told if isinstance(message, RoomChanged)]
    assert states[0] == "connected"
    paths = [message.journal for message in shift.told if isinstance(message, Joined)]
    assert paths == ["", str(tmp_path / "journals" / "AJ_test.journal")]


async def test_the_turn_detector_of_the_settings_judges_and_the_journal_says_by_what(
    house: House, tmp_path: Path
) -> None:
    await house.enter("ann")
    detector = ProviderSettings("phrase", {"threshold": 0.4})
    await Shift(house, "Leaver", tmp_path, turn_detector=detector).work()
    (kept,) = survey(tmp_path / "journals")
    endpoint = read(kept.path).header.rules.turns.endpoint
    assert (endpoint.judged_by, endpoint.likely) == ("text", 0.4)


@pytest.mark.parametrize("agent", ["Guest", "Caller"])
async def test_a_deleted_room_is_a_job_well_done_and_nothing_said_is_cut_off(
    house: House, tmp_path: Path, agent: str
) -> None:
    ann = await house.enter("ann")
    ann.listen(sample_rate=RATE)
    gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ann.room.on("disconnected", gone.set_result)
    shift = Shift(house, agent, tmp_path)
    await shift.work()
    assert shift.leaving == Leaving("room_deleted", "")
    assert shift.present == [True], "the server was told before it saw the agent go"
    assert await asyncio.wait_for(gone, PATIENCE) == rtc.DisconnectReason.ROOM_DELETED
    assert Guest.reasons == ["room_deleted"]
    recording = np.concatenate([pcm for _, pcm in ann.heard])
    heard = stretches(recording, SOUND, sample_rate=RATE)
    assert heard[-1].end > len(SOUND) - 0.05 * RATE, heard
