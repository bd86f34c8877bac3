"""LiveKit's library, loaded when this module is imported: before the fork, where it can be.

Loading it takes 7 ms, which a caller would wait, and writes to 0.8 MB to say where everything is; forked processes
share that. It starts no thread before its client is made.

The library's log is 1700 lines a join and ten a second after it, nearly all of them for WebRTC's makers. Handed to
Python, as its client asks for, each of them wakes a thread, makes a Python thread of it and ends that again: half of
the processor time of a join, and 50 ms in which nothing else arrives. So it is asked for only where it will be read,
when ``livekit``'s logger is at debug.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Any

from livekit.rtc import _ffi_client

__all__ = ["LIBRARY"]


class _Initialize:
    """The library's ``livekit_ffi_initialize(callback, capture_logs, ...)``, for who does not want its log."""

    def __init__(self, begin: Any) -> None:
        self._begin = begin

    @property
    def argtypes(self) -> Any:
        return self._begin.argtypes

    @argtypes.setter
    def argtypes(self, types: Any) -> None:
        self._begin.argtypes = types

    def __call__(self, callback: Any, capture_logs: bool, *rest: Any) -> Any:
        return self._begin(callback, capture_logs and logging.getLogger("livekit").isEnabledFor(logging.DEBUG), *rest)


def _load() -> ctypes.CDLL:
    library = _ffi_client.get_ffi_lib()
    library.livekit_ffi_initialize = _Initialize(library.livekit_ffi_initialize)  # type: ignore[attr-defined]
    return library


LIBRARY: ctypes.CDLL = _load()
_ffi_client.get_ffi_lib = lambda: LIBRARY
