"""One daemon takes the place of another while calls go on: what the two say to each other, and in which order.

1. The new one boots, warms its processes up on a socket of its own, and registers with the media server.
2. It dials the jobs' socket and says ``Handover``.
3. The old one refuses new jobs, waits until what it had promised has a process, stops to listen, lets go of the
   directory's lock, and says ``HandedOver``.
4. The new one takes the lock, and puts its socket in the place of the old one's. It says ``TakenOver``.
5. The old one hangs up on its calls, which dial the same path as ever and find the new one. It leaves.

Until step 5 each side can go back: when the other one dies or is silent, the old daemon listens again, and the new one
gives up. At every moment one of the two takes offers, and a job that dials finds one of them within a second.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import structlog

from greenroom.errors import GreenroomError
from greenroom.jobs.ipc import DaemonMessage, Frames, HandedOver, Handover, TakenOver
from greenroom.jobs.line import Line, Message
from greenroom.jobs.listener import JOBS_SOCKET, Listener
from greenroom.version import __version__

__all__ = ["HandoverFailed", "confirm", "take_over"]

ANSWER_TIMEOUT = 10.0
"""Seconds for the new daemon to take what was let go."""

log = structlog.get_logger(__name__)


class HandoverFailed(GreenroomError):
    """The running daemon keeps its place."""


async def take_over(run_dir: Path, listener: Listener, *, pid: int, seconds: float) -> int:
    """The new daemon's side, steps 2 to 4; returns how many calls will dial. ``seconds``: for the old one to let go.

    Raises ``HandoverFailed`` when it does not, and ``SettingsError`` when its directory cannot be used.
    """
    answered: asyncio.Future[HandedOver] = asyncio.get_running_loop().create_future()

    def heard(_: Line, message: Message) -> None:
        if isinstance(message, HandedOver) and not answered.done():
            answered.set_result(message)

    def lost(_: Line) -> None:
        if not answered.done():
            answered.set_exception(HandoverFailed("the running daemon does not hand over; its log says why"))

    make = partial(Line, Frames(DaemonMessage), on_message=heard, on_lost=lost)
    try:
        _, line = await asyncio.get_running_loop().create_unix_connection(make, str(run_dir / JOBS_SOCKET))
    except OSError:
        # It has gone meanwhile, and nobody has to be asked.
        answered.cancel()
        await listener.take_over()
        return 0
    try:
        line.send(Handover(pid, __version__))
        async with asyncio.timeout(seconds):
            handed = await answered
        await listener.take_over()
        line.send(TakenOver())
    except TimeoutError:
        raise HandoverFailed(f"the running daemon did not let go within {seconds:g} s") from None
    finally:
        line.close()
        if answered.done() and not answered.cancelled():
            answered.exception()
    log.info("taken over", calls=handed.jobs)
    return handed.jobs


async def confirm(line: Line, *, jobs: int) -> bool:
    """The old daemon's side, from the end of step 3 to step 4. False if the new one did not take its place."""
    taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def heard(_: Line, message: Message) -> None:
        if isinstance(message, TakenOver) and not taken.done():
            taken.set_result(True)

    def lost(_: Line) -> None:
        if not taken.done():
            taken.set_result(False)

    if line.lost:
        return False
    line.on_message, line.on_lost = heard, lost
    line.send(HandedOver(jobs))
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await taken
    except TimeoutError:
        return False
    finally:
        line.close()
