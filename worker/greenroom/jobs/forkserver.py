"""The process that all jobs are forked from: it has imported what they need, and does nothing else.

Run as ``python -m greenroom.jobs.forkserver FD [MODULE | plugin:NAME ...]`` by ``forks.ForkServer``; ``FD`` is its end
of a socket pair. Rules:

- One thread, ever. A module that starts one while it is imported is named to the daemon, which starts this program
  again without it: a forked copy of a process with threads may find their locks taken for ever.
- Nothing of the user's runs here but the modules that the settings list under ``preload``.
- It wakes up only to fork and to collect children that ended. It ends when the daemon's end of the socket closes; the
  children that have a job go on.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

from greenroom import lean  # noqa: F401  # before anything that it makes smaller
from greenroom.jobs import heap, ipc
from greenroom.jobs.exits import Exit

__all__ = ["PLUGIN", "Forker", "ThreadStarted", "main", "preload"]

PLUGIN = "plugin:"

_MAX_MESSAGE = 65_536


def preload(items: Iterable[str]) -> dict[str, str]:
    """Import modules, and what plugins list as worth it. Returns what failed, with the reason.

    Raises ``ThreadStarted`` as soon as an import leaves a second thread behind.
    """
    failed: dict[str, str] = {}
    for item in items:
        try:
            for module in _modules(item):
                importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  # a plugin's load
            failed[item] = f"{type(error).__name__}: {error}"[:500]
        if threading.active_count() > 1 or len(os.listdir("/proc/self/task")) > 1:
            raise ThreadStarted(item)
    return failed


def _modules(item: str) -> tuple[str, ...]:
    if not item.startswith(PLUGIN):
        return (item,)
    name = item.removeprefix(PLUGIN)
    for entry in entry_points(group="greenroom.plugins", name=name):
        return tuple(entry.load().preload)
    raise LookupError(f"no plugin is called {name!r}")


class ThreadStarted(Exception):
    """An import started a thread; ``args[0]`` is the item of the preload list."""


class Forker:
    """Forks on request and reports each child's exit. ``become`` is called in the child and returns its exit code."""

    def __init__(
        self, control: socket.socket, *, become: Callable[[ipc.Fork], int], fork: Callable[[], int] = os.fork
    ) -> None:
        self._control = control
        self._become = become
        self._fork = fork
        self._awake, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        """Until the daemon is gone."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Only the daemon ends this process, by closing the socket: a signal to the whole group must not come first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if self._awake in ready:
                    os.read(self._awake, 4096)
                    self.reap()
                if self._control.fileno() in ready:
                    data = self._control.recv(_MAX_MESSAGE)
                    if not data:
                        return
                    self.fork(ipc.unpack_fork(data))
        except (BrokenPipeError, ConnectionResetError):
            return

    def fork(self, request: ipc.Fork) -> None:
        """Make one child; what prevents it is reported, not raised."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = self._fork()
        except OSError as error:
            self._send(ipc.ForkFailed(request.slot, f"fork: {error.strerror}"))
            return
        else:
            if pid == 0:
                self._leave_the_nest(request, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._send(ipc.ForkFailed(request.slot, f"pidfd_open: {error.strerror}"))
            return
        try:
            socket.send_fds(self._control, [ipc.pack(ipc.Forked(request.slot, pid))], [pidfd])
        finally:
            os.close(pidfd)

    def reap(self) -> None:
        """Collect and report every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._send(ipc.ChildExited(pid, os.waitstatus_to_exitcode(status)))

    def close(self) -> None:
        os.close(self._awake)
        os.close(self._wake)

    def _send(self, notice: ipc.ForkNotice) -> None:
        self._control.send(ipc.pack(notice))

    def _leave_the_nest(self, request: ipc.Fork, mask: set[int | signal.Signals]) -> None:
        """In the child: shed what belongs to the fork server, work, and exit without coming back."""
        code: int = Exit.INTERNAL
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            self._control.close()
            self.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            gc.enable()
            code = self._become(request)
        except BaseException:  # noqa: BLE001  # the job boundary: nothing may run on as a second fork server
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                # A reader that has gone must not keep the process from ending.
                try:
                    stream.flush()
                except (OSError, ValueError):
                    continue
            os._exit(code)


def main(arguments: list[str]) -> int:
    """Import, say that it is done, serve."""
    started = time.monotonic()
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    # No collection before the freeze: it would only touch pages that are to be shared.
    gc.disable()
    try:
        from greenroom.jobs import child

        failed = preload(arguments[1:])
        child.rehearse()
    except ThreadStarted as error:
        control.send(ipc.pack(ipc.Threaded(str(error))))
        return Exit.THREADED
    gc.collect()
    heap.immortalize()
    heap.trim()
    heap.fill()
    gc.freeze()
    forker = Forker(control, become=child.main)
    control.send(ipc.pack(ipc.Preloaded(time.monotonic() - started, failed)))
    forker.serve()
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
