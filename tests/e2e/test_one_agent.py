"""One agent on models of every kind: one YAML, one spoken question, and the same answer heard in the room.

The media server is the real one, the worker as in production, and vendors are servers of their protocols. All ears are
Whisper's. The voices of Cartesia's and Wyoming's servers spell in tones, in which words can be read; the others' is
Piper.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from greenroom.audio import AudioFrame, Pcm, Resampler
from greenroom.embedded.caller import EAR_RATE
from greenroom.embedded.measure import audible_span
from greenroom.session.realtime import word_for_word
from greenroom_plugins.piper import PiperOptions, PiperTTS
from greenroom_plugins.whisper import WhisperOptions, WhisperSTT
from tests.plugins import tones
from tests.plugins.cartesia.server import CartesiaServer
from tests.plugins.deepgram.server import EVERY, DeepgramServer, Listening
from tests.plugins.openai.server import OpenAIServer, Said
from tests.plugins.openai_realtime.conversation import RATE, Answer, Asked, Mind, pieces
from tests.plugins.openai_realtime.server import RealtimeServer
from tests.plugins.wyoming.server import Talk, WyomingServer
from tests.providers.contract.case import SECRET

from .conftest import House, ask, open_house
from .test_calls import words

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = Path(__file__).with_name("one_agent.yaml")
QUESTION = "What time is it?"
ANSWER = "The quick brown fox jumps over a lazy dog."
IGNORANCE = "I did not understand that."


class Ears:
    """Whisper's."""

    def __init__(self) -> None:
        self._stt = WhisperSTT(WhisperOptions())
        self._stt.load()

    async def hear(self, audio: AudioFrame) -> str:
        resampler = Resampler(audio.sample_rate, self._stt.sample_rate)
        pcm = np.concatenate((resampler.push(audio.pcm), resampler.flush()))
        return (await self._stt.recognize(AudioFrame(pcm, self._stt.sample_rate))).text


class Voice:
    """Piper's, at the rate that OpenAI's protocols have."""

    def __init__(self) -> None:
        self._tts = PiperTTS(PiperOptions(variation=0))
        self._tts.load()

    async def speak(self, text: str) -> AsyncIterator[Pcm]:
        resampler = Resampler(self._tts.sample_rate, RATE)
        async with aclosing(self._tts.speak(text)) as audio:
            async for frame in audio:
                yield resampler.push(frame.pcm)
        yield resampler.flush()

    async def spell(self, text: str) -> list[tuple[str, Pcm]]:
        """Each word with its sound, roughly."""
        pcm = np.concatenate([piece async for piece in self.speak(text)])
        parts = list(pieces(text))
        ends = np.cumsum([len(part) for part in parts]) * len(pcm) // len(text)
        return list(zip(parts, np.split(pcm, ends[:-1]), strict=True))


class Deepgram(DeepgramServer):
    """Hears an utterance when it is told to finish it; until then its results have no words."""

    def __init__(self, ears: Ears) -> None:
        super().__init__()
        self._ears = ears
        self._finishing = False

    async def _hear(self, listening: Listening) -> None:
        if listening.samples - max(listening.interim, listening.final) >= EVERY * listening.rate:
            listening.interim = listening.samples
            await self._tell(listening, listening.samples)

    async def _control(self, listening: Listening, text: str) -> bool:
        self._finishing = True
        try:
            return await super()._control(listening, text)
        finally:
            self._finishing = False

    async def words(self, listening: Listening) -> list[tones.Placed]:
        if not self._finishing:
            return []
        pcm = np.frombuffer(bytes(listening.audio), dtype=np.int16)[listening.final :]
        heard = (await self._ears.hear(AudioFrame(pcm, listening.rate))).split()
        loud = audible_span(pcm, sample_rate=listening.rate) or (0, 0)
        edges = (listening.final + np.linspace(*loud, len(heard) + 1)) / listening.rate  # each as long as the others
        return [tones.Placed(*one) for one in zip(heard, edges.tolist(), edges.tolist()[1:], strict=False)]


class Wyoming(WyomingServer):
    def __init__(self, ears: Ears) -> None:
        super().__init__()
        self._ears = ears

    async def _tell(self, talk: Talk) -> bool:
        heard = await self._ears.hear(AudioFrame(np.frombuffer(bytes(talk.audio), dtype=np.int16), 16000))
        await self._send(talk, "transcript", {"text": heard, "language": "en"})
        return False


def wit(said: str) -> str:
    """What a model has that is no script."""
    return ANSWER if "time" in said.lower() else IGNORANCE


def chat(body: dict[str, Any]) -> Said:
    return Said(wit(str(body["messages"][-1]["content"])))


async def think(asked: Asked) -> Answer:
    greeting = asked.instructions.removeprefix(word_for_word(""))
    if greeting != asked.instructions:
        return Answer(greeting)
    return Answer(wit(next((text for role, text in reversed(asked.memory) if role == "user"), "")))


@dataclass
class Street:
    """A house, and the vendors that it buys from. ``asked``: how often each was asked for something so far."""

    house: House
    ears: Ears
    openai: OpenAIServer
    realtime: RealtimeServer
    deepgram: DeepgramServer
    cartesia: CartesiaServer
    wyoming: WyomingServer

    def asked(self) -> dict[str, int]:
        return {
            "openai": len(self.openai.asked),
            "realtime": sum(len(one.asked) for one in self.realtime.conversations),
            "deepgram": len(self.deepgram.heard),
            "cartesia": len(self.cartesia.contexts),
            "wyoming": len(self.wyoming.talks),
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def street(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Street]:
    ears, voice = await asyncio.gather(asyncio.to_thread(Ears), asyncio.to_thread(Voice))

    async def transcribe(pcm: Pcm) -> str:
        return await ears.hear(AudioFrame(pcm, RATE))

    async with AsyncExitStack() as stack:
        openai = await stack.enter_async_context(OpenAIServer())
        openai.brain, openai.ear, openai.voice = chat, ears.hear, voice.speak
        realtime = await stack.enter_async_context(RealtimeServer(mind=Mind(think, transcribe, voice.spell)).started())
        deepgram = await stack.enter_async_context(Deepgram(ears).started())
        cartesia = await stack.enter_async_context(CartesiaServer().started())
        wyoming = await stack.enter_async_context(Wyoming(ears).started())
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("VENDOR_KEY", SECRET)
        for name, server in (
            ("OPENAI", openai),
            ("REALTIME", realtime),
            ("DEEPGRAM", deepgram),
            ("CARTESIA", cartesia),
            ("WYOMING", wyoming),
        ):
            environment.setenv(f"{name}_SERVER", server.url)
        house = await stack.enter_async_context(
            open_house(tmp_path_factory.mktemp("street"), SETTINGS, registrations=5)
        )
        yield Street(house, ears, openai, realtime, deepgram, cartesia, wyoming)


@pytest.mark.parametrize(
    ("agent", "vendors"),
    [
        ("local", set()),
        ("openai", {"openai"}),
        ("realtime", {"realtime"}),
        ("deepgram-cartesia", {"deepgram", "cartesia"}),
        ("wyoming", {"wyoming"}),
    ],
)
async def test_a_spoken_question_gets_an_answer_that_is_heard(street: Street, agent: str, vendors: set[str]) -> None:
    before, began = street.asked(), time.monotonic()
    async with street.house.call(agent) as caller:
        greeted = len(caller.ear.recording())
        assert await ask(caller, QUESTION) == ANSWER
        assert words(caller.transcript.text("user", since=0.0)) == words(QUESTION)
        heard = caller.ear.recording()[greeted:]
    if vendors & {"cartesia", "wyoming"}:
        assert [one.word for one in tones.read(heard, EAR_RATE)] == words(ANSWER)
    else:
        understood = words(await street.ears.hear(AudioFrame(heard, EAR_RATE)))
        assert len({*words(ANSWER)} & {*understood}) >= 7, understood
    assert {name for name, count in street.asked().items() if count > before[name]} == vendors
    assert not street.house.lines("provider failed", since=began)
    assert street.realtime.complaints == []
