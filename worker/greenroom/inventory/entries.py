"""What there is to ask: each kind of each plugin, and each model of each agent of a settings file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
from msgspec import Struct

from greenroom.providers import registry
from greenroom.providers.plugin import PluginError
from greenroom.redaction import redact
from greenroom.settings import AgentSettings, ProviderSettings, Settings
from greenroom.wording import on_one_line

__all__ = ["Entry", "State", "as_json", "as_text", "configured", "installed", "wanted"]

State: TypeAlias = Literal["ready", "lacking", "wrong", "answers", "silent"]
"""``ready``: nothing is known against it; ``lacking``: a package or an option is missing; ``wrong``: its options are;
``answers``, ``silent``: what it did when it was asked."""

_KEYS: Mapping[str, str] = {"vad": "vad", "stt": "stt", "llm": "llm", "tts": "tts", "turn_detector": "turn"}
"""An agent's keys that name a model, and the kind of it."""
_COLUMNS = 6


class Entry(Struct, frozen=True, kw_only=True):
    """``place``: where the settings name it; empty for what is installed only. ``load``, ``connect``, ``first``:
    seconds to have its model in memory, its connections open, and from a request to its first output.
    """

    plugin: str
    kind: str
    place: str = ""
    state: State = "ready"
    detail: str = ""
    load: float | None = None
    connect: float | None = None
    first: float | None = None

    @property
    def usable(self) -> bool:
        return self.state in ("ready", "answers")


def installed() -> list[tuple[Entry, ProviderSettings]]:
    """Every kind of every plugin, with no options: what it lacks then is in its detail."""
    found: list[tuple[Entry, ProviderSettings]] = []
    for name in registry.names():
        settings = ProviderSettings(name)
        try:
            kinds = registry.load_plugin(name).kinds
        except PluginError as error:
            found.append((Entry(plugin=name, kind="", state="wrong", detail=error.message), settings))
            continue
        found += [(_checked(kind, settings, given=False), settings) for kind in sorted(kinds)]
    return found


def configured(settings: Settings) -> list[tuple[Entry, ProviderSettings]]:
    """Every model of every agent, fallbacks after the model that they stand behind."""
    return [(_checked(kind, one, place=place), one) for place, kind, one in wanted(settings)]


def wanted(settings: Settings) -> Iterator[tuple[str, str, ProviderSettings]]:
    """Where the settings name a model, of which kind, and how."""
    for index, agent in enumerate(settings.agents):
        for key, kind in _KEYS.items():
            first: ProviderSettings | None = getattr(agent, key)
            if first is None:
                continue
            place = f"{_called(agent, index)}.{key}"
            yield place, kind, first
            for number, other in enumerate(first.fallback):
                yield f"{place}.fallback[{number}]", kind, other


def as_text(entries: Sequence[Entry]) -> str:
    """A line each, in columns; without secrets, and without what moves a terminal's cursor."""
    rows = [_cells(entry) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(_COLUMNS)] if rows else []
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows)
    return "\n".join(on_one_line(redact(line)).rstrip() for line in lines)


def as_json(entries: Iterable[Entry]) -> str:
    """A JSON object a line."""
    return "\n".join(redact(msgspec.json.encode(entry).decode()) for entry in entries)


def _called(agent: AgentSettings, index: int) -> str:
    return agent.name or f"agents[{index}]"


def _checked(kind: str, settings: ProviderSettings, *, place: str = "", given: bool = True) -> Entry:
    """``given``: its options are those of a settings file, and not none."""
    entry = Entry(plugin=settings.plugin, kind=kind, place=place)
    try:
        registry.check(cast("registry.Kind", kind), settings.plugin, settings.options)
    except registry.MissingExtra as error:
        return msgspec.structs.replace(entry, state="lacking", detail=error.message)
    except PluginError as error:
        state: State = "wrong" if given or isinstance(error, registry.BrokenPlugin) else "lacking"
        return msgspec.structs.replace(
            entry, state=state, detail=f"{error.key}: {error.message}" if error.key else error.message
        )
    return entry


def _cells(entry: Entry) -> tuple[str, ...]:
    times: tuple[Any, ...] = tuple(
        f"{name} {_shown(seconds)}" if seconds is not None else ""
        for name, seconds in (("load", entry.load), ("connect", entry.connect), ("first", entry.first))
    )
    took = ", ".join(filter(None, times))
    return entry.state, entry.kind, entry.plugin, entry.place, took, "", entry.detail


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
