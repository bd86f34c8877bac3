"""The model that a session is given."""

from __future__ import annotations

from greenroom.providers import RealtimeModel, RealtimeSession
from greenroom.redaction import hide, is_secret
from greenroom_plugins.openai_realtime.options import OpenAIRealtimeOptions
from greenroom_plugins.openai_realtime.session import OpenAIRealtimeSession
from greenroom_plugins.openai_realtime.wire import RATE

__all__ = ["OpenAIRealtime"]


class OpenAIRealtime(RealtimeModel):
    """OpenAI's Realtime models, and what speaks their protocol. Each conversation has a connection of its own."""

    sample_rate = RATE

    def __init__(self, options: OpenAIRealtimeOptions) -> None:
        self._options = options
        self.speaks = options.output == "audio"
        self.transcribes = options.transcription is not None
        hide(options.key)
        for name, value in options.headers.items():
            if is_secret(name):
                hide(value.rpartition(" ")[2])

    def session(self, *, detect_speech: bool) -> RealtimeSession:
        return OpenAIRealtimeSession(self._options, detect_speech=detect_speech)
