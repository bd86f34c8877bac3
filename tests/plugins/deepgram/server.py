"""Deepgram's live transcription as its documentation describes it, for audio that is spelled in tones.

It really hears: its results are the words of the audio that it was sent, at their places, as soon as they are over.
``wss://.../v1/listen`` takes binary messages of PCM and ``KeepAlive``, ``Finalize`` and ``CloseStream``.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from aiohttp import WSMsgType, web

from tests.plugins.tones import Placed, read
from tests.plugins.vendor import WebVendor, cut

__all__ = ["DeepgramServer", "Listening"]

EVERY = 0.2
"""Seconds of audio after which there are interim results."""
LONGEST = 3.0
"""Seconds of audio of which words become final, though the speaker goes on."""
MEANINGS = {
    "401": "Invalid credentials.",
    "403": "Insufficient permissions for the requested model.",
    "404": "No such model/language/tier combination found.",
    "429": "Too many requests. Please try again later.",
    "500": "Internal error.",
    "503": "Service unavailable.",
    "expired_key": "Invalid credentials: this key has expired.",
}


@dataclass(eq=False)
class Listening:
    """One connection. ``controls``: the text messages that came; ``audio``: all of it; ``final``: samples that have
    final words; ``query``: what was asked for."""

    query: dict[str, str]
    socket: web.WebSocketResponse
    fault: str = ""
    controls: list[str] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    final: int = 0
    interim: int = 0
    spoken: float | None = None

    @property
    def rate(self) -> int:
        return int(self.query["sample_rate"])

    @property
    def samples(self) -> int:
        return len(self.audio) // 2

    def words(self) -> list[Placed]:
        """Those that have no final result, on the connection's own clock."""
        if self.fault == "silence":
            return []
        start = self.final / self.rate
        pcm = np.frombuffer(bytes(self.audio), dtype=np.int16)[self.final :]
        return [Placed(one.word, one.start + start, one.end + start) for one in read(pcm, self.rate)]


class DeepgramServer(WebVendor):
    """``idle``: seconds without a message after which a connection is closed. ``answers_finalize``: whether it says
    so when there was nothing left to make final, which Deepgram does not promise. ``cut_after``: the words after which
    a connection is cut that was ordered to be."""

    def __init__(self, *, idle: float = 10.0, answers_finalize: bool = True) -> None:
        super().__init__()
        self.idle = idle
        self.answers_finalize = answers_finalize
        self.cut_after: Literal["interim", "final"] = "interim"
        self.heard: list[Listening] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/listen", self._listen)]

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        fault = self.ordered()
        if fault in MEANINGS:
            return self._refused(401 if fault == "expired_key" else int(fault), MEANINGS[fault])
        if request.headers.get("Authorization") != f"Token {self.key}":
            return self._refused(401, f"Invalid credentials: {request.headers.get('Authorization')}")
        if request.query.get("encoding") != "linear16" or not request.query.get("sample_rate", "").isdigit():
            return self._refused(400, "Bad Request: encoding and sample_rate are required for raw audio.")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        listening = Listening(dict(request.query), socket, fault)
        self.heard.append(listening)
        with self.working(), contextlib.suppress(ConnectionError):
            await self._converse(listening)
        return socket

    async def words(self, listening: Listening) -> list[Placed]:
        """What it hears in the audio that has no final result."""
        return listening.words()

    def _refused(self, status: int, said: str) -> web.Response:
        headers = {"dg-error": said}
        if status in (429, 503):
            headers["Retry-After"] = "2"
        return web.json_response({"err_code": "X", "err_msg": said}, status=status, headers=headers)

    async def _converse(self, listening: Listening) -> None:
        socket = listening.socket
        while True:
            try:
                message = await socket.receive(timeout=self.idle)
            except TimeoutError:
                await socket.close(code=1011, message=b"NET-0001")
                return
            if message.type is WSMsgType.BINARY and not message.data:
                await socket.close()
                return
            if message.type is WSMsgType.BINARY:
                listening.audio += message.data
                listening.messages.append(len(message.data))
                if listening.fault not in ("stall", "gone"):
                    await self._hear(listening)
            elif message.type is WSMsgType.TEXT:
                listening.controls.append(str(message.data))
                silent = listening.fault in ("stall", "gone")
                if not silent and not await self._control(listening, str(message.data)):
                    return
            else:
                return
            self.happened()

    async def _control(self, listening: Listening, text: str) -> bool:
        kind = json.loads(text).get("type")
        if kind == "Finalize" and (self.answers_finalize or listening.samples > listening.final):
            await self._tell(listening, listening.samples, is_final=True, from_finalize=True)
        elif kind == "CloseStream":
            await self._tell(listening, listening.samples, is_final=True)
            await listening.socket.send_json({"type": "Metadata", "request_id": "r", "duration": 0.0, "channels": 1})
            await listening.socket.close()
            return False
        elif kind not in ("Finalize", "KeepAlive"):
            await listening.socket.send_json({"type": "Error", "variant": "SchemaError", "description": "unknown"})
        return True

    async def _hear(self, listening: Listening) -> None:
        rate, end = listening.rate, listening.samples
        if end - max(listening.interim, listening.final) < EVERY * rate:
            return
        listening.interim = end
        words = await self.words(listening)
        pause = end / rate - words[-1].end if words else 0.0
        if words and pause * 1000 >= int(listening.query["endpointing"]):
            await self._tell(listening, end, is_final=True, speech_final=True)
        elif (end - listening.final) / rate >= LONGEST:
            await self._tell(listening, round(words[-1].start * rate) if words else end, is_final=True)
        else:
            await self._tell(listening, end)
        if (
            listening.spoken is not None
            and end / rate - listening.spoken >= float(listening.query["utterance_end_ms"]) / 1000
        ):
            await listening.socket.send_json(
                {"type": "UtteranceEnd", "last_word_end": listening.spoken, "channel": [0]}
            )
            listening.spoken = None

    async def _tell(self, listening: Listening, end: int, *, is_final: bool = False, **marks: bool) -> None:
        """A result for all that is not final, up to ``end``."""
        rate, start = listening.rate, listening.final
        words = [word for word in await self.words(listening) if word.end <= end / rate + 0.01]
        if listening.fault == "malformed" and words:
            await listening.socket.send_str('{"type": "Results", "start": "now"}')
            return
        result: dict[str, Any] = {
            "type": "Results",
            "channel_index": [0, 1],
            "start": start / rate,
            "duration": (end - start) / rate,
            "is_final": is_final,
            "speech_final": marks.get("speech_final", False),
            "channel": {
                "alternatives": [
                    {
                        "transcript": " ".join(word.word for word in words),
                        "confidence": 0.9 if words else 0.0,
                        "words": [
                            {"word": word.word, "punctuated_word": word.word, "start": word.start, "end": word.end}
                            for word in words
                        ],
                    }
                ]
            },
            "metadata": {"request_id": "r"},
        }
        if marks.get("from_finalize"):
            result["from_finalize"] = True
        if is_final:
            listening.final = end
            listening.spoken = words[-1].end if words else listening.spoken
        await listening.socket.send_json(result)
        if listening.fault == "cut" and words and (is_final or self.cut_after == "interim"):
            cut(listening.socket)
            listening.fault = "gone"
