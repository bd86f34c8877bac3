"""``greenroom doctor``: why a dispatch does not arrive."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from greenroom.doctor.examination import Question
    from greenroom.doctor.findings import Finding
    from greenroom.settings import Settings

__all__ = ["doctor_app"]

doctor_app = typer.Typer(rich_markup_mode=None)


@doctor_app.command(
    short_help="Say why a dispatch does not arrive.",
    epilog="""\b
Examples:
  greenroom doctor -c worker.yaml
  greenroom doctor -c worker.yaml --agent reception --room lobby
  greenroom doctor -c worker.yaml --json

\b
It registers a worker under a name of its own for a moment, and has it called
to a room of its own, which it removes again; --no-probe leaves the room out.
It touches no call, and changes nothing else. Where the worker is on another
machine: --no-worker.

\b
Exit codes:
  0  nothing is wrong
  1  something is; what mends it stands beside it
  2  the settings are wrong""",
)
def doctor(
    config: Annotated[
        Path,
        typer.Option(
            "--config", "-c", metavar="FILE", envvar="GREENROOM_CONFIG", help="The worker's settings, in YAML."
        ),
    ],
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name that your dispatch or token asks for.")
    ] = None,
    room: Annotated[
        str, typer.Option(metavar="NAME", help="The room that it is asked for in; all of them if left out.")
    ] = "",
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Try a dispatch, in a room made for it.")] = True,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Look at the worker that runs on this machine.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="As JSON, an object a line.")] = False,
) -> None:
    """Say why a dispatch does not arrive, and what mends it: the worker, the server, its clock, credentials, rooms."""
    from greenroom.check import check
    from greenroom.doctor.examination import Question
    from greenroom.doctor.findings import right
    from greenroom.ops import logs

    settings = check(config)
    logs.configure("error", "console")
    logs.hide(settings.server.api_secret)
    logs.hide(settings.worker.admin.token)
    _say([right("settings", f"{config} is right")], json=json)
    question = Question(agent=agent, room=room, probe=probe, local=worker)
    raise typer.Exit(1 if asyncio.run(_examined(settings, question, json=json)) else 0)


async def _examined(settings: Settings, question: Question, *, json: bool) -> bool:
    """Tell what is found; whether anything is wrong."""
    from greenroom.doctor.examination import examine

    wrong = False
    async with aclosing(examine(settings, question, environ=os.environ)) as findings:
        async for finding in findings:
            _say([finding], json=json)
            wrong = wrong or finding.verdict == "wrong"
    return wrong


def _say(findings: list[Finding], *, json: bool) -> None:
    from greenroom.doctor.findings import as_json, as_text

    typer.echo(as_json(findings) if json else as_text(findings))
