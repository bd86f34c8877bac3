"""``greenroom providers``: the models that there are, that are configured, and that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from greenroom.inventory.entries import Entry
    from greenroom.settings import ProviderSettings

__all__ = ["inventory_app"]

inventory_app = typer.Typer(rich_markup_mode=None)


@inventory_app.command(
    short_help="List the models that are installed, configured, and answer.",
    epilog="""\b
Examples:
  greenroom providers                          what is installed
  greenroom providers -c worker.yaml           what the settings use
  greenroom providers -c worker.yaml --probe   whether and how soon it answers

\b
A probe is a small request to each: a word, a sentence, half a second of
silence. It costs what that costs. "first" is the time to the first output.

\b
Exit codes:
  0  all that the settings use can be used
  1  something cannot; the reason stands beside it
  2  the settings are wrong""",
)
def providers(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="The settings; without them all that is installed."),
    ] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Load each, and ask it for something small.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="For connecting, and for each answer.")
    ] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="As JSON, an object a line.")] = False,
) -> None:
    """List the models that are installed, those that settings use, and with --probe how soon each of them answers."""
    from greenroom.inventory.entries import as_json, as_text, configured, installed
    from greenroom.ops import logs
    from greenroom.settings_file import load

    logs.configure("error", "console")
    found = installed() if config is None else configured(load(config))
    entries = asyncio.run(_probed(found, timeout=timeout)) if probe else [entry for entry, _ in found]
    typer.echo(as_json(entries) if json else as_text(entries))
    raise typer.Exit(1 if config is not None and not all(entry.usable for entry in entries) else 0)


async def _probed(found: Sequence[tuple[Entry, ProviderSettings]], *, timeout: float) -> list[Entry]:
    from greenroom.inventory.probing import probe_all

    async with aclosing(probe_all(found, timeout=timeout)) as probed:
        return [entry async for entry in probed]
