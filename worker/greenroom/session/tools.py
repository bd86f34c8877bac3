"""Functions that the model may call: the schema from the signature, the arguments checked, the result as text."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints, overload

import msgspec

from greenroom.dialog.history import FunctionCall
from greenroom.errors import GreenroomError
from greenroom.providers.llm import ToolSchema

if TYPE_CHECKING:
    from greenroom.session.handle import SpeechHandle
    from greenroom.session.session import AgentSession

__all__ = ["FunctionTool", "RunContext", "StopResponse", "ToolError", "ToolResult", "function_tool"]


class ToolError(GreenroomError):
    """Raise it in a tool to tell the model what went wrong, in words of your own."""


class StopResponse(GreenroomError):  # LiveKit's name for it
    """Raise it in a tool or in ``on_user_turn_completed``: no reply is wanted."""

    def __init__(self) -> None:
        super().__init__("no reply is wanted")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a tool knows of the call it serves; a parameter of this type is filled in, and hidden from the model."""

    session: AgentSession
    speech_handle: SpeechHandle
    function_call: FunctionCall
    step: int

    @property
    def userdata(self) -> Any:
        return self.session.userdata

    async def wait_for_playout(self) -> None:
        """Until what the agent said in the step that called this tool has been heard."""
        await self.session.wait_for_step(self.speech_handle, self.step)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What goes back to the model. ``reply``: it is to go on speaking."""

    output: str
    is_error: bool = False
    reply: bool = True
    error: BaseException | None = None


class FunctionTool:
    """A function and its schema. Called like the function itself; bound to the instance when it is a method."""

    def __init__(self, function: Callable[..., Any], *, name: str = "", description: str = "") -> None:
        self._function = function
        self._name = name or function.__name__
        self._description = description
        self._instance: object | None = None
        self._context: str | None = None
        self._arguments: type[msgspec.Struct] | None = None
        self._schema: ToolSchema | None = None
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function

    def __get__(self, instance: object | None, owner: type) -> FunctionTool:
        if instance is None:
            return self
        bound = FunctionTool(self._function, name=self._name, description=self._description)
        bound._instance = instance  # the same class
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable()(*args, **kwargs)

    @property
    def name(self) -> str:
        return self._name

    def schema(self) -> ToolSchema:
        """As the model is told of it, with each request. Raises ``TypeError`` for a signature without a JSON schema."""
        if self._schema is None:
            self._schema = self._make_schema()
        return self._schema

    def _make_schema(self) -> ToolSchema:
        struct = self._arguments_type()
        _, parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
        parameters = parts.pop(struct.__name__)
        parameters.pop("title", None)
        summary, described = _docstring(self._function)
        for key, text in described.items():
            if key in parameters["properties"]:
                parameters["properties"][key].setdefault("description", text)
        if parts:
            parameters["$defs"] = parts
        return ToolSchema(self._name, self._description or summary, parameters)

    async def run(self, arguments: str, context: RunContext) -> ToolResult:
        """Run it once with the model's arguments. Never raises, except for cancellation."""
        struct = self._arguments_type()
        try:
            given = msgspec.json.decode(arguments or "{}", type=struct, strict=False)
        except msgspec.MsgspecError as error:
            return ToolResult(f"The arguments of {self._name} are wrong: {error}", is_error=True)
        named = {key: getattr(given, key) for key in struct.__struct_fields__}
        if self._context is not None:
            named[self._context] = context
        try:
            return _result(await self._invoke(named))
        except StopResponse:
            return ToolResult("", reply=False)
        except ToolError as error:
            return ToolResult(str(error), is_error=True, error=error)
        except Exception as error:  # noqa: BLE001  # the user's code: reported by the stage, told to the model
            return ToolResult("The tool failed with an internal error.", is_error=True, error=error)

    async def _invoke(self, named: dict[str, Any]) -> Any:
        function = self._callable()
        if inspect.iscoroutinefunction(self._function):
            return await function(**named)
        # Plain functions may block; the loop that carries the audio must not.
        result = await asyncio.to_thread(function, **named)
        return await result if inspect.isawaitable(result) else result

    def _callable(self) -> Callable[..., Any]:
        return self._function.__get__(self._instance) if self._instance is not None else self._function

    def _arguments_type(self) -> type[msgspec.Struct]:
        if self._arguments is not None:
            return self._arguments
        parameters = list(inspect.signature(self._function).parameters.values())
        if parameters and parameters[0].name == "self":
            parameters = parameters[1:]
        hints = get_type_hints(self._function, localns={"RunContext": RunContext}, include_extras=True)
        fields: list[Any] = []
        for parameter in parameters:
            hint = hints.get(parameter.name, str)
            if hint is RunContext:
                self._context = parameter.name
            elif parameter.default is inspect.Parameter.empty:
                fields.append((parameter.name, hint))
            else:
                fields.append((parameter.name, hint, parameter.default))
        self._arguments = msgspec.defstruct(f"{self._name}_arguments", fields, kw_only=True)
        return self._arguments


@overload
def function_tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def function_tool(*, name: str = "", description: str = "") -> Callable[[Callable[..., Any]], FunctionTool]: ...
def function_tool(
    function: Callable[..., Any] | None = None, /, *, name: str = "", description: str = ""
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a function, or a method of an ``Agent``, a tool that the model may call.

    The schema comes from the annotations, the descriptions from the docstring (its summary, and an ``Args:`` section).
    A parameter annotated ``RunContext`` is filled in. What it returns is told to the model; ``None`` ends the reply.
    """
    if function is not None:
        return FunctionTool(function, name=name, description=description)
    return lambda function: FunctionTool(function, name=name, description=description)


def find_tools(owner: object, more: Sequence[FunctionTool] = ()) -> dict[str, FunctionTool]:
    """The tools among an object's methods, and ``more``, by name. Raises ``ValueError`` for a name used twice."""
    found: dict[str, FunctionTool] = {}
    methods = [
        getattr(owner, key)
        for key in dict.fromkeys(key for cls in type(owner).__mro__ for key in vars(cls))
        if isinstance(inspect.getattr_static(owner, key), FunctionTool)
    ]
    for tool in (*methods, *more):
        if tool.name in found:
            raise ValueError(f"two tools are named {tool.name!r}")
        found[tool.name] = tool
    return found


def _result(value: Any) -> ToolResult:
    if value is None:
        return ToolResult("", reply=False)
    if isinstance(value, str):
        return ToolResult(value)
    try:
        return ToolResult(msgspec.json.encode(value).decode())
    except (TypeError, msgspec.MsgspecError):
        return ToolResult(json.dumps(str(value)))


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
