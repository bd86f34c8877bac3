"""Providers as the settings describe them, with what is done when they fail.

``registry`` makes the plugins' own; here they are put into one that asks again, asks others and comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

from greenroom.providers import registry
from greenroom.providers.llm import LLM
from greenroom.providers.plugin import PluginError
from greenroom.providers.provider import Provider
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.resilience.chain import Candidate
from greenroom.providers.resilience.llm import ResilientLLM
from greenroom.providers.resilience.realtime import ResilientRealtime
from greenroom.providers.resilience.rules import Rules
from greenroom.providers.resilience.stt import ResilientSTT
from greenroom.providers.resilience.tts import ResilientTTS
from greenroom.providers.resilience.turn import ResilientTurnDetector
from greenroom.providers.resilience.vad import ResilientVAD
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.turn import TurnDetector
from greenroom.providers.vad import VAD
from greenroom.redaction import hide, is_secret
from greenroom.settings import ProviderSettings

__all__ = ["Build", "assemble"]

Build = Callable[[Any, ProviderSettings], Any]
"""Makes one provider of a kind, alone: ``registry.build``, or what stands in for it."""

PATIENCE = 10.0
"""Seconds that a model may take to its first output, and between two, where the settings do not say."""
JUDGEMENT = 0.5
"""Seconds that a turn detector may take which another one stands behind; the session waits for 1 in all."""


@overload
def assemble(kind: Literal["vad"], settings: ProviderSettings, *, build: Build = ...) -> VAD: ...
@overload
def assemble(kind: Literal["stt"], settings: ProviderSettings, *, build: Build = ...) -> STT: ...
@overload
def assemble(kind: Literal["llm"], settings: ProviderSettings, *, build: Build = ...) -> LLM | RealtimeModel: ...
@overload
def assemble(kind: Literal["tts"], settings: ProviderSettings, *, build: Build = ...) -> TTS: ...
@overload
def assemble(kind: Literal["turn"], settings: ProviderSettings, *, build: Build = ...) -> TurnDetector: ...
def assemble(kind: registry.Kind, settings: ProviderSettings, *, build: Build = registry.build) -> Provider:
    """The provider, its fallbacks included; no model is loaded yet. Raises ``PluginError``."""
    for one in (settings, *settings.fallback):
        _hide(one.options)
    made = [build(kind, one) for one in (settings, *settings.fallback)]
    names = [one.plugin for one in (settings, *settings.fallback)]
    rules = [_rules(kind, one) for one in (settings, *settings.fallback)]
    match kind:
        case "vad":
            return ResilientVAD(_all(VAD, names, made, rules)) if settings.fallback else made[0]
        case "turn":
            return ResilientTurnDetector(_all(TurnDetector, names, made, rules)) if settings.fallback else made[0]
        case "stt":
            return ResilientSTT(_all(STT, names, made, rules))
        case "tts":
            return ResilientTTS(_all(TTS, names, made, rules))
        case "llm" if isinstance(made[0], RealtimeModel):
            return ResilientRealtime(_all(RealtimeModel, names, made, rules))
        case "llm":
            return ResilientLLM(_all(LLM, names, made, rules), hedge_after=settings.hedge_after)


def _hide(options: Mapping[str, Any]) -> None:
    """A vendor's key is never shown, whatever it is said in."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            _hide(value)
        elif isinstance(value, str) and is_secret(key):
            hide(value)


def _rules(kind: registry.Kind, settings: ProviderSettings) -> Rules:
    retry, usual = settings.retry, JUDGEMENT if kind == "turn" else PATIENCE
    return Rules(
        attempts=retry.attempts,
        delay=retry.delay,
        max_delay=retry.max_delay,
        timeout=settings.timeout or usual,
        stall=settings.stall or usual,
    )


def _all(
    kind: type[Any], names: Sequence[str], made: Sequence[Provider], rules: Sequence[Rules]
) -> list[Candidate[Any]]:
    """Raises ``PluginError`` where one of them cannot take another's place."""
    candidates: list[Candidate[Any]] = []
    for name, provider, patience in zip(names, made, rules, strict=True):
        if not isinstance(provider, kind):
            raise PluginError(
                f"`{name}` is no {kind.__name__}; expected a fallback of the same kind as `{names[0]}`",
                path=("fallback", len(candidates) - 1, "plugin"),
            )
        candidates.append(Candidate(name, provider, patience))
    return candidates
