"""Functions that the model may call: the schema from the signature, the arguments checked, the result as text."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import msgspec

from greenroom.dialog.history import FunctionCall
from greenroom.errors import GreenroomError
from greenroom.providers.llm import ToolSchema
from greenroom.session.threads import Threads
from greenroom.session.tool_schema import Parameters, RawSchema, Signature, WrongArguments, check_raw_schema

if TYPE_CHECKING:
    from greenroom.session.agent import Agent
    from greenroom.session.handle import SpeechHandle
    from greenroom.session.session import AgentSession

__all__ = [
    "FunctionTool",
    "OnDuplicate",
    "OnInterrupt",
    "RunContext",
    "StopResponse",
    "ToolError",
    "ToolResult",
    "function_tool",
]

OnInterrupt: TypeAlias = Literal["finish", "cancel", "tell"]
"""What becomes of a running call when its speech is interrupted. ``finish``: it runs on, and its result is in the
history for the next answer. ``cancel``: it is cancelled, and the model is told so. ``tell``: it runs on, and the agent
replies with the result when it is there."""
OnDuplicate: TypeAlias = Literal["allow", "reject", "replace"]
"""What becomes of a call while an earlier one of the same tool still runs. ``allow``: both run. ``reject``: the new one
does not, and the model is told so. ``replace``: the earlier one is cancelled."""


_threads = Threads()


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
        await self.speech_handle.wait_for_step(self.step)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What goes back to the model. ``reply``: it is to go on speaking; ``agent``: who takes the conversation over."""

    output: str
    is_error: bool = False
    reply: bool = True
    error: BaseException | None = None
    agent: Agent | None = None


class FunctionTool:
    """A function and its schema. Called like the function itself; bound to the instance when it is a method."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        on_interrupt: OnInterrupt = "finish",
        on_duplicate: OnDuplicate = "allow",
        raw_schema: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises ``TypeError`` for a signature, and for a raw schema, that no model could be told of."""
        if isinstance(function, classmethod):
            raise TypeError(
                "function_tool() was given a class method; expected a function, a method or a static method"
            )
        self._static = isinstance(function, staticmethod)
        self._function = function.__func__ if isinstance(function, staticmethod) else function
        self._name = name or (check_raw_schema(raw_schema) if raw_schema is not None else _name(self._function))
        self._description = description
        self._on_interrupt: OnInterrupt = _one_of("on_interrupt", on_interrupt, ("finish", "cancel", "tell"))
        self._on_duplicate: OnDuplicate = _one_of("on_duplicate", on_duplicate, ("allow", "reject", "replace"))
        self._raw_schema = raw_schema
        self._instance: object | None = None
        self._method = not self._static and _first_parameter(self._function) == "self"
        self._parameters = self._read_signature()
        self._schema: ToolSchema | None = None
        self.__doc__ = getattr(self._function, "__doc__", None)
        self.__name__ = self._name
        self.__wrapped__ = self._function

    def __set_name__(self, owner: type, name: str) -> None:
        """Defined in a class it is a method, whatever it calls its first parameter."""
        place = getattr(self._function, "__qualname__", "").rpartition(".")[0]
        if not self._static and place == owner.__qualname__:
            self._method = True
            self._parameters = self._read_signature()

    def __get__(self, instance: object | None, owner: type) -> FunctionTool:
        return self if instance is None or not self._method else self._changed(_instance=instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable()(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<FunctionTool {self._name}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def on_interrupt(self) -> OnInterrupt:
        return self._on_interrupt

    @property
    def on_duplicate(self) -> OnDuplicate:
        return self._on_duplicate

    def schema(self) -> ToolSchema:
        """As the model is told of it, with each request. Raises ``TypeError`` for a signature without a JSON schema."""
        if self._schema is None:
            self._schema = ToolSchema(
                self._name, self._description or self._parameters.summary, self._parameters.schema()
            )
        return self._schema

    def renamed(self, name: str) -> FunctionTool:
        """The same tool under another name."""
        return self._changed(_name=name, __name__=name, _schema=None)

    async def run(self, arguments: str, context: RunContext) -> ToolResult:
        """Run it once with the model's arguments. Never raises, except when this very task is cancelled."""
        try:
            named = self._parameters.read(arguments)
        except WrongArguments as error:
            return ToolResult(f"The arguments of {self._name} are wrong: {error}", is_error=True)
        if self._parameters.context:
            named[self._parameters.context] = context
        try:
            return _result(await self._invoke(named))
        except StopResponse:
            return ToolResult("", reply=False)
        except ToolError as error:
            return ToolResult(str(error), is_error=True, error=error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _failed(error)  # not this call was cancelled, but something that the tool had waited for
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's code: reported by the stage, told to the model
            return _failed(error)

    async def _invoke(self, named: dict[str, Any]) -> Any:
        function = self._callable()
        if inspect.iscoroutinefunction(function):
            return await function(**named)
        # Plain functions may block; the loop that carries the audio must not.
        call = functools.partial(contextvars.copy_context().run, function, **named)
        result = await asyncio.get_running_loop().run_in_executor(_threads, call)
        return await result if inspect.isawaitable(result) else result

    def _callable(self) -> Callable[..., Any]:
        if self._instance is None:
            return self._function
        bound: Callable[..., Any] = self._function.__get__(self._instance)
        return bound

    def _changed(self, **attributes: Any) -> FunctionTool:
        other = copy.copy(self)
        other.__dict__.update(attributes)
        return other

    def _read_signature(self) -> Parameters:
        if self._raw_schema is not None:
            return RawSchema(self._function, self._raw_schema, name=self._name, method=self._method, fill=RunContext)
        return Signature(self._function, name=self._name, method=self._method, fill=RunContext)


@overload
def function_tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def function_tool(
    function: Callable[..., Any],
    /,
    *,
    name: str = "",
    description: str = "",
    on_interrupt: OnInterrupt = "finish",
    on_duplicate: OnDuplicate = "allow",
    raw_schema: Mapping[str, Any] | None = None,
) -> FunctionTool: ...
@overload
def function_tool(
    *,
    name: str = "",
    description: str = "",
    on_interrupt: OnInterrupt = "finish",
    on_duplicate: OnDuplicate = "allow",
    raw_schema: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def function_tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    on_interrupt: OnInterrupt = "finish",
    on_duplicate: OnDuplicate = "allow",
    raw_schema: Mapping[str, Any] | None = None,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a function, or a method of an ``Agent``, a tool that the model may call.

    The schema comes from the annotations, the descriptions from the docstring (its summary, and an ``Args:`` section);
    with ``raw_schema`` (``name``, ``description``, ``parameters``) it is that one, and the function takes the decoded
    arguments as one ``dict``. A parameter annotated ``RunContext`` is filled in. What it returns is told to the model;
    ``None`` ends the reply; an ``Agent``, or a tuple of an ``Agent`` and a result, hands the conversation over.
    """
    make = functools.partial(
        FunctionTool,
        name=name,
        description=description,
        on_interrupt=on_interrupt,
        on_duplicate=on_duplicate,
        raw_schema=raw_schema,
    )
    return make(function) if function is not None else make


def find_tools(owner: object, more: Sequence[FunctionTool] = ()) -> dict[str, FunctionTool]:
    """The tools among an object's methods, and ``more``, by name, with their schemas made.

    Raises ``ValueError`` for a name used twice, ``TypeError`` for what is no tool and for one without a schema.
    """
    found: dict[str, FunctionTool] = {}
    for tool in (*_methods(owner), *more):
        if not isinstance(tool, FunctionTool):
            raise TypeError(f"{tool!r} is no tool; expected a function with @function_tool")
        if tool.name in found:
            raise ValueError(f"two tools are named {tool.name!r}")
        tool.schema()  # a mistake is told here, not in the middle of a call
        found[tool.name] = tool
    return found


def _methods(owner: object) -> Iterator[FunctionTool]:
    for key in dict.fromkeys(key for cls in type(owner).__mro__ for key in vars(cls)):
        attribute = inspect.getattr_static(owner, key)
        inside = attribute.__func__ if isinstance(attribute, staticmethod | classmethod) else attribute
        if isinstance(inside, FunctionTool):
            if isinstance(attribute, classmethod):
                raise TypeError(f"tool {inside.name!r} is a class method; expected a method or a static method")
            yield getattr(owner, key)


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    if not name or name == "<lambda>":
        raise TypeError(f"{function!r} has no name; expected function_tool(..., name='...')")
    return str(name)


def _first_parameter(function: Callable[..., Any]) -> str:
    return next(iter(inspect.signature(function).parameters), "") if inspect.isfunction(function) else ""


def _one_of(what: str, value: Any, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; expected one of {', '.join(known)}")
    return value


def _failed(error: BaseException) -> ToolResult:
    return ToolResult("The tool failed with an internal error.", is_error=True, error=error)


def _result(value: Any) -> ToolResult:
    from greenroom.session.agent import Agent  # which imports this module

    if isinstance(value, Agent):
        return ToolResult("", reply=False, agent=value)
    if isinstance(value, tuple) and any(isinstance(part, Agent) for part in value):
        if len(value) != 2 or not isinstance(value[0], Agent) or isinstance(value[1], Agent):
            raise TypeError("a tool returned a tuple with an agent in it; expected (agent, result)")
        told = _result(value[1])
        return ToolResult(told.output, reply=told.reply, agent=value[0])
    if value is None:
        return ToolResult("", reply=False)
    if isinstance(value, str):
        return ToolResult(value)
    try:
        return ToolResult(msgspec.json.encode(value).decode())
    except (TypeError, msgspec.MsgspecError):
        return ToolResult(json.dumps(str(value)))
