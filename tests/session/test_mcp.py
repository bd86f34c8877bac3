"""Tools of MCP servers: real servers of the official package, as programs and over HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from structlog.testing import capture_logs

from greenroom.dialog.history import FunctionCall, FunctionCallOutput
from greenroom.providers import ToolCall
from greenroom.session.agent import Agent
from greenroom.session.mcp import MCPServer, MCPServerError, MCPServerHTTP, MCPServerStdio
from greenroom.session.sources import OpenSource, ToolSource, ToolSources
from greenroom.session.tools import FunctionTool, RunContext, ToolError, ToolResult, function_tool
from greenroom.testing.providers import Answer
from greenroom.testing.virtual_time import virtual_time

from .servers import ListedServer
from .stage import scene

PROGRAM = str(Path(__file__).with_name("mcp_program.py"))
CONTEXT = RunContext(cast("Any", None), cast("Any", None), FunctionCall("f", "c", "n", "{}"), 1)
ERAS = pytest.mark.parametrize("era", ["", "--legacy"], ids=["modern", "legacy"])


class Listening:
    """Who is told, and whom the tests ask."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._told = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def tools_changed(self) -> None:
        self._wake()

    def report(self, error: BaseException, source: str, /) -> None:
        assert source == "mcp"
        self.errors.append(error)
        self._wake()

    async def until(self, right: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._told:
            await self._told.wait_for(right)

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._told:
                self._told.notify_all()

        task = asyncio.get_running_loop().create_task(wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Tools:
    """The tools of some servers, called as a session would."""

    def __init__(self, *servers: ToolSource) -> None:
        self.listening = Listening()
        self.sources = ToolSources(self.listening)
        self.servers = servers

    @property
    def errors(self) -> list[BaseException]:
        return self.listening.errors

    def names(self) -> list[str]:
        return [tool.name for tool in self.sources.tools()]

    def find(self, name: str) -> FunctionTool:
        return next(tool for tool in self.sources.tools() if tool.name == name)

    async def call(self, tool: str, arguments: str = "{}") -> ToolResult:
        return await self.find(tool).run(arguments, CONTEXT)

    async def said(self, tool: str, arguments: str = "{}") -> str:
        result = await self.call(tool, arguments)
        assert result.error is None, result
        return result.output

    async def have(self, *names: str) -> None:
        await self.listening.until(lambda: set(names) <= set(self.names()))


def children() -> set[psutil.Process]:
    """The programs below this process; other tests of the same run may have some of their own (a media server)."""
    return set(psutil.Process().children(recursive=True))


@asynccontextmanager
async def opened(*servers: ToolSource) -> AsyncIterator[Tools]:
    """Open, wait for each one's tools, close; nothing of it may be left."""
    before, programs = asyncio.all_tasks(), children()
    tools = Tools(*servers)
    tools.sources.use(servers)
    try:
        yield tools
    finally:
        await tools.sources.aclose()
        await asyncio.gather(*tools.listening._tasks)
    assert asyncio.all_tasks() == before
    assert children() <= programs


def program(era: str = "", **options: Any) -> MCPServerStdio:
    return MCPServerStdio(sys.executable, [PROGRAM, *filter(None, [era])], name="program", **options)


class Address:
    """A server over HTTP that can be ended and started again at the same address."""

    def __init__(self, era: str) -> None:
        self._era = era
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    def server(self, **options: Any) -> MCPServerHTTP:
        return MCPServerHTTP(f"http://127.0.0.1:{self.port}/mcp", name="address", **options)

    def start(self) -> None:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.port))
            listening.listen()  # connections are taken from now on, and served when the program is up
            self.port = listening.getsockname()[1]
            number = str(listening.fileno())
            command = [sys.executable, PROGRAM, "--socket", number, *filter(None, [self._era])]
            self._process = subprocess.Popen(command, pass_fds=[listening.fileno()])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def address(era: str = "") -> Iterator[Address]:
    served = Address(era)
    try:
        yield served
    finally:
        served.stop()


async def try_all(tools: Tools) -> None:
    """What any server must be able to do for us."""
    await tools.have("add", "greet")
    schema = tools.find("add").schema()
    assert schema.description == "Add two numbers."
    assert schema.parameters["required"] == ["a", "b"]
    assert await tools.said("add", '{"a": 2, "b": 3}') == "5"
    assert await tools.said("greet", '{"name": "Ada"}') == "Good day,\nAda"
    assert await tools.said("files_read_all") == "all"
    failed = await tools.call("fail")
    assert failed.is_error
    assert failed.reply
    assert failed.output.endswith("The printer is on fire.")
    assert isinstance(failed.error, ToolError)
    for wrong in ("[1]", "no json", '{"a": 1}'):
        refused = await tools.call("add", wrong)
        assert refused.is_error
        assert refused.output.startswith("The arguments of add are wrong: ")
    mistyped = await tools.call("add", '{"a": "one", "b": 2}')
    assert mistyped.is_error
    assert "a" in mistyped.output
    assert "grown" not in tools.names()
    await tools.said("grow")
    await tools.have("grown")
    assert await tools.said("grown") == "I was not here before."
    assert tools.errors == []


@ERAS
async def test_a_program(era: str) -> None:
    async with opened(program(era)) as tools:
        await try_all(tools)
        pid = int(await tools.said("pid"))
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


@ERAS
async def test_an_address(era: str) -> None:
    with address(era) as served:
        before = psutil.Process().num_fds()
        tools = Tools()
        server = served.server()
        tools.sources.use([server])
        await try_all(tools)
        await tools.sources.aclose()
        assert tools.names() == []
        assert psutil.Process().num_fds() <= before


@ERAS
async def test_a_program_that_dies_in_a_call_is_started_again(era: str) -> None:
    async with opened(program(era)) as tools:
        await tools.have("die")
        first = await tools.said("pid")
        died = await tools.call("die")
        assert died.is_error
        assert "was lost" in died.output
        # Still on offer; the call waits for it, and it is not a failure that anybody is told of.
        assert "pid" in tools.names()
        assert await tools.said("pid") != first
        assert tools.errors == []


@ERAS
async def test_a_server_that_is_restarted_loses_no_call(era: str) -> None:
    with address(era) as served:
        async with opened_beside(served.server()) as tools:
            await tools.have("pid")
            first = await tools.said("pid")
            served.stop()
            served.start()
            assert await said_in_the_end(tools, "pid") != first


@pytest.mark.parametrize("turns", [0, 3, 12])
async def test_closing_while_the_line_is_being_lost_closes(turns: int) -> None:
    with address() as served:
        async with opened_beside(served.server()) as tools:
            await tools.have("pid")
            served.stop()
            served.start()
            await tools.call("pid")
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await tools.sources.aclose()


async def said_in_the_end(tools: Tools, tool: str) -> str:
    """A call may be lost with the connection that it was made on, and then says so; the next one is not."""
    result = await tools.call(tool)
    if result.is_error:
        assert "was lost" in result.output
        result = await tools.call(tool)
    assert not result.is_error, result
    return result.output


@asynccontextmanager
async def opened_beside(*servers: MCPServer) -> AsyncIterator[Tools]:
    """``opened`` where servers are programs of the test itself."""
    tools = Tools()
    tools.sources.use(servers)
    try:
        yield tools
    finally:
        await tools.sources.aclose()


async def test_a_server_that_is_away_is_told_of_once_and_found_later() -> None:
    with address() as served:
        served.stop()
        async with opened_beside(served.server(timeout=10.0)) as tools:
            await tools.listening.until(lambda: bool(tools.errors))
            served.start()
            await tools.have("add")
            assert await tools.said("add", '{"a": 1, "b": 1}') == "2"
            (error,) = tools.errors
            assert isinstance(error, MCPServerError)
            assert str(error).startswith("MCP server address: ")


async def test_a_call_while_the_server_is_away_fails_in_time() -> None:
    with address() as served:
        async with opened_beside(served.server(timeout=1.0)) as tools:
            await tools.have("add")
            served.stop()
            await tools.call("pid")  # it may find out only now
            result = await tools.call("pid")
            assert result.output == "The service behind this tool cannot be reached at the moment."
            assert result.is_error


async def test_a_tool_that_hangs_is_given_up_and_told_so() -> None:
    async with opened(program(timeout=1.5)) as tools:
        await tools.have("hang")
        result = await tools.call("hang")
        assert result.output == "The tool did not answer within 1.5 seconds."
        assert await tools.said("has-stopped") == "yes"


async def test_a_call_that_is_cancelled_is_cancelled_over_there() -> None:
    async with opened(program()) as tools:
        await tools.have("hang")
        call = asyncio.create_task(tools.call("hang"))
        assert await tools.said("add", '{"a": 1, "b": 2}') == "3"  # while the other runs
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await tools.said("has-stopped") == "yes"


async def test_closing_during_a_call_ends_the_call() -> None:
    async with opened(program()) as tools:
        await tools.have("hang")
        call = asyncio.create_task(tools.call("hang"))
        await tools.said("pid")
        await tools.sources.aclose()
        result = await call
        assert result.is_error


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nonexistent/program"], "No such file or directory"),
        ([sys.executable, "-c", "import sys; sys.exit('no licence for this')"], "no licence for this"),
    ],
)
async def test_a_program_that_cannot_run_says_why(command: list[str], said: str) -> None:
    async with opened(MCPServerStdio(command[0], command[1:], name="broken")) as tools:
        await tools.listening.until(lambda: bool(tools.errors))
        assert said in str(tools.errors[0])
        assert tools.names() == []


async def test_closing_while_a_server_says_nothing_takes_no_time() -> None:
    silent = MCPServerStdio(sys.executable, ["-c", "import sys; sys.stdin.read()"], name="silent")
    async with opened(silent) as tools:
        assert tools.names() == []


async def test_a_refused_address_says_with_which_status() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    seen: list[bytes] = []
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    key = "a-key-of-a-service"
    described = MCPServerHTTP(f"http://127.0.0.1:{port}/mcp?key={key}", headers={"Authorization": f"Bearer {key}"})
    async with server, opened_beside(described) as tools:
        await tools.listening.until(lambda: bool(tools.errors))
        assert "HTTP 401 Unauthorized" in str(tools.errors[0])
    assert f"authorization: bearer {key}".encode() in seen[0].lower()
    assert key not in str(tools.errors[0])
    assert key not in repr(described)


async def test_only_what_is_allowed_and_only_the_environment_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_SECRET", "not for others")
    server = program(allowed_tools=["environment", "missing"], env={"CITY": "Ghent"})
    with capture_logs() as logs:
        async with opened(server) as tools:
            await tools.have("environment")
            assert tools.names() == ["environment"]
            assert await tools.said("environment", '{"name": "LIVEKIT_API_SECRET"}') == "not set"
            assert await tools.said("environment", '{"name": "CITY"}') == "Ghent"
    (lacking,) = [entry for entry in logs if entry["event"] == "MCP server lacks allowed tools"]
    assert lacking["missing"] == ["missing"]
    assert "Ghent" not in repr(server)


# --- names ----------------------------------------------------------------------------------------------------------


class Shelf(ToolSource):
    """A source that has what it is given."""

    def __init__(self, name: str, *tools: str) -> None:
        self.name = name
        self.has = [function_tool(lambda: name, name=tool) for tool in tools]
        self.stopped = asyncio.Event()

    def open(self, listener: object) -> OpenSource:
        return ShelfLine(self)


class ShelfLine(OpenSource):
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def tools(self) -> list[FunctionTool]:
        return self._shelf.has

    async def run(self) -> None:
        await self._shelf.stopped.wait()

    def stop(self) -> bool:
        self._shelf.stopped.set()
        return True


async def test_names_that_clash_are_made_longer_and_kept() -> None:
    late, files, mail = Shelf("late"), Shelf("files", "search", "open"), Shelf("mail", "search", "send mail")
    async with opened(late, files, mail) as tools:
        with capture_logs() as logs:
            assert tools.names() == ["search", "open", "mail_search", "send_mail"]
            assert tools.names() == ["search", "open", "mail_search", "send_mail"]
        assert [(entry["source"], entry["tool"], entry["name"]) for entry in logs] == [
            ("mail", "search", "mail_search"),
            ("mail", "send mail", "send_mail"),
        ]
        assert await tools.said("mail_search") == "mail"
        assert await tools.said("search") == "files"
        # A source that answers late takes nobody's name, although it stands before the others.
        late.has = Shelf("late", "search").has
        assert tools.names() == ["late_search", "search", "open", "mail_search", "send_mail"]
        # The agent's own tools come first, those of an agent that has just entered too.
        names = [tool.name for tool in tools.sources.tools({"search", "files_search"})]
        assert names == ["late_search", "files_search_2", "open", "mail_search", "send_mail"]


async def test_a_source_that_is_no_longer_used_is_closed() -> None:
    first, second = Shelf("first", "search"), Shelf("second", "search")
    async with opened(first) as tools:
        tools.sources.use([second])
        assert tools.names() == ["search"]
        assert await tools.said("search") == "second"
        await first.stopped.wait()
        assert not second.stopped.is_set()


async def test_a_source_that_fails_for_good_is_told_of() -> None:
    class Broken(ShelfLine):
        async def run(self) -> None:
            raise RuntimeError("a bug")

    class Source(Shelf):
        def open(self, listener: object) -> OpenSource:
            return Broken(self)

    told = asyncio.get_running_loop().create_future()

    class Told(Listening):
        def report(self, error: BaseException, source: str, /) -> None:
            told.set_result(str(error))

    sources = ToolSources(Told())
    with capture_logs() as logs:
        sources.use([Source("broken")])
        assert await told == "a bug"
    assert [entry["event"] for entry in logs] == ["tool source failed"]
    await sources.aclose()


# --- in a conversation ----------------------------------------------------------------------------------------------


async def test_the_model_calls_a_servers_tool() -> None:
    programs = children()
    server = ListedServer(sys.executable, [PROGRAM])
    answers = [Answer(calls=(ToolCall("c1", "add", '{"a": 2, "b": 3}'),)), "Five."]
    agent = Agent(instructions="Be brief.", mcp_servers=[server])
    async with scene(agent=agent, answers=answers) as s:
        assert "add" not in s.session.available_tools()  # nobody waits for it
        await server.listed.wait()
        spoken = asyncio.get_running_loop().create_future()
        s.session.on("speech_created", lambda event: spoken.set_result(event.speech_handle))
        s.session.receive_text("what is two and three")
        await (await spoken)
        assert "add" in [schema.name for schema in s.llm.tools[0]]
        assert [item.output for item in s.session.history if isinstance(item, FunctionCallOutput)] == ["5"]
        assert s.said()[-1] == ("assistant", "Five.")
    assert children() <= programs


async def test_a_server_that_is_down_ends_no_conversation() -> None:
    async with scene(answers=["Hello."], mcp_servers=[MCPServerStdio("/nonexistent/program", name="gone")]) as s:
        told = asyncio.get_running_loop().create_future()
        s.session.on("error", told.set_result)
        event = await told
        assert event.source == "mcp"
        assert str(event.error).startswith("MCP server gone: ")
        await s.session.generate_reply()
        assert s.said() == [("assistant", "Hello.")]


@virtual_time
async def test_an_agents_sources_come_and_go_with_it() -> None:
    class Desk(Agent):
        @function_tool
        async def search(self) -> str:
            return "desk"

    shared, first, second = Shelf("shared", "search"), Shelf("first", "open"), Shelf("second", "close")
    async with scene(agent=Agent(mcp_servers=[first]), mcp_servers=[shared]) as s:
        await s.until(1.0)
        assert list(s.session.available_tools()) == ["search", "open"]
        s.session.update_agent(Desk(mcp_servers=[second]))
        await s.until(2.0)
        tools = s.session.available_tools()
        assert list(tools) == ["search", "shared_search", "close"]
        assert await tools["search"].run("", CONTEXT) == ToolResult("desk")
        assert first.stopped.is_set()
        assert not shared.stopped.is_set()
    assert shared.stopped.is_set()
    assert second.stopped.is_set()


# --- what is written wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["tools.example.com/mcp", "ftp://tools.example.com", "http://", ""])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://"):
        MCPServerHTTP(url)


def test_a_timeout_must_be_one() -> None:
    with pytest.raises(ValueError, match="expected seconds above 0"):
        MCPServerStdio("program", timeout=0)


def test_names_come_from_where_servers_are() -> None:
    assert MCPServerHTTP("https://user:pass@tools.example.com/mcp").name == "tools.example.com"
    assert MCPServerStdio("/usr/bin/uvx", ["tools"]).name == "uvx"
    assert "pass" not in repr(MCPServerHTTP("https://user:pass@tools.example.com/mcp"))


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['mcp'] = None; import greenroom; greenroom.MCPServerHTTP"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert run.returncode == 1
    assert "pip install 'greenroom[mcp]'" in run.stderr.splitlines()[-1]


def test_a_session_without_servers_does_not_load_the_package() -> None:
    code = "import sys, greenroom.session.session; print([name for name in sys.modules if name.startswith('mcp')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_livekits_spelling_works() -> None:
    from greenroom import mcp

    assert mcp.MCPServerHTTP is MCPServerHTTP
