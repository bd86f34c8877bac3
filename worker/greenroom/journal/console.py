"""``greenroom journal``: what a call was, and whether today's code would hold it as it was held."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from greenroom.errors import GreenroomError

if TYPE_CHECKING:
    from greenroom.journal.reader import Journal
    from greenroom.journal.shelf import Kept

__all__ = ["journal_app"]

journal_app = typer.Typer(
    name="journal",
    help="Look into calls: what was said, how long answers took, what was decided.",
    short_help="Look into calls that were held.",
    epilog="""\b
Examples:
  greenroom journal list
  greenroom journal show AJ_x""",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A journal, or the id of its job.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, an object a line.")]
CODES = """\b
Exit codes: 0 done, 2 the journal cannot be read."""


@journal_app.command(
    "list",
    short_help="Say which journals there are.",
    epilog=f"""\b
Examples:
  greenroom journal list
  greenroom journal list -c worker.yaml

{CODES}""",
)
def list_journals(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where they are.", show_default="the worker's own")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The settings that say where they are.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Say which journals there are, the oldest first: when, how long, which room, and how each ended."""
    import msgspec

    from greenroom.journal.shelf import survey

    where = folder or _folder(config)
    try:
        kept = survey(where)
    except OSError as error:
        _fail(f"{where}: {error.strerror or error}; expected a folder with journals")
    if json:
        _say("\n".join(msgspec.json.encode(one, enc_hook=str).decode() for one in kept))
    else:
        _say("\n".join(map(_listed, kept)) or f"{where}: no journals")


@journal_app.command(
    short_help="Show a call as a transcript with times.",
    epilog=f"""\b
Examples:
  greenroom journal show AJ_x
  greenroom journal show calls/AJ_x.journal --json

{CODES}""",
)
def show(file: File, json: AsJson = False) -> None:
    """Show a call as a transcript with times: who said what, what of it was heard, tools, interruptions, errors."""
    from greenroom.journal.transcript import as_json, as_text, transcript

    with _readable():
        journal = _read(file)
        entries = transcript(journal)
        _say(as_json(entries) if json else as_text(journal, entries))


@journal_app.command(
    short_help="Hold a call again, with today's code.",
    epilog="""\b
Example:
  greenroom journal replay AJ_x

\b
Exit codes:
  0  the same was decided for every event
  1  something else was, or nothing was to compare with
  2  the journal cannot be read""",
)
def replay(file: File) -> None:
    """Feed a call's events to today's code, and show the first decision that differs from the call's."""
    from greenroom.journal.replay import compare
    from greenroom.version import __version__

    with _readable():
        journal = _read(file)
        difference = compare(journal)
    count = sum(record.decided is not None for record in journal.records)
    if difference is not None:
        _say(str(difference))
        if journal.header.greenroom != __version__:
            _say(f"The call was held by greenroom {journal.header.greenroom}; this is {__version__}.")
        raise typer.Exit(1)
    if not count:
        _say(f"{journal.path}: no event whose decision is known")
        raise typer.Exit(1)
    _say(f"{journal.path}: {len(journal.events)} events, decided as in the call")


@journal_app.command(
    short_help="Say where the time of each answer went.",
    epilog=f"""\b
Examples:
  greenroom journal turns AJ_x
  greenroom journal turns AJ_x --svg answers.svg

\b
The columns, from silence to playout, are described in docs/journal.md.

{CODES}""",
)
def turns(
    file: File,
    svg: Annotated[Path | None, typer.Option(metavar="OUT", help="Draw them into this file.")] = None,
    json: AsJson = False,
) -> None:
    """Say where the time of each answer went, from the user's last sample to the agent's first, in milliseconds."""
    import msgspec

    from greenroom.journal.picture import draw
    from greenroom.journal.waterfall import table
    from greenroom.journal.waterfall import turns as measure

    with _readable():
        journal = _read(file)
        measured = measure(journal)
    if svg is not None:
        title = f"{journal.header.job}, room {journal.header.room}, {journal.header.started}"
        try:
            svg.write_text(draw(measured, title=title), encoding="utf-8")
        except OSError as error:
            _fail(f"{svg}: cannot be written ({error.strerror})")
    if json:
        _say("\n".join(msgspec.json.encode(turn).decode() for turn in measured))
    else:
        _say(table(measured) if measured else f"{journal.path}: no turn of a user's")


@journal_app.command(
    "test",
    short_help="Make a regression test of a call.",
    epilog=f"""\b
Examples:
  greenroom journal test AJ_x
  greenroom journal test AJ_x --out tests/test_barge_in.py --today

{CODES}""",
)
def write_regression(
    file: File,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The test to write.", show_default="test_call_JOB.py")
    ] = None,
    today: Annotated[
        bool, typer.Option("--today", help="Assert what today's code decides, not what was decided in the call.")
    ] = False,
) -> None:
    """Make a regression test of a call: a file for pytest, with the journal beside it."""
    from greenroom.journal.regression import default_name, write_test
    from greenroom.journal.replay import compare

    with _readable():
        journal = _read(file)
        out = out or Path(default_name(journal))
        beside = write_test(journal, out, today=today)
        difference = None if today else compare(journal)
    _say(f"{out} and {beside.name}, {len(journal.events)} events")
    if difference is not None:
        _say(f"It fails now, since today's code decides otherwise:\n{difference}")


# --- pieces -------------------------------------------------------------------------------------------------------


def _folder(config: Path | None = None) -> Path:
    from greenroom.directories import state_dir
    from greenroom.settings_file import load

    return (Path(load(config).worker.state_dir) if config is not None else state_dir(os.environ)) / "journals"


def _read(file: str) -> Journal:
    """The journal at this path, or the newest one of this job. Raises ``JournalBroken``."""
    from greenroom.journal.file import SUFFIX
    from greenroom.journal.format import JournalBroken
    from greenroom.journal.reader import read

    path = Path(file)
    if path.exists() or path.suffix == SUFFIX or len(path.parts) > 1:
        return read(path)
    folder = _folder()
    name = glob.escape(file)
    found = [*folder.glob(f"{name}{SUFFIX}"), *folder.glob(f"{name}.[0-9]*{SUFFIX}")]
    if not found:
        raise JournalBroken(f"{file}: no such file, and no journal of such a job in {folder}; expected a journal")
    return read(max(found, key=lambda one: one.stat().st_mtime))


@contextmanager
def _readable() -> Iterator[None]:
    """A journal that cannot be read is one line and the exit code 2."""
    try:
        yield
    except GreenroomError as error:
        if os.environ.get("GREENROOM_DEBUG"):
            raise
        _fail(str(error))


def _fail(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    raise typer.Exit(2)


def _listed(kept: Kept) -> str:
    if kept.state == "unreadable":
        return f"{kept.state:<10}  {kept.error}"
    when = kept.started[:19].replace("T", " ")
    line = f"{kept.state:<10}  {when:<19}  {kept.seconds:7.1f} s  {kept.size / 1024:7.1f} KiB  {kept.job}"
    rest = "  ".join(part for part in (kept.room, kept.agent, kept.error) if part)
    return f"{line}  {rest}".rstrip()


def _say(text: str) -> None:
    if text:
        typer.echo(text)
