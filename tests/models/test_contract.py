"""What every provider has to keep, kept through the model host: by the real models, in a process of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from greenroom.jobs.forks import ENVIRONMENT
from greenroom.models.sharing import Sharing
from greenroom.models.wire import Keep, Wanted, pack
from greenroom.providers import STT, TTS, Heard, TurnDetector, registry
from greenroom.settings import ProviderSettings
from greenroom.testing.contract import Speech, STTContract, TTSContract, TurnDetectorContract
from tests.plugins.conftest import Say, question, say, voice
from tests.plugins.test_smart_turn import turn
from tests.plugins.test_whisper import LONG

__all__ = ["question", "say", "voice"]

pytestmark = pytest.mark.models

MODELS = (Wanted("stt", "whisper"), Wanted("tts", "piper"), Wanted("turn", "smart_turn"))


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """Where a host listens that has the real models."""
    with TemporaryDirectory(prefix="gr-") as folder:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where = f"{folder}/host.sock"
        listening.bind(where)
        listening.listen()
        ours.send(pack(Keep(MODELS, level="error")))
        ends = (theirs.fileno(), listening.fileno())
        host = subprocess.Popen(
            [sys.executable, "-P", "-m", "greenroom.models.host", *map(str, ends)],
            pass_fds=ends,
            env=os.environ | ENVIRONMENT,
        )
        try:
            yield where
        finally:
            host.kill()
            host.wait()
            for one in (ours, theirs, listening):
                one.close()


def built(path: str, kind: registry.Kind, plugin: str, **options: Any) -> Any:
    return Sharing((path,)).build(kind, ProviderSettings(plugin, options))


class TestSharedWhisper(STTContract):
    @pytest.fixture
    async def provider(self, path: str) -> AsyncIterator[STT]:
        made: STT = built(path, "stt", "whisper")
        yield made
        await made.aclose()

    @pytest.fixture
    def speech(self, question: Speech) -> Speech:
        return question

    @pytest.fixture
    def long_speech(self, say: Say) -> Speech:
        return Speech(say(LONG), LONG)

    @pytest.fixture
    async def failing(self, path: str) -> AsyncIterator[STT]:
        made: STT = built(path, "stt", "whisper", model="nobody/has-this-model")
        yield made
        await made.aclose()


class TestSharedPiper(TTSContract):
    @pytest.fixture
    async def provider(self, path: str) -> AsyncIterator[TTS]:
        made: TTS = built(path, "tts", "piper")
        yield made
        await made.aclose()


class TestSharedSmartTurn(TurnDetectorContract):
    @pytest.fixture
    async def provider(self, path: str) -> AsyncIterator[TurnDetector]:
        made: TurnDetector = built(path, "turn", "smart_turn")
        yield made
        await made.aclose()

    @pytest.fixture
    def whole(self, say: Say) -> Heard:
        return turn(say, "What time do you close today?")

    @pytest.fixture
    def cut(self, say: Say) -> Heard | None:
        return turn(say, "I was thinking that maybe we could, um")

    @pytest.fixture
    async def failing(self, path: str, tmp_path: Path) -> AsyncIterator[TurnDetector]:
        (tmp_path / "broken.onnx").write_bytes(b"no model")
        made: TurnDetector = built(path, "turn", "smart_turn", model=str(tmp_path / "broken.onnx"))
        yield made
        await made.aclose()
