"""A call whose process is killed goes on in this one: on the real server, by ear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from livekit import api

from greenroom import FunctionCall, FunctionCallOutput, Message
from greenroom.audio import Pcm
from greenroom.embedded.mediaserver import MediaServer
from greenroom.job import agentsettings
from greenroom.job.farewell import CallGivenUp
from greenroom.job.runner import Runner
from greenroom.jobs.control import JobControl
from greenroom.jobs.ipc import ChildMessage, JobInfo, Joined, Leaving, Resume
from greenroom.journal.reader import read
from greenroom.journal.recovery import UNKNOWN
from greenroom.journal.replay import compare
from greenroom.settings import ProviderSettings, RecoverySettings, ServerSettings
from tests.e2e.alignment import stretches
from tests.e2e.speaking import RATE, signature
from tests.room.people import LOUD, PATIENCE, House, Person, running

from .resumable import STORY, TOOL_LOG, WORD, KilledJob, NoiseTTS, Teller, settings_of

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


AT_ONCE = 1.5
"""Seconds from the beginning of the process's work to its first sound."""
STILL = 0.2
"""Seconds without sound after which all that a killed process has sent has been heard."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def media_server() -> AsyncIterator[MediaServer]:
    async with MediaServer() as server:
        yield server


@dataclass(frozen=True)
class Heard:
    """A row of words: the sound's seconds from ``begin`` to ``end``, heard from ``at`` on, on the loop's clock."""

    begin: float
    end: float
    at: float


class Scene:
    """A caller in a room, the job that is killed, and the one that comes back."""

    def __init__(self, house: House, ann: Person, folder: Path, agent: str) -> None:
        self.house = house
        self.ann = ann
        self.folder = folder
        self.agent = agent
        self.told: list[ChildMessage] = []
        server = house.server
        self._server = ServerSettings(url=server.url, api_key=server.api_key, api_secret=server.api_secret)
        self._control = JobControl(self._say)
        self._job = JobInfo(
            id="AJ_test",
            room=house.room,
            room_sid="",
            agent_name="",
            url=server.url,
            token=house.token("agent", agent=True),
            identity="agent",
            metadata=str(folder / TOOL_LOG),
        )
        self.victim = KilledJob(self._server, self._job, folder, agent)
        self.died = 0.0
        self.began = 0.0
        self._before = 0

    async def kill(self) -> None:
        """What it had sent by then is heard to its end: on a busy machine that comes late."""
        self.died = await self.victim.kill()
        sounds = -1
        while len(self.ann.loud()) > sounds:
            sounds = len(self.ann.loud())
            await asyncio.sleep(STILL)
        self._before = len(self.ann.heard)

    async def come_back(self, *, last: bool = False, **recovery: Any) -> None:
        """Serve the call in this process, to its end."""
        runner = Runner()
        voice = ProviderSettings("noise") if last else None
        settings = settings_of(self._server, self.folder, self.agent, RecoverySettings(**recovery), voice)
        runner.boot(settings.encode(), "")
        resume = Resume(attempt=2, journal=self.victim.journal, died="killed", at=self.died, farewell=last)
        job = msgspec.structs.replace(self._job, resume=resume)
        self.began = asyncio.get_running_loop().time()
        await runner.run(job, self._control)

    def end(self) -> None:
        self._control.ask_end("the test is over", 1.0)

    @property
    def journal(self) -> Path:
        (path,) = [message.journal for message in self.told if isinstance(message, Joined) and message.journal]
        return Path(path)

    def before(self) -> list[Heard]:
        """What was heard of the process that was killed."""
        return _words(self.ann.heard[: self._before])

    def after(self) -> list[Heard]:
        """What was heard of the one that came back."""
        return _words(self.ann.heard[self._before :])

    def sounds(self) -> list[float]:
        """When sound of the one that came back arrived, in pieces of 10 ms."""
        return [at for at in self.ann.loud() if at > self.began]

    def in_time(self) -> bool:
        """The caller hears the agent soon enough."""
        return self.sounds()[0] - self.began < AT_ONCE

    async def hear(self, words: float) -> None:
        """Until so many more words have been heard."""
        begun, sound = len(self.ann.heard), 0.0

        def enough(heard: list[tuple[float, Pcm]]) -> bool:
            nonlocal begun, sound
            sound += sum(len(pcm) / RATE for _, pcm in heard[begun:] if np.abs(pcm).max() > LOUD)
            begun = len(heard)
            return sound >= words * WORD

        await self.ann.heard.until(enough, timeout=PATIENCE + words * WORD)

    def _say(self, message: ChildMessage) -> None:
        self.told.append(message)
        if isinstance(message, Leaving):
            self._control.allow_leave()


def _words(heard: list[tuple[float, Pcm]]) -> list[Heard]:
    """The rows of words in it, in order."""
    if not heard:
        return []
    times = [at for at, _ in heard]
    size = len(heard[0][1])

    def when(sample: int) -> float:
        return times[min(sample // size, len(times) - 1)] + sample % size / RATE

    return [
        Heard(each.begin / RATE, each.end / RATE, when(each.at))
        for each in stretches(np.concatenate([pcm for _, pcm in heard]), signature(), sample_rate=RATE)
        if each.end - each.begin > 0.1 * RATE
    ]


@pytest_asyncio.fixture(loop_scope="module")
async def house(media_server: MediaServer) -> AsyncIterator[House]:
    async with House(media_server) as house:
        yield house


async def opened(house: House, folder: Path, agent: str) -> Scene:
    ann = await house.enter("ann")
    ann.listen(sample_rate=RATE)
    scene = Scene(house, ann, folder, agent)
    await scene.victim.start()
    return scene


def said() -> list[str]:
    """What the history of the call that goes on has of the agent."""
    assert Teller.last is not None
    return [message.text for message in Teller.last.session.history.messages() if message.role == "assistant"]


def _break(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b"w03", b"w04"))


async def test_in_the_middle_of_a_sentence(house: House, tmp_path: Path) -> None:
    scene = await opened(house, tmp_path, "Teller")
    await scene.hear(4)
    await scene.kill()
    async with running(scene.come_back()) as (work,):
        await scene.hear(6)
        scene.end()
        await work
    assert scene.in_time()
    before, after = scene.before()[-1], scene.after()[0]
    assert before.end - 1.5 * WORD <= after.begin <= before.end + 0.6 * WORD, (
        "it goes on where it was, give or take a word"
    )
    assert Teller.resumed is not None
    assert f"{Teller.resumed.heard} {Teller.resumed.remaining}" == STORY
    journal = read(scene.journal)
    assert (journal.header.attempt, journal.header.follows) == (2, Path(scene.victim.journal).name)
    (first,) = journal.header.history
    assert first == Message("1.speech_1.1", "assistant", Teller.resumed.heard, interrupted=True)
    assert compare(journal) is None
    assert isinstance(scene.told[-1], Leaving)
    assert scene.told[-1].error == ""


async def test_in_the_middle_of_a_tool(house: House, tmp_path: Path) -> None:
    scene = await opened(house, tmp_path, "Silent")
    await scene.ann.room.local_participant.send_text("well", topic="lk.chat")
    log = tmp_path / TOOL_LOG
    async with asyncio.timeout(PATIENCE):
        while not log.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await scene.kill()
    async with running(scene.come_back()) as (work,):
        await scene.hear(1.8)
        history = Teller.last.session.history.items if Teller.last is not None else []
        scene.end()
        await work
    assert scene.in_time()
    assert log.read_text() == "begun\n", "it is not run again"
    assert history[:3] == [
        Message("1.item_1", "user", "well"),
        FunctionCall("1.reply_turn_1.call_1", "call_1", "look_up", "{}"),
        FunctionCallOutput("1.reply_turn_1.call_1.output", "call_1", "look_up", UNKNOWN, is_error=True),
    ]
    assert said()[-1].startswith("w05"), "the model was told that nobody knows"
    assert Teller.resumed is not None
    assert Teller.resumed.owed
    assert [call.name for call in Teller.resumed.unknown] == ["look_up"]


async def test_in_silence_nothing_is_said_but_the_line(house: House, tmp_path: Path) -> None:
    scene = await opened(house, tmp_path, "Brief")
    await scene.hear(0.9)
    await asyncio.sleep(0.7)
    await scene.kill()
    async with running(scene.come_back(line="w07 w08.")) as (work,):
        await scene.hear(1.8)
        await asyncio.sleep(1.0)
        assert said() == ["w01.", "w07 w08."]
        scene.end()
        await work
    assert scene.in_time()
    assert scene.sounds()[-1] - scene.sounds()[0] < 3 * WORD
    assert Teller.resumed is not None
    assert (Teller.resumed.owed, Teller.resumed.heard, Teller.resumed.remaining) == (False, "", "")


async def test_a_journal_that_is_broken_costs_the_history_and_not_the_call(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = await opened(house, tmp_path, "Teller")
    await scene.hear(2)
    await scene.kill()
    _break(Path(scene.victim.journal))
    async with running(scene.come_back()) as (work,):
        await scene.hear(2)
        scene.end()
        await work
    assert read(scene.journal).header.history == ()
    assert "call begins afresh" in capsys.readouterr().out


async def test_the_agent_that_had_the_conversation_has_it_again(house: House, tmp_path: Path) -> None:
    scene = await opened(house, tmp_path, "Greeter")
    await scene.hear(4)
    await scene.kill()
    Teller.last = None
    async with running(scene.come_back()) as (work,):
        await scene.hear(2)
        assert Teller.last is not None
        assert Teller.last.session.current_agent is Teller.last
        scene.end()
        await work
    assert read(scene.journal).header.agent_class == "tests.job.resumable:Teller"


async def test_a_call_that_is_given_up_ends_with_words(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agentsettings, "assemble", lambda kind, settings, *, build: NoiseTTS())
    scene = await opened(house, tmp_path, "Teller")
    await scene.kill()
    with pytest.raises(CallGivenUp, match="killed"):
        await scene.come_back(last=True, farewell="w11 w12.")
    assert scene.sounds()[-1] - scene.sounds()[0] > 1.8 * WORD
    assert isinstance(scene.told[-1], Leaving)
    assert "given up" in scene.told[-1].error


async def test_a_room_that_is_gone_is_not_made_anew(house: House, tmp_path: Path) -> None:
    scene = await opened(house, tmp_path, "Silent")
    await scene.kill()
    await house.api.room.delete_room(api.DeleteRoomRequest(room=house.room))
    await asyncio.wait_for(scene.come_back(), PATIENCE)
    assert scene.told == [Leaving("room_deleted", "")]
    assert not (await house.api.room.list_rooms(api.ListRoomsRequest(names=[house.room]))).rooms
