"""An agent's own code in the place of a model, or between two of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom import Agent, ChatContext, FunctionCall, Message, ModelSettings, function_tool
from greenroom.audio import AudioFrame, AudioFrameLike
from greenroom.dialog.events import EndReason
from greenroom.dialog.history import FunctionCallOutput
from greenroom.providers import LLMChunk, SynthesizedAudio, TextDelta, ToolCall, Transcript
from greenroom.session.tools import FunctionTool
from greenroom.session.words import Wording
from greenroom.testing.providers import Answer, Heard, ScriptedTTS
from greenroom.testing.virtual_time import virtual_time

from .stage import Scene, scene


async def written(*parts: str) -> AsyncIterator[str]:
    for part in parts:
        yield part


def shown(s: Scene) -> list[str]:
    """What a reader saw, segment by segment."""
    segments: dict[str, str] = {}
    for _, name, event in s.events:
        if name == "agent_text":
            segments[event.item_id] = segments.get(event.item_id, "") + event.delta
    return list(segments.values())


# --- llm_node -------------------------------------------------------------------------------------------------------


class Shouting(Agent):
    async def llm_node(
        self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings
    ) -> AsyncIterator[LLMChunk | str]:
        chat_ctx.add_message(role="system", content="Added on the way.")
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield TextDelta(chunk.text.upper()) if isinstance(chunk, TextDelta) else chunk

    @function_tool
    async def look_up(self) -> str:
        """Look it up."""
        return "found"


@virtual_time
async def test_llm_node_changes_what_is_said_and_remembered() -> None:
    agent = Shouting(instructions="Be loud.")
    answers = [Answer("let me see", calls=(ToolCall("c1", "look_up", "{}"),)), "here it is"]
    async with scene(agent=agent, answers=answers) as s:
        handle = await s.session.generate_reply(user_input="go")
        assert handle.heard_text == "LET ME SEE HERE IT IS"
        assert s.said() == [("user", "go"), ("assistant", "LET ME SEE"), ("assistant", "HERE IT IS")]
        assert [message.text for message in s.llm.contexts[0].messages()] == ["Be loud.", "go", "Added on the way."]
        assert [tool.name for tool in s.llm.tools[0]] == ["look_up"]
        assert s.llm.choices == ["auto", "auto"]
        assert "Added on the way." not in [message.text for message in agent.chat_ctx.messages()], "for one answer"


class Silent(Agent):
    async def llm_node(self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings) -> None:
        return None


class Canned(Agent):
    async def llm_node(
        self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings
    ) -> AsyncIterable[str]:
        return written("A canned ", "answer.")


class Plain(Agent):
    def llm_node(
        self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings
    ) -> AsyncIterable[str]:
        return written("A plain ", model_settings.tool_choice)


@pytest.mark.parametrize(
    ("agent", "said"),
    [(Silent, []), (Canned, [("assistant", "A canned answer.")]), (Plain, [("assistant", "A plain required")])],
)
@virtual_time
async def test_a_node_may_be_written_in_several_ways(agent: type[Agent], said: list[tuple[str, str]]) -> None:
    async with scene(agent=agent()) as s:
        handle = await s.session.generate_reply(tool_choice="required")
        assert handle.reason is EndReason.FINISHED
        assert s.said() == said
        assert s.llm.contexts == []


class Broken(Agent):
    async def llm_node(
        self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings
    ) -> AsyncIterator[str]:
        yield "This much"
        raise ZeroDivisionError("one over nought")


class Nonsense(Agent):
    def llm_node(self, chat_ctx: ChatContext, tools: list[FunctionTool], model_settings: ModelSettings) -> Any:
        return 42


@pytest.mark.parametrize(
    ("agent", "error"),
    [
        (Broken, "ZeroDivisionError: one over nought"),
        (Nonsense, "TypeError: llm_node returned int; expected an async iterable, or None"),
    ],
)
@virtual_time
async def test_a_node_that_raises_ends_its_speech_and_not_the_call(agent: type[Agent], error: str) -> None:
    async with scene(agent=agent()) as s:
        handle = await s.session.generate_reply()
        assert handle.reason is EndReason.FAILED
        assert str(handle.exception()) == error
        assert [event.source for _, name, event in s.events if name == "error"] == ["llm"]
        assert (await s.session.say("Still here.")).reason is EndReason.FINISHED


# --- tts_node -------------------------------------------------------------------------------------------------------


class Pronouncing(Agent):
    async def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[AudioFrame]:
        async def pronounced() -> AsyncIterator[str]:
            async for part in text:
                yield part.replace("SQL", "sequel").replace("API", "A P I")

        async for frame in Agent.default.tts_node(self, pronounced(), model_settings):
            yield frame


@virtual_time
async def test_pronunciation_is_heard_and_the_words_are_kept() -> None:
    text = "We use SQL here. The API is fine. That is all there is to say."
    async with scene(agent=Pronouncing()) as s:
        handle = await s.session.say(text)
        assert s.tts.sentences == ["We use sequel here.", "The A P I is fine.", "That is all there is to say."]
        assert handle.heard_text == text
        assert s.said() == [("assistant", text)]
        assert shown(s) == [text]
        cut = s.session.say(text)
        await asyncio.sleep(0.06 * len("We use sequel here. The A P I is fi"))
        s.session.interrupt()
        await cut
        # To the sentence it is known, within one it is estimated.
        assert cut.heard_text == "We use SQL here. The API is"
        assert cut.heard_text + " " + cut.remaining_text == text


class Foreign:
    """A frame like ``rtc.AudioFrame``: stereo, at a rate of its own."""

    sample_rate = 48_000
    num_channels = 2

    def __init__(self, seconds: float) -> None:
        self.samples_per_channel = round(seconds * self.sample_rate)
        self.data = np.full(2 * self.samples_per_channel, 2000, dtype=np.int16).data


class Instrument(Agent):
    """Plays half a second for each piece of text, in frames of three kinds."""

    def tts_node(
        self, text: AsyncIterable[str], model_settings: ModelSettings
    ) -> AsyncIterable[AudioFrameLike | SynthesizedAudio]:
        return self._play(text)

    async def _play(self, text: AsyncIterable[str]) -> AsyncIterator[AudioFrameLike | SynthesizedAudio]:
        ours = AudioFrame(np.full(4000, 2000, dtype=np.int16), 8000)
        kinds: list[AudioFrameLike | SynthesizedAudio] = [Foreign(0.5), ours, SynthesizedAudio(ours)]
        async for _ in text:
            yield kinds.pop(0)


@virtual_time
async def test_a_node_may_make_its_own_sound() -> None:
    async with scene(agent=Instrument()) as s:
        handle = await s.session.say(written("One ", "two ", "three."))
        assert s.out.heard_seconds == pytest.approx(1.5, abs=0.01)
        assert handle.heard_text == "One two three."
        assert s.tts.sentences == []


class Mute(Agent):
    def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> None:
        return None


@virtual_time
async def test_without_a_voice_words_are_shown_and_kept() -> None:
    async with scene(agent=Mute(), answers=["Read this."]) as s:
        handle = await s.session.generate_reply()
        assert handle.reason is EndReason.FINISHED
        assert (s.said(), shown(s)) == ([("assistant", "Read this.")], ["Read this."])
        assert s.out.heard == []


class Terse(Agent):
    """Speaks the first piece, and leaves the rest."""

    async def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[AudioFrame]:
        async for part in text:
            async for frame in Agent.default.tts_node(self, written(part), model_settings):
                yield frame
            return


@virtual_time
async def test_what_a_node_does_not_read_nobody_has_heard() -> None:
    async with scene(agent=Terse()) as s:
        handle = await s.session.say(written("Short.", " And a long explanation."))
        assert handle.reason is EndReason.FINISHED
        assert s.said() == [("assistant", "Short.")]
        assert handle.remaining_text == "And a long explanation."


class Hoarse(Agent):
    async def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[AudioFrame]:
        async for frame in Agent.default.tts_node(self, text, model_settings):
            yield frame
            raise ValueError("a frog in the throat")


@virtual_time
async def test_a_voice_that_raises_ends_its_speech_and_not_the_call() -> None:
    async with scene(agent=Hoarse()) as s:
        handle = await s.session.say("Hello there.")
        assert str(handle.exception()) == "ValueError: a frog in the throat"
        assert [event.source for _, name, event in s.events if name == "error"] == ["tts"]


@virtual_time
async def test_any_code_that_raises_ends_its_speech() -> None:
    class Buggy(ScriptedTTS):
        def _duration(self, number: int, sentence: str) -> float:
            raise KeyError("no such voice")

    async with scene(tts=Buggy()) as s:
        assert (await s.session.say("Hello.")).reason is EndReason.FAILED


# --- transcription_node ---------------------------------------------------------------------------------------------


class Clean(Agent):
    async def transcription_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[str]:
        async for part in text:
            yield part.replace("*", "")
        yield " (end)"


@virtual_time
async def test_transcription_node_decides_what_is_shown_and_nothing_else() -> None:
    async with scene(agent=Clean()) as s:
        handle = await s.session.say("This is *important*.")
        await asyncio.sleep(0.1)
        assert shown(s) == ["This is important. (end)"]
        assert handle.heard_text == "This is *important*."
        assert s.said() == [("assistant", "This is *important*.")]
        finals = [event for _, name, event in s.events if name == "agent_text" and event.final]
        assert [(event.item_id, event.text) for event in finals] == [(f"{handle.id}.1", "This is important. (end)")]


class Hidden(Agent):
    def transcription_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> None:
        return None


class Censor(Agent):
    async def transcription_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterator[str]:
        async for part in text:
            if "secret" in part:
                raise ValueError("not to be shown")
            yield part


@virtual_time
async def test_what_is_not_to_be_shown_is_not() -> None:
    async with scene(agent=Hidden()) as s:
        await s.session.say("You hear this.")
        assert shown(s) == [""]
    async with scene(agent=Censor()) as s:
        handle = await s.session.say("Public. The secret is out. Public again.")
        await asyncio.sleep(0.1)
        assert shown(s) == ["Public. "]
        assert handle.reason is EndReason.FINISHED
        assert s.times("error", source="transcription_node")


# --- stt_node -------------------------------------------------------------------------------------------------------


class Filtering(Agent):
    def __init__(self) -> None:
        super().__init__()
        self.frames = 0

    async def stt_node(
        self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings
    ) -> AsyncIterator[Transcript | str]:
        async def counted() -> AsyncIterator[AudioFrame]:
            async for frame in audio:
                self.frames += 1
                yield frame

        async for heard in Agent.default.stt_node(self, counted(), model_settings):
            yield Transcript(heard.text.replace("um ", ""), final=heard.final, utterance=heard.utterance)


@virtual_time
async def test_stt_node_changes_what_was_heard() -> None:
    agent = Filtering()
    async with scene(agent=agent, heard=["um what um time is it"], answers=["Noon."]) as s:
        s.user.speak(1.0)
        await s.until(6.0)
        assert s.said() == [("user", "what time is it"), ("assistant", "Noon.")]
        assert agent.frames == len(s.stt.audio) > 100


@virtual_time
async def test_a_transcriber_that_fails_behind_a_node_is_tried_again() -> None:
    async with scene(agent=Filtering(), heard=[Heard("x", failure="raise"), "still there"], answers=["Yes."]) as s:
        s.user.speak(0.5)
        s.user.silence(2.0)
        s.user.speak(0.5)
        await s.until(14.0)
        assert s.times("error", source="stt")
        assert ("user", "still there") in s.said()


class Own(Agent):
    """Its own transcriber: a word for each second of sound."""

    async def stt_node(self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings) -> AsyncIterator[str]:
        loud = 0.0
        async for frame in audio:
            if np.abs(frame.pcm.astype(np.int32)).max() > 1000:
                loud += frame.duration
            elif loud > 0.5:
                loud = 0.0
                yield "a second of sound"


@virtual_time
async def test_an_agent_may_bring_its_own_transcriber() -> None:
    async with scene(agent=Own(), answers=["I heard it."]) as s:
        s.user.speak(1.0)
        await s.until(6.0)
        assert s.said() == [("user", "a second of sound"), ("assistant", "I heard it.")]


class Deaf(Agent):
    def stt_node(self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings) -> None:
        return None


class Failing(Agent):
    async def stt_node(self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings) -> AsyncIterator[str]:
        async for frame in audio:
            if frame.at > 1.0:
                raise ValueError("earache")
            yield ""


class FailingWithin(Agent):
    def stt_node(self, audio: AsyncIterable[AudioFrame], model_settings: ModelSettings) -> AsyncIterable[Transcript]:
        async def broken() -> AsyncIterator[AudioFrame]:
            async for frame in audio:
                yield frame
                raise ValueError("earache")

        return Agent.default.stt_node(self, broken(), model_settings)


@virtual_time
async def test_a_deaf_agent_waits_for_no_words() -> None:
    async with scene(agent=Deaf(), answers=["Hello."]) as s:
        s.user.speak(1.0)
        await s.until(4.0)
        assert s.said() == []
        s.session.receive_text("hi")
        await s.until(8.0)
        assert s.said() == [("user", "hi"), ("assistant", "Hello.")]


@pytest.mark.parametrize("agent", [Failing, FailingWithin])
@virtual_time
async def test_ears_that_raise_are_reported_and_tried_again(agent: type[Agent]) -> None:
    async with scene(agent=agent()) as s:
        await s.until(3.0)
        errors = [event for _, name, event in s.events if name == "error"]
        assert len(errors) > 1
        assert {str(event.error) for event in errors} == {"stt: stt_node failed: ValueError: earache"}
        assert (await s.session.say("Still here.")).reason is EndReason.FINISHED


# --- the words that a voice has begun ---------------------------------------------------------------------------------


@dataclass
class Reading:
    text: str
    labels: list[str]
    expected: list[tuple[str, str, bool]]
    rest: str = ""


@pytest.mark.parametrize(
    "reading",
    [
        Reading("One. Two.", ["One. ", "Two."], [("", "One. ", True), ("", "Two.", True)]),
        Reading(
            "Ask SQL now. Then go.",
            ["Ask sequel now. ", "Then go."],
            [("", "Ask SQL now. ", False), ("", "Then go.", True)],
        ),
        Reading(
            "We use API. Next one.",
            ["We use A P I. ", "Next one."],
            [("", "We use ", False), ("API. ", "Next one.", False)],
        ),
        Reading("$5 it is. Yes.", ["Five dollars it is. ", "Yes."], [("", "$5 it is. ", False), ("", "Yes.", True)]),
        Reading("Fünf. Sechs.", ["Five. ", "Six."], [("", "", False), ("", "", False)], rest="Fünf. Sechs."),
    ],
)
async def test_labels_are_taken_back_to_the_words_of_the_text(reading: Reading) -> None:
    wording = Wording(written(*(f"{part} " for part in reading.text.split(" "))))
    assert [part async for part in wording]
    found = [wording.label(label) for label in reading.labels]
    rest = wording.rest()
    assert [(before, own.rstrip(), sure) for before, own, sure in found] == [
        (before, own.rstrip(), sure) for before, own, sure in reading.expected
    ]
    assert rest.strip() == reading.rest
    assert "".join(before + own for before, own, _ in found) + rest == reading.text + " "


# --- the agent itself -----------------------------------------------------------------------------------------------


@virtual_time
async def test_an_agent_has_a_context_of_its_own() -> None:
    given = ChatContext([Message("instructions", "system", "Others'."), Message("m1", "user", "before")])
    agent = Agent(instructions="Mine.", chat_ctx=given)
    assert [message.text for message in agent.chat_ctx.messages()] == ["Mine.", "before"]
    async with scene(agent=agent, answers=["Yes.", "No."]) as s:
        await s.session.generate_reply(user_input="one")
        assert [message.text for message in s.llm.contexts[0].messages()] == ["Mine.", "before", "one"]
        call = FunctionCall("f1", "c1", "gone", "{}")
        output = FunctionCallOutput("f2", "c1", "gone", "x")
        await agent.update_chat_ctx(ChatContext([Message("m2", "user", "only this"), call, output]))
        await agent.update_instructions("Other.")
        await s.session.generate_reply(user_input="two")
        assert list(s.llm.contexts[1]) == [
            Message("instructions", "system", "Other."),
            Message("m2", "user", "only this"),
            Message("item_3", "user", "two"),
        ]
        assert [text for _, text in s.said()] == ["before", "one", "Yes.", "two", "No."], "the history is the whole"
        await agent.update_chat_ctx(ChatContext([call, output]), exclude_invalid_function_calls=False)
        assert list(agent.chat_ctx)[1:] == [call, output]


@virtual_time
async def test_tools_may_be_changed() -> None:
    @function_tool
    async def one_more() -> str:
        """One more."""
        return ""

    agent = Shouting()
    await agent.update_tools([*agent.tools, one_more])
    assert [tool.name for tool in agent.tools] == ["look_up", "one_more"]
    assert agent.find_tool("one_more") is one_more
    with pytest.raises(ValueError, match="two tools are named 'one_more'"):
        await agent.update_tools([one_more, one_more])
    assert (agent.id, Agent(id="me").id, Agent().id) == ("shouting", "me", "agent")


# --- what the documentation shows -------------------------------------------------------------------------------------


def snippets(section: str) -> list[str]:
    """The Python of one section of docs/agents.md."""
    text = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
    return re.findall(r"```python\n(.*?)```", text.split(f"## {section}\n")[1].split("\n## ")[0], flags=re.DOTALL)


@virtual_time
async def test_the_documented_nodes_do_what_they_say() -> None:
    (code,) = snippets("Nodes")
    names: dict[str, Any] = {}
    exec(compile(code, "docs/agents.md", "exec"), names)  # noqa: S102  # our own page
    async with scene(agent=names["Speaker"](), answers=["Use SQL."]) as s:
        s.session.receive_text("hello")
        await s.until(3.0)
        s.session.receive_text("what do I use?")
        await s.until(6.0)
        assert [text for role, text in s.said() if role == "assistant"] == ["Is that a question?", "Use SQL."]
        assert s.tts.sentences[-1] == "Use sequel."


@virtual_time
async def test_the_documented_metrics_are_collected(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = snippets("Metrics")
    async with scene(answers=[Answer("Finally.", first_token=2.0)]) as s:
        exec(compile(code, "docs/agents.md", "exec"), {"session": s.session})  # noqa: S102  # our own page
        s.session.receive_text("hello")
        await s.until(6.0)
    assert "the user waited TurnMetrics(turn='turn_1'" in capsys.readouterr().out
