"""A conversation over the protocol: what the server is told, and a memory that is the same on both sides."""

from __future__ import annotations

import asyncio

import pytest

from greenroom.audio import AudioFrame
from greenroom.dialog.history import ChatContext, FunctionCall, FunctionCallOutput, Message
from greenroom.providers import TextDelta, ToolCall, ToolSchema, Transcript, Usage
from greenroom.providers.realtime import SpeechStarted, SpeechStopped
from tests.plugins.tones import spell
from tests.providers.contract.case import SECRET

from .conversation import RATE, Answer, Call
from .server import RealtimeServer
from .talk import STORY, samples, talking, text

# --- what the server is told ------------------------------------------------------------------------------------------


async def test_the_connection_says_who_and_what(server: RealtimeServer) -> None:
    options = {"model": "my-model", "headers": {"X-Team": "7"}, "noise_reduction": "near_field", "speed": 1.2}
    async with talking(server, detect_speech=True, session={"truncation": "disabled"}, **options) as talk:
        look_up = ToolSchema("look_up", "Look something up.", {"type": "object", "properties": {}})
        talk.session.update(instructions="Be brief.", tools=[look_up])
        await talk.said("r1")
        ((path, headers),) = server.handshakes
        assert path == "/v1/realtime?model=my-model"
        assert (headers["Authorization"], headers["X-Team"]) == (f"Bearer {SECRET}", "7")
        told = server.conversation.settings
        heard = told["audio"]["input"]
        assert heard["turn_detection"] == {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "create_response": False,
            "interrupt_response": False,
        }
        assert heard["transcription"] == {"model": "gpt-4o-mini-transcribe"}
        assert heard["noise_reduction"] == {"type": "near_field"}
        assert (told["audio"]["output"]["voice"], told["audio"]["output"]["speed"]) == ("marin", 1.2)
        assert (told["truncation"], told["output_modalities"]) == ("disabled", ["audio"])
        assert (told["instructions"], [tool["name"] for tool in told["tools"]]) == ("Be brief.", ["look_up"])
        (asked,) = server.conversation.asked
        assert (asked.instructions, asked.tools) == ("Be brief.", ["look_up"])


async def test_a_response_of_its_own(server: RealtimeServer) -> None:
    async with talking(server) as talk:
        talk.session.update(instructions="Be brief.")
        talk.session.add(Message("m1", "user", "hello"))
        await talk.said("r1", instructions="Say goodbye.", tools=(), tool_choice="none")
        context = ChatContext([Message("i", "system", "Sum up."), Message("m", "user", "something else")])
        await talk.said("r2", chat_ctx=context)
        await talk.said("r3")
        first, second, third = server.conversation.asked
        assert (first.instructions, first.tools, first.tool_choice) == ("Say goodbye.", [], "none")
        assert (second.instructions, second.memory) == ("Sum up.", [("user", "something else")])
        said = ("assistant", "Very well, thank you.")
        assert (third.instructions, third.memory) == ("Be brief.", [("user", "hello"), said, said])


async def test_words_sound_and_cost(server: RealtimeServer) -> None:
    server.answers.append(Answer(STORY))
    async with talking(server) as talk:
        chunks = await talk.said("r1")
        assert text(chunks) == STORY
        assert samples(chunks) == len(spell(STORY, RATE)[0].pcm)
        assert [type(chunk) for chunk in chunks[:2]] == [TextDelta, AudioFrame]
        assert chunks[-1] == Usage(10, len(STORY))


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 0.5128, 1.23996, 0.001, 1.92])
async def test_the_memory_is_cut_to_the_millisecond(server: RealtimeServer, seconds: float) -> None:
    server.answers.append(Answer(STORY))
    async with talking(server) as talk:
        await talk.said("r1")
        talk.session.truncate("r1", seconds=seconds, text="one two")
        await talk.said("r2")
        story = server.conversation.elements[0]
        heard = round(seconds * RATE)
        assert 0 <= heard - story.samples < RATE // 1000


async def test_what_nobody_heard_is_forgotten(server: RealtimeServer) -> None:
    server.answers.extend([Answer("one two", calls=(Call("look_up"),)), Answer("three")])
    async with talking(server) as talk:
        chunks = await talk.said("r1")
        (call,) = (chunk for chunk in chunks if isinstance(chunk, ToolCall))
        talk.session.truncate("r1", seconds=0.0, text="")
        talk.session.add(FunctionCallOutput("o1", call.call_id, "look_up", "42"))
        await talk.said("r2")
        assert server.conversation.remembered() == [
            ("function_call", "look_up {}"),
            ("function_call_output", "42"),
            ("assistant", "three"),
        ]


async def test_a_response_that_is_closed_stays_as_far_as_it_was_handed_on(server: RealtimeServer) -> None:
    server.answers.append(Answer(STORY, calls=(Call("look_up"),)))
    async with talking(server) as talk:
        chunks = await talk.hear_words("r1", 3)
        assert text(chunks) == "one two three"
        await talk.said("r2")
        story, answer = server.conversation.elements
        assert (story.text, story.samples) == ("one two three", samples(chunks))
        assert answer.text == "Very well, thank you."


async def test_a_response_that_is_closed_and_then_cut(server: RealtimeServer) -> None:
    held = asyncio.Event()
    server.answers.append(Answer(STORY, hold=(6, held)))
    async with talking(server) as talk:
        await talk.hear_words("r1", 5)
        talk.session.truncate("r1", seconds=0.5, text="one two")
        assert server.conversation.active is not None
        await talk.said("r2")
        assert server.conversation.elements[0].samples == RATE // 2
        assert server.conversation.elements[0].text == "one two"
        assert "response.cancel" in [event["type"] for event in server.conversation.told]


async def test_several_messages_of_one_response(server: RealtimeServer) -> None:
    server.answers.append(Answer("one two", parts=("three four", "five six")))
    async with talking(server) as talk:
        await talk.said("r1")
        talk.session.truncate("r1", seconds=0.48 + 0.24, text="one two three")
        await talk.said("r2")
        said = [(element.text, element.samples) for element in server.conversation.elements[:-1]]
        assert said == [("one two", round(0.48 * RATE)), ("three", round(0.24 * RATE))]


async def test_what_was_only_written_is_rewritten_in_its_place(server: RealtimeServer) -> None:
    server.answers.append(Answer(STORY))
    async with talking(server, output="text") as talk:
        talk.session.add(Message("m1", "user", "go on"))
        chunks = await talk.said("r1")
        assert (text(chunks), samples(chunks)) == (STORY, 0)
        talk.session.add(Message("m2", "user", "stop"))
        talk.session.truncate("r1", seconds=1.3, text="one two three")
        await talk.said("r2")
        assert server.conversation.remembered()[:3] == [
            ("user", "go on"),
            ("assistant", "one two three"),
            ("user", "stop"),
        ]


# --- hearing ----------------------------------------------------------------------------------------------------------


async def test_only_utterances_are_sent_where_the_session_finds_them(server: RealtimeServer) -> None:
    async with talking(server) as talk:
        await talk.said("r0")
        end = talk.quiet(20.0, at=100.0)
        talk.utter("u1", "what time is it", at=end)
        talk.utter("u2", "hello there", at=end + 5.0)
        await talk.until(lambda: len(talk.finals) == 2)
        assert [(final.utterance, final.text) for final in talk.finals] == [
            ("u1", "what time is it"),
            ("u2", "hello there"),
        ]
        assert server.conversation.appended == sum(len(pcm) for pcm in server.conversation.utterances)
        assert server.conversation.appended == 6 * round(0.24 * RATE)
        interim = [heard for heard in talk.heard if isinstance(heard, Transcript) and not heard.final]
        assert [heard.text for heard in interim[:2]] == ["what", "what time"]


async def test_the_shortest_utterance_is_long_enough_for_the_server(server: RealtimeServer) -> None:
    async with talking(server) as talk:
        talk.quiet(0.5, at=1.0)
        talk.session.start_of_speech("u1", at=1.49)
        talk.session.end_of_speech("u1")
        await talk.until(lambda: talk.finals)
        assert talk.finals[0].text == ""


async def test_places_in_the_stream_become_capture_times(server: RealtimeServer) -> None:
    """The microphone was muted twice, so the stream has less audio than time has passed."""
    async with talking(server, detect_speech=True) as talk:
        talk.quiet(1.0, at=10.0)
        talk.quiet(1.0, at=50.0)
        talk.quiet(0.5, at=80.0)
        end = talk.push("what time is it", at=80.5)
        talk.quiet(1.0, at=end)
        await talk.until(lambda: talk.finals)
        started, stopped = talk.heard[:2]
        assert isinstance(started, SpeechStarted)
        assert isinstance(stopped, SpeechStopped)
        assert started.at == pytest.approx(80.5, abs=0.021)
        assert stopped.at == pytest.approx(end - 0.08, abs=0.021)  # a word ends with a gap
        assert talk.finals == [Transcript("what time is it", utterance=started.utterance)]


async def test_a_transcript_that_fails(server: RealtimeServer) -> None:
    async def refuse(pcm: object) -> str:
        raise ValueError("nobody understands that")

    server.mind.transcribe = refuse
    async with talking(server) as talk:
        talk.utter("u1", "hello there", at=1.0)
        await talk.until(lambda: talk.errors)
        assert talk.finals == [Transcript("", utterance="u1")]
        assert "nobody understands that" in str(talk.errors[0])


# --- tools ------------------------------------------------------------------------------------------------------------


async def test_a_tool_is_called_and_answers(server: RealtimeServer) -> None:
    server.answers.extend([Answer("one", calls=(Call("look_up", '{"what": "price"}'),)), Answer("two")])
    async with talking(server) as talk:
        chunks = await talk.said("r1")
        (call,) = (chunk for chunk in chunks if isinstance(chunk, ToolCall))
        assert (call.name, call.arguments) == ("look_up", '{"what": "price"}')
        talk.session.add(FunctionCallOutput("o1", call.call_id, "look_up", "42"))
        await talk.said("r2")
        assert server.conversation.asked[1].memory == [
            ("assistant", "one"),
            ("function_call", 'look_up {"what": "price"}'),
            ("function_call_output", "42"),
        ]


async def test_another_conversation_takes_the_place_of_this_one(server: RealtimeServer) -> None:
    async with talking(server) as talk:
        talk.session.add(Message("m1", "user", "hello"))
        talk.utter("u1", "what time is it", at=1.0)
        await talk.said("r1")
        call = FunctionCall("c1", "call_1", "look_up", "{}")
        output = FunctionCallOutput("o1", "call_1", "look_up", "42")
        talk.session.update(chat_ctx=ChatContext([Message("m", "user", "all that matters"), call, output]))
        await talk.said("r2")
        assert server.conversation.asked[1].memory == [
            ("user", "all that matters"),
            ("function_call", "look_up {}"),
            ("function_call_output", "42"),
        ]


async def test_an_answer_that_nobody_asked_for_is_stopped_and_forgotten(server: RealtimeServer) -> None:
    async with talking(server) as talk:
        await talk.said("r1")
        server.conversation.volunteer(Answer(STORY, pace=0.05))
        await server.until(lambda: {"type": "conversation.item.delete"}.items() <= server.conversation.told[-1].items())
        assert server.conversation.remembered() == [("assistant", "Very well, thank you.")]
        assert text(await talk.said("r2")) == "Very well, thank you."
