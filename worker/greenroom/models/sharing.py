"""Which models are shared, and the providers of a job that have theirs in the model host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from greenroom.models.client import HostLink
from greenroom.models.proxies import SharedSTT, SharedTTS, SharedTurnDetector
from greenroom.models.wire import Use
from greenroom.providers import BatchSTT, SentenceTTS, TurnDetector, registry
from greenroom.providers.plugin import PluginError
from greenroom.providers.provider import Provider
from greenroom.settings import ProviderSettings

__all__ = ["Sharing", "by_plugin", "refusal"]


def by_plugin(kind: str, plugin: str) -> bool:
    """Whether a plugin's model is shared where the settings leave it open."""
    try:
        return kind in registry.load_plugin(plugin).shared
    except PluginError:
        return False  # who builds it will be told what is wrong


def refusal(kind: str, plugin: str) -> str:
    """What is said of ``shared: true`` beside a model that cannot be."""
    return (
        f"plugin `{plugin}`: its {kind} cannot be shared; expected shared: true beside models that are asked for one "
        "utterance, sentence or pause at a time"
    )


class Sharing:
    """One process's. ``paths``: where the model host listens, in the order to be tried; without any nothing is shared.

    ``build`` takes the place of ``registry.build``.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._link = HostLink(paths) if paths else None

    def build(self, kind: registry.Kind, settings: ProviderSettings) -> Any:
        """The provider that the settings describe, with its model here or in the host. Raises ``PluginError``."""
        own: Provider = registry.build(kind, settings)
        if self._link is None:
            return own
        if not (by_plugin(kind, settings.plugin) if settings.shared is None else settings.shared):
            return own
        link, use = self._link, Use(0, kind, settings.plugin, settings.options)
        match own:
            case BatchSTT():
                return SharedSTT(own, link, use)
            case SentenceTTS():
                return SharedTTS(own, link, use)
            case TurnDetector():
                return SharedTurnDetector(own, link, use)
        raise PluginError(refusal(kind, settings.plugin), path=("shared",))

    async def aclose(self) -> None:
        """Hang up; what is asked for afterwards dials again."""
        if self._link is not None:
            await self._link.aclose()
