"""What is spoken is other than what is written; transcript, history and what was heard keep what was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

import numpy as np
import pytest

from greenroom import Agent, AgentSession, ModelSettings, text_transforms
from greenroom.audio import AudioFrame
from greenroom.providers import TTS, SynthesizedAudio
from greenroom.session.session import SessionOptions
from greenroom.session.words import Wording
from greenroom.speech.pronunciation import Pronunciation
from greenroom.speech.rewriting import Rewriting
from greenroom.speech.transforms import TextTransform, Transforms
from greenroom.testing.virtual_time import virtual_time

from .stage import Scene, scene

WORDS = {"nginx": "engine x", "SQL": "sequel"}
TEXT = "We run **nginx** and SQL 👋. That is all there is to say."


def spoken(*transforms: TextTransform) -> SessionOptions:
    return SessionOptions(transforms=Transforms(transforms))


def shown(s: Scene) -> str:
    return "".join(event.delta for _, name, event in s.events if name == "agent_text")


@virtual_time
async def test_markdown_and_emoji_are_neither_spoken_nor_lost() -> None:
    async with scene(answers=[TEXT]) as s:
        handle = await s.session.generate_reply()
        assert s.tts.sentences == ["We run nginx and SQL .", "That is all there is to say."]
        assert handle.heard_text == shown(s) == TEXT
        assert s.said() == [("assistant", TEXT)]


@virtual_time
async def test_pronunciation_changes_the_sound_and_no_word() -> None:
    options = spoken("filter_markdown", "filter_emoji", text_transforms.replace(WORDS))
    async with scene(options=options, answers=[TEXT]) as s:
        handle = await s.session.generate_reply()
        assert s.tts.sentences[0] == "We run engine x and sequel ."
        assert handle.heard_text == shown(s) == TEXT
        (metrics,) = [event.metrics for _, name, event in s.events if name == "metrics_collected"][-1:]
        assert metrics.characters == len("We run engine x and sequel . That is all there is to say.")


class Timed(TTS):
    """Tells where each word begins: half a second each, as vendors with timings do."""

    def __init__(self) -> None:
        self.read = ""

    async def synthesize(self, text: AsyncIterable[str]) -> AsyncGenerator[SynthesizedAudio, None]:
        async for part in text:
            self.read += part
        for word in self.read.split(" "):
            frame = AudioFrame(np.full(self.sample_rate // 2, 2000, dtype=np.int16), self.sample_rate)
            yield SynthesizedAudio(frame, f"{word} ", aligned=True)


@pytest.mark.parametrize(
    ("after", "heard"),
    [
        (1.9, "We run **nginx**"),  # in the middle of what is two words to the voice
        (2.4, "We run **nginx** and"),
        (2.9, "We run **nginx** and SQL"),
    ],
)
@virtual_time
async def test_timings_of_spoken_words_are_those_of_the_written_ones(after: float, heard: str) -> None:
    voice = Timed()
    options = spoken("filter_markdown", text_transforms.replace(WORDS))
    async with scene(options=options) as s:
        agent = Agent(tts=voice)
        s.session.update_agent(agent)
        await asyncio.sleep(0.1)
        handle = s.session.say("We run **nginx** and SQL here, and no more.")
        await asyncio.sleep(after)
        s.session.interrupt()
        await handle
        assert voice.read == "We run engine x and sequel here, and no more."
        assert handle.heard_text == heard
        assert shown(s).startswith(heard)
        assert f"{handle.heard_text} {handle.remaining_text}" == "We run **nginx** and SQL here, and no more."


class Pronouncing(Agent):
    """As on LiveKit's page: the words are changed in ``tts_node``, on top of what the session does."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ""

    async def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[AudioFrame]:
        async def adjusted() -> AsyncIterator[str]:
            async for part in text:
                self.read += part
                yield part.replace("MySQL", "my sequel")

        async for frame in Agent.default.tts_node(self, adjusted(), model_settings):
            yield frame


@virtual_time
async def test_a_node_reads_what_the_transforms_made() -> None:
    agent = Pronouncing()
    async with scene(agent=agent, options=spoken(text_transforms.replace(WORDS))) as s:
        handle = await s.session.say("MySQL and nginx are here. All of it.")
        assert agent.read == "MySQL and engine x are here. All of it."
        assert s.tts.sentences == ["my sequel and engine x are here.", "All of it."]
        assert handle.heard_text == "MySQL and nginx are here. All of it."


async def loud(text: AsyncIterable[str]) -> AsyncIterator[str]:
    async for part in text:
        yield part.upper()


@virtual_time
async def test_a_function_may_rewrite_anything() -> None:
    options = spoken("filter_markdown", loud, text_transforms.replace({"HERE": "THERE"}))
    async with scene(options=options) as s:
        handle = await s.session.say("It is **here**. And it stays.")
        assert s.tts.sentences == ["IT IS THERE.", "AND IT STAYS."]
        assert handle.heard_text == shown(s) == "It is **here**. And it stays."
    assert await Transforms(["filter_markdown", loud]).apply("It is *so*.") == "IT IS SO."


@virtual_time
async def test_the_session_takes_what_livekits_takes() -> None:
    session = AgentSession(tts_text_transforms=["filter_emoji", "filter_numbers"], volume=0.5)
    assert session.volume == 0.5
    with pytest.raises(ValueError, match="no text transform is named 'filter_html'; expected filter_markdown"):
        Transforms(["filter_html"])  # type: ignore[list-item]


@virtual_time
async def test_what_is_not_spoken_at_all_is_shown() -> None:
    async with scene() as s:
        handle = await s.session.say("👋")
        assert s.tts.sentences == []
        assert s.said() == [("assistant", "👋")]
        assert shown(s) == "👋"
        assert handle.remaining_text == ""


async def words(*parts: str) -> AsyncIterator[str]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("labels", "stand_for"),
    [
        (["we use engine x here"], ["we use nginx here"]),
        (["we use ", "engine ", "x ", "here"], ["we use ", "nginx", " ", "here"]),
        (["we use eng", "ine x here"], ["we use nginx", " here"]),
    ],
)
async def test_labels_of_a_word_that_is_several_when_spoken(labels: list[str], stand_for: list[str]) -> None:
    wording = Wording(words("we use ng", "inx here"), Rewriting([Pronunciation(WORDS)]))
    assert "".join([part async for part in wording]) == "we use engine x here"
    assert [wording.label(label) for label in labels] == [("", own, True) for own in stand_for]
    assert wording.rest() == ""
