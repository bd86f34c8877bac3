"""A server that is lost, refuses or stalls costs a pause: another connection knows what this one knew."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from greenroom.dialog.history import FunctionCallOutput, Message
from greenroom.errors import ProviderError
from greenroom.providers import RealtimeRequest, ToolCall
from greenroom.providers.realtime import RealtimeChunk, SpeechStarted, SpeechStopped
from greenroom_plugins.openai_realtime import link
from tests.providers.contract.case import SECRET, Fault

from .conversation import RATE, Answer, Call
from .server import RealtimeServer
from .talk import STORY, talking, text

# --- another connection -----------------------------------------------------------------------------------------------


async def test_the_memory_survives_the_connection(server: RealtimeServer) -> None:
    server.answers.extend([Answer("one two", calls=(Call("look_up"),)), Answer(STORY)])
    async with talking(server) as talk:
        talk.session.update(instructions="Be brief.")
        talk.utter("u1", "what time is it", at=1.0)
        await talk.until(lambda: talk.finals)
        chunks = await talk.said("r1")
        (call,) = (chunk for chunk in chunks if isinstance(chunk, ToolCall))
        talk.session.add(FunctionCallOutput("o1", call.call_id, "look_up", "42"))
        await talk.said("r2")
        talk.session.truncate("r2", seconds=0.5, text="one two")
        await server.until(lambda: server.conversation.elements[-1].samples == RATE // 2)
        server.cut()
        talk.session.add(Message("m1", "user", "are you there"))  # while nobody is
        assert text(await talk.said("r3")) == "Very well, thank you."
        assert len(server.conversations) == 2
        assert server.conversation.asked[0].instructions == "Be brief."
        assert server.conversation.asked[0].memory == [
            ("user", "what time is it"),
            ("assistant", "one two"),
            ("function_call", "look_up {}"),
            ("function_call_output", "42"),
            ("assistant", "one two"),
            ("user", "are you there"),
        ]
        (error,) = talk.errors
        assert error.retryable


@pytest.mark.parametrize("detect_speech", [False, True])
async def test_an_utterance_without_words_is_heard_again(server: RealtimeServer, detect_speech: bool) -> None:
    async with talking(server, detect_speech=detect_speech, transcription=None) as talk:
        if detect_speech:
            end = talk.push("hello there", at=talk.quiet(1.0, at=1.0))
            talk.quiet(1.0, at=end)
        else:
            talk.utter("u1", "hello there", at=1.0)
        await server.until(lambda: server.conversations and server.conversation.elements)
        before = server.conversation.utterances[0]
        await talk.said("r2")
        server.cut()
        await talk.said("r3")
        after = server.conversation.utterances[0]
        assert after.tolist() == before.tolist()
        assert server.conversation.elements[0].role == "user"
        detection = server.conversation.settings["audio"]["input"]["turn_detection"]
        assert (detection is not None) is detect_speech


@pytest.mark.parametrize("detect_speech", [False, True])
async def test_an_utterance_goes_on_over_the_loss(server: RealtimeServer, detect_speech: bool) -> None:
    async with talking(server, detect_speech=detect_speech) as talk:
        await talk.said("r0")
        start = talk.quiet(1.0, at=1.0)
        end = talk.push("the quick brown fox", at=start)
        if detect_speech:
            await talk.until(lambda: talk.heard)
        else:
            talk.session.start_of_speech("u1", at=start)
            await server.until(lambda: server.conversation.appended)
        server.cut()
        await talk.until(lambda: talk.errors)
        end = talk.push("jumps over a lazy dog", at=end)  # while nobody listens
        await server.until(lambda: len(server.conversations) == 2 and server.conversation.appended)
        end = talk.push("and goes on", at=end)
        if detect_speech:
            talk.quiet(1.0, at=end)
        else:
            talk.session.end_of_speech("u1")
        await talk.until(lambda: talk.finals)
        (final,) = talk.finals
        assert final.text == "the quick brown fox jumps over a lazy dog and goes on"
        marks = [heard for heard in talk.heard if isinstance(heard, SpeechStarted | SpeechStopped)]
        if detect_speech:
            assert [type(mark) for mark in marks] == [SpeechStarted, SpeechStopped]
            assert {mark.utterance for mark in marks} == {final.utterance}
            assert marks[1].at == pytest.approx(end - 0.08, abs=0.03)
        else:
            assert final.utterance == "u1"


async def test_a_response_of_which_nothing_came_is_asked_for_again(server: RealtimeServer) -> None:
    held = asyncio.Event()
    server.answers.extend([Answer(STORY, hold=(0, held)), Answer("two")])
    async with talking(server) as talk:
        asking = asyncio.create_task(talk.said("r1"))
        await server.until(lambda: server.conversations and server.conversation.elements)
        server.cut()
        assert text(await asking) == "two"
        assert [conversation.remembered() for conversation in server.conversations[1:]] == [[("assistant", "two")]]


async def test_a_response_that_breaks_off_fails(server: RealtimeServer) -> None:
    server.order("cut")
    server.answers.extend([Answer(STORY), Answer("two")])
    async with talking(server) as talk:
        got: list[RealtimeChunk] = []

        async def read() -> None:
            async with aclosing(talk.session.respond(RealtimeRequest("r1"))) as chunks:
                async for chunk in chunks:
                    got.append(chunk)  # noqa: PERF401  # what came before the error

        with pytest.raises(ProviderError, match="openai_realtime: the connection broke") as caught:
            await read()
        assert caught.value.retryable
        assert text(got) == "one two"
        talk.session.truncate("r1", seconds=0.24, text="one")
        assert text(await talk.said("r2")) == "two"
        assert server.conversation.remembered() == [("assistant", "one"), ("assistant", "two")]


# --- what the server cannot do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (Answer(fail="server_error"), True),
        (Answer(refuse="rate_limit_exceeded"), True),
        (Answer(fail="insufficient_quota"), False),
        (Answer(status="cancelled"), True),
    ],
)
async def test_a_response_that_fails(server: RealtimeServer, answer: Answer, retryable: bool) -> None:
    server.answers.append(answer)
    async with talking(server) as talk:
        with pytest.raises(ProviderError) as caught:
            await talk.said("r1")
        assert caught.value.retryable is retryable
        assert text(await talk.said("r2")) == "Very well, thank you."
        assert len(server.conversations) == 1


async def test_a_refused_key_is_told_and_not_shown(server: RealtimeServer) -> None:
    server.order("expired_key", times=100)
    async with talking(server) as talk:
        with pytest.raises(ProviderError, match="Expired API key") as caught:
            await talk.said("r1")
        assert not caught.value.retryable
        assert SECRET not in str(caught.value)
        await talk.until(lambda: talk.errors)
        assert not [error for error in talk.errors if SECRET in str(error)]


async def test_a_server_that_stops_answering_is_left(server: RealtimeServer) -> None:
    held = asyncio.Event()
    server.answers.extend([Answer(STORY, hold=(0, held)), Answer("two")])
    async with talking(server, patience=0.3) as talk:
        with pytest.raises(ProviderError, match="nothing came of the response") as caught:
            await talk.said("r1")
        assert caught.value.retryable
        assert text(await talk.said("r2")) == "two"
        assert len(server.conversations) == 2
        assert any("has stopped answering" in str(error) for error in talk.errors)


async def test_a_server_that_takes_nothing_is_left(server: RealtimeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "TAKING", 0.05)
    async with talking(server, detect_speech=True) as talk:
        await talk.said("r1")
        server.stop_reading()
        at = 1.0
        async with asyncio.timeout(20.0):
            while not talk.errors:
                at = talk.quiet(5.0, at=at)
                await asyncio.sleep(0.01)
        assert "takes no more audio" in str(talk.errors[0])
        assert text(await talk.said("r2")) == "Very well, thank you."
        assert [role for role, _ in server.conversation.remembered()] == ["assistant", "assistant"]
        server.cut()  # it would not notice that anybody hangs up


async def test_a_long_utterance_is_heard_again_whole(server: RealtimeServer) -> None:
    async with talking(server, transcription=None) as talk:
        await talk.said("r1")
        server.stop_reading()
        end = talk.push("hello there", at=100.0)
        talk.session.start_of_speech("u1", at=100.0)
        talk.quiet(50.0, at=end)
        talk.session.end_of_speech("u1")
        server.cut()
        await talk.said("r2")
        assert len(server.conversation.utterances[0]) == round(50.48 * RATE)


@pytest.mark.parametrize("fault", ["401", "403", "404", "429", "500", "503", "stall", "malformed"])
async def test_a_door_that_is_closed_once(server: RealtimeServer, fault: Fault) -> None:
    """What a status costs, or a server that says nothing, or nonsense: one failure that is told, then all is well."""
    server.order(fault)
    async with talking(server, patience=2.0, connect_timeout=0.5) as talk:
        said = await asyncio.gather(talk.said("r1"), return_exceptions=True)
        if fault in ("401", "403", "404"):
            (refused,) = said
            assert isinstance(refused, ProviderError)
            assert fault in str(refused)
            assert not refused.retryable
            return  # it is asked again after some seconds
        assert fault == "malformed" or text(said[0] if isinstance(said[0], list) else []) == "Very well, thank you."
        assert text(await talk.said("r2")) == "Very well, thank you."
        assert len(talk.errors) == 1
        assert talk.errors[0].retryable
        assert SECRET not in str(talk.errors[0])
