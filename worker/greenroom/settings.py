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
    "AcceptRule",
    "AdminSettings",
    "AgentSettings",
    "BackgroundSettings",
    "DeadAirSettings",
    "Deadlines",
    "DuckSettings",
    "InterruptionSettings",
    "JobType",
    "JournalSettings",
    "LogSettings",
    "MCPServerSettings",
    "ModelHostSettings",
    "ProviderSettings",
    "ReconcileSettings",
    "RecoverySettings",
    "RetrySettings",
    "ServerSettings",
    "Settings",
    "SoundSettings",
    "SpeechCacheSettings",
    "SpeechSettings",
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
SourceName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]+$",
        max_length=32,
        description="a name of letters, digits, '_' and '-', at most 32 of them",
    ),
]
Url = Annotated[str, Meta(description="a ws://, wss://, http:// or https:// address, such as wss://calls.example.com")]
Credential = Annotated[str, Meta(min_length=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Volume = Annotated[float, Meta(ge=0, le=10)]
CLIPS = (
    "city_ambience",
    "forest_ambience",
    "office_ambience",
    "crowded_room",
    "keyboard_typing",
    "keyboard_typing2",
    "hold_music",
)
"""The sounds that come along."""
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
    """How long each part of a job's life, and of the worker's, may take."""

    boot: PositiveSeconds = 30.0
    on_request: PositiveSeconds = 0.3
    assignment: PositiveSeconds = 5.0
    connect: PositiveSeconds = 10.0
    ping_interval: PositiveSeconds = 2.5
    ping_timeout: PositiveSeconds = 15.0
    participant: PositiveSeconds = 300.0
    caller_lost: Seconds = 20.0
    caller_left: Seconds = 2.0
    rejoin: Seconds = 60.0
    end: PositiveSeconds = 10.0
    terminate: PositiveSeconds = 2.0
    drain: PositiveSeconds = 1800.0
    wrap_up: Seconds = 30.0
    takeover: PositiveSeconds = 60.0


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written down of each call, and for how long it is kept."""

    enabled: bool = True
    fsync: bool = False
    max_mb: PositiveCount = 50
    keep_mb: Count = 1000
    keep_days: Count = 30
    redact: tuple[str, ...] = ()


class AdminSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an operator, a probe and Prometheus ask. ``token``: for what changes something, or names rooms; without
    one only this machine may."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8081
    token: str = ""

    def __repr__(self) -> str:
        return f"AdminSettings(enabled={self.enabled!r}, host={self.host!r}, port={self.port!r}, token='***')"


class ReconcileSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Finds dispatches that the server has lost, and makes them again."""

    enabled: bool = False
    interval: PositiveSeconds = 5.0
    after: Annotated[float, Meta(ge=8.5, le=86_400)] = 9.0


class ModelHostSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The process that holds the models which all calls use. ``threads``: requests that one model works on at once; 0:
    one a core, from 2 to 4. ``memory_limit_mb``: beyond it the process is made anew; 0: never."""

    enabled: bool = True
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    memory_limit_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class WorkerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The daemon: how many calls, how many warm processes, where its files are."""

    max_jobs: PositiveCount = 10
    warm: Count = 2
    memory_warn_mb: Count = 1000
    memory_limit_mb: Count = 0
    memory_headroom_mb: Count = 200
    max_lag: Seconds = 0.5
    recycle_after: Seconds = 0.0
    run_dir: str = ""
    state_dir: str = ""
    preload: tuple[str, ...] = ()
    journal: JournalSettings = JournalSettings()
    admin: AdminSettings = AdminSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    model_host: ModelHostSettings = ModelHostSettings()
    deadlines: Deadlines = Deadlines()


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an operator looks first."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class RetrySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often a model is asked for the same thing, and how long is waited before the second time."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 2
    delay: Seconds = 0.2
    max_delay: Seconds = 2.0


class ProviderSettings(Struct, frozen=True):
    """One model: the plugin's name, what is done when it fails, and its own options as the plugin's model has checked
    them. ``None``: as is usual for its kind.
    """

    plugin: str
    options: dict[str, Any] = {}
    retry: RetrySettings = RetrySettings()
    timeout: PositiveSeconds | None = None
    stall: PositiveSeconds | None = None
    hedge_after: PositiveSeconds | None = None
    shared: bool | None = None
    fallback: tuple[ProviderSettings, ...] = ()

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
    fade: Annotated[float, Meta(ge=0, le=1)] = 0.02


class DeadAirSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is said into a silence that the agent owes the user something in; each step after its own silence."""

    enabled: bool = True
    hold_after: PositiveSeconds = 5.0
    hold_phrase: str = "One moment, please."
    fallback_after: PositiveSeconds = 7.0
    fallback_phrase: str = "I am sorry, something went wrong. Could you say that again?"
    end_after: PositiveSeconds = 10.0
    end_phrase: str = "I am sorry, I cannot help you at the moment. Please call again later. Goodbye."


class TurnSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the user's turn is over, and when it interrupts."""

    detection: Literal["vad", "stt", "realtime", "manual"] = "vad"
    min_delay: Seconds = 0.5
    max_delay: Seconds = 3.0
    dynamic_delay: bool = False
    transcript_timeout: PositiveSeconds = 10.0
    max_duration: Seconds = 0.0
    away_after: Seconds = 15.0
    mute: tuple[Literal["greeting", "tools", "speaking", "always"], ...] = ()
    preemptive_generation: bool = False
    preemptive_tts: bool = False
    voice_activity: VoiceActivitySettings = VoiceActivitySettings()
    interruption: InterruptionSettings = InterruptionSettings()
    dead_air: DeadAirSettings = DeadAirSettings()


class MCPServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server whose tools the model may call: at an address, or a program that is started for each call."""

    name: SourceName
    url: str = ""
    headers: dict[str, str] = {}
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    timeout: PositiveSeconds = 10.0
    tools: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # Addresses, arguments, headers and environments may all hold a service's key.
        return f"MCPServerSettings(name={self.name!r})"


class PreconnectSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the user said before the agent was there."""

    enabled: bool = True
    timeout: PositiveSeconds = 3.0
    max_wait: PositiveSeconds = 10.0
    max_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0


class SoundSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sound behind the agent's voice: one of ``CLIPS``, or the path of a file."""

    source: Annotated[str, Meta(min_length=1)]
    volume: Volume = 1.0
    probability: Volume = 1.0
    fade_in: Seconds = 0.0
    fade_out: Seconds = 0.0


class DuckSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far it goes down while the agent speaks."""

    to: Annotated[float, Meta(ge=0, le=1)] = 0.4
    attack: Seconds = 0.1
    release: Seconds = 0.6


class BackgroundSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is heard behind the agent's voice. Of several sounds one is chosen, by their probabilities."""

    ambient: tuple[SoundSettings, ...] = ()
    thinking: tuple[SoundSettings, ...] = ()
    track: Literal["own", "mixed"] = "own"
    duck: DuckSettings = DuckSettings()


class SpeechCacheSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Speech that is made once and played again. ``keep``: what is written to disk, beside memory."""

    enabled: bool = True
    keep: Literal["phrases", "everything"] = "phrases"
    phrases: tuple[str, ...] = ()
    memory_mb: PositiveCount = 16
    disk_mb: Count = 200


class SpeechSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the agent sounds, beside its voice."""

    volume: Annotated[float, Meta(ge=0, le=4)] = 1.0
    language: Annotated[str, Meta(max_length=35)] = ""
    filters: tuple[Literal["markdown", "emoji", "numbers"], ...] = ("markdown", "emoji")
    pronunciation: dict[Annotated[str, Meta(pattern=r"\S", description="a word, or several")], str] = {}
    cache: SpeechCacheSettings = SpeechCacheSettings()


class RecoverySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to a call whose process died."""

    attempts: Count = 3
    line: str = ""
    farewell: str = "I am sorry, there is a technical problem. Please call again later. Goodbye."


class AcceptRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which jobs are taken: regular expressions that match the whole of what they are held against; empty: anything."""

    room: str = ""
    metadata: str = ""
    attributes: dict[str, str] = {}


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
    turn_detector: ProviderSettings | None = None
    turns: TurnSettings = TurnSettings()
    preconnect: PreconnectSettings = PreconnectSettings()
    max_tool_steps: PositiveCount = 3
    mcp: tuple[MCPServerSettings, ...] = ()
    accept: tuple[AcceptRule, ...] = ()
    recovery: RecoverySettings = RecoverySettings()
    background: BackgroundSettings = BackgroundSettings()
    speech: SpeechSettings = SpeechSettings()
    warm: Count | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    server: ServerSettings
    agents: Annotated[tuple[AgentSettings, ...], Meta(min_length=1)]
    worker: WorkerSettings = WorkerSettings()
    logs: LogSettings = LogSettings()
    file: str = field(default="")
    """Where it was read from: the user's modules are looked up beside it. Not a key of the file."""
    models: tuple[str, ...] = field(default=())
    """Where the model host listens, in the order to be tried: the daemon says it to the jobs. Not a key of the file."""

    def encode(self) -> bytes:
        """For the trip to a job's process."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> Settings:
        return msgspec.msgpack.decode(data, type=Settings)
