"""The examination: from the settings to the rooms, in the order in which a dispatch comes by."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp

from greenroom.doctor.findings import Finding, note, wrong
from greenroom.doctor.probe import Probe
from greenroom.doctor.reach import clock, credentials, reach
from greenroom.doctor.rooms import examine_rooms
from greenroom.doctor.worker import examine_agents, examine_name, examine_worker
from greenroom.errors import GreenroomError
from greenroom.ops.asking import NoWorker, doors, open_door
from greenroom.settings import Settings

__all__ = ["Question", "examine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be found out. ``agent``: the name that is dispatched, ``None``: not told; ``room``: to which one.

    ``probe``: whether a room may be made to try a dispatch. ``local``: whether the worker is to be on this machine.
    """

    agent: str | None = None
    room: str = ""
    probe: bool = True
    local: bool = True


async def examine(
    settings: Settings, question: Question, *, environ: Mapping[str, str]
) -> AsyncGenerator[Finding, None]:
    """Findings, each as soon as it is there. What cannot be looked at for what was found before is left out."""
    if question.agent is not None:
        yield examine_name(question.agent, settings)
    for finding in examine_agents(settings):
        yield finding
    if question.local:
        for finding in await _worker(settings, environ):
            yield finding
    async with aclosing(_server(settings, question)) as findings:
        async for finding in findings:
            yield finding


async def _worker(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    try:
        door, status = await open_door(doors(settings.worker, environ))
    except NoWorker as error:
        mend = f"greenroom start -c {settings.file}; if it runs on another machine, look there, or use --no-worker"
        return [wrong("worker", f"none runs here: {error}", mend=mend)]
    except GreenroomError as error:
        return [wrong("worker", str(error), mend="see what listens there: worker.run_dir, worker.admin.port")]
    found = examine_worker(settings, status)
    if door.socket is None and not status.run_dir:
        found.append(note("worker", "it tells strangers only a part", mend="set worker.admin.token here as it has it"))
    return found


async def _server(settings: Settings, question: Question) -> AsyncGenerator[Finding, None]:
    async with aiohttp.ClientSession() as session:
        finding, reached = await reach(session, settings.server)
        yield finding
        if reached is None:
            return
        yield clock(reached)
        if not reached.livekit:
            return
        finding = await credentials(session, settings.server, reached)
        yield finding
        if finding.verdict == "wrong":
            return
    probe = Probe(settings.server)
    try:
        registered = await probe.register()
        for finding in registered:
            yield finding
        if any(finding.verdict == "wrong" for finding in registered):
            return
        for finding in await probe.dispatch() if question.probe else ():
            yield finding
    finally:
        await probe.aclose()
    for finding in await examine_rooms(settings, only=question.room, skew=reached.skew or 0.0):
        yield finding
