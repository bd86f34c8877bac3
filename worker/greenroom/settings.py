"""The YAML file as frozen models. ``config/worker.yaml`` shows every key with its default.

Times are seconds, sizes are in the key's name. Reading a file, with the line of each mistake, is ``settings_file``'s
work; in the file a provider's options stand beside ``plugin``. ``Url`` and the other named types carry in their
description what an error says was expected.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

__all__ = [
    "AgentSettings",
    "Deadlines",
    "InterruptionSettings",
    "JobType",
    "LogSettings",
    "ProviderSettings",
    "ServerSettings",
    "Settings",
    "TurnSettings",
    "VoiceActivitySettings",
    "WorkerSettings",
]

JobType = Literal["room", "publisher", "participant"]
BACKCHANNELS = (
    "aha",
    "hm",
    "hmm",
    "i see",
    "mhm",
    "mm",
    "mm hm",
    "mm hmm",
    "ok",
    "okay",
    "right",
    "uh huh",
    "yeah",
    "yes",
    "yep",
)
"""What listeners say to show that they listen."""
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=0, le=10_000)]
PositiveCount = Annotated[int, Meta(ge=1, le=10_000)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]*$",
        max_length=128,
        description="letters, digits, '.', '_' and '-', at most 128 of them",
    ),
]
Url = Annotated[str, Meta(description="a ws://, wss://, http:// or https:// address, such as wss://calls.example.com")]
Credential = Annotated[str, Meta(min_length=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Probability = Annotated[float, Meta(gt=0, lt=1)]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The media server and the credentials for it. ``target_load`` is the server's own ``agents.target_load``."""

    url: Url
    api_key: Credential
    api_secret: Credential
    target_load: Fraction = 0.7
    ping_interval: PositiveSeconds = 5.0
    ping_timeout: PositiveSeconds = 10.0
    backoff_max: PositiveSeconds = 5.0

    def __repr__(self) -> str:
        return f"ServerSettings(url={self.url!r}, api_key={self.api_key!r}, api_secret='***')"


class Deadlines(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long each part of a job's life may take."""

    boot: PositiveSeconds = 30.0
    assignment: PositiveSeconds = 5.0
    connect: PositiveSeconds = 10.0
    ping_interval: PositiveSeconds = 2.5
    ping_timeout: PositiveSeconds = 15.0
    participant: PositiveSeconds = 300.0
    end: PositiveSeconds = 10.0
    terminate: PositiveSeconds = 2.0
    drain: PositiveSeconds = 1800.0


class WorkerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The daemon: how many calls, how many warm processes, where its files are."""

    max_jobs: PositiveCount = 10
    warm: Count = 2
    memory_warn_mb: Count = 1000
    memory_limit_mb: Count = 0
    run_dir: str = ""
    state_dir: str = ""
    preload: tuple[str, ...] = ()
    deadlines: Deadlines = Deadlines()


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an operator looks first."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class ProviderSettings(Struct, frozen=True):
    """One model: the plugin's name, and its own options as the plugin's model has checked them."""

    plugin: str
    options: dict[str, Any] = {}

    def __repr__(self) -> str:
        # Options may hold a vendor's key: their names are enough.
        return f"ProviderSettings(plugin={self.plugin!r}, options={sorted(self.options)})"


class VoiceActivitySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a probability becomes speech."""

    threshold: Probability = 0.5
    min_speech: Seconds = 0.06
    min_silence: PositiveSeconds = 0.25
    padding: Seconds = 0.4


class InterruptionSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the user's voice stops the agent's."""

    enabled: bool = True
    pause: bool = True
    min_duration: Seconds = 0.5
    resume_after: Seconds = 2.0
    min_words: PositiveCount = 1
    backchannels: tuple[str, ...] = BACKCHANNELS


class TurnSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the user's turn is over, and when it interrupts."""

    min_delay: Seconds = 0.5
    transcript_timeout: PositiveSeconds = 10.0
    preemptive_generation: bool = False
    voice_activity: VoiceActivitySettings = VoiceActivitySettings()
    interruption: InterruptionSettings = InterruptionSettings()


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One agent: what it is, what it runs on, and the name it is dispatched by."""

    name: Name = ""
    agent: str = ""
    instructions: str = ""
    greeting: str = ""
    namespace: str = ""
    job_types: Annotated[tuple[JobType, ...], Meta(min_length=1)] = ("room",)
    vad: ProviderSettings | None = None
    stt: ProviderSettings | None = None
    llm: ProviderSettings | None = None
    tts: ProviderSettings | None = None
    turns: TurnSettings = TurnSettings()
    max_tool_steps: PositiveCount = 3
    warm: Count | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    server: ServerSettings
    agents: Annotated[tuple[AgentSettings, ...], Meta(min_length=1)]
    worker: WorkerSettings = WorkerSettings()
    logs: LogSettings = LogSettings()
    file: str = field(default="")
    """Where it was read from: the user's modules are looked up beside it. Not a key of the file."""

    def encode(self) -> bytes:
        """For the trip to a job's process."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> Settings:
        return msgspec.msgpack.decode(data, type=Settings)
