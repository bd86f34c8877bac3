"""The ear by itself: utterances, their ends, and what goes to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from greenroom import Agent
from greenroom.audio import AudioFrame
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import Event, Transcribed, UserStarted, UserStopped
from greenroom.dialog.turns import TurnRules
from greenroom.providers import BatchSTT, STTStream, Transcript
from greenroom.session.hearing import Ears, Hearing
from greenroom.session.metrics import Metrics, STTMetrics
from greenroom.session.segments import SegmentRules
from greenroom.session.session import AgentSession, SessionOptions
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import Heard, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from greenroom.testing.virtual_time import VirtualTimeLoop, virtual_time

FRAME = 0.032


@dataclass
class Ear:
    hearing: Hearing
    user: LoopbackInput = field(default_factory=lambda: LoopbackInput(frame=FRAME))
    events: list[Event] = field(default_factory=list)
    metrics: list[Metrics] = field(default_factory=list)

    def utterances(self) -> list[tuple[str, float, float]]:
        """Each utterance's id, beginning and end."""
        began = {event.utterance: event.at for event in self.events if isinstance(event, UserStarted)}
        return [(e.utterance, began[e.utterance], e.at) for e in self.events if isinstance(e, UserStopped)]

    def words(self) -> list[tuple[str, str]]:
        return [(event.utterance, event.text) for event in self.events if isinstance(event, Transcribed)]

    async def until(self, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())


@asynccontextmanager
async def listening(ears: Ears) -> AsyncIterator[Ear]:
    events: list[Event] = []
    metrics: list[Metrics] = []

    def failed(error: BaseException, source: str) -> None:
        raise AssertionError(f"{source} failed") from error

    hearing = Hearing(
        ears, rules=SegmentRules(), padding=0.4, feed=events.append, failed=failed, measured=metrics.append
    )
    ear = Ear(hearing, events=events, metrics=metrics)
    task = asyncio.create_task(hearing.run(ear.user))
    try:
        yield ear
    finally:
        ear.user.end()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Marked(ScriptedSTT):
    """Remembers which audio belonged to which utterance."""

    def __init__(self, script: list[Heard | str]) -> None:
        super().__init__(script)
        self.begun: list[float] = []

    def stream(self) -> STTStream:
        stream = super().stream()
        begin = stream.start_of_speech

        def start_of_speech(utterance: str, *, at: float) -> None:
            self.begun.append(at)
            begin(utterance, at=at)

        stream.start_of_speech = start_of_speech  # type: ignore[method-assign]
        return stream


@virtual_time
async def test_an_utterance_is_measured_from_its_voice() -> None:
    async with listening(Ears(ScriptedVAD(), ScriptedSTT([Heard("hello", delay=0.3)]))) as ear:
        ear.user.silence(1.0)
        ear.user.speak(1.0)
        await ear.until(4.0)
        ((name, began, ended),) = ear.utterances()
        assert began == pytest.approx(1.0, abs=FRAME)
        assert ended == pytest.approx(2.0, abs=FRAME)
        assert ear.words() == [(name, "hello")]
        (metrics,) = ear.metrics
        assert isinstance(metrics, STTMetrics)
        assert (metrics.utterance, metrics.label, metrics.audio_seconds) == (name, "ScriptedSTT", ended - began)
        assert metrics.delay == pytest.approx(0.25 + 0.3, abs=FRAME)


@virtual_time
async def test_an_utterance_is_cut_now_and_the_voice_goes_on_in_the_next() -> None:
    stt = Marked(["the first half", "the second half"])
    async with listening(Ears(ScriptedVAD(), stt)) as ear:
        ear.user.silence(1.0)
        ear.user.speak(2.0)
        await ear.until(2.0)
        ear.hearing.cut()
        assert len(ear.utterances()) == 1, "at once"
        ear.hearing.cut()
        await ear.until(5.0)
        first, second = ear.utterances()
        assert first[2] == pytest.approx(2.0, abs=FRAME)
        assert second[1] == pytest.approx(2.0, abs=2 * FRAME)
        assert second[2] == pytest.approx(3.0, abs=FRAME)
        assert [text for _, text in ear.words()] == ["the first half", "the second half"]
        assert stt.begun[0] == pytest.approx(first[1] - 0.4)
        assert first[2] <= stt.begun[1] <= second[1], "no audio is transcribed twice"


@virtual_time
async def test_a_microphone_that_falls_silent_ends_the_utterance() -> None:
    async with listening(Ears(ScriptedVAD(), ScriptedSTT(["I was say", "never mind"]))) as ear:
        ear.user.speak(1.0)
        ear.user.gap(3.0)
        ear.user.speak(0.5)
        await ear.until(1.0)
        assert ear.utterances() == []
        await ear.until(1.6)
        ((_, _, ended),) = ear.utterances()
        assert ended == pytest.approx(1.0, abs=2 * FRAME)
        await ear.until(6.0)
        assert [text for _, text in ear.words()] == ["I was say", "never mind"]


@virtual_time
async def test_nothing_wakes_up_while_nobody_speaks() -> None:
    async with listening(Ears(ScriptedVAD(), None)) as ear:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        ear.user.silence(1.0)
        ear.user.speak(0.5)
        ear.user.gap(1000.0)
        await ear.until(3.0)
        assert ear.words() == [("utterance_1", "")], "without a transcriber nobody is to wait for words"
        waiting = [when for when, _, handle in loop._timers if not handle.cancelled()]
        assert len(waiting) == 1, "only the microphone's own"


@virtual_time
async def test_recent_audio_is_kept_once_somebody_asks() -> None:
    async with listening(Ears(ScriptedVAD(), None)) as ear:
        ear.user.silence(1.0)
        await ear.until(1.0)
        assert len(ear.hearing.recent(2.0).pcm) == 0
        ear.user.speak(1.0)
        await ear.until(4.0)
        recent = ear.hearing.recent(2.5)
        assert recent.duration == pytest.approx(2.0, abs=FRAME), "no more is kept than was asked for"
        ear.hearing.keep(2.5)
        await ear.until(8.0)
        recent = ear.hearing.recent(2.5)
        assert (recent.sample_rate, recent.duration) == (16_000, 2.5)
        assert recent.at + recent.duration == pytest.approx(8.0, abs=1.01 * FRAME)
        ear.user.gap(1.0)
        ear.user.silence(0.5)
        await ear.until(10.0)
        assert ear.hearing.recent(2.5).duration <= 1.0, "from before a gap nothing is left"


# --- without voice activity -------------------------------------------------------------------------------------------


class Segmenting(ScriptedSTT):
    """A transcriber that finds utterances by itself, and says when the speaker has finished."""

    def stream(self) -> STTStream:
        return _Segments(self)


class _Segments(STTStream):
    def __init__(self, stt: Segmenting) -> None:
        self._stt = stt
        self._words: asyncio.Queue[Transcript | None] = asyncio.Queue()
        self._loud = 0.0
        self._quiet = 0.0
        self.flushed = 0

    def push(self, frame: AudioFrame) -> None:
        self._stt.audio.append(frame)
        if np.abs(frame.pcm.astype(np.int32)).max() > 1000:
            self._loud, self._quiet = self._loud + frame.duration, 0.0
        elif self._loud:
            self._quiet += frame.duration
            if self._quiet > 0.3:
                self._finish()

    def start_of_speech(self, utterance: str, *, at: float) -> None:
        raise AssertionError("nobody finds utterances for it")

    def end_of_speech(self, utterance: str) -> None:
        assert utterance == ""
        if self._loud:
            self._finish()

    def _finish(self) -> None:
        self._loud = self._quiet = 0.0
        self._words.put_nowait(Transcript(self._stt.left.popleft().text, ended=True))

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while (words := await self._words.get()) is not None:
            yield words

    async def aclose(self) -> None:
        self._words.put_nowait(None)


@virtual_time
async def test_words_are_all_there_is_without_voice_activity() -> None:
    async with listening(Ears(None, Segmenting(["one", "two"]))) as ear:
        ear.user.speak(1.0)
        ear.user.silence(1.0)
        ear.user.speak(2.0)
        await ear.until(3.0)
        ear.hearing.cut()
        await ear.until(3.1)
        assert ear.events == [Transcribed("", "one", ended=True), Transcribed("", "two", ended=True)]


@virtual_time
async def test_a_transcriber_leads_a_conversation() -> None:
    options = SessionOptions(rules=DialogRules(turns=TurnRules(detection="stt")))
    session = AgentSession(
        stt=Segmenting(["what time is it"]), llm=ScriptedLLM(["It is noon."]), tts=ScriptedTTS(), options=options
    )
    user, out = LoopbackInput(), LoopbackOutput()
    await session.start(Agent(), audio_in=user, audio_out=out)
    user.speak(1.0)
    await asyncio.sleep(6.0)
    assert [message.text for message in session.history.messages()] == ["what time is it", "It is noon."]
    await session.aclose()
    user.end()


class Batch(BatchSTT):
    async def recognize(self, audio: AudioFrame) -> Transcript:
        return Transcript("")


def test_ears_that_would_never_hear_are_refused() -> None:
    with pytest.raises(ValueError, match="Batch transcribes whole utterances, and there is no vad"):
        Ears(None, Batch()).check()
    Ears(None, Segmenting()).check()
    Ears(ScriptedVAD(), Batch()).check()


@virtual_time
async def test_another_agent_hears_with_its_own_ears() -> None:
    old, new = ScriptedSTT(["heard by the old ears"]), ScriptedSTT(["heard by the new ears"])
    session = AgentSession(vad=ScriptedVAD(), stt=old, llm=ScriptedLLM(["One.", "Two."]), tts=ScriptedTTS())
    user, out = LoopbackInput(), LoopbackOutput()
    await session.start(Agent(), audio_in=user, audio_out=out)
    user.speak(0.5)
    await asyncio.sleep(4.0)
    session.update_agent(Agent(stt=new))
    await asyncio.sleep(0.1)
    assert session.providers().stt is new
    user.speak(0.5)
    await asyncio.sleep(4.0)
    users = [message.text for message in session.history.messages() if message.role == "user"]
    assert users == ["heard by the old ears", "heard by the new ears"]
    await session.aclose()
    user.end()
