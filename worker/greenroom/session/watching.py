"""Follows the providers of a session that ask others when they fail."""

from __future__ import annotations

from collections.abc import Callable

from greenroom.providers.resilience.chain import Resilient, Watcher

__all__ = ["Watching"]


class Watching:
    """A session's. ``told`` is called with what happens to the providers that it has seen, until it is closed."""

    def __init__(self, told: Watcher) -> None:
        self._told = told
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, *providers: object) -> None:
        """Those of them that tell. Each once."""
        for provider in providers:
            if isinstance(provider, Resilient) and id(provider.chain) not in self._watched:
                self._watched[id(provider.chain)] = provider.chain.watch(self._told)

    def close(self) -> None:
        for end in self._watched.values():
            end()
        self._watched.clear()
