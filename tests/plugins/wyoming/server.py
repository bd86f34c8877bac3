"""A Wyoming server for both kinds, as the protocol describes them, that hears and speaks in tones.

It is written against the protocol's description alone, and shares no code with the plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from greenroom.audio import Pcm
from tests.plugins.tones import read, spell
from tests.plugins.vendor import Vendor

__all__ = ["Talk", "WyomingServer"]

PIECE = 1001
"""Samples in a piece of sound."""
PACE = 0.002
"""Seconds that a piece takes to be made."""


@dataclass(eq=False)
class Talk:
    """One connection: the events that came, and the audio."""

    writer: asyncio.StreamWriter
    fault: str = ""
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    told: int = 0

    @property
    def words(self) -> list[str]:
        return [one.word for one in read(np.frombuffer(bytes(self.audio), dtype=np.int16), 16000)]


class WyomingServer(Vendor):
    """``rate``, ``width`` and ``channels``: of the audio that it makes. ``chunks``: whether it tells words while they
    are spoken. ``ends_after``: words after which it takes an utterance to be over by itself; 0 never. ``info``: what it
    says that it has."""

    def __init__(self, *, rate: int = 22050, width: int = 2, channels: int = 1) -> None:
        super().__init__()
        self.rate = rate
        self.width = width
        self.channels = channels
        self.chunks = False
        self.ends_after = 0
        self.talks: list[Talk] = []
        self.info: dict[str, Any] = {
            "asr": [{"name": "tones", "installed": True, "models": [{"name": "tones", "installed": True}]}],
            "tts": [{"name": "tones", "installed": True, "voices": [{"name": "flute", "installed": True}]}],
        }
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"tcp://{self.address[0]}:{self.address[1]}"

    async def open(self) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return host, port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for talk in self.talks:
            talk.writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._serving.add(me)
        talk = Talk(writer, self.ordered())
        self.talks.append(talk)
        with self.working(), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                await self._converse(reader, talk)
            finally:
                writer.close()
                self._serving.discard(me)

    async def _converse(self, reader: asyncio.StreamReader, talk: Talk) -> None:
        while line := await reader.readline():
            header = json.loads(line)
            data = dict(header.get("data") or {})
            if length := header.get("data_length"):
                data.update(json.loads(await reader.readexactly(length)))
            payload = await reader.readexactly(header.get("payload_length") or 0)
            talk.events.append((header["type"], data))
            if talk.fault == "stall":
                self.happened()
                continue
            if talk.fault == "500":
                await self._send(talk, "error", {"code": "internal", "text": "the model is broken"})
                talk.fault = "stall"
                continue
            goes_on = await self._answer(talk, header["type"], data, payload)
            self.happened()
            if not goes_on:
                return

    async def _answer(self, talk: Talk, kind: str, data: dict[str, Any], payload: bytes) -> bool:
        """Whether the talk goes on."""
        if kind == "describe":
            await self._send(talk, "info", self.info)
        elif kind == "synthesize":
            return await self._speak(talk, data["text"])
        elif kind == "audio-chunk":
            assert (data["rate"], data["width"], data["channels"]) == (16000, 2, 1)
            talk.audio += payload
            return await self._hear(talk)
        elif kind == "audio-stop":
            return await self._tell(talk)
        return True

    async def _hear(self, talk: Talk) -> bool:
        if not (self.chunks or self.ends_after or talk.fault == "cut"):
            return True
        words = talk.words
        if self.ends_after and len(words) > self.ends_after:
            await self._tell(talk)
            talk.fault = "stall"  # it does not listen any more
            return True
        if (self.chunks or talk.fault == "cut") and len(words) > talk.told:
            if not talk.told:
                await self._send(talk, "transcript-start", {"language": "en"})
            await self._send(talk, "transcript-chunk", {"text": " ".join(words[talk.told :]) + " "})
            talk.told = len(words)
            return talk.fault != "cut"
        return True

    async def _tell(self, talk: Talk) -> bool:
        if talk.fault == "malformed":
            talk.writer.write(b'["no event"]\n')
            await talk.writer.drain()
            return False
        text = "" if talk.fault == "silence" else " ".join(talk.words)
        await self._send(talk, "transcript", {"text": text, "language": "en"})
        if self.chunks:
            await self._send(talk, "transcript-stop", {})
        return False

    async def _speak(self, talk: Talk, text: str) -> bool:
        form = {"rate": self.rate, "width": self.width, "channels": self.channels}
        if talk.fault == "malformed":
            talk.writer.write(b'{"type": "audio-chunk", "payload_length": -3}\n')
            await talk.writer.drain()
            return False
        await self._send(talk, "audio-start", {**form, "timestamp": 0})
        pcm: Pcm = spell(text, self.rate)[0].pcm
        if talk.fault == "silence":
            pcm = np.zeros_like(pcm)
        raw = np.repeat(pcm, self.channels).tobytes()
        step = PIECE * 2 * self.channels + 1  # samples are torn apart
        for start in range(0, len(raw), step):
            await self._send(talk, "audio-chunk", {**form, "timestamp": 0}, raw[start : start + step])
            await asyncio.sleep(PACE)
            if talk.fault == "cut":
                return False
        await self._send(talk, "audio-stop", {"timestamp": 0})
        return True

    async def _send(self, talk: Talk, kind: str, data: dict[str, Any], payload: bytes = b"") -> None:
        extra = json.dumps(data).encode()
        header = {"type": kind, "data_length": len(extra), "payload_length": len(payload) or None}
        talk.writer.write(json.dumps(header).encode() + b"\n" + extra + payload)
        await talk.writer.drain()
