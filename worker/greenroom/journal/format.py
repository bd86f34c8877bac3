"""How a journal is written down: JSON, one record a line, after a header line.

::

    {"greenroom_journal":3,"greenroom":"0.1.0","job":"AJ_x",…,"began":7.5,"rules":{…},"check":"5d1e7a02"}
    [7.5,"Started",{},"AgentStateChanged 3f0c92aa","b2f60c15"]
    [8.784,"UserStarted",{"utterance":"utterance_1","at":8.692},"UserStateChanged 90e1d4f7","07c3a1de"]
    [9.2,"said",{"speech":"speech_1","step":1,"text":"Good "},"6a1f00c8"]
    ["closed","","e01b44d9"]

A record of an event is its time on the loop's clock, as exact as it was, so that a replay comes to the same decisions
(``began`` in the header is what to take off for people), its class, its fields without those that have their defaults,
and what was decided: the commands by name, and a digest of all that is in them. Where nothing was commanded there is no
fourth column; ``null`` there says that the decision is not known. Between the events stand notes, in small letters,
which no decision depends on: ``said``, words on their way to the track, and ``agent``, who has the conversation and
what it knows, and ``left``, what an earlier process left to do, for a recovery; ``preconnect``, what became of what the
user had said before. The last record says that the journal was closed, or why it stopped.

Each line ends with a checksum of itself and, through the one before it, of all above it. A version's reader takes
journals of its own version only, and says so.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from greenroom.dialog.commands import Announce, Command
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.events import Event, RequestedCall, SpeechRequested
from greenroom.dialog.history import ChatItem
from greenroom.errors import GreenroomError
from greenroom.version import __version__

__all__ = [
    "VERSION",
    "AgentNoted",
    "Decoder",
    "Encoder",
    "Ending",
    "Header",
    "JournalBroken",
    "LeftNoted",
    "Note",
    "PreconnectNoted",
    "Record",
    "Said",
    "decode_event",
    "encode_event",
    "summary",
]

VERSION = 3

_EVENTS: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Event)}
_ITEMS: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(ChatItem)}
_CHECK = len('"00000000"')
_MISSING = object()
_PLAIN = frozenset({str, int, bool, type(None)})
_STRANGE = frozenset({"nan", "inf", "-inf"})
"""Numbers that JSON does not have; as texts they are told from each other."""


class JournalBroken(GreenroomError):
    """A journal that cannot be read: the message names the file, the line and what was expected."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the log is of, and what a replay needs besides the events.

    ``started``: wall-clock time, ISO 8601, UTC; ``began``: the loop's time at that moment. ``agent_class``:
    ``module:Class``. ``history``: what the agent knew of a conversation before this one began. ``attempt``: which
    process of the call this is, from 1; ``follows``: the file that the one before it wrote.
    """

    greenroom: str
    job: str
    room: str
    agent: str
    started: str
    began: float
    rules: DialogRules
    agent_class: str = ""
    history: tuple[ChatItem, ...] = ()
    attempt: int = 1
    follows: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Words of a speech's step, as their audio is handed to the track; they continue the step's earlier ones."""

    speech: str
    step: int
    text: str


@dataclass(frozen=True, slots=True)
class AgentNoted:
    """Who has the conversation from here on, or knows something else from here on.

    ``name``: as the dialog knows it, of the one that it began with empty. ``agent_class``: ``module:Class``; empty: as
    before. ``instructions``: only where they are others than before. ``known``: all that it knows of the conversation,
    the ids of items of the history, and whole items that the history does not hold; ``None``: as before.
    """

    name: str = ""
    agent_class: str = ""
    instructions: str | None = None
    known: tuple[str | ChatItem, ...] | None = None


@dataclass(frozen=True, slots=True)
class LeftNoted:
    """What an earlier process of the call left to do, and nobody has begun with: the last of these counts.

    ``waiting``: texts; ``replies``: what a model is to say; ``unanswered``: what the user said, turn by turn.
    """

    waiting: tuple[SpeechRequested, ...] = ()
    replies: tuple[SpeechRequested, ...] = ()
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreconnectNoted:
    """What became of the recording that came before the live microphone: see ``room.PreconnectReport``."""

    outcome: str
    reason: str = ""
    seconds: float = 0.0
    waited: float = 0.0
    overlap: float = 0.0
    gap: float = 0.0
    first_word_loss: float = 0.0


Note: TypeAlias = Said | AgentNoted | LeftNoted | PreconnectNoted


@dataclass(frozen=True, slots=True)
class Ending:
    """How a journal ended, when it was not broken off. ``why``: what stopped it; empty for one that was closed."""

    how: Literal["closed", "stopped"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One line. ``decided``: the commands in short (``summary``); ``None``: not known."""

    now: float
    what: Event | Note
    decided: str | None = ""

    @property
    def event(self) -> Event | None:
        """``None`` for a note."""
        return None if isinstance(self.what, Said | AgentNoted | LeftNoted | PreconnectNoted) else self.what

    @property
    def note(self) -> Note | None:
        """``None`` for an event."""
        return self.what if isinstance(self.what, Said | AgentNoted | LeftNoted | PreconnectNoted) else None


Line: TypeAlias = Record | Ending

_NOTES: dict[str, type[Any]] = {"said": Said, "agent": AgentNoted, "left": LeftNoted, "preconnect": PreconnectNoted}
_NOTE_NAMES = {cls: name for name, cls in _NOTES.items()}


def summary(commands: Sequence[Command]) -> str:
    """Commands in short: their names, those of announcements by what they announce, and a digest of all in them."""
    if not commands:
        return ""
    names = [type(command.notice if isinstance(command, Announce) else command).__name__ for command in commands]
    content = msgspec.json.encode([_tagged(command) for command in commands])
    return f"{' '.join(names)} {blake2b(content, digest_size=4).hexdigest()}"


class Encoder:
    """Writes lines, each checked with the one before it."""

    def __init__(self) -> None:
        self._check = self._before = 0

    def take_back(self) -> None:
        """The last line was not written: the next one follows the one before it."""
        self._check = self._before

    def header(self, header: Header) -> bytes:
        """Raises ``TypeError`` or ``ValueError`` for what cannot be written, as ``event`` and ``note`` do."""
        values = {
            "greenroom_journal": VERSION,
            **{name: getattr(header, name) for name in _HEADER},
            "history": [_tagged(item) for item in header.history],
        }
        body = msgspec.json.encode(values)[:-1] + b',"check":'
        self._check = zlib.crc32(body)
        return b'%b"%08x"}\n' % (body, self._check)

    def event(self, event: Event, now: float, decided: str | None = "") -> bytes:
        """``now``: when the dialog took it, on the loop's clock; ``decided``: what ``summary`` says of the commands."""
        values = (now, type(event).__name__, _compact(event))
        return self._seal(values if decided == "" else (*values, decided))

    def note(self, note: Note, now: float) -> bytes:
        return self._seal((now, _NOTE_NAMES[type(note)], _compact(note)))

    def ending(self, ending: Ending) -> bytes:
        return self._seal((ending.how, ending.why))

    def _seal(self, values: tuple[Any, ...]) -> bytes:
        body = msgspec.json.encode(values)[:-1] + b","
        self._before, self._check = self._check, zlib.crc32(body, self._check)
        return b'%b"%08x"]\n' % (body, self._check)


class Decoder:
    """Reads lines, in their order. All methods raise ``JournalBroken`` without a place; the reader adds it."""

    def __init__(self) -> None:
        self._check = 0
        self._now = float("-inf")

    def header(self, line: bytes) -> Header:
        try:
            version = msgspec.json.decode(line, type=_Version).greenroom_journal
        except msgspec.MsgspecError as error:
            raise JournalBroken(f"no header of a journal ({error}); expected one of version {VERSION}") from error
        if version != VERSION:
            raise JournalBroken(f"a journal of version {version}; expected version {VERSION}")
        values = self._open(line, b"}")
        try:
            head = msgspec.convert(values, _Head)
            rules = msgspec.convert(head.rules, DialogRules)
            history = tuple(_item(*item) for item in head.history)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise JournalBroken(f"a header with mistakes ({error}); expected one of version {VERSION}") from error
        if foreign := _foreign(head.rules, msgspec.to_builtins(rules)):
            raise JournalBroken(f"the rule {foreign} is unknown here; expected those of greenroom {__version__}")
        known = {name: getattr(head, name) for name in _HEADER}
        return Header(**{**known, "rules": rules, "history": history})

    def line(self, line: bytes) -> Line:
        values = self._open(line, b"]")
        match values:
            case ["closed" | "stopped" as how, str(why)]:
                return Ending(how, why)
            case [float() | int() as now, str(name), dict(fields)]:
                return self._record(now, name, fields, "")
            case [float() | int() as now, str(name), dict(fields), str() | None as decided]:
                return self._record(now, name, fields, decided)
            case _:
                raise JournalBroken("no record; expected a time, the name of an event and its fields")

    def _record(self, now: float, name: str, fields: dict[str, Any], decided: str | None) -> Record:
        if now < self._now:
            raise JournalBroken(f"the time {now} comes after {self._now}; expected times that never go back")
        self._now = now
        cls = _NOTES.get(name) or _EVENTS.get(name)
        if cls is None:
            raise JournalBroken(f"an unknown event {name!r}; expected one of those of version {VERSION}")
        try:
            what = _noted(fields) if cls is AgentNoted else _fields(cls, fields)
            return Record(float(now), what, decided)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise JournalBroken(f"a {name} with mistakes ({error}); expected its fields") from error

    def _open(self, line: bytes, end: bytes) -> Any:
        """What stands in a line whose checksum is right."""
        body, check = line[: -_CHECK - 1], line[-_CHECK - 1 :]
        expected = zlib.crc32(body, self._check)
        if check != b'"%08x"%b' % (expected, end):
            raise JournalBroken(
                f"the line ends with {_shown(check)}; "
                f'expected the checksum "{expected:08x}": it was changed, or one before it is missing'
            )
        self._check = expected
        try:
            values = msgspec.json.decode(line)
        except msgspec.MsgspecError as error:
            raise JournalBroken(f"no JSON ({error}); expected a record") from error
        if isinstance(values, dict):
            values.pop("check", None)
            return values
        return values[:-1] if isinstance(values, list) else None


def encode_event(event: Event, now: float) -> bytes:
    """One event's line, by itself."""
    return Encoder().event(event, now)


def decode_event(line: bytes) -> tuple[float, Event]:
    """What ``encode_event`` wrote. Raises ``JournalBroken``."""
    record = Decoder().line(line.rstrip(b"\n"))
    if isinstance(record, Ending) or record.event is None:
        raise JournalBroken("no event; expected one")
    return record.now, record.event


class _Version(msgspec.Struct):
    greenroom_journal: int


class _Head(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A header as it is written down."""

    greenroom_journal: int
    greenroom: str
    job: str
    room: str
    agent: str
    started: str
    began: float
    rules: dict[str, Any]
    agent_class: str
    history: list[tuple[str, dict[str, Any]]]
    attempt: int
    follows: str


class _Noted(msgspec.Struct, forbid_unknown_fields=True):
    """An ``AgentNoted`` as it is written down."""

    name: str = ""
    agent_class: str = ""
    instructions: str | None = None
    known: list[str | tuple[str, dict[str, Any]]] | None = None


_HEADER = tuple(field.name for field in dataclasses.fields(Header))


# --- values -------------------------------------------------------------------------------------------------------

_plans: dict[type[Any], tuple[attrgetter[Any], tuple[str, ...], tuple[Any, ...]]] = {}


def _plan(cls: type[Any]) -> tuple[attrgetter[Any], tuple[str, ...], tuple[Any, ...]]:
    """How to take a dataclass apart: all values at once, and beside them their names and defaults."""
    fields = dataclasses.fields(cls)
    names = tuple(field.name for field in fields)
    defaults = tuple(_MISSING if field.default is dataclasses.MISSING else field.default for field in fields)
    # A getter of one name gives no tuple, and of none there is no getter.
    padded = (*names, "__class__", "__class__")
    plan = _plans[cls] = (attrgetter(*padded), names, defaults)
    return plan


def _compact(value: Any) -> dict[str, Any]:
    """A dataclass's fields without those that have their defaults."""
    cls = type(value)
    get, names, defaults = _plans.get(cls) or _plan(cls)
    written: dict[str, Any] = {}
    for name, one, default in zip(names, get(value), defaults, strict=False):
        if one is not default and one != default:
            written[name] = one if type(one) in _PLAIN else _plain(one)
    return written


def _plain(value: Any) -> Any:
    """A field's value as JSON takes it."""
    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, RequestedCall | SpeechRequested):
        return _compact(value)
    return _tagged(value) if dataclasses.is_dataclass(value) else value


def _tagged(value: Any) -> tuple[str, dict[str, Any]]:
    return type(value).__name__, _compact(value)


def _fields(cls: type[Any], values: dict[str, Any]) -> Any:
    """The dataclass with these fields. Raises ``msgspec.ValidationError``."""
    _, names, _ = _plans.get(cls) or _plan(cls)
    if foreign := values.keys() - set(names):
        raise msgspec.ValidationError(f"unknown field {min(foreign)!r}")
    strange = {
        key: float(one)
        for key, one in values.items()
        if isinstance(one, str) and one in _STRANGE and _is_number(cls, key)
    }
    return msgspec.convert({**values, **strange}, cls)


def _is_number(cls: type[Any], name: str) -> bool:
    return "float" in str(next(field.type for field in dataclasses.fields(cls) if field.name == name))


def _item(name: str, fields: dict[str, Any]) -> ChatItem:
    item: ChatItem = _fields(_ITEMS[name], fields)
    return item


def _noted(values: dict[str, Any]) -> AgentNoted:
    """Its items are told from each other by their tags, as in a header."""
    written = msgspec.convert(values, _Noted)
    known = written.known
    items = None if known is None else tuple(one if isinstance(one, str) else _item(*one) for one in known)
    return AgentNoted(written.name, written.agent_class, written.instructions, items)


def _foreign(given: Any, known: Any, path: str = "") -> str:
    """The first key that is given and not known; empty when there is none."""
    if not isinstance(given, dict) or not isinstance(known, dict):
        return ""
    for key, one in given.items():
        here = f"{path}.{key}" if path else str(key)
        if key not in known:
            return here
        if inner := _foreign(one, known[key], here):
            return inner
    return ""


def _shown(tail: bytes) -> str:
    return repr(tail.decode("ascii", "replace"))
