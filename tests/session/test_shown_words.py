"""What is shown of a speech in the end: the words that were heard."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from greenroom.session.agent import Agent
from greenroom.session.nodes import ModelSettings
from greenroom.testing.virtual_time import virtual_time
from tests.session.stage import Scene, scene

TEXT = "The first sentence is said. The second one is cut off before it ends."


def finals(s: Scene) -> list[tuple[str, bool]]:
    return [(event.text, event.interrupted) for _, name, event in s.events if name == "agent_text" and event.final]


def shown(s: Scene) -> str:
    return "".join(event.delta for _, name, event in s.events if name == "agent_text")


@virtual_time
async def test_a_speech_that_is_heard_to_its_end_is_shown_as_it_is() -> None:
    async with scene() as s:
        await s.session.say(TEXT)
        assert shown(s) == TEXT
        assert finals(s) == [(TEXT, False)]


@virtual_time
async def test_of_a_speech_that_is_cut_off_what_was_heard_remains() -> None:
    async with scene() as s:
        handle = s.session.say(TEXT)
        await s.until(2.5)
        await s.session.interrupt()
        assert finals(s) == [(handle.heard_text, True)]
        assert shown(s).startswith(handle.heard_text)
        assert len(handle.heard_text) < len(shown(s)), "words are shown as their audio is handed over"


class Discreet(Agent):
    async def transcription_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[str]:
        async for piece in text:
            yield piece.replace("sentence", "***")


@virtual_time
async def test_what_a_transcription_node_made_of_the_words_is_not_undone_in_the_end() -> None:
    async with scene(agent=Discreet()) as s:
        s.session.say(TEXT)
        await s.until(2.5)
        await s.session.interrupt()
        await s.until(3.0)
        assert finals(s) == [(shown(s), True)]
        assert "sentence" not in shown(s)
        assert "***" in shown(s)
