"""How a plugin says what it offers.

A plugin is an object of type ``Plugin`` that an entry point in the group ``greenroom.plugins`` names. The entry point's
name is the plugin's name in the YAML (``stt: {plugin: whisper, model: tiny.en}``). Nothing is registered by import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Plugin"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """What one vendor offers.

    ``kinds`` maps ``vad``, ``stt``, ``llm`` or ``tts`` to ``"module:Class"``: resolved only when used, so that listing
    plugins imports no vendor's code. ``options`` maps the same kinds to a frozen ``msgspec.Struct`` class that holds
    the kind's options with their defaults: the YAML keys beside ``plugin``. The class is called as
    ``Class(options)``. ``requires``: importable module names without which the plugin cannot work; ``extra``: the
    extra of greenroom (or the distribution) that installs them, for the error that says how to mend it.
    """

    kinds: Mapping[str, str]
    options: Mapping[str, type[Any]]
    requires: tuple[str, ...] = ()
    extra: str = ""
    preload: tuple[str, ...] = field(default=())
    """Modules that are safe and worthwhile to import before the fork (no threads, no files held open)."""
