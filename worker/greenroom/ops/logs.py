"""Logs: structlog and the standard library's logging in one pipeline, one line and one write for each entry.

An entry has ``timestamp`` (ISO 8601, UTC), ``level``, ``logger``, ``event``, the fields that the process, the context
and the call gave it, and ``exception`` with the whole traceback in one text. It is a JSON object a line, or coloured
text on a terminal. Secrets are masked by the name of the field and by what they look like. Logging never raises.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, TypeAlias

import msgspec
import structlog

from greenroom.redaction import MASK, hide, is_secret, redact

__all__ = ["Write", "configure", "hide", "write_to_stderr"]

Write: TypeAlias = Callable[[bytes], None]
"""Takes one whole line, its line end included."""
Entry: TypeAlias = MutableMapping[str, Any]
ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

LONGEST = 16_384
"""Characters of one text; of a longer one the beginning is kept, of a traceback the end."""
WIDEST = 200
"""Items of one collection."""
DEEPEST = 6
"""Levels of collections inside each other."""

TALKATIVE = (
    "aiohttp.access",
    "asyncio",
    "faster_whisper",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "livekit",
    "mcp",
    "piper",
    "watchfiles",
)
"""Libraries whose information is a user's debugging."""
_FIRST = ("timestamp", "level", "logger", "event")
_OWN_ATTRIBUTES = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
_stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "json", "console"] = "auto",  # noqa: A002  # the key of the settings
    *,
    write: Write | None = None,
    **bound: Any,
) -> None:
    """Set up this process's logs; again replaces what was set up before.

    ``auto`` is ``console`` where standard error is a terminal, else ``json``. ``write``: where lines go, standard
    error by default. ``bound``: fields of every entry, such as the job's id and room in a job's process.
    """
    terminal = _is_terminal()
    console = format == "console" or (format == "auto" and terminal)
    pipeline = _Pipeline(_console(colors=terminal) if console else _json, write=write or write_to_stderr, bound=bound)
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, pipeline],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Logger,
        # A module's logger is made before the fork and used after it, when the process has other fields to add.
        cache_logger_on_first_use=False,
    )
    logging.root.handlers[:] = [_Handler(pipeline)]
    _set_level(logging.root, threshold)
    for name in TALKATIVE:
        _set_level(logging.getLogger(name), threshold if level == "debug" else max(threshold, logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _set_level(logger: logging.Logger, level: int) -> None:
    # Setting it writes to every logger that there is: a forked process that shares them would have pages of its own.
    if logger.level != level:
        logger.setLevel(level)


def write_to_stderr(line: bytes) -> None:
    """Write to file descriptor 2 in one call where the kernel takes it whole; what cannot be written is lost."""
    try:
        while line:
            line = line[os.write(2, line) :]
    except OSError:
        # The reader of the pipe is gone, or does not read: a call matters more than its log.
        pass


class _Logger:
    """What structlog hands entries to. The pipeline has written them by then."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name = name

    def _written(self, *_: Any, **__: Any) -> None:
        pass

    debug = info = warning = error = critical = exception = msg = log = _written


class _Pipeline:
    """A structlog processor, the last one: completes an entry, cleans it, renders it and writes it."""

    def __init__(self, render: Callable[[Entry], str], *, write: Write, bound: Mapping[str, Any]) -> None:
        self._render = render
        self._write = write
        self._bound = dict(bound)

    def __call__(self, logger: Any, method: str, entry: Entry) -> Entry:
        self.log(getattr(logger, "name", ""), _level(method), entry)
        raise structlog.DropEvent

    def log(self, name: str, level: str, entry: Entry) -> None:
        """Write one entry, whatever its values are."""
        try:
            line = self._render(_complete({**self._bound, **entry}, name=name, level=level))
        except Exception as error:  # noqa: BLE001  # a log that fails must not fail the call
            line = self._render(
                _complete({"event": "log entry lost", "error": type(error).__name__}, name=name, level="error")
            )
        with suppress(Exception):  # whatever a foreign ``write`` does
            self._write(f"{line}\n".encode())


class _Handler(logging.Handler):
    """The standard library's records, through the same pipeline."""

    def __init__(self, pipeline: _Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline

    def emit(self, record: logging.LogRecord) -> None:
        entry = {key: value for key, value in vars(record).items() if key not in _OWN_ATTRIBUTES}
        try:
            entry["event"] = record.getMessage()
        except Exception:  # noqa: BLE001  # arguments that do not fit the message, or that raise when shown
            entry["event"] = record.msg
        if record.exc_info:
            entry["exc_info"] = record.exc_info
        elif record.exc_text:
            entry["exception"] = record.exc_text
        if record.stack_info:
            entry["stack"] = record.stack_info
        self._pipeline.log(record.name, _level(record.levelname.lower()), entry)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("greenroom").critical("uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    thread = args.thread.name if args.thread else ""
    info = (args.exc_type, args.exc_value, args.exc_traceback)
    structlog.get_logger("greenroom").critical("uncaught exception", thread=thread, exc_info=info)


def _complete(entry: Entry, *, name: str, level: str) -> Entry:
    """The entry with its time and the rest that every entry has, in their order, and nothing but plain values."""
    exc_info = _exc_info(entry.pop("exc_info", None))
    stack = entry.pop("stack_info", None)
    whole: dict[str, Any] = {
        "timestamp": _stamp(None, "", {})["timestamp"],
        "level": level,
        "logger": name,
        "event": entry.pop("event", ""),
    }
    if not name:
        del whole["logger"]
    whole = {key: _clean(value) for key, value in whole.items()}
    fields = {key if key not in _FIRST else f"{key}_": value for key, value in entry.items()}
    if exc_info is not None:
        fields["exception"] = _traceback(exc_info)
    if stack and stack is not True:
        fields["stack"] = stack
    return whole | {_clean_key(key): _clean_field(key, value) for key, value in fields.items()}


def _clean_key(key: Any) -> str:
    return str(_clean(key if isinstance(key, str) else _show(key)))


def _clean_field(key: Any, value: Any, depth: int = 0) -> Any:
    # A count of tokens is no token.
    if (
        isinstance(key, str)
        and is_secret(key)
        and value is not None
        and not isinstance(value, bool | int | float)
        and value != ""
    ):
        return MASK
    if key == "exception" and isinstance(value, str) and len(value) > LONGEST:
        value = f"… {value[-LONGEST:]}"
    return _clean(value, depth)


def _clean(value: Any, depth: int = 0) -> Any:
    """``value`` out of nothing but what JSON knows, without secrets, cut to a bearable size."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value) if -(2**63) <= value < 2**63 else _clean(hex(value))
        case float():
            return float(value) if abs(value) < float("inf") else str(float(value))
        case str():
            # A lone surrogate, as in a file's name that is not UTF-8, cannot be encoded.
            return _shorten(redact(str.__str__(value).encode("utf-8", "backslashreplace").decode()))
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
    if depth >= DEEPEST:
        return _clean(_show(value))
    if isinstance(value, Mapping):
        items = list(value.items())
        cleaned = {_clean_key(key): _clean_field(key, one, depth + 1) for key, one in items[:WIDEST]}
        return cleaned if len(items) <= WIDEST else {**cleaned, "…": f"{len(items) - WIDEST} more"}
    if isinstance(value, list | tuple | set | frozenset):
        shown = [_clean(one, depth + 1) for one in list(value)[:WIDEST]]
        return shown if len(value) <= WIDEST else [*shown, f"… {len(value) - WIDEST} more"]
    return _clean(_show(value))


def _show(value: Any) -> str:
    """A value in words: an exception as its type and message, anything else as its ``repr``."""
    try:
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {value}" if str(value) else type(value).__name__
        return repr(value)
    except Exception as error:  # noqa: BLE001  # whatever a foreign __repr__ does
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST + 2 else f"{text[:LONGEST]}… {len(text) - LONGEST} more"


def _exc_info(value: Any) -> ExcInfo | None:
    """What ``exc_info`` may be given as: an exception, what ``sys.exc_info()`` returns, or true for the current one."""
    match value:
        case BaseException():
            return type(value), value, value.__traceback__
        case (kind, error, trace) if kind is not None:
            return kind, error, trace
        case tuple() | None | False:
            return None
    current = sys.exc_info()
    return current if current[0] is not None else None


def _traceback(exc_info: ExcInfo) -> str:
    try:
        return "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    except Exception as error:  # noqa: BLE001  # an exception that cannot be shown
        return f"{getattr(exc_info[0], '__name__', 'exception')} (its traceback raised {type(error).__name__})"


def _level(method: str) -> str:
    return {"warn": "warning", "exception": "error", "fatal": "critical", "notset": "debug", "msg": "info"}.get(
        method, method
    )


def _is_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False


def _json(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode()


def _console(*, colors: bool) -> Callable[[Entry], str]:
    """Text for a person. Control characters in values are escaped: nothing remote moves the cursor or makes lines."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )

    def render(entry: Entry) -> str:
        safe = {_printable(key): _printable(value, lines=key in ("exception", "stack")) for key, value in entry.items()}
        return str(renderer(None, "", safe))

    return render


def _printable(value: Any, *, lines: bool = False) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub(lambda match: match[0] if lines and match[0] == "\n" else ascii(match[0])[1:-1], value)
    return value if isinstance(value, bool | int | float | None) else _printable(_show(value))
