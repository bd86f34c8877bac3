"""Reads a YAML file into ``Settings``, or says what is wrong with it: every mistake, each with its line and key.

What may not be imported here is asked of callables: which plugins exist and what options they take (``check_plugin``),
and whether ``module:Class`` is an agent (``check_agent``). ``greenroom check`` passes both; the daemon, which must not
load plugins or the user's code, passes neither.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec

from greenroom.directories import run_dir, state_dir
from greenroom.errors import SettingsError
from greenroom.redaction import redact
from greenroom.settings import Settings
from greenroom.settings_shape import check_shape
from greenroom.wording import found, on_one_line
from greenroom.yaml_document import BROKEN, Broken, Document, read, spell
from greenroom.yaml_document import Path as KeyPath

__all__ = ["SERVER_VARIABLES", "AgentCheck", "InvalidSettings", "PluginCheck", "load"]

PluginCheck: TypeAlias = Callable[[str, str, Mapping[str, Any]], tuple[KeyPath, str] | None]
"""Given a kind (``vad``, ``stt``, ``llm``, ``tts``), a plugin's name and its options: what is wrong, and at which key
of the provider's mapping (``("plugin",)``, ``("rules", 2)``); ``None`` when nothing is."""

AgentCheck: TypeAlias = Callable[[str], str | None]
"""Given ``module:Class``: what is wrong with it, or ``None``."""

SERVER_VARIABLES = {"url": "LIVEKIT_URL", "api_key": "LIVEKIT_API_KEY", "api_secret": "LIVEKIT_API_SECRET"}
"""The keys of ``server`` that the environment fills when the file leaves them out."""

_KINDS = ("vad", "stt", "llm", "tts")
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
        _Rules(document, shape).check(check_plugin=check_plugin, check_agent=check_agent)
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
        agents = shape.get("agents")
        self._agents = list(enumerate(agents)) if isinstance(agents, list) else []

    def check(self, *, check_plugin: PluginCheck | None, check_agent: AgentCheck | None) -> None:
        if isinstance(self._server, dict):
            self._url(self._server.get("url"))
        for index, agent in self._agents:
            if isinstance(agent, dict):
                path = ("agents", index)
                self._job_types(agent, path)
                self._brain(agent, path)
                self._reference(agent, path, check_agent)
                if check_plugin is not None:
                    self._providers(agent, path, check_plugin)
        self._names()

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
        if agent.get("stt") and not agent.get("vad"):
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
        for kind in _KINDS:
            provider = agent.get(kind)
            place = (*path, kind)
            if not isinstance(provider, dict) or any(
                one.path[: len(place)] == place for one in self._document.mistakes
            ):
                continue
            problem = check_plugin(kind, provider["plugin"], provider["options"])
            if problem is not None:
                self._document.complain((*place, *problem[0]), redact(problem[1]))

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


def _url_problem(url: str) -> str | None:
    """Why a media server cannot be at this address; never shows credentials that may be in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"not an address ({redact(str(error))})"
    if "@" in parts.netloc:
        return "an address with a user or a password in it"
    if parts.query or parts.fragment:
        return "an address with a query or a fragment"
    if parts.scheme not in _SCHEMES:
        return f"{found(url)} has {f'the scheme {parts.scheme}' if '://' in url else 'no scheme'}"
    if not parts.hostname or any(char.isspace() or not char.isprintable() for char in url):
        return f"{found(url)} has no host"
    return f"{found(url)} has port 0" if port == 0 else None
