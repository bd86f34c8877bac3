"""Which plugins are installed, whether the options written for one are right, and the provider that they make.

Plugins are found by their entry points in the group ``greenroom.plugins``. Listing imports nothing of theirs, checking
options imports a plugin's own module but none of the vendor's, building imports the rest.

::

    PluginError                what the user wrote cannot be had; ``path`` is the key
    ├── UnknownPlugin          nothing installed has that name
    ├── UnsupportedKind        the plugin offers other kinds
    ├── MissingExtra           the plugin's vendor is not installed
    ├── BrokenPlugin           the plugin itself fails: its author has to act
    └── OptionError            an option is unknown, missing or wrong
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, overload

import msgspec

from greenroom.providers.llm import LLM
from greenroom.providers.plugin import KeyPath, OptionError, Plugin, PluginError
from greenroom.providers.realtime import RealtimeModel
from greenroom.providers.stt import STT
from greenroom.providers.tts import TTS
from greenroom.providers.turn import TurnDetector
from greenroom.providers.vad import VAD
from greenroom.settings import ProviderSettings

__all__ = [
    "GROUP",
    "KINDS",
    "BrokenPlugin",
    "Kind",
    "MissingExtra",
    "UnknownPlugin",
    "UnsupportedKind",
    "build",
    "check",
    "load_plugin",
    "names",
    "offered",
    "offering",
    "remember",
    "version_of",
]

GROUP = "greenroom.plugins"

Kind: TypeAlias = Literal["vad", "stt", "llm", "tts", "turn"]
Provider: TypeAlias = VAD | STT | LLM | RealtimeModel | TTS | TurnDetector

KINDS: Mapping[str, tuple[type[Provider], ...]] = {
    "vad": (VAD,),
    "stt": (STT,),
    "llm": (LLM, RealtimeModel),
    "tts": (TTS,),
    "turn": (TurnDetector,),
}
"""What each kind may be: a realtime model takes the language model's place."""


class UnknownPlugin(PluginError):
    """No installed plugin has this name."""


class UnsupportedKind(PluginError):
    """The plugin does not offer this kind of model."""


class MissingExtra(PluginError):
    """The plugin is there, what it is built on is not."""


class BrokenPlugin(PluginError):
    """The plugin cannot be loaded or is not what it says: a mistake of its author."""


def names() -> list[str]:
    """The installed plugins' names, sorted; imports none of them."""
    return sorted(_entries())


def offering(kind: Kind) -> list[str]:
    """The names of the plugins that offer this kind of model; broken ones are left out."""
    found: list[str] = []
    for name in names():
        try:
            if kind in load_plugin(name).kinds:
                found.append(name)
        except BrokenPlugin:
            continue
    return found


def load_plugin(name: str) -> Plugin:
    """The plugin of that name. Raises ``UnknownPlugin`` or ``BrokenPlugin``."""
    entry = _entries().get(name)
    if entry is None and _remembered is not None:
        remember()
        entry = _remembered.get(name)
    if entry is None:
        raise UnknownPlugin(
            f"no plugin `{name}` is installed{_nearest(name, names())}; installed: {_listed(names())}", path=("plugin",)
        )
    try:
        plugin = entry.load()
    except Exception as error:  # whatever a plugin does when imported is a broken plugin
        raise BrokenPlugin(f"plugin `{name}` cannot be loaded: {_said(error)}", path=("plugin",)) from error
    if not isinstance(plugin, Plugin):
        raise BrokenPlugin(f"plugin `{name}`: {entry.value} is not a greenroom.providers.Plugin", path=("plugin",))
    return plugin


def version_of(name: str) -> str:
    """Of the distribution that a plugin comes with; empty where it is not known."""
    entry = _entries().get(name)
    return entry.dist.version if entry is not None and entry.dist is not None else ""


def check(kind: Kind, name: str, options: Mapping[str, Any]) -> Any:
    """The plugin's options struct for these options, proven right as far as that goes without loading a model.

    Raises a ``PluginError`` whose ``path`` is the offending key of the provider's mapping.
    """
    plugin = load_plugin(name)
    if kind not in plugin.kinds or kind not in plugin.options:
        raise UnsupportedKind(
            f"plugin `{name}` offers {_listed(sorted(plugin.kinds))}, not {kind}; "
            f"plugins for {kind}: {_listed(offering(kind))}",
            path=("plugin",),
        )
    missing = [module for module in plugin.requires if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"plugin `{name}` needs {_listed(missing)}, which is not installed; "
            f"expected after: pip install '{_requirement(name, plugin)}'",
            path=("plugin",),
        )
    struct = plugin.options[kind]
    try:
        checked = msgspec.convert(dict(options), type=struct)
    except msgspec.ValidationError as error:
        raise _explained(error, struct) from None
    verify = getattr(checked, "verify", None)
    if verify is not None:
        verify()
    return checked


@overload
def build(kind: Literal["vad"], settings: ProviderSettings) -> VAD: ...
@overload
def build(kind: Literal["stt"], settings: ProviderSettings) -> STT: ...
@overload
def build(kind: Literal["llm"], settings: ProviderSettings) -> LLM | RealtimeModel: ...
@overload
def build(kind: Literal["tts"], settings: ProviderSettings) -> TTS: ...
@overload
def build(kind: Literal["turn"], settings: ProviderSettings) -> TurnDetector: ...
def build(kind: Kind, settings: ProviderSettings) -> Provider:
    """The provider that the settings describe; its model is not loaded yet. Raises ``PluginError``."""
    options = check(kind, settings.plugin, settings.options)
    make: Callable[[Any], Provider] = offered(kind, settings.plugin)
    return make(options)


def offered(kind: Kind, name: str) -> type[Provider]:
    """The class that a plugin, which offers this kind, has for it; imports the vendor's code. Raises
    ``BrokenPlugin``."""
    place = load_plugin(name).kinds[kind]
    module, _, attribute = place.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # as in load_plugin
        raise BrokenPlugin(f"plugin `{name}`: {place} cannot be loaded: {_said(error)}", path=("plugin",)) from error
    expected = KINDS[kind]
    if not (isinstance(found, type) and issubclass(found, expected)):
        wanted = " or ".join(one.__name__ for one in expected)
        raise BrokenPlugin(f"plugin `{name}`: {place} is not a {wanted}", path=("plugin",))
    return found


def remember() -> None:
    """Look up once which plugins are installed, for this process and those that are forked from it: each lookup reads
    what every installed distribution says of itself. One that is installed later is found when it is asked for."""
    global _remembered
    _remembered = _looked_up()


def _entries() -> dict[str, EntryPoint]:
    return _remembered if _remembered is not None else _looked_up()


def _looked_up() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise BrokenPlugin(
                f"two plugins are named `{entry.name}`: {other.value} and {entry.value}; uninstall one",
                path=("plugin",),
            )
    return found


_remembered: dict[str, EntryPoint] | None = None


def _requirement(name: str, plugin: Plugin) -> str:
    entry = _entries()[name]
    distribution = entry.dist.name if entry.dist is not None else "greenroom"
    return f"{distribution}[{plugin.extra}]" if plugin.extra else distribution


# --- what is wrong with an option, in words -------------------------------------------------------------------------

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<key>.*)`$")
_ABSENT = re.compile(r"^Object missing required field `(?P<key>.*)`$")


def _explained(error: msgspec.ValidationError, struct: type[Any]) -> OptionError:
    """The error with the key it is about, and what was expected there."""
    message, path = _located(str(error))
    cause = error.__cause__
    if isinstance(cause, OptionError):
        return OptionError(cause.message, path=(*path, *cause.path))
    if match := _UNKNOWN.match(message):
        expected = sorted(_fields(struct, path))
        key = match["key"]
        return OptionError(
            f"unknown key{_nearest(key, expected)}; expected one of: {_listed(expected)}", path=(*path, key)
        )
    if match := _ABSENT.match(message):
        return OptionError("a value is required", path=(*path, match["key"]))
    return OptionError(message[:1].lower() + message[1:], path=path)


def _located(text: str) -> tuple[str, KeyPath]:
    """A message of msgspec as its words and the place that it names."""
    match = _AT.search(text)
    if match is None:
        return text, ()
    steps = [step for step in _STEP.finditer(match["path"]) if step["key"] or step["index"]]
    return text[: match.start()], tuple(step["key"] or int(step["index"]) for step in steps)


def _fields(struct: type[Any], path: KeyPath) -> Iterable[str]:
    """The keys that the mapping at ``path`` may have."""
    kind = msgspec.inspect.type_info(struct)
    for step in path:
        kind = _inner(kind, step)
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    for option in kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,):
        if isinstance(option, msgspec.inspect.StructType):
            return [field.encode_name for field in option.fields]
    return []


def _inner(kind: msgspec.inspect.Type, step: str | int) -> msgspec.inspect.Type:
    """The type one step further in; ``AnyType`` where a step leads nowhere."""
    info = msgspec.inspect
    while isinstance(kind, info.Metadata):
        kind = kind.type
    for option in kind.types if isinstance(kind, info.UnionType) else (kind,):
        if isinstance(option, info.StructType) and isinstance(step, str):
            for field in option.fields:
                if field.encode_name == step:
                    return field.type
        if isinstance(option, info.DictType) and isinstance(step, str):
            return option.value_type
        if isinstance(option, info.VarTupleType | info.ListType) and isinstance(step, int):
            return option.item_type
    return info.AnyType()


def _nearest(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
