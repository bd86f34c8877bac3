"""An agent's part of the YAML as session and room take it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.interruption import InterruptionRules
from greenroom.dialog.turns import TurnRules
from greenroom.job.voices import Voices, spoken_as
from greenroom.models.sharing import Sharing
from greenroom.providers.assembly import Build, assemble
from greenroom.providers.llm import LLM
from greenroom.providers.provider import Provider
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.turn import TurnDetector
from greenroom.providers.vad import VAD
from greenroom.redaction import hide, is_secret, redact
from greenroom.room.room import PreconnectRules
from greenroom.session.segments import SegmentRules
from greenroom.session.session import SessionOptions
from greenroom.session.sources import ToolSource
from greenroom.settings import AgentSettings, DeadAirSettings, PreconnectSettings

__all__ = ["AgentProviders", "build_providers", "preconnect_rules", "session_options", "tool_sources"]

log = structlog.get_logger(__name__)

SAMPLE_RATE = 24_000
"""Hz, at which the microphone is listened to where nobody has a rate of their own."""


@dataclass(frozen=True, slots=True)
class AgentProviders:
    """What an agent hears, thinks and speaks with; ``None`` where the YAML names nothing."""

    vad: VAD | None = None
    stt: STT | None = None
    llm: LLM | RealtimeModel | None = None
    tts: TTS | None = None
    turn: TurnDetector | None = None
    mcp_servers: tuple[ToolSource, ...] = ()

    @property
    def hearing_rate(self) -> int:
        """Hz, at which they hear, and the microphone is therefore listened to."""
        ear = self.vad or self.stt or (self.llm if isinstance(self.llm, RealtimeModel) else None)
        return ear.sample_rate if ear is not None else SAMPLE_RATE

    def load(self) -> None:
        """Load the models. Blocks."""
        for provider in self._all():
            provider.load()

    async def warm_up(self) -> None:
        """Let each open its connections. What fails is left to the first request."""
        for provider, result in zip(
            self._all(),
            await asyncio.gather(*(provider.warm_up() for provider in self._all()), return_exceptions=True),
            strict=True,
        ):
            if isinstance(result, BaseException):
                log.warning("provider not warmed up", provider=provider.label, error=redact(str(result)))

    async def aclose(self) -> None:
        """Let go of all connections."""
        await asyncio.gather(*(provider.aclose() for provider in self._all()), return_exceptions=True)

    def _all(self) -> tuple[Provider, ...]:
        return tuple(one for one in (self.vad, self.stt, self.llm, self.tts, self.turn) if one is not None)


def build_providers(
    settings: AgentSettings, *, beside: str, models: Sequence[str] = (), voices: Voices | None = None
) -> AgentProviders:
    """Raises ``GreenroomError`` for one that cannot be built. ``models``: ``Settings.models``. ``voices``: give those
    that speak their memory."""
    build: Build = Sharing(models).build
    build = voices.around(build) if voices is not None else build
    return AgentProviders(
        vad=assemble("vad", settings.vad, build=build) if settings.vad else None,
        stt=assemble("stt", settings.stt, build=build) if settings.stt else None,
        llm=assemble("llm", settings.llm, build=build) if settings.llm else None,
        tts=assemble("tts", settings.tts, build=build) if settings.tts else None,
        turn=assemble("turn", settings.turn_detector, build=build) if settings.turn_detector else None,
        mcp_servers=tool_sources(settings, beside=beside),
    )


def tool_sources(settings: AgentSettings, *, beside: str) -> tuple[ToolSource, ...]:
    """The YAML's ``mcp`` as the session takes it. ``beside``: the settings file, in whose folder programs run."""
    if not settings.mcp:
        return ()
    from greenroom.session.mcp import MCPServerHTTP, MCPServerStdio  # an extra; and half a second, well spent at boot

    sources: list[ToolSource] = []
    for server in settings.mcp:
        for key, value in (*server.headers.items(), *server.env.items()):
            if is_secret(key):
                hide(value.rpartition(" ")[2])  # of "Bearer xyz" the last word
        allowed = server.tools or None
        if server.url:
            source: ToolSource = MCPServerHTTP(
                server.url, name=server.name, headers=server.headers, timeout=server.timeout, allowed_tools=allowed
            )
        else:
            source = MCPServerStdio(
                server.command,
                server.args,
                env=server.env,
                cwd=Path(beside).parent / Path(server.cwd).expanduser(),
                name=server.name,
                timeout=server.timeout,
                allowed_tools=allowed,
            )
        sources.append(source)
    return tuple(sources)


def preconnect_rules(settings: AgentSettings) -> PreconnectRules:
    """An agent's ``preconnect`` in the YAML as the room takes it."""
    return PreconnectRules(
        **{name: getattr(settings.preconnect, name) for name in PreconnectSettings.__struct_fields__}
    )


def session_options(
    settings: AgentSettings, detector: TurnDetector | None = None, *, model: LLM | RealtimeModel | None = None
) -> SessionOptions:
    """An agent's ``turns`` in the YAML as the session takes them.

    A realtime ``model`` that is alone tells the turns itself. Nobody else could say the holding phrase while it is busy
    with what is waited for.
    """
    turns, alone = settings.turns, isinstance(model, RealtimeModel)
    detection = "realtime" if alone and settings.vad is None and turns.detection == "vad" else turns.detection
    voice, interruption, dead_air = turns.voice_activity, turns.interruption, turns.dead_air
    guard = DeadAirRules(**{name: getattr(dead_air, name) for name in DeadAirSettings.__struct_fields__})
    if alone and settings.tts is None:
        guard = replace(guard, hold_phrase="")
    endpoint = EndpointRules(turns.min_delay, turns.max_delay, turns.dynamic_delay)
    if detector is not None:
        endpoint = replace(endpoint, judged_by=detector.modality, likely=detector.threshold)
    return SessionOptions(
        rules=DialogRules(
            turns=TurnRules(detection, endpoint, turns.transcript_timeout, turns.max_duration),
            interruption=InterruptionRules(
                enabled=interruption.enabled,
                pause=interruption.pause,
                stop_after=interruption.min_duration,
                resume_after=interruption.resume_after,
                min_words=interruption.min_words,
                backchannels=interruption.backchannels,
            ),
            dead_air=guard,
            mute=turns.mute,
            max_tool_steps=settings.max_tool_steps,
            preemptive=turns.preemptive_generation,
            preemptive_tts=turns.preemptive_tts,
            away_after=turns.away_after,
        ),
        voice=SegmentRules(
            threshold=voice.threshold,
            release=voice.threshold * 0.7,
            min_speech=voice.min_speech,
            min_silence=voice.min_silence,
        ),
        padding=voice.padding,
        fade=interruption.fade,
        volume=settings.speech.volume,
        transforms=spoken_as(settings),
    )
