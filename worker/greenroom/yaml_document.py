"""One YAML document as plain values, with the line of each and the environment filled in.

Scalars follow YAML 1.2's core schema, not YAML 1.1: ``no``, ``on``, ``1:30`` and ``2026-11-21`` are text. Anchors,
aliases and merge keys (``<<``) work. In values, not in keys, ``${NAME}`` is the environment's variable,
``${NAME:-default}`` has a default for one that is unset or empty, and ``$$`` is a dollar sign. What a plain (unquoted)
value becomes is read as a YAML scalar again, so ``warm: ${WARM}`` is a number; a quoted one stays text.

Nothing here raises on what a file may hold: mistakes are collected and stand in the tree as ``BROKEN``, so that one
reading finds them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

__all__ = ["BROKEN", "Broken", "Document", "Mistake", "Path", "read", "spell"]

Path: TypeAlias = tuple[str | int, ...]
MAX_BYTES = 1024 * 1024
MAX_VALUES = 100_000
"""A bound on what aliases of aliases can grow to."""

_PREFIX = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR = (_PREFIX + name for name in ("null", "bool", "int", "float", "str"))
_SCALARS = (
    (_NULL, re.compile(r"(?:~|null|Null|NULL|)")),
    (_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)")),
    (_INT, re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)")),
    (
        _FLOAT,
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
        ),
    ),
)
_DOLLAR = re.compile(r"\$(?:\$|\{(?P<inside>[^}]*)\}|\{)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{).)*))?", re.DOTALL)


class Broken:
    """The type of ``BROKEN``."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN: Final = Broken()
"""Stands where a mistake was found; whoever checks further passes over it."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, on one line of the file. ``path``: the keys and indices that lead to it."""

    line: int
    path: Path
    message: str


class Document:
    """What was read: ``value`` is a tree of dict, list, str, int, float, bool, None and ``BROKEN``.

    ``texts`` holds, for each plain value that the environment had a part in, the text it came to: the reader who
    expects text takes it from there, where ``value`` may hold the number that it looks like.
    """

    def __init__(
        self, value: Any, *, lines: Mapping[Path, int], texts: Mapping[Path, str], mistakes: list[Mistake]
    ) -> None:
        self.value = value
        self.texts = texts
        self.mistakes = mistakes
        self._lines = lines

    def line(self, path: Path) -> int:
        """The line of a key or an item; of the nearest one above it that is written, when it is not."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def written(self, path: Path) -> bool:
        """Whether the file itself has this key or item."""
        return path in self._lines

    def complain(self, path: Path, message: str) -> Broken:
        """Note a mistake at ``path``."""
        self.mistakes.append(Mistake(self.line(path), path, message))
        return BROKEN


def spell(path: Path) -> str:
    """A path as people write it: ``agents[0].stt.model``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def read(data: bytes, *, environ: Mapping[str, str]) -> Document:
    """Read the bytes of a file. Never raises: what cannot be read at all is a document of one mistake."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _hopeless(line, f"byte 0x{data[error.start]:02x} is not UTF-8; expected a text file in UTF-8")
    if len(data) > MAX_BYTES:
        return _hopeless(1, f"the file has {len(data)} bytes; expected at most {MAX_BYTES}")
    try:
        loader = _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _hopeless(line, f"the character U+{error.character:04X}; expected printable text")
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        return _ungrammatical(error, text)
    except RecursionError:
        return _hopeless(loader.line + 1, "nested too deeply; expected far fewer levels")
    except (ValueError, OverflowError):
        # The scanner's own conversions: an escape beyond Unicode, a version number of thousands of digits.
        return _hopeless(
            loader.line + 1, "not valid YAML: a number or an escape is out of range; expected a smaller one"
        )
    if node is None:
        return _hopeless(1, "the file is empty; expected the keys server and agents")
    reader = _NodeReader(environ)
    try:
        value = reader.read(node, (), node.start_mark.line + 1)
    except _TooMuch as error:
        return _hopeless(error.line, error.message)
    except RecursionError:
        return _hopeless(node.start_mark.line + 1, "nested too deeply; expected far fewer levels")
    return Document(value, lines=reader.lines, texts=reader.texts, mistakes=reader.mistakes)


def scalar_tag(text: str) -> str:
    """The tag of a plain scalar in the core schema."""
    return next((tag for tag, pattern in _SCALARS if pattern.fullmatch(text)), _STR)


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to its nodes, which carry the lines, with the core schema's scalars."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> Any:
        if kind is ScalarNode:
            return scalar_tag(value) if implicit[0] else _STR
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


_Pairs: TypeAlias = dict[str, tuple[int, Node]]
_UNDERWAY: Final[_Pairs] = {}


class _TooMuch(Exception):
    """Reading was given up."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        self.message = message
        super().__init__(message)


class _NodeReader:
    """Turns nodes into values and remembers where each stood."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.lines: dict[Path, int] = {}
        self.texts: dict[Path, str] = {}
        self.mistakes: list[Mistake] = []
        self._environ = environ
        self._open: set[int] = set()
        self._pairs_of: dict[int, _Pairs] = {}

    def read(self, node: Node, path: Path, line: int) -> Any:
        """The node's value. ``line``: where its key stands, or the item itself."""
        self.lines[path] = line
        if len(self.lines) > MAX_VALUES:
            raise _TooMuch(line, f"aliases grow to more than {MAX_VALUES} values; expected fewer")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            return self._complain(path, "an alias inside what it stands for; expected an end to it")
        if node.tag not in (_PREFIX + "map", _PREFIX + "seq"):
            return self._complain(path, f"the tag {_tag(node.tag)}; expected a value without a tag")
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            assert isinstance(node, SequenceNode)  # noqa: S101  # there are three kinds of node
            return [self.read(one, (*path, i), one.start_mark.line + 1) for i, one in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        return {key: self.read(value, (*path, key), line) for key, (line, value) in self._pairs(node, path).items()}

    def _pairs(self, node: MappingNode, path: Path) -> _Pairs:
        """The mapping's own keys and those that ``<<`` brings in; its own stand, then those of the first source.

        Each mapping is gone through once, however many aliases merge it.
        """
        if id(node) in self._pairs_of:
            return self._pairs_of[id(node)]
        self._pairs_of[id(node)] = _UNDERWAY
        own: _Pairs = {}
        merged: _Pairs = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if isinstance(key_node, ScalarNode) and key_node.value == "<<" and key_node.style is None:
                for source in self._sources(value_node, path, line):
                    merged = {**self._pairs(source, path), **merged}
                continue
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None or key_node.tag != _STR:
                what = "a list or a mapping" if key is None else key or "nothing"
                self._complain(path, f"the key is {what}; expected text, in quotes if need be", line)
            elif key in own:
                self._complain((*path, key), f"written twice, first on line {own[key][0]}; expected it once", line)
            else:
                own[key] = (line, value_node)
        pairs = self._pairs_of[id(node)] = {**merged, **own}
        return pairs

    def _sources(self, node: Node, path: Path, line: int) -> list[MappingNode]:
        """The mappings to merge."""
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        sources = [
            one
            for one in nodes
            if isinstance(one, MappingNode)
            and id(one) not in self._open
            and self._pairs_of.get(id(one)) is not _UNDERWAY
        ]
        if len(sources) < len(nodes):
            self._complain((*path, "<<"), "cannot be merged; expected an alias of another mapping", line)
        return sources

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text = self._substitute(node.value, path)
        if isinstance(text, Broken):
            return text
        tag = node.tag
        if text != node.value and node.style is None and tag == _STR:
            tag = scalar_tag(text)
            self.texts[path] = text
        try:
            return _construct(tag, text)
        except ValueError:
            return self._complain(path, f"not what its tag {_tag(tag)} says; expected a value without a tag")

    def _substitute(self, text: str, path: Path) -> str | Broken:
        """``text`` with the environment filled in; each variable that is wrong or missing is a mistake."""
        problems: list[str] = []
        filled = _DOLLAR.sub(lambda match: self._dollar(match, problems), text)
        for problem in problems:
            self._complain(path, problem)
        return BROKEN if problems else filled

    def _dollar(self, match: re.Match[str], problems: list[str]) -> str:
        if match[0] == "$$":
            return "$"
        variable = _VARIABLE.fullmatch(match["inside"] or "")
        if variable is None:
            problems.append(
                f"{match[0][:40]!r} names no variable; expected ${{NAME}}, ${{NAME:-default}}, or $$ for a dollar"
            )
            return ""
        name, default = variable["name"], variable["default"]
        value = self._environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            problems.append(
                f"the variable {name} is not set; expected it in the environment, or ${{{name}:-default}} here"
            )
            return ""
        return value

    def _complain(self, path: Path, message: str, line: int = 0) -> Broken:
        self.mistakes.append(Mistake(line or self.lines.get(path, 1), path, message))
        return BROKEN


def _construct(tag: str, text: str) -> Any:
    """The value of a scalar. Raises ``ValueError`` when an explicit tag does not fit the text, or is unknown."""
    if tag == _STR:
        return text
    if tag == _NULL and scalar_tag(text) == _NULL:
        return None
    if tag == _BOOL and scalar_tag(text) == _BOOL:
        return text.lower() == "true"
    if tag == _INT and scalar_tag(text) == _INT:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if tag == _FLOAT and scalar_tag(text) in (_INT, _FLOAT):
        return float(text.replace(".", "") if text.lower().endswith(("inf", "nan")) else text)
    raise ValueError(tag)


def _tag(tag: str) -> str:
    return tag.replace(_PREFIX, "!!")


def _hopeless(line: int, message: str) -> Document:
    return Document(BROKEN, lines={}, texts={}, mistakes=[Mistake(line, (), message)])


def _ungrammatical(error: yaml.MarkedYAMLError, text: str) -> Document:
    """What PyYAML could not parse, in one line that names the mistake people make most."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return _hopeless(1, f"not valid YAML: {error.problem or error.context}")
    line, written = mark.line + 1, text[: mark.index].rpartition("\n")[2]
    if text[mark.index : mark.index + 1] == "\t":
        place = "in the indentation" if not written.strip() else f"after {written.strip()[-20:]!r}"
        return _hopeless(line, f"a tab {place}; expected spaces")
    problem = error.problem or "cannot be read"
    if error.context and "single document" in error.context:
        return _hopeless(line, "a second document begins here; expected one in a file")
    if error.context:
        begun = error.context_mark
        problem += f" {error.context}" + (
            f" begun on line {begun.line + 1}" if begun and begun.line + 1 != line else ""
        )
    rest = written + text[mark.index :].partition("\n")[0]
    hint = "; expected quotes around ${...} inside { } and [ ]" if "${" in rest else "; expected key: value"
    return _hopeless(line, f"not valid YAML: {' '.join(problem.split())}{hint}")
