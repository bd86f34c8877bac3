"""What is sent of an utterance, and what is made of the answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from greenroom.audio import AudioFrame, silence
from greenroom.providers import Transcript
from greenroom.testing.contract.speech import buzz
from greenroom_plugins.openai.errors import MalformedAnswer
from greenroom_plugins.openai.options import STTOptions
from greenroom_plugins.openai.stt import OpenAISTT
from tests.plugins.openai.cases import NOWHERE
from tests.plugins.openai.server import OpenAIServer

SPEECH = buzz(1.0, 16000)


def made(**options: Any) -> OpenAISTT:
    return OpenAISTT(STTOptions(base_url=NOWHERE, **options))


async def test_an_utterance_is_sent_as_it_was_said(server: OpenAIServer, stt: Callable[..., OpenAISTT]) -> None:
    got: list[AudioFrame] = []

    async def ear(audio: AudioFrame) -> str:
        got.append(audio)
        return " Hello there. "

    server.ear = ear
    assert await stt().recognize(SPEECH) == Transcript("Hello there.", language="en")
    assert got[0].sample_rate == 16000
    assert (got[0].pcm == SPEECH.pcm).all()
    assert {key: value for key, value in server.asked[0].body.items() if key != "file"} == {
        "model": "gpt-transcribe",
        "response_format": "json",
    }


def test_what_is_said_to_help_the_model() -> None:
    def form(**options: Any) -> dict[str, Any]:
        request = made(**options)._request(SPEECH)
        return {key: value for key, value in request.items() if key not in ("file", "model", "response_format")}

    assert form(language="de", prompt="A hotel.", keywords=("Blue Door",)) == {
        "languages": ["de"],
        "prompt": "A hotel.",
        "keywords": ["Blue Door"],
    }
    assert form(model="whisper-1", language="de") == {"language": "de"}
    assert form(model="gpt-4o-transcribe") == {"include": ["logprobs"]}
    assert form(stream=True, extra={"hotwords": "x"}) == {"stream": True, "extra_body": {"hotwords": "x"}}
    assert made(model="whisper-large-v3")._request(SPEECH)["response_format"] == "verbose_json"


@pytest.mark.parametrize("audio", [silence(2.0, 16000), silence(0.0, 16000), buzz(0.05, 16000)])
async def test_what_can_hold_no_words_is_not_sent(
    server: OpenAIServer, stt: Callable[..., OpenAISTT], audio: AudioFrame
) -> None:
    assert await stt(language="en").recognize(audio) == Transcript("", language="en")
    assert server.asked == []


async def test_audio_at_another_rate_is_refused(stt: Callable[..., OpenAISTT]) -> None:
    with pytest.raises(ValueError, match="8000 Hz; expected 16000"):
        await stt().recognize(buzz(1.0, 8000))


async def test_words_come_before_the_transcript(server: OpenAIServer, stt: Callable[..., OpenAISTT]) -> None:
    async def ear(audio: AudioFrame) -> str:
        return "what time is it now"

    server.ear, server.gap = ear, 0.02
    stream = stt(stream=True, model="gpt-4o-transcribe").stream()
    heard: list[Transcript] = []
    for utterance in ("u1", "u2"):
        stream.start_of_speech(utterance, at=0.0)
        stream.push(SPEECH)
        stream.end_of_speech(utterance)
    async for transcript in stream:
        heard.append(transcript)
        if sum(one.final for one in heard) == 2:
            break
    await stream.aclose()
    finals = [one for one in heard if one.final]
    assert [(one.text, one.utterance) for one in finals] == [("what time is it now", name) for name in ("u1", "u2")]
    assert finals[0].confidence == pytest.approx(math.exp(-0.2))
    for name in ("u1", "u2"):
        growing = [one.text for one in heard if not one.final and one.utterance == name]
        assert growing
        assert all("what time is it now".startswith(text) for text in growing)
        assert growing == sorted(growing, key=len)
    order = [one.utterance for one in heard]
    assert order == sorted(order)


async def test_an_endpoint_that_streams_nothing_answers_as_a_whole(
    server: OpenAIServer, stt: Callable[..., OpenAISTT]
) -> None:
    """Streaming is ignored by some: what comes is no stream then."""
    from tests.plugins.openai.server import Replay

    server.replays.append(Replay(b'{"text": "hello there"}', kind="application/json"))
    assert (await stt(stream=True).recognize(SPEECH)).text == "hello there"


@pytest.mark.parametrize(
    ("answer", "transcript"),
    [
        ({"text": "Hi."}, Transcript("Hi.")),
        ({"text": "Hi.", "language": "english"}, Transcript("Hi.")),
        ({"text": "Hi.", "language": "en"}, Transcript("Hi.", language="en")),
        ({"text": "Hi.", "languages": []}, Transcript("Hi.")),
        ({"text": "Hi.", "logprobs": [{"logprob": 0.0}, {"logprob": None}]}, Transcript("Hi.", confidence=1.0)),
        (
            {"text": "Hi.", "segments": [{"avg_logprob": math.log(0.5), "no_speech_prob": 0.1}]},
            Transcript("Hi.", confidence=0.5),
        ),
        # What Whisper makes up in silence.
        ({"text": "Thanks!", "segments": [{"avg_logprob": -0.4, "no_speech_prob": 0.9}]}, Transcript("", confidence=1)),
        ({"text": "Uh", "segments": [{"avg_logprob": -1.4, "no_speech_prob": 0.1}]}, Transcript("", confidence=1)),
        ({"text": "Hi.", "segments": [{"avg_logprob": -0.1, "no_speech_prob": 0.9}]}, Transcript("Hi.", confidence=1)),
        ({"text": "Hi.", "segments": []}, Transcript("Hi.")),
    ],
)
def test_answers(answer: dict[str, Any], transcript: Transcript) -> None:
    got = made()._transcript(answer)
    assert (got.text, got.language) == (transcript.text, transcript.language)
    assert (got.confidence is None) == (transcript.confidence is None)
    if transcript.confidence and transcript.confidence < 1:
        assert got.confidence == pytest.approx(transcript.confidence)


@pytest.mark.parametrize("answer", [{}, {"text": None}, {"text": 5}, [], "hello", None, {"error": "x"}])
def test_answers_that_are_none(answer: Any) -> None:
    with pytest.raises(MalformedAnswer):
        made()._transcript(answer)
