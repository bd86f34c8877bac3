"""What may stand beside ``plugin: openai``, for each kind; the package's docstring says what each key does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

from greenroom_plugins.openai.profiles import Ability, ProfileName

__all__ = ["EndpointOptions", "LLMOptions", "STTOptions", "TTSOptions"]

Named = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0, le=600)]
_SECRET = frozenset({"api_key", "headers"})


class EndpointOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the endpoint is, and how long it may take."""

    base_url: str = ""
    api_key: str = ""
    api_version: str = ""
    profile: Literal[""] | ProfileName = ""
    headers: dict[str, str] = {}
    connect_timeout: Seconds = 5.0
    patience: Seconds = 30.0
    keepalive: Annotated[float, Meta(ge=0, le=3600)] = 120.0

    def __repr__(self) -> str:
        shown = (
            f"{one.name}={'***' if one.name in _SECRET else repr(getattr(self, one.name))}"
            for one in structs.fields(self)
            if getattr(self, one.name) not in (one.default, {})
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("options", repr(self))]

    def verify(self) -> None:
        """The endpoint's address is one, and there is a key where it needs one. Raises ``OptionError``."""
        from greenroom_plugins.openai.endpoint import locate

        locate(self)


class LLMOptions(EndpointOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``llm: {plugin: openai, ...}``."""

    model: Named = "gpt-6-luna"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    reasoning_effort: str = ""
    parallel_tool_calls: bool | None = None
    without: tuple[Ability, ...] = ()
    extra: dict[str, Any] = {}


class STTOptions(EndpointOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``stt: {plugin: openai, ...}``."""

    model: Named = "gpt-transcribe"
    language: Annotated[str, Meta(pattern=r"^([a-z]{2,3})?$")] = ""
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    stream: bool = False
    no_speech: Annotated[float, Meta(ge=0, le=1)] = 0.6
    min_logprob: Annotated[float, Meta(ge=-10, le=0)] = -1.0
    extra: dict[str, Any] = {}


class TTSOptions(EndpointOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``tts: {plugin: openai, ...}``."""

    model: Named = "gpt-4o-mini-tts"
    voice: Named = "alloy"
    instructions: str = ""
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    response_format: Literal["pcm", "wav"] = "pcm"
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)] = 24000
    first_clause: Annotated[int, Meta(ge=0, le=1000)] = 30
    lead: Annotated[float, Meta(ge=0, le=10)] = 0.05
    extra: dict[str, Any] = {}
