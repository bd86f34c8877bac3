"""Holds a document against the models of ``settings``: unknown keys, wrong types, values out of range.

Unlike a conversion, which stops at the first mistake, this finds them all. What it returns has the models' shape, so
that converting it cannot fail any more.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import inspect

from greenroom.redaction import redact
from greenroom.settings import ProviderSettings, Settings
from greenroom.wording import found, suggestion
from greenroom.yaml_document import BROKEN, Broken, Document, Path

__all__ = ["NOT_IN_FILE", "check_shape"]

NOT_IN_FILE = frozenset({"file", "models"})
"""Fields of ``Settings`` that are no keys of the file."""
EXAMPLES = {
    "vad": "{plugin: silero}",
    "stt": "{plugin: whisper}",
    "llm": "{plugin: script}",
    "tts": "{plugin: piper}",
    "turn_detector": "{plugin: smart_turn}",
}


def check_shape(document: Document) -> dict[str, Any] | Broken:
    """The document as the builtins that ``msgspec.convert`` makes ``Settings`` of.

    Mistakes are noted in the document, and stand in the result as ``BROKEN``. Keys that are absent, or have nothing
    after their colon and a default, are absent from the result: their defaults apply.
    """
    checked = _Checker(document).check(document.value, inspect.type_info(Settings), ())
    return checked if isinstance(checked, dict) else BROKEN


class _Checker:
    """One walk over the document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def check(self, value: Any, kind: inspect.Type, path: Path) -> Any:
        """``value`` as ``kind`` takes it, or ``BROKEN`` with the mistake noted."""
        expected = ""
        if isinstance(kind, inspect.Metadata):
            expected = str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        match kind:
            case _ if value is BROKEN:
                return BROKEN
            case inspect.UnionType():
                (member,) = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
                return self.check(value, member, path)
            case inspect.StructType() if kind.cls is ProviderSettings:
                return self._provider(value, kind, path)
            case inspect.StructType():
                return self._struct(value, kind, path)
            case inspect.VarTupleType():
                return self._items(value, kind, path)
            case inspect.DictType():
                return self._table(value, kind, path)
        if isinstance(kind, inspect.StrType):
            value = self._document.texts.get(path, value)
        problem = _problem(value, kind)
        if problem is None:
            return value
        return self._document.complain(path, f"{found(value, path)}; expected {expected or problem}")

    def _struct(self, value: Any, kind: inspect.StructType, path: Path) -> Any:
        fields = {field.name: field for field in kind.fields if path or field.name not in NOT_IN_FILE}
        if not isinstance(value, dict):
            keys = ", ".join(fields)
            return self._document.complain(path, f"{found(value, path)}; expected a mapping with keys among {keys}")
        checked: dict[str, Any] = {}
        for key, one in value.items():
            field = fields.get(key)
            if field is None:
                names = ", ".join(sorted(fields))
                hint = suggestion(key, fields)
                self._document.complain((*path, key), f"unknown key; expected one of {names}{hint}")
            elif one is not None or not _may_be_empty(field):
                checked[key] = self.check(one, field.type, (*path, key))
        for name, field in fields.items():
            # Keys that are there but empty count as missing too.
            if field.required and value.get(name) is None and name not in checked:
                checked[name] = self._document.complain((*path, name), f"missing; expected {_describe(field.type)}")
        return checked

    def _items(self, value: Any, kind: inspect.VarTupleType, path: Path) -> Any:
        described = _describe(kind)
        if not isinstance(value, list):
            return self._document.complain(path, f"{found(value, path)}; expected {described}")
        if len(value) < (kind.min_length or 0):
            return self._document.complain(path, f"an empty list; expected {described}, at least one")
        return [self.check(one, kind.item_type, (*path, i)) for i, one in enumerate(value)]

    def _table(self, value: Any, kind: inspect.DictType, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._document.complain(path, f"{found(value, path)}; expected {_describe(kind)}")
        return {key: self.check(one, kind.value_type, (*path, key)) for key, one in value.items()}

    def _provider(self, value: Any, kind: inspect.StructType, path: Path) -> Any:
        """A model: the keys that every one has, and beside them, under ``options``, the plugin's own."""
        example = EXAMPLES.get(next((str(key) for key in reversed(path) if key in EXAMPLES), ""), "{plugin: name}")
        if not isinstance(value, dict):
            if isinstance(value, str) and value:
                example = f"{{plugin: {redact(value)[:60]}}}"
            return self._document.complain(path, f"{found(value, path)}; expected a mapping such as {example}")
        plugin = self._document.texts.get((*path, "plugin"), value.get("plugin"))
        if plugin is BROKEN:
            return BROKEN
        if plugin is None:
            return self._document.complain((*path, "plugin"), f"missing; expected a plugin's name, such as {example}")
        if not isinstance(plugin, str) or not plugin:
            where = (*path, "plugin")
            return self._document.complain(where, f"{found(plugin)}; expected a plugin's name, such as {example}")
        common = {field.name: field for field in kind.fields if field.name not in ("plugin", "options")}
        checked: dict[str, Any] = {"plugin": plugin, "options": {}}
        for key, one in value.items():
            field = common.get(key)
            if field is None and key != "plugin":
                checked["options"][key] = one
            elif field is not None and (one is not None or not _may_be_empty(field)):
                checked[key] = self.check(one, field.type, (*path, key))
        return checked


def _may_be_empty(field: inspect.Field) -> bool:
    """Whether ``key:`` with nothing after it means the default: in sections, lists and what may be null."""
    if field.required:
        return True
    kind = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
    return isinstance(kind, inspect.StructType | inspect.VarTupleType | inspect.DictType | inspect.UnionType)


def _problem(value: Any, kind: inspect.Type) -> str | None:
    """What was expected of a scalar instead of ``value``; ``None`` when it is right."""
    match kind:
        case inspect.StrType() if isinstance(value, str):
            right = (kind.min_length or 0) <= len(value) <= (kind.max_length or len(value)) and (
                kind.pattern is None or re.fullmatch(kind.pattern, value) is not None
            )
        case inspect.BoolType():
            right = isinstance(value, bool)
        case inspect.IntType():
            right = isinstance(value, int) and not isinstance(value, bool) and _in_range(value, kind)
        case inspect.FloatType():
            right = isinstance(value, int | float) and not isinstance(value, bool) and _in_range(value, kind)
        case inspect.LiteralType():
            right = value in kind.values
        case _:
            right = False
    if right:
        return None
    hint = (
        suggestion(value, map(str, kind.values))
        if isinstance(kind, inspect.LiteralType) and isinstance(value, str)
        else ""
    )
    return _describe(kind, found=value) + hint


def _in_range(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    """Not-a-number is outside of every range, since each comparison with it fails."""
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _describe(kind: inspect.Type, *, found: Any = None) -> str:
    """A type in words, after "expected"."""
    match kind:
        case inspect.Metadata():
            return str((kind.extra_json_schema or {}).get("description", "")) or _describe(kind.type)
        case inspect.StrType():
            quotes = "" if found is None or isinstance(found, str | list | dict) else ", in quotes"
            return ("text of at least one character" if kind.min_length else "text") + quotes
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_range(kind)}"
        case inspect.FloatType():
            return f"a number{_range(kind)}"
        case inspect.LiteralType():
            return f"one of {', '.join(str(one) for one in kind.values)}"
        case inspect.VarTupleType():
            return f"a list{_of(kind.item_type)}"
        case inspect.DictType():
            return "a mapping of names to texts"
        case inspect.StructType():
            names = [field.name for field in kind.fields if field.required]
            return f"a mapping with {', '.join(names)}" if names else "a mapping"
    return "something else"


def _of(kind: inspect.Type) -> str:
    """What a list holds."""
    match kind:
        case inspect.StructType():
            return " of mappings"
        case inspect.LiteralType():
            return f" out of {', '.join(str(one) for one in kind.values)}"
    return " of texts" if isinstance(kind, inspect.StrType) else ""


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f" from {kind.ge:g}" if kind.ge is not None else f" above {kind.gt:g}" if kind.gt is not None else ""
    joint = " to" if kind.ge is not None else ", at most"
    high = f"{joint} {kind.le:g}" if kind.le is not None else f" and below {kind.lt:g}" if kind.lt is not None else ""
    return low + high
