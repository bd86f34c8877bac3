"""How a plugin says what it offers, and how it says that what the user wrote is wrong.

A plugin is an object of type ``Plugin`` that an entry point in the group ``greenroom.plugins`` names. The entry point's
name is the plugin's name in the YAML (``stt: {plugin: whisper, model: tiny.en}``). Nothing is registered by import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from greenroom.errors import SettingsError

__all__ = ["KeyPath", "OptionError", "Plugin", "PluginError"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where in a provider's mapping a mistake is: ``("rules", 2, "when")`` is ``rules[2].when``."""


class PluginError(SettingsError):
    """A provider cannot be had as the settings ask for it.

    ``path``: the offending key inside the provider's own mapping; whoever knows the file adds file and line.
    """

    def __init__(self, message: str, *, path: KeyPath = ()) -> None:
        self.path = path
        super().__init__(message, key=_dotted(path))


class OptionError(PluginError, ValueError):
    """An option is wrong. An options struct may raise it too, from ``__post_init__`` or ``verify``."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """What one vendor offers.

    ``kinds`` maps ``vad``, ``stt``, ``llm``, ``tts`` or ``turn`` to ``"module:Class"``: resolved only when used, so
    that listing plugins imports no vendor's code. ``options`` maps the same kinds to a frozen ``msgspec.Struct`` class
    that holds the kind's options with their defaults: the YAML keys beside ``plugin``. The class is called as
    ``Class(options)``. A struct may have ``verify(self) -> None`` for what its types cannot say, such as a file that
    has to be there: called by ``registry.check``, it imports nothing heavy and raises ``OptionError``.

    ``requires``: importable top-level module names without which the plugin cannot work; ``extra``: the extra of the
    plugin's distribution that installs them, for the error that says how to mend it.
    """

    kinds: Mapping[str, str]
    options: Mapping[str, type[Any]]
    requires: tuple[str, ...] = ()
    extra: str = ""
    preload: tuple[str, ...] = field(default=())
    """Modules that are safe and worthwhile to import before the fork (no threads, no files held open)."""
    shared: tuple[str, ...] = field(default=())
    """Kinds whose model is loaded once for all calls of a worker, in the model host, unless the YAML says otherwise
    (``shared: false``): what runs on this machine and takes much of its memory. See ``docs/models.md``."""


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
