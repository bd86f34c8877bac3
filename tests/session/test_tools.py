"""Tools as the model sees them, and what becomes of its calls."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import enum
import functools
import json
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast

import msgspec
import pytest

from greenroom.dialog.history import FunctionCall
from greenroom.session.agent import Agent
from greenroom.session.tools import (
    FunctionTool,
    RunContext,
    StopResponse,
    ToolError,
    ToolResult,
    find_tools,
    function_tool,
)
from greenroom.testing.virtual_time import virtual_time

CONTEXT = RunContext(cast("Any", None), cast("Any", None), FunctionCall("f", "c", "n", "{}"), 1)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Place:
    """Where."""

    city: str
    floor: int = 0


class Point(NamedTuple):
    x: float
    y: float


class Window(TypedDict):
    width: int


class Described:
    def __init__(self, description: str) -> None:
        self.description = description


async def call(tool: FunctionTool, **arguments: Any) -> ToolResult:
    return await tool.run(json.dumps(arguments), CONTEXT)


async def returned(tool: FunctionTool, **arguments: Any) -> str:
    result = await call(tool, **arguments)
    assert result.error is None, result.error
    assert not result.is_error, result.output
    return result.output


# --- the schema -----------------------------------------------------------------------------------------------------


@function_tool
async def order(
    context: RunContext,
    size: int,
    colour: Colour,
    kind: Literal["shirt", "sock"],
    to: Place,
    at: Point,
    windows: list[Window],
    note: str | None = None,
    rush: bool = False,
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1,
    tags: list[str] = [],  # noqa: B006  # what users write
    by: Annotated[str, Described("who orders")] = "me",
    when: Annotated[str, "a day of the week"] = "Monday",
) -> str:
    """Order something.

    It is sent at once.

    Args:
        size: in centimetres,
            rounded up
        colour (Colour): what it is dyed in

    Returns:
        nothing: of use
    """
    values = (size, colour, kind, to, at, windows, note, rush, count, tags, by, when)
    return " ".join(str(value) for value in values)


def test_the_schema_is_read_from_the_signature() -> None:
    schema = order.schema()
    assert (schema.name, schema.description) == ("order", "Order something.\n\nIt is sent at once.")
    parameters = schema.parameters
    assert parameters["required"] == ["size", "colour", "kind", "to", "at", "windows"]
    properties = parameters["properties"]
    assert "context" not in properties
    assert properties["size"] == {"type": "integer", "description": "in centimetres, rounded up"}
    assert properties["colour"] == {"$ref": "#/$defs/Colour", "description": "what it is dyed in"}
    assert properties["kind"] == {"enum": ["shirt", "sock"]}
    assert properties["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert properties["rush"] == {"type": "boolean", "default": False}
    assert properties["count"] == {"type": "integer", "minimum": 1, "maximum": 9, "default": 1}
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}, "default": []}
    assert properties["by"] == {"type": "string", "description": "who orders", "default": "me"}
    assert properties["when"]["description"] == "a day of the week"
    assert parameters["$defs"]["Colour"]["enum"] == ["blue", "red"]
    assert parameters["$defs"]["Place"]["required"] == ["city"]
    json.dumps(parameters)
    assert order.schema() is schema


async def test_arguments_become_what_the_annotations_say() -> None:
    given = {"size": "12", "colour": "red", "kind": "sock", "to": {"city": "Ghent"}, "at": [1, 2], "windows": []}
    assert await returned(order, **given) == (
        "12 Colour.RED sock Place(city='Ghent', floor=0) Point(x=1.0, y=2.0) [] None False 1 [] me Monday"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "Object missing required field `size`"),
        ("[]", "Expected `object`, got `array`"),
        ("{", "Input data was truncated"),
        ('{"size": "big"}', "Expected `int`, got `str` - at `$.size`"),
        ('{"size": 1, "colour": "green"}', "Invalid enum value 'green' - at `$.colour`"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(given: str, said: str) -> None:
    result = await order.run(given, CONTEXT)
    assert result.output == f"The arguments of order are wrong: {said}"
    assert result.is_error
    assert result.reply
    assert result.error is None


async def test_a_default_of_any_kind_is_pythons_own() -> None:
    nothing = object()

    @function_tool
    def ask(question: str = "why", of: Any = nothing, many=2, known: list[str] = ["a"]) -> str:  # type: ignore[no-untyped-def]  # noqa: B006
        assert of is nothing
        known.append("b")
        return f"{question} {many + 1} {len(known)}"

    properties = ask.schema().parameters["properties"]
    assert properties["of"] == {}
    assert properties["many"] == {"type": "integer", "default": 2}
    assert await returned(ask) == "why 3 2"
    assert await returned(ask) == "why 3 3"  # as when it is called without the tool


def test_a_function_without_annotations_takes_texts() -> None:
    @function_tool
    def note(what):  # type: ignore[no-untyped-def]
        pass

    assert note.schema().parameters["properties"] == {"what": {"type": "string"}}


def test_a_function_that_takes_nothing_has_a_schema() -> None:
    @function_tool(name="hang_up", description="End the call.")
    def close() -> None:
        """Not for models."""

    schema = close.schema()
    assert (schema.name, schema.description) == ("hang_up", "End the call.")
    assert schema.parameters == {"type": "object", "properties": {}, "required": []}


def various(*names: str) -> None: ...
def named(**names: str) -> None: ...
def positional(name: str, /) -> None: ...


@pytest.mark.parametrize(("function", "shown"), [(various, "*names"), (named, "**names"), (positional, "name")])
def test_what_cannot_be_given_by_name_is_refused_at_once(function: Callable[..., None], shown: str) -> None:
    with pytest.raises(TypeError, match=r"expected only parameters that can be given by name") as caught:
        function_tool(function)
    assert shown in str(caught.value)


def test_what_has_no_schema_is_refused_when_the_agent_is_made() -> None:
    @function_tool
    def send(to: Described) -> None: ...

    with pytest.raises(TypeError, match=r"tool 'send': its parameters have no JSON schema"):
        Agent(tools=[send])

    @function_tool
    def fetch(from_: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match=r"tool 'fetch': name 'Missing' is not defined in an annotation"):
        Agent(tools=[fetch])


def test_functions_of_every_kind_can_be_tools() -> None:
    class Desk:
        def __init__(self, name: str) -> None:
            self.name = name

        def lookup(self, key: str) -> str:
            """Look it up."""
            return f"{self.name}:{key}"

        def __call__(self, key: str) -> str:
            return f"called:{key}"

    desk = Desk("front")

    def join(first: str, second: str) -> str:
        return first + second

    bound = function_tool(desk.lookup)
    partial = function_tool(functools.partial(join, "a"), name="join")
    called = function_tool(desk, name="desk")
    for tool, key in ((bound, "key"), (partial, "second"), (called, "key")):
        assert list(tool.schema().parameters["properties"]) == [key]
    assert bound(key="x") == "front:x"
    assert partial("b") == "ab"
    assert called("x") == "called:x"
    with pytest.raises(TypeError, match=r"has no name; expected function_tool"):
        function_tool(lambda: None)


async def test_methods_and_static_methods() -> None:
    class Desk(Agent):
        @function_tool
        async def hello(this, name: str) -> str:  # noqa: N805  # whatever it is called
            """Say hello."""
            return f"{type(this).__name__} {name}"

        @staticmethod
        @function_tool
        def inner(name: str) -> str:
            return f"inner {name}"

        @function_tool
        @staticmethod
        def outer(name: str) -> str:
            return f"outer {name}"

        hidden = order

    class Child(Desk):
        def inner(self) -> None: ...  # type: ignore[override]  # it hides the tool

    agent = Desk()
    tools = {tool.name: tool for tool in agent.tools}
    assert list(tools) == ["hello", "inner", "outer", "order"]
    for name in ("hello", "inner", "outer"):
        assert list(tools[name].schema().parameters["properties"]) == ["name"]
        assert await returned(tools[name], name="Ada") == f"{'Desk' if name == 'hello' else name} Ada"
    assert await agent.hello("Bob") == "Desk Bob"
    assert agent.inner("x") == "inner x"
    assert [tool.name for tool in Child().tools] == ["hello", "outer", "order"]
    assert order.schema().parameters["required"][0] == "size"


def test_class_methods_are_refused() -> None:
    with pytest.raises(TypeError, match="class method"):
        function_tool(cast("Any", classmethod(lambda cls: None)))

    class Desk(Agent):
        @classmethod
        @function_tool
        def hello(cls) -> str:
            return "hello"

    with pytest.raises(TypeError, match=r"tool 'hello' is a class method"):
        Desk()


def test_names_are_unique_and_tools_are_tools() -> None:
    with pytest.raises(ValueError, match="two tools are named 'order'"):
        Agent(tools=[order, order])
    with pytest.raises(TypeError, match="expected a function with @function_tool"):
        Agent(tools=[cast("FunctionTool", test_names_are_unique_and_tools_are_tools)])
    assert list(find_tools(None, [order])) == ["order"]


# --- policies -------------------------------------------------------------------------------------------------------


def test_policies_are_carried() -> None:
    assert (order.on_interrupt, order.on_duplicate) == ("finish", "allow")

    class Desk(Agent):
        @function_tool(on_interrupt="tell", on_duplicate="replace")
        async def search(self, what: str) -> str:
            return what

    (search,) = Desk().tools
    assert (search.on_interrupt, search.on_duplicate) == ("tell", "replace")
    other = search.renamed("desk_search")
    assert (other.name, other.schema().name, search.schema().name) == ("desk_search", "desk_search", "search")
    assert (other.on_interrupt, other.on_duplicate) == ("tell", "replace")
    with pytest.raises(ValueError, match="on_interrupt is 'stop'; expected one of finish, cancel, tell"):
        function_tool(order, name="x", on_interrupt=cast("Any", "stop"))
    with pytest.raises(ValueError, match="on_duplicate is 'no'; expected one of allow, reject, replace"):
        function_tool(order, name="x", on_duplicate=cast("Any", "no"))


# --- what it returns ------------------------------------------------------------------------------------------------


class Other(Agent):
    """Who takes over."""


@pytest.mark.parametrize(
    ("value", "output", "reply"),
    [
        ("text", "text", True),
        ("", "", True),
        (None, "", False),
        (3, "3", True),
        ({"a": [1, Place("Ghent")]}, '{"a":[1,{"city":"Ghent","floor":0}]}', True),
        (("a", 1), '["a",1]', True),
        (Described("x"), None, True),
    ],
)
async def test_what_it_returns_is_told_as_text(value: Any, output: str | None, reply: bool) -> None:
    @function_tool
    async def give() -> Any:
        return value

    result = await call(give)
    assert (result.is_error, result.reply, result.agent, result.error) == (False, reply, None, None)
    assert result.output == output if output is not None else "Described object" in result.output


@pytest.mark.parametrize(
    ("told", "output", "reply"), [(None, "", False), ("Welcome.", "Welcome.", True), ({}, "{}", True)]
)
async def test_an_agent_takes_over(told: Any, output: str, reply: bool) -> None:
    other = Other()

    @function_tool
    async def transfer() -> Any:
        return other if told is None else (other, told)

    result = await call(transfer)
    assert result.agent is other
    assert (result.output, result.reply, result.is_error) == (output, reply, False)


@pytest.mark.parametrize("value", [("Welcome.", Other()), (Other(), Other()), (Other(), 1, 2)])
async def test_a_hand_over_that_is_none_fails(value: Any) -> None:
    @function_tool
    async def transfer() -> Any:
        return value

    result = await call(transfer)
    assert result.is_error
    assert result.agent is None
    assert "expected (agent, result)" in str(result.error)


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "thread"])
@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ToolError("No tables."), "No tables."),
        (ValueError("secret"), "The tool failed with an internal error."),
        (StopIteration("end"), "The tool failed with an internal error."),
        (SystemExit(2), "The tool failed with an internal error."),
        (TimeoutError(), "The tool failed with an internal error."),
        (asyncio.CancelledError(), "The tool failed with an internal error."),
        (asyncio.InvalidStateError(), "The tool failed with an internal error."),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_tool_that_raises_is_told_of(error: BaseException, output: str, threaded: bool) -> None:
    def fail() -> None:
        raise error

    async def fail_later() -> None:
        raise error

    async with asyncio.timeout(5):
        result = await call(function_tool(fail if threaded else fail_later))
    assert result.output == output
    assert result.is_error
    assert result.reply
    assert result.error is not None
    assert "secret" not in result.output


async def test_stop_response_ends_the_reply() -> None:
    @function_tool
    def stop() -> None:
        raise StopResponse

    result = await call(stop)
    assert (result.output, result.reply, result.is_error, result.error) == ("", False, False, None)


async def test_a_call_that_is_cancelled_raises() -> None:
    began = asyncio.Event()

    @function_tool
    async def wait() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(wait))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- threads --------------------------------------------------------------------------------------------------------


async def test_plain_functions_run_in_threads_with_their_context() -> None:
    speaker = contextvars.ContextVar[str]("speaker")
    speaker.set("Ada")

    @function_tool
    def who() -> str:
        assert threading.current_thread().daemon
        return f"{speaker.get()} {threading.current_thread() is threading.main_thread()}"

    assert await returned(who) == "Ada False"


async def test_a_thread_that_hangs_stops_neither_its_task_nor_other_calls() -> None:
    release, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @function_tool
    def hang() -> str:
        loop.call_soon_threadsafe(began.set)
        release.wait(30)
        return "late"

    @function_tool
    def quick() -> str:
        return "quick"

    tasks = [asyncio.create_task(call(hang)) for _ in range(40)]  # more than the loop's own executor has threads
    await began.wait()
    try:
        assert await returned(quick) == "quick"
        assert await asyncio.to_thread(lambda: "free") == "free"
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    finally:
        release.set()


async def test_a_plain_function_may_return_something_to_await() -> None:
    async def later() -> str:
        return "later"

    @function_tool
    def soon() -> Any:
        return later()

    assert await returned(soon) == "later"


@virtual_time
async def test_threads_take_no_virtual_time() -> None:
    @function_tool
    def work() -> str:
        return "done"

    assert await returned(work) == "done"
    assert asyncio.get_running_loop().time() == 0


# --- raw schemas ----------------------------------------------------------------------------------------------------

RAW = {
    "type": "function",
    "name": "get_weather",
    "description": "Get weather for a given location.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "City and country"}},
        "required": ["location"],
        "additionalProperties": False,
    },
}


async def test_a_raw_schema_is_shown_as_it_is_and_gives_one_dict() -> None:
    @function_tool(raw_schema=RAW, on_interrupt="cancel")
    async def weather(raw_arguments: dict[str, object], context: RunContext) -> str:
        assert context is CONTEXT
        return f"The weather of {raw_arguments['location']} is fine."

    assert weather.name == "get_weather"
    assert weather.on_interrupt == "cancel"
    schema = weather.schema()
    assert schema.description == "Get weather for a given location."
    assert schema.parameters == RAW["parameters"]
    assert await returned(weather, location="Ghent") == "The weather of Ghent is fine."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[]", "Expected `object`, got `array`"),
        ("nonsense", "JSON is malformed: invalid character (byte 4)"),
        ("{}", "Object missing required field `location`"),
    ],
)
async def test_raw_arguments_are_checked_as_far_as_they_can_be(given: str, said: str) -> None:
    @function_tool(raw_schema=RAW)
    def weather(arguments: dict[str, object]) -> str:
        raise AssertionError("must not be called")

    result = await weather.run(given, CONTEXT)
    assert result.output == f"The arguments of get_weather are wrong: {said}"


async def test_a_method_may_have_a_raw_schema() -> None:
    class Desk(Agent):
        @function_tool(raw_schema={"name": "look", "parameters": {"type": "object"}})
        async def anything(self, raw_arguments: dict[str, object]) -> str:
            """Look it up."""
            return f"{type(self).__name__} {raw_arguments}"

    (tool,) = Desk().tools
    assert tool.schema().description == "Look it up."
    assert tool.schema().parameters == {"type": "object", "properties": {}}
    assert await returned(tool, a=1) == "Desk {'a': 1}"
    assert await tool.run("", CONTEXT) == ToolResult("Desk {}")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"parameters": {"type": "object"}}, "has the name None"),
        ({"name": "x"}, "has no parameters"),
        ({"name": "x", "parameters": {"type": "array"}}, "expected a JSON schema of type 'object'"),
    ],
)
def test_a_raw_schema_that_is_none_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        function_tool(raw_schema=schema)(lambda raw_arguments: None)


def test_a_function_for_a_raw_schema_takes_one_dict() -> None:
    schema = {"name": "x", "parameters": {"type": "object"}}
    with pytest.raises(TypeError, match="takes a, b; expected one parameter"):
        function_tool(raw_schema=schema)(lambda a, b: None)
    with pytest.raises(TypeError, match="takes nothing; expected one parameter"):
        function_tool(raw_schema=schema)(lambda: None)


def test_tools_are_called_like_their_functions() -> None:
    assert function_tool(positional_or_not, name="p")("a", second="b") == "ab"
    assert repr(function_tool(positional_or_not)) == "<FunctionTool positional_or_not>"


def positional_or_not(first: str, second: str) -> str:
    return first + second
