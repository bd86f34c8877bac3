"""An agent's voices with their memory, and what they are to have said before anybody calls.

Fixed phrases (the greeting, those of dead air and recovery, the agent's own) are spoken once on a machine, by the first
warm process that does not find them on disk. A voice that fails then is asked again in the call, and fails nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from greenroom.directories import state_dir
from greenroom.providers import registry
from greenroom.providers.tts import TTS, SentenceTTS
from greenroom.redaction import redact
from greenroom.session.agent import Agent
from greenroom.settings import AgentSettings, ProviderSettings, Settings
from greenroom.speech.cache import SpeechCache
from greenroom.speech.cached import CachedTTS, voice_identity
from greenroom.speech.transforms import TextTransform, Transforms, replace

__all__ = ["Voices", "fixed_phrases", "spoken_as"]

log = structlog.get_logger(__name__)

PATIENCE = 1 / 3
"""Of the time that a process may take to boot: how long phrases may be rendered."""


def spoken_as(settings: AgentSettings) -> Transforms:
    """An agent's ``speech`` in the YAML as what becomes of its words."""
    speech = settings.speech
    transforms: list[TextTransform] = []
    for name in speech.filters:
        transforms.append(f"filter_{name}")  # type: ignore[arg-type]  # the settings allow no others  # noqa: PERF401
    if speech.pronunciation:
        transforms.append(replace(speech.pronunciation))
    return Transforms(transforms)


def fixed_phrases(settings: AgentSettings, agent: type[Agent] | None) -> list[str]:
    """What is certain, or likely, to be said in the same words; the greeting first."""
    dead_air, recovery = settings.turns.dead_air, settings.recovery
    phrases = [settings.greeting, *(agent.phrases if agent is not None else ()), *settings.speech.cache.phrases]
    if dead_air.enabled:
        phrases += (dead_air.hold_phrase, dead_air.fallback_phrase, dead_air.end_phrase)
    if recovery.attempts:
        phrases += (recovery.line, recovery.farewell)
    return list(dict.fromkeys(phrase for phrase in phrases if phrase.strip()))


class Voices:
    """One agent's, in one process. What ``build`` makes has a memory; ``prepare`` fills that of the first voice."""

    def __init__(self, settings: Settings, agent: AgentSettings) -> None:
        self._agent = agent
        worker, cache = settings.worker, agent.speech.cache
        self._folder = (Path(worker.state_dir) if worker.state_dir else state_dir(os.environ)) / "speech"
        self._patience = worker.deadlines.boot * PATIENCE
        self._cache = SpeechCache(
            self._folder,
            memory_mb=cache.memory_mb,
            disk_mb=cache.disk_mb,
            everything=cache.keep == "everything",
        )
        self._first: CachedTTS | None = None

    def around(self, build: Callable[[Any, ProviderSettings], Any]) -> Callable[[Any, ProviderSettings], Any]:
        """``build``, with voices that have a memory. Each of a chain has its own: none is taken for another."""

        def remembering(kind: registry.Kind, settings: ProviderSettings) -> Any:
            made = build(kind, settings)
            return self._remembering(made, settings) if isinstance(made, TTS) else made

        return remembering

    def _remembering(self, tts: TTS, settings: ProviderSettings) -> TTS:
        speech = self._agent.speech
        if speech.language and isinstance(tts, SentenceTTS):
            tts.language = speech.language
        if not speech.cache.enabled:
            return tts
        version = registry.version_of(settings.plugin)
        identity = voice_identity(settings, version=version, variant=tts.variant)
        cached = CachedTTS(tts, self._cache, identity=identity)
        self._first = self._first or cached
        return cached

    def prepare(self, phrases: Sequence[str]) -> None:
        """Have these ready to be played, as far as there is time for that. Blocks."""
        voice = self._first
        if voice is None or not phrases:
            return
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._prepare(voice, phrases))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def _prepare(self, voice: CachedTTS, phrases: Sequence[str]) -> None:
        transforms = spoken_as(self._agent)
        spoken = [await transforms.apply(phrase) for phrase in phrases]
        voice.expect(spoken)
        missing = [text for text in spoken if not voice.recall(text)]
        if not missing:
            return
        try:
            with _alone(self._folder) as alone:
                if alone:
                    async with asyncio.timeout(self._patience):
                        for text in missing:
                            await voice.render(text)
                    log.info("phrases rendered", phrases=len(missing))
        except Exception as error:  # noqa: BLE001  # a plugin's code, and nothing that a call needs
            log.warning("phrases not rendered", error=redact(str(error)) or type(error).__name__)
        finally:
            await voice.aclose()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process renders at the moment: one is enough."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".rendering").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
