"""``greenroom status`` and ``greenroom drain``: a worker that runs, seen and told from a shell."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from greenroom.errors import GreenroomError, SettingsError

if TYPE_CHECKING:
    from greenroom.ops.asking import Door

__all__ = ["ops_app"]

T = TypeVar("T")

POLL = 0.5
"""Seconds between two looks at a worker that drains."""
NO_WORKER = 3
TOKEN = "GREENROOM_ADMIN_TOKEN"  # noqa: S105  # the variable's name

ops_app = typer.Typer(rich_markup_mode=None)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="GREENROOM_CONFIG", help="The worker's settings, to know where it is."
    ),
]
RunDir = Annotated[Path | None, typer.Option("--run-dir", metavar="FOLDER", help="The worker's run directory.")]
Url = Annotated[
    str, typer.Option("--url", metavar="URL", help=f"The worker's address; the token is taken from {TOKEN}.")
]
WHERE = """\b
Without an option the worker is looked for in this user's run directory, then
in that of the systemd unit."""


@ops_app.command(
    short_help="Say how a worker is.",
    epilog=f"""\b
Examples:
  greenroom status
  greenroom status -c worker.yaml --json
  greenroom status --url http://10.0.0.7:8081

{WHERE}

\b
Exit codes:
  0  it would take a call
  1  it would not
  2  the settings are wrong
  3  no worker answers""",
)
def status(
    config: Config = None,
    run_dir: RunDir = None,
    url: Url = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON, one object.")] = False,
) -> None:
    """Say how a worker is: its registrations, warm processes and calls, and why it would take none."""
    import msgspec

    from greenroom.ops.asking import open_door
    from greenroom.ops.facts import unready
    from greenroom.ops.wording import overview

    _, now = _asked(open_door(_doors(config, run_dir, url)))
    typer.echo(msgspec.json.encode(now).decode() if json else overview(now))
    raise typer.Exit(1 if unready(now) else 0)


@ops_app.command(
    short_help="Have a worker end its calls and stop.",
    epilog=f"""\b
Examples:
  greenroom drain --wait
  greenroom drain -c worker.yaml --now

{WHERE}

\b
Exit codes:
  0  it drains; with --wait: it is gone
  1  it does not take this from here
  2  the settings are wrong
  3  no worker answers""",
)
def drain(
    config: Config = None,
    run_dir: RunDir = None,
    url: Url = "",
    now: Annotated[bool, typer.Option("--now", help="End the calls that go on.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the worker is gone.")] = False,
) -> None:
    """Have a worker take no more calls, and stop when those that go on have ended: as SIGTERM does."""
    _asked(_drain(_doors(config, run_dir, url), now=now, wait=wait))


async def _drain(candidates: tuple[Door, ...], *, now: bool, wait: bool) -> None:
    from greenroom.ops.asking import NoWorker, ask_drain, ask_status, open_door
    from greenroom.ops.wording import left_over

    door, _ = await open_door(candidates)
    draining = await ask_drain(door, now=now)
    pid, shown = draining.pid, None
    while True:
        stage = len(draining.jobs), draining.drain.phase if draining.drain is not None else None
        if stage != shown:
            typer.echo(left_over(draining))
            shown = stage
        if not wait:
            return
        await asyncio.sleep(POLL)
        try:
            draining = await ask_status(door)
        except NoWorker:
            break
        if draining.pid != pid:  # another one has taken its place
            break
    typer.echo("gone")


# --- pieces ----------------------------------------------------------------------------------------------------------


def _doors(config: Path | None, folder: Path | None, url: str) -> tuple[Door, ...]:
    from greenroom.ops.admin import SOCKET
    from greenroom.ops.asking import Door, doors
    from greenroom.settings_file import load

    if url:
        return (Door(url=url if "://" in url else f"http://{url}", token=os.environ.get(TOKEN, "")),)
    if folder is not None:
        return (Door(folder / SOCKET),)
    return doors(load(config).worker if config is not None else None, os.environ)


def _asked(question: Awaitable[T]) -> T:
    """The answer; one line and an exit code where there is none."""
    from greenroom.ops.asking import NoWorker

    async def ask() -> T:
        return await question

    try:
        return asyncio.run(ask())
    except NoWorker as error:
        _fail(f"no worker answers: {error}", NO_WORKER)
    except SettingsError:
        raise
    except GreenroomError as error:
        _fail(str(error), 1)


def _fail(why: str, code: int) -> NoReturn:
    sys.stderr.write(f"{why}\n")
    raise typer.Exit(code)
