"""A host on the test's own loop, and jobs that ask it over its socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenroom.audio import AudioFrame
from greenroom.errors import ProviderError
from greenroom.models import client, host, shelf, wire
from greenroom.models.sharing import Sharing
from greenroom.models.wire import Counted, Greeting, HostMessage, Keep, Ping, Pong, Unneeded, Wanted
from greenroom.providers import ChatContext, Heard
from tests.models.conftest import PATIENCE, Notes, RunningHost, provider, until
from tests.models.fakes import ECHO, FAIL, GATE, HANG, NAME, RAISE, RATE, sound


@pytest.fixture
async def sharing(host: RunningHost) -> AsyncIterator[Sharing]:
    host.keep()
    made = Sharing((str(host.path),))
    yield made
    await made.aclose()


async def said(notes: Notes, word: str, times: int = 1) -> None:
    await until(lambda: notes.count(word) >= times)


async def audio(voice: Any, sentence: str) -> list[int]:
    return [len(frame.pcm) async for frame in voice.speak(sentence)]


async def test_a_model_is_loaded_once_for_all_who_use_it(sharing: Sharing, host: RunningHost, notes: Notes) -> None:
    others = Sharing((str(host.path),))
    for one in (sharing, others):
        await asyncio.to_thread(one.build("stt", provider(notes=str(notes))).load)
    assert notes.text.splitlines() == ["share 2", f"load {os.getpid()}"]
    await others.aclose()


async def test_each_kind_answers_through_the_host_as_it_would_itself(sharing: Sharing) -> None:
    ear, voice, judge = (sharing.build(kind, provider()) for kind in ("stt", "tts", "turn"))
    heard = await ear.recognize(sound(ECHO, samples=480_000))
    assert (heard.text, heard.language, heard.confidence) == ("480000 samples", "en", 0.5)
    frames = [frame async for frame in voice.speak("one three")]
    assert [(frame.pcm.tolist(), frame.sample_rate) for frame in frames] == [([3] * 3, RATE), ([5] * 5, RATE)]
    context = ChatContext()
    context.add_message(role="user", content="I would like")
    assert await judge.probability(Heard(context, "I would like")) == 1.0
    assert await judge.probability(Heard(context, "something else", AudioFrame(np.zeros(9, np.int16), RATE))) == 0.0


async def test_a_proxy_says_of_itself_what_the_provider_says(sharing: Sharing) -> None:
    ear, voice, judge = (sharing.build(kind, provider()) for kind in ("stt", "tts", "turn"))
    assert [one.label for one in (ear, voice, judge)] == ["FakeEar", "FakeVoice", "FakeJudge"]
    assert (ear.sample_rate, ear.attempts) == (RATE, 1)
    assert (voice.sample_rate, voice.first_clause, voice.language) == (RATE, 12, "en")
    assert (judge.modality, judge.threshold, judge.seconds) == ("text", 0.7, 8.0)


async def test_a_request_that_is_given_up_is_given_up_in_the_host(sharing: Sharing, notes: Notes) -> None:
    ear = sharing.build("stt", provider(notes=str(notes)))
    asking = asyncio.create_task(ear.recognize(sound(HANG)))
    await said(notes, "hang")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await said(notes, "given up")
    assert (await ear.recognize(sound(ECHO))).text == "100 samples"


async def test_closing_a_sentence_gives_it_up(sharing: Sharing, notes: Notes) -> None:
    voice = sharing.build("tts", provider(notes=str(notes)))
    async with aclosing(voice.speak("two hang")) as frames:
        async for frame in frames:
            assert len(frame.pcm) == 3
            break
    await said(notes, "given up")


async def test_a_job_that_dies_has_all_of_its_requests_given_up(host: RunningHost, notes: Notes) -> None:
    host.keep()
    job = Sharing((str(host.path),))
    ear = job.build("stt", provider(notes=str(notes), parallel=2))
    asking = [asyncio.create_task(ear.recognize(sound(HANG))) for _ in range(2)]
    await said(notes, "hang", 2)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await job.aclose()
    await said(notes, "given up", 2)


async def test_one_caller_does_not_hold_up_another(sharing: Sharing, host: RunningHost, notes: Notes) -> None:
    others = Sharing((str(host.path),))
    options = {"notes": str(notes), "parallel": 2}
    slow, quick = (one.build("stt", provider(**options)) for one in (sharing, others))
    # Two long ones: one of the two threads is left to who is short.
    hanging = [asyncio.create_task(slow.recognize(sound(HANG, samples=20 * RATE))) for _ in range(2)]
    await said(notes, "hang")
    assert (await quick.recognize(sound(ECHO))).text == "100 samples"
    GATE[str(notes)].set()
    await asyncio.gather(*hanging)
    await others.aclose()


async def test_what_waits_is_done_in_one_batch_where_the_model_can(
    sharing: Sharing, host: RunningHost, notes: Notes
) -> None:
    jobs = [sharing, *(Sharing((str(host.path),)) for _ in range(3))]
    options = {"notes": str(notes), "batch": 3}
    first, *others = (one.build("stt", provider(**options)) for one in jobs)
    held = asyncio.create_task(first.recognize(sound(HANG)))
    await said(notes, "hang")
    waiting = [asyncio.create_task(ear.recognize(sound(ECHO, samples=n + 1))) for n, ear in enumerate(others)]
    await said_to(host, 4)
    GATE[str(notes)].set()
    assert [heard.text for heard in await asyncio.gather(*waiting)] == ["1 samples", "2 samples", "3 samples"]
    assert "batch of 3" in notes.text
    await held
    for one in jobs[1:]:
        await one.aclose()


async def said_to(host: RunningHost, requests: int) -> None:
    """So many are known to the models."""
    await until(lambda: sum(len(model._works) for model in host.host.shelf._models.values()) >= requests)


async def test_a_failure_is_told_as_the_provider_told_it(sharing: Sharing) -> None:
    ear = sharing.build("stt", provider())
    with pytest.raises(ProviderError, match=f"^{NAME}: not now$") as failed:
        await ear.recognize(sound(FAIL))
    assert failed.value.retryable
    with pytest.raises(ProviderError, match=f"^{NAME}: ZeroDivisionError: a bug$") as failed:
        await ear.recognize(sound(RAISE))
    assert not failed.value.retryable
    assert (await ear.recognize(sound(ECHO))).text == "100 samples"


async def test_a_model_that_cannot_be_loaded_is_an_error_for_each_who_wants_it(sharing: Sharing) -> None:
    ear = sharing.build("stt", provider(broken=True))
    with pytest.raises(ProviderError, match=f"^{NAME}: no weights$"):
        await asyncio.to_thread(ear.load)
    for _ in range(2):
        with pytest.raises(ProviderError, match=f"^{NAME}: no weights$"):
            await ear.recognize(sound(ECHO))


async def test_options_that_are_wrong_are_said_before_the_host_is_asked(sharing: Sharing) -> None:
    with pytest.raises(Exception, match="unknown key"):
        sharing.build("stt", provider(nonsense=1))


async def test_what_is_kept_is_there_without_being_asked_for(host: RunningHost, notes: Notes) -> None:
    host.keep(Wanted("stt", NAME, {"notes": str(notes)}), Wanted("llm", NAME, {}, always=True))
    await host.until(lambda: any(getattr(one, "ready", False) for one in host.notices))
    (held,) = host.host.shelf.held()
    assert (held.kind, held.plugin, held.users) == ("stt", NAME, 0)


async def test_a_model_goes_when_nobody_uses_it_nor_keeps_it(
    host: RunningHost, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "UNLOAD_AFTER", 0.01)
    host.keep(Wanted("stt", NAME, {"notes": str(notes)}))
    job = Sharing((str(host.path),))
    ear = job.build("tts", provider())
    assert await audio(ear, "a bc") == [1, 2]
    await job.aclose()
    await host.until(lambda: [held.kind for held in host.host.shelf.held()] == ["stt"])


async def test_what_was_done_is_told_to_the_daemon(sharing: Sharing, host: RunningHost) -> None:
    ear = sharing.build("stt", provider())
    await ear.recognize(sound(ECHO))
    with pytest.raises(ProviderError):
        await ear.recognize(sound(FAIL))
    await host.until(lambda: any(isinstance(one, Counted) for one in host.notices))
    (counted,) = (one for one in host.notices if isinstance(one, Counted))
    assert sorted(counted.requests) == [("stt", NAME, "done", 1), ("stt", NAME, "failed", 1)]
    assert sorted(what for _, _, what, _ in counted.seconds) == ["wait", "wait", "work"]


async def test_it_answers_pings_from_the_loop_that_serves(host: RunningHost) -> None:
    host.tell(Ping(7))
    await host.until(lambda: Pong(7) in host.notices)


async def test_it_goes_when_nothing_is_to_be_shared(host: RunningHost) -> None:
    host.keep(Wanted("stt", "fake_streams"), Wanted("tts", "no_such_plugin"))
    await host.until(lambda: Unneeded() in host.notices)


async def test_without_a_daemon_it_stays_for_who_is_there(
    host: RunningHost, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.models.host.LINGER", 0.01)
    host.keep()
    job = Sharing((str(host.path),))
    ear = job.build("stt", provider(notes=str(notes)))
    asking = asyncio.create_task(ear.recognize(sound(HANG)))
    await said(notes, "hang")
    host.leave()
    GATE[str(notes)].set()
    assert (await asking).text == "100 samples"
    assert (await ear.recognize(sound(ECHO))).text == "100 samples"
    assert not host.host._over.is_set()
    await job.aclose()
    async with asyncio.timeout(PATIENCE):
        await host.host._over.wait()


async def test_who_does_not_read_is_hung_up_on(
    host: RunningHost, sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.models.host.MOST_UNREAD", 1_000_000)
    lazy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    lazy.connect(str(host.path))
    lazy.sendall(wire.encode(wire.Use(1, "tts", NAME)) + wire.encode(wire.Ask(2, 1, wire.Speak("flood"))))
    await until(lambda: host.host._callers)
    await until(lambda: not host.host._callers)
    lazy.close()
    assert (await sharing.build("stt", provider()).recognize(sound(ECHO))).text == "100 samples"


async def test_who_speaks_something_else_is_hung_up_on(host: RunningHost) -> None:
    reader, writer = await asyncio.open_unix_connection(str(host.path))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    frames: wire.Frames[HostMessage] = wire.Frames(HostMessage)
    assert [type(one) for one in frames.feed(answer)] == [Greeting]
    writer.close()


async def test_without_a_host_a_job_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.05)
    ear = Sharing((str(folder / "nobody.sock"),)).build("stt", provider())
    with pytest.raises(ProviderError, match="does not answer") as failed:
        await ear.recognize(sound(ECHO))
    assert failed.value.retryable
    with pytest.raises(ProviderError, match="does not answer"):
        await asyncio.to_thread(ear.load)


def test_one_job_may_ask_on_one_loop_after_another(folder: Path) -> None:
    from tests.models.conftest import open_host

    async def ask(ear: Any) -> str:
        async with open_host(folder) as opened:
            opened.keep()
            text: str = (await ear.recognize(sound(ECHO))).text
            await ear.aclose()
            return text

    ear = Sharing((str(folder / "host.sock"),)).build("stt", provider())
    assert [asyncio.run(ask(ear)) for _ in range(2)] == ["100 samples"] * 2


def test_how_many_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    assert host.threads_for(0) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert (host.threads_for(0), host.threads_for(9)) == (4, 9)


def test_the_order_to_keep_hides_options() -> None:
    assert "sk-" not in repr(Keep((Wanted("tts", "acme", {"api_key": "sk-1"}),)))
