"""Reads a YAML file into ``Settings``, or says what is wrong with it: every mistake, each with its line and key.

What may not be imported here is asked of callables: which plugins exist and what options they take (``check_plugin``),
whether their models are what the settings want of them (``check_model``), and whether ``module:Class`` is an agent
(``check_agent``). ``greenroom check`` passes all; the daemon, which must not load plugins or the user's code, none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from greenroom.directories import run_dir, state_dir
from greenroom.errors import SettingsError
from greenroom.redaction import redact
from greenroom.settings import CLIPS, Settings
from greenroom.settings_shape import check_shape
from greenroom.wording import found, on_one_line, suggestion
from greenroom.yaml_document import BROKEN, Broken, Document, read, spell
from greenroom.yaml_document import Path as KeyPath

__all__ = ["SERVER_VARIABLES", "AgentCheck", "Demand", "InvalidSettings", "ModelCheck", "PluginCheck", "load"]

PluginCheck: TypeAlias = Callable[[str, str, Mapping[str, Any]], tuple[KeyPath, str] | None]
"""Given a kind (``vad``, ``stt``, ``llm``, ``tts``), a plugin's name and its options: what is wrong, and at which key
of the provider's mapping (``("plugin",)``, ``("rules", 2)``); ``None`` when nothing is."""

Demand: TypeAlias = Literal["shared", "realtime"]
"""What settings may want of a model: that all calls use one, or that it tells the user's turns."""

ModelCheck: TypeAlias = Callable[[str, str, Demand], str | None]
"""Given a kind, a plugin's name and what is wanted of its model: why it cannot be that, or ``None``."""

AgentCheck: TypeAlias = Callable[[str], str | None]
"""Given ``module:Class``: what is wrong with it, or ``None``."""

SERVER_VARIABLES = {"url": "LIVEKIT_URL", "api_key": "LIVEKIT_API_KEY", "api_secret": "LIVEKIT_API_SECRET"}
"""The keys of ``server`` that the environment fills when the file leaves them out."""

_EXPECTED_PATTERN = "expected a regular expression, as Python's re takes it"
SHORTEST_TOKEN = 16
"""Characters of ``worker.admin.token``."""
_KINDS = {"vad": "vad", "stt": "stt", "llm": "llm", "tts": "tts", "turn_detector": "turn"}
"""An agent's keys that name a model, and the kind of it."""
_SCHEMES = ("ws", "wss", "http", "https")
_REFERENCE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


class InvalidSettings(SettingsError):
    """The mistakes of one file, sorted by line. ``str`` is a line for each; ``line`` and ``key`` are the first's."""

    def __init__(self, mistakes: list[SettingsError]) -> None:
        self.mistakes = tuple(mistakes)
        first = mistakes[0]
        super().__init__(first.message, file=first.file, line=first.line, key=first.key)

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)


def load(
    path: str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    check_plugin: PluginCheck | None = None,
    check_model: ModelCheck | None = None,
    check_agent: AgentCheck | None = None,
) -> Settings:
    """The settings in the file at ``path``. Raises ``InvalidSettings``.

    ``environ`` (the process's own by default) fills ``${VARIABLES}``, what ``SERVER_VARIABLES`` name, and
    ``worker.run_dir`` and ``worker.state_dir``, which are absolute in the result. ``Settings.file`` is the absolute
    path.
    """
    variables = os.environ if environ is None else environ
    file = Path(path)
    document = read(_bytes(file), environ=variables)
    root = document.value
    if isinstance(root, dict):
        _fill_server(root, document, variables)
    shape = check_shape(document) if root is not BROKEN else BROKEN
    if isinstance(shape, dict):
        rules = _Rules(document, shape)
        rules.check(folder=file.absolute().parent, check_plugin=check_plugin, check_agent=check_agent)
        if check_model is not None:
            rules.check_models(check_model)
    if document.mistakes or isinstance(shape, Broken):
        raise _invalid(document, file)
    folder = file.absolute().parent
    worker = shape.setdefault("worker", {})
    worker["run_dir"] = str(_directory(worker.get("run_dir"), folder) or run_dir(variables))
    worker["state_dir"] = str(_directory(worker.get("state_dir"), folder) or state_dir(variables))
    return msgspec.convert({**shape, "file": str(file.absolute())}, Settings)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except IsADirectoryError:
        problem = "a folder; expected a YAML file"
    except FileNotFoundError:
        problem = "no such file; expected a YAML file"
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        problem = f"cannot be read ({reason}); expected a YAML file"
    raise InvalidSettings([SettingsError(problem, file=str(file))])


def _fill_server(root: dict[str, Any], document: Document, environ: Mapping[str, str]) -> None:
    """Take what ``server`` leaves out from the environment; note what is in neither."""
    server = root.setdefault("server", {})
    if server is None:
        server = root["server"] = {}
    if not isinstance(server, dict):
        return
    missing = {key: name for key, name in SERVER_VARIABLES.items() if server.get(key) is None and not environ.get(name)}
    for key, variable in SERVER_VARIABLES.items():
        if server.get(key) is None:
            server[key] = environ.get(variable) or BROKEN
    if len(missing) == len(SERVER_VARIABLES):
        names = ", ".join(missing.values())
        document.complain(
            ("server",), f"no url, api_key, api_secret; expected them here, or {names} in the environment"
        )
        return
    for key, variable in missing.items():
        document.complain(("server", key), f"missing; expected it here, or {variable} in the environment")


def _directory(written: str | None, folder: Path) -> Path | None:
    """A directory as the file names it: relative to the file's own folder."""
    return folder / Path(written).expanduser() if written else None


def _invalid(document: Document, file: Path) -> InvalidSettings:
    told = {(one.line, on_one_line(spell(one.path)), on_one_line(one.message)): None for one in document.mistakes}
    return InvalidSettings(
        [
            SettingsError(message, file=str(file), line=line, key=key)
            for line, key, message in sorted(told, key=lambda one: one[0])
        ]
    )


class _Rules:
    """What the models cannot say. ``shape``: what ``check_shape`` returned; what is ``BROKEN`` in it is passed over."""

    def __init__(self, document: Document, shape: dict[str, Any]) -> None:
        self._document = document
        self._server = shape.get("server")
        worker = shape.get("worker")
        self._journal = worker.get("journal") if isinstance(worker, dict) else None
        self._admin = worker.get("admin") if isinstance(worker, dict) else None
        host = worker.get("model_host") if isinstance(worker, dict) else None
        self._sharing = not (isinstance(host, dict) and host.get("enabled") is False)
        agents = shape.get("agents")
        self._agents = list(enumerate(agents)) if isinstance(agents, list) else []

    def check(self, *, folder: Path, check_plugin: PluginCheck | None, check_agent: AgentCheck | None) -> None:
        if isinstance(self._server, dict):
            self._url(self._server.get("url"))
        for index, agent in self._agents:
            if isinstance(agent, dict):
                path = ("agents", index)
                self._job_types(agent, path)
                self._brain(agent, path)
                self._reference(agent, path, check_agent)
                self._mcp(agent.get("mcp"), (*path, "mcp"))
                self._accept(agent.get("accept"), (*path, "accept"))
                self._chains(agent, path)
                self._background(agent.get("background"), (*path, "background"), folder)
                if check_plugin is not None:
                    self._providers(agent, path, check_plugin)
        self._names()
        if isinstance(self._journal, dict):
            self._patterns(self._journal.get("redact"), ("worker", "journal", "redact"))
        if isinstance(self._admin, dict):
            self._token(self._admin)

    def check_models(self, check_model: ModelCheck) -> None:
        """Whether each model with which nothing else is wrong is what is wanted of it."""
        wanted: list[tuple[Demand, str, str, KeyPath]] = []
        for path, agent in ((("agents", index), agent) for index, agent in self._agents if isinstance(agent, dict)):
            turns = agent.get("turns")
            for kind, provider, place in _models(agent, path):
                if any(one.path[: len(place)] == place for one in self._document.mistakes):
                    continue
                if provider.get("shared") is True and self._sharing:
                    wanted.append(("shared", kind, provider["plugin"], (*place, "shared")))
                if place[2:] == ("llm",) and isinstance(turns, dict) and turns.get("detection") == "realtime":
                    wanted.append(("realtime", kind, provider["plugin"], (*path, "turns", "detection")))
        for demand, kind, plugin, key in wanted:
            problem = check_model(kind, plugin, demand)
            if problem is not None:
                self._document.complain(key, redact(problem))

    def _url(self, url: Any) -> None:
        if not isinstance(url, str):
            return
        problem = _url_problem(url)
        if problem is not None:
            source = "" if self._document.written(("server", "url")) else "LIVEKIT_URL in the environment: "
            self._document.complain(
                ("server", "url"), f"{source}{problem}; expected ws://HOST, wss://HOST, http://HOST or https://HOST"
            )

    def _job_types(self, agent: dict[str, Any], path: KeyPath) -> None:
        kinds = agent.get("job_types", [])
        for i, kind in enumerate(kinds if isinstance(kinds, list) else []):
            if kind is not BROKEN and kind in kinds[:i]:
                self._document.complain((*path, "job_types", i), f"{kind} is written twice; expected it once")

    def _brain(self, agent: dict[str, Any], path: KeyPath) -> None:
        """An agent is a class, or can at least think; one that hears without a class needs to know when speech ends."""
        if agent.get("agent"):
            for key in ("instructions", "greeting"):
                if agent.get(key):
                    self._document.complain((*path, key), "not used beside agent; expected it in the agent's class")
            return
        if not agent.get("llm"):
            self._document.complain(
                path,
                "neither agent nor llm; expected agent: module:Class, or llm: {plugin: script} or another plugin",
            )
        turns = agent.get("turns")
        by_words = isinstance(turns, dict) and turns.get("detection") == "stt"
        if agent.get("stt") and not agent.get("vad") and not by_words:
            self._document.complain(
                (*path, "vad"), "missing; expected voice activity beside stt, such as vad: {plugin: silero}"
            )

    def _reference(self, agent: dict[str, Any], path: KeyPath, check_agent: AgentCheck | None) -> None:
        reference = agent.get("agent")
        if not isinstance(reference, str) or not reference:
            return
        if not _REFERENCE.fullmatch(reference) or ".py:" in reference:
            problem: str | None = f"{found(reference)}; expected module:Class, such as reception:Reception"
        else:
            problem = check_agent(reference) if check_agent is not None else None
        if problem is not None:
            self._document.complain((*path, "agent"), problem)

    def _providers(self, agent: dict[str, Any], path: KeyPath, check_plugin: PluginCheck) -> None:
        for kind, provider, place in _models(agent, path):
            own = [one.path[len(place) :] for one in self._document.mistakes if one.path[: len(place)] == place]
            if any(key[:1] != ("fallback",) for key in own):
                continue
            problem = check_plugin(kind, provider["plugin"], provider["options"])
            if problem is not None:
                self._document.complain((*place, *problem[0]), redact(problem[1]))

    def _chains(self, agent: dict[str, Any], path: KeyPath) -> None:
        """What may be said of a model that is asked when another one fails, and of one that is asked twice."""
        for kind, provider, place in _models(agent, path):
            if kind != "llm" and provider.get("hedge_after") is not None:
                self._document.complain((*place, "hedge_after"), f"not used for {kind}; expected it beside an llm")
            if place[-2:-1] != ("fallback",):
                continue
            for key in ("fallback", "hedge_after"):
                if provider.get(key):
                    self._document.complain(
                        (*place, key), "not used in a fallback; expected it beside the first plugin, for all of them"
                    )

    def _mcp(self, servers: Any, path: KeyPath) -> None:
        """Each server is at an address or is a program, and has a name of its own."""
        if not servers or not isinstance(servers, list):
            return
        if find_spec("mcp") is None:
            self._document.complain(
                path, "needs mcp, which is not installed; expected after: pip install 'greenroom[mcp]'"
            )
        names: list[Any] = []
        for index, server in enumerate(servers):
            if isinstance(server, dict):
                self._mcp_server(server, (*path, index))
                name = server.get("name")
                if name is not BROKEN and name in names:
                    self._document.complain((*path, index, "name"), f"{name!r} is another's too; expected its own")
                names.append(name)

    def _mcp_server(self, server: dict[str, Any], path: KeyPath) -> None:
        url, command = server.get("url"), server.get("command")
        if bool(url) == bool(command):
            what = "both url and command" if url else "neither url nor command"
            self._document.complain(path, f"{what}; expected the address of a server, or the program that is one")
            return
        for key in ("args", "env", "cwd") if url else ("headers",):
            if server.get(key):
                self._document.complain((*path, key), f"not used beside {'url' if url else 'command'}")
        if isinstance(url, str) and url:
            problem = _url_problem(url.partition("?")[0], schemes=("http", "https"))
            if problem is not None:
                self._document.complain((*path, "url"), f"{problem}; expected http://HOST/PATH or https://HOST/PATH")

    def _accept(self, rules: Any, path: KeyPath) -> None:
        """Every pattern of the rules can be read. What finds everything is no mistake here: it is the default."""
        for index, rule in enumerate(rules if isinstance(rules, list) else []):
            if not isinstance(rule, dict):
                continue
            attributes = rule.get("attributes")
            held: dict[KeyPath, Any] = {("room",): rule.get("room"), ("metadata",): rule.get("metadata")}
            if isinstance(attributes, dict):
                held |= {("attributes", name): pattern for name, pattern in attributes.items()}
            for key, pattern in held.items():
                problem = _unreadable(pattern) if isinstance(pattern, str) else None
                if problem is not None:
                    self._document.complain((*path, index, *key), f"{problem}; {_EXPECTED_PATTERN}")

    def _background(self, background: Any, path: KeyPath, folder: Path) -> None:
        """Each sound is one that comes along, or a file that is there."""
        for key in ("ambient", "thinking") if isinstance(background, dict) else ():
            sounds = background.get(key)
            for index, sound in enumerate(sounds if isinstance(sounds, list) else []):
                source = sound.get("source") if isinstance(sound, dict) else None
                if not isinstance(source, str) or source in CLIPS or (folder / Path(source).expanduser()).is_file():
                    continue
                expected = f"an audio file beside this one, or one of {', '.join(CLIPS)}{suggestion(source, CLIPS)}"
                self._document.complain((*path, key, index, "source"), f"no such file: {source}; expected {expected}")

    def _token(self, admin: dict[str, Any]) -> None:
        """Rooms and a switch to turn the worker off are nobody's business: a short token could be guessed."""
        token = admin.get("token")
        if isinstance(token, str) and 0 < len(token) < SHORTEST_TOKEN:
            self._document.complain(
                ("worker", "admin", "token"), f"{len(token)} characters; expected at least {SHORTEST_TOKEN}, or none"
            )

    def _patterns(self, patterns: Any, path: KeyPath) -> None:
        for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
            if isinstance(pattern, str) and (problem := _pattern_problem(pattern)) is not None:
                self._document.complain((*path, index), f"{problem}; {_EXPECTED_PATTERN}")

    def _names(self) -> None:
        """An agent is known by its name: to whoever dispatches it, and to the processes that serve it."""
        taken: dict[str, int] = {}
        for index, agent in self._agents:
            name = agent.get("name", "") if isinstance(agent, dict) else BROKEN
            if name is BROKEN or not isinstance(name, str):
                continue
            if name in taken:
                line = self._document.line(("agents", taken[name], "name"))
                called = f"{name!r}" if name else "no name"
                self._document.complain(
                    ("agents", index, "name"),
                    f"{called} is agents[{taken[name]}]'s too, on line {line}; expected a name of its own",
                )
            taken.setdefault(name, index)


def _models(agent: dict[str, Any], path: KeyPath) -> Iterator[tuple[str, dict[str, Any], KeyPath]]:
    """Each model of an agent with its kind and its place, fallbacks included; what is ``BROKEN`` is left out."""
    for key, kind in _KINDS.items():
        provider = agent.get(key)
        if not isinstance(provider, dict):
            continue
        yield kind, provider, (*path, key)
        fallbacks = provider.get("fallback")
        for index, fallback in enumerate(fallbacks if isinstance(fallbacks, list) else []):
            if isinstance(fallback, dict):
                yield kind, fallback, (*path, key, "fallback", index)


def _pattern_problem(pattern: str) -> str | None:
    """Why this cannot find anything, or would find everything."""
    problem = _unreadable(pattern)
    if problem is None and re.match(pattern, "") is not None:
        return f"{found(pattern)} finds the empty text"
    return problem


def _unreadable(pattern: str) -> str | None:
    """Why this is no regular expression."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{found(pattern)} cannot be read ({error})"
    return None


def _url_problem(url: str, *, schemes: Collection[str] = _SCHEMES) -> str | None:
    """Why a server cannot be at this address; never shows credentials that may be in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"not an address ({redact(str(error))})"
    if "@" in parts.netloc:
        return "an address with a user or a password in it"
    if parts.query or parts.fragment:
        return "an address with a query or a fragment"
    if parts.scheme not in schemes:
        return f"{found(url)} has {f'the scheme {parts.scheme}' if '://' in url else 'no scheme'}"
    if not parts.hostname or any(char.isspace() or not char.isprintable() for char in url):
        return f"{found(url)} has no host"
    return f"{found(url)} has port 0" if port == 0 else None
