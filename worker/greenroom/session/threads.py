"""One thread for each call of a plain function, so that a call that never returns takes nothing from the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

__all__ = ["Threads"]

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Executor):
    """Runs each call in a daemon thread of its own.

    The loop's default executor has few threads, and looking up a host's address is done there too: some tools that hang
    would stop the whole agent. Its threads would also be waited for when the process ends.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        threading.Thread(target=_run, args=(future, fn, args, kwargs), name="tool", daemon=True).start()
        return future


def _run(future: Future[T], function: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*args, **kwargs))
    except StopIteration as error:  # which no asyncio future takes: whoever waited would wait for ever
        future.set_exception(RuntimeError(f"StopIteration was raised{f': {error.value}' if error.value else ''}"))
    except BaseException as error:  # noqa: BLE001  # it belongs to whoever waits, not to this thread
        future.set_exception(error)
