"""The keys beside ``plugin: openai_realtime``."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from greenroom.providers import OptionError
from greenroom.redaction import redact

__all__ = ["NAME", "OpenAIRealtimeOptions", "SemanticVAD", "ServerVAD", "Transcription"]

NAME = "openai_realtime"
"""What the plugin is called, in the YAML and in errors."""
OPENAI = "https://api.openai.com/v1"

Probability = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=60)]
Speed = Annotated[float, Meta(ge=0.25, le=1.5)]
Count = Annotated[int, Meta(gt=0)]


class ServerVAD(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="server_vad"):
    """The model's voice activity by loudness. ``silence``: seconds after which an utterance is over; ``padding``: of
    what it takes from before it."""

    threshold: Probability = 0.5
    padding: Annotated[float, Meta(ge=0, le=5)] = 0.3
    silence: Annotated[float, Meta(gt=0, le=10)] = 0.5


class SemanticVAD(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="semantic_vad"):
    """The model's voice activity by what is said. ``eagerness``: how soon it takes a pause for the end."""

    eagerness: Literal["auto", "low", "medium", "high"] = "auto"


class Transcription(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who writes down what the user says, beside the model. ``prompt``: words to expect."""

    model: str = "gpt-4o-mini-transcribe"
    language: str = ""
    prompt: str = ""


class OpenAIRealtimeOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``api_key`` and ``base_url`` left out: the environment's ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL``.

    ``session`` is laid over what the server is told of the session, for what a server has beyond these keys.
    """

    model: str = "gpt-realtime-1.5"
    base_url: str = ""
    api_key: str = ""
    headers: dict[str, str] = {}
    voice: str = "marin"
    speed: Speed = 1.0
    output: Literal["audio", "text"] = "audio"
    transcription: Transcription | None = Transcription()
    turn_detection: ServerVAD | SemanticVAD = ServerVAD()
    noise_reduction: Literal["", "near_field", "far_field"] = ""
    max_output_tokens: Count | None = None
    connect_timeout: Seconds = 5.0
    patience: Seconds = 8.0
    session: dict[str, Any] = {}

    def __repr__(self) -> str:
        # Neither the key nor headers, which may hold one.
        return f"OpenAIRealtimeOptions(model={self.model!r}, url={redact(self.url)!r})"

    @property
    def url(self) -> str:
        """Where the server is, without a slash at its end."""
        return (self.base_url or os.environ.get("OPENAI_BASE_URL", "") or OPENAI).rstrip("/")

    @property
    def key(self) -> str:
        return self.api_key or os.environ.get("OPENAI_API_KEY", "")

    def verify(self) -> None:
        """Raises ``OptionError``."""
        if not self.url.startswith(("http://", "https://", "ws://", "wss://")):
            raise OptionError(f"`{self.base_url}` is no address; expected https://... or wss://...", path=("base_url",))
        if self.url == OPENAI and not self.key and not self.headers:
            raise OptionError("OpenAI needs a key; expected here, or in OPENAI_API_KEY", path=("api_key",))
