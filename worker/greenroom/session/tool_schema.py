"""What a tool takes: its JSON schema for the model, and what the model sends checked and made into Python's arguments.

``Signature`` reads both from a Python function, ``RawSchema`` takes a schema as it is.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from greenroom.errors import GreenroomError

__all__ = ["Parameters", "RawSchema", "Signature", "WrongArguments", "check_raw_schema"]

_Kind = inspect.Parameter
_UNTYPED = (bool, int, float, str)
"""Types that a parameter without an annotation is taken to have when its default has one of them; else ``str``."""


class WrongArguments(GreenroomError):
    """What the model sent does not fit the schema; the message says where and how."""


class Parameters(ABC):
    """What a tool takes. ``context``: the parameter that the caller fills in, hidden from the model; "" for none."""

    context: str = ""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """A JSON schema of type ``object``. Raises ``TypeError`` for what has none."""

    @abstractmethod
    def read(self, arguments: str) -> dict[str, Any]:
        """The keyword arguments in a model's JSON text. Raises ``WrongArguments``."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What the tool does, in its author's words."""


class Signature(Parameters):
    """A function's own parameters: annotations are the types, the docstring describes them.

    ``method``: the first parameter is the instance. ``fill``: the type whose parameter the caller fills in. What can be
    seen at once is checked at once: raises ``TypeError``. Annotations are read at the first use, when the names in them
    exist.
    """

    def __init__(self, function: Callable[..., Any], *, name: str, method: bool, fill: type[Any]) -> None:
        self._function = function
        self._name = name
        self._fill = fill
        self._struct: type[msgspec.Struct] | None = None
        self._notes: dict[str, str] = {}
        self._defaults: dict[str, Any] = {}
        parameters = list(inspect.signature(function).parameters.values())
        self._parameters = parameters[1:] if method else parameters
        for parameter in self._parameters:
            if parameter.kind not in (_Kind.POSITIONAL_OR_KEYWORD, _Kind.KEYWORD_ONLY):
                raise TypeError(
                    f"tool {name!r}: {parameter} in its signature; expected only parameters that can be given by name, "
                    "or function_tool(raw_schema=...)"
                )
        self._summary, self._described = _docstring(function)

    @property
    def summary(self) -> str:
        return self._summary

    def schema(self) -> dict[str, Any]:
        struct = self._arguments()
        _, parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
        schema: dict[str, Any] = parts.pop(struct.__name__)
        schema.pop("title", None)
        for key, described in schema["properties"].items():
            if note := self._described.get(key) or self._notes.get(key):
                described.setdefault("description", note)
            if key in self._defaults:
                described["default"] = self._defaults[key]
        if parts:
            schema["$defs"] = parts
        return schema

    def read(self, arguments: str) -> dict[str, Any]:
        struct = self._arguments()
        try:
            given = msgspec.json.decode(arguments or "{}", type=struct, strict=False)
        except msgspec.MsgspecError as error:
            raise WrongArguments(str(error)) from None
        values = {key: getattr(given, key) for key in struct.__struct_fields__}
        # What the model left out is Python's own default, whatever kind of object that is.
        return {key: value for key, value in values.items() if value is not msgspec.UNSET}

    def _arguments(self) -> type[msgspec.Struct]:
        """The parameters as a struct; those with a default may be absent. Raises ``TypeError``."""
        if self._struct is None:
            hints = self._hints()
            fields: list[Any] = []
            for parameter in self._parameters:
                hint = hints.get(parameter.name, _untyped(parameter))
                if hint is self._fill:
                    self.context = parameter.name
                    continue
                if note := _note(hint):
                    self._notes[parameter.name] = note
                if parameter.default is _Kind.empty:
                    fields.append((parameter.name, hint))
                    continue
                fields.append((parameter.name, Union[hint, msgspec.UnsetType], msgspec.UNSET))  # noqa: UP007  # at run time
                if _is_json(parameter.default):
                    self._defaults[parameter.name] = msgspec.to_builtins(parameter.default)
            try:
                struct = msgspec.defstruct(f"{self._name}_arguments", fields, kw_only=True)
                msgspec.json.schema(struct)
                msgspec.json.Decoder(struct)
            except TypeError as error:
                raise TypeError(f"tool {self._name!r}: its parameters have no JSON schema: {error}") from None
            self._struct = struct
        return self._struct

    def _hints(self) -> dict[str, Any]:
        function = inspect.unwrap(self._function)
        while hasattr(function, "func"):  # a partial
            function = function.func
        if not inspect.isroutine(function):  # an object that can be called
            function = type(function).__call__
        try:
            # The fill type is often imported for the type checker alone.
            return get_type_hints(function, localns={self._fill.__name__: self._fill}, include_extras=True)
        except NameError as error:
            raise TypeError(
                f"tool {self._name!r}: {error} in an annotation; expected names that exist in its module at run time"
            ) from None


class RawSchema(Parameters):
    """A JSON schema as the model is shown it, for a function that takes the decoded arguments as one ``dict``.

    That they are an object with the required keys is checked here; the rest is the function's to judge.
    """

    def __init__(
        self, function: Callable[..., Any], schema: Mapping[str, Any], *, name: str, method: bool, fill: type[Any]
    ) -> None:
        self._schema = dict(schema["parameters"])
        self._schema.setdefault("properties", {})
        self._summary = str(schema.get("description") or "") or _docstring(function)[0]
        parameters = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
        for parameter in parameters:
            hint = parameter.annotation  # as it is, or as text where annotations are postponed
            if hint is fill or (isinstance(hint, str) and hint.rpartition(".")[2] == fill.__name__):
                self.context = parameter.name
        taken = [parameter.name for parameter in parameters if parameter.name != self.context]
        if len(taken) != 1:
            raise TypeError(
                f"tool {name!r}: a function with a raw schema takes {', '.join(taken) or 'nothing'}; expected one "
                f"parameter for the decoded arguments, such as raw_arguments: dict, and a {fill.__name__} if it likes"
            )
        self._parameter = taken[0]

    @property
    def summary(self) -> str:
        return self._summary

    def schema(self) -> dict[str, Any]:
        return self._schema

    def read(self, arguments: str) -> dict[str, Any]:
        try:
            given = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise WrongArguments(str(error)) from None
        missing = [key for key in self._schema.get("required", ()) if key not in given]
        if missing:
            raise WrongArguments(f"Object missing required field `{missing[0]}`")
        return {self._parameter: given}


def check_raw_schema(schema: Mapping[str, Any]) -> str:
    """The name in a raw schema. Raises ``TypeError`` that says what is wrong with it."""
    name, parameters = schema.get("name"), schema.get("parameters")
    if not isinstance(name, str) or not name:
        raise TypeError(f"a raw schema has the name {name!r}; expected a text such as 'get_weather'")
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise TypeError(f"tool {name!r}: its raw schema has no parameters; expected a JSON schema of type 'object'")
    return name


def _untyped(parameter: inspect.Parameter) -> Any:
    return type(parameter.default) if type(parameter.default) in _UNTYPED else str


def _note(hint: Any) -> str:
    """What an ``Annotated`` type says of itself: a plain text, or whatever has a ``description``, as pydantic's."""
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            note = extra if isinstance(extra, str) else getattr(extra, "description", None)
            if isinstance(note, str) and note:
                return note
    return ""


def _is_json(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return False
    return True


_ARGUMENT = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.+)$")


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The text before ``Args:``, and what that section says of each parameter (Google's style)."""
    text = inspect.getdoc(function) or ""
    head, _, tail = text.partition("\nArgs:\n")
    described: dict[str, str] = {}
    last = ""
    for line in tail.splitlines():
        if line and not line[0].isspace():
            break
        if match := _ARGUMENT.match(line):
            last = match[1]
            described[last] = match[2].strip()
        elif last and line.strip():
            described[last] += " " + line.strip()
    return head.strip(), described
