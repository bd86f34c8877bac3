"""The ``greenroom`` command.

A command imports what it needs when it runs, so that ``start`` stays small. An error ends in a line on standard error,
never in a traceback (unless ``GREENROOM_DEBUG`` is set), and in an exit code: 2 for what the user wrote, 1 otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from greenroom.doctor.console import doctor_app
from greenroom.errors import GreenroomError, SettingsError
from greenroom.inventory.console import inventory_app
from greenroom.journal.console import journal_app
from greenroom.ops.console import ops_app
from greenroom.version import __version__

__all__ = ["app", "main"]

DEMO = Path(__file__).with_name("embedded") / "demo.yaml"
"""The agent that ``dev`` and ``call --embedded`` run when they are given no file."""

app = typer.Typer(
    name="greenroom",
    help="Voice agents on a LiveKit server: one process for each call.",
    epilog="Begin with: greenroom dev",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.add_typer(journal_app)
app.add_typer(ops_app)
app.add_typer(doctor_app)
app.add_typer(inventory_app)

Config = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", envvar="GREENROOM_CONFIG", help="The settings, in YAML.")
]


def main() -> NoReturn:
    """The entry point. Never returns."""
    try:
        app(prog_name="greenroom")
    except GreenroomError as error:
        if os.environ.get("GREENROOM_DEBUG"):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    sys.exit(0)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"greenroom {__version__}")
        raise typer.Exit


@app.callback()
def _greenroom(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before a command."""


@app.command(
    short_help="Run a worker, in production.",
    epilog="""\b
Examples:
  greenroom start -c worker.yaml
  greenroom start -c worker.yaml --takeover
  LIVEKIT_URL=wss://calls.example.com greenroom start -c worker.yaml

\b
Exit codes: 0 stopped as asked, 1 failed, 2 the settings are wrong.""",
)
def start(
    config: Config,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Check plugins and agents before anything starts.")
    ] = True,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="Take the place of the worker that runs, and its calls.")
    ] = False,
) -> None:
    """Run a worker, in production: register the agents and answer calls, until SIGTERM or Ctrl-C.

    One such signal lets the calls that go on come to their end; a second one ends them. SIGHUP has the settings read
    again. SIGUSR2 starts a new worker that takes over, as --takeover does: calls go on.
    """
    options = [option for option, wanted in (("--no-check", not check), ("--takeover", takeover)) if wanted]
    _become_worker(config, *options)


@app.command(
    short_help="Talk to an agent on this machine, in a browser.",
    epilog="""\b
Examples:
  greenroom dev                    talk with the demonstration
  greenroom dev -c worker.yaml     talk with your own agent

The media server is the one that the settings name, or LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET. Where
none is named, one is found or fetched, started, and stopped again.""",
)
def dev(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The settings, in YAML.", show_default="the demo")
    ] = DEMO,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Of the page; 0 takes a free one.")
    ] = 8080,
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Start anew when files change.")] = True,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Talk to an agent on this machine: a media server, a worker, and a page with a microphone."""
    from greenroom.embedded import dev as embedded

    raise typer.Exit(embedded.run(_readable(config), port=port, reload=reload, open_browser=open_browser))


@app.command(
    short_help="Say what is wrong with settings.",
    epilog="""\b
Examples:
  greenroom check worker.yaml
  greenroom check config/*.yaml

\b
Exit codes: 0 all is right, 2 something is not.
A mistake is a line on standard error:
  FILE:LINE: KEY: what is wrong; what was expected""",
)
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Settings, in YAML.", show_default=False)],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of files that are right.")] = False,
) -> None:
    """Check settings: keys and values, plugins and their options, and the classes of agents.

    The modules of your agents are imported for it; nothing is started, and no model is loaded.
    """
    from greenroom.check import check as check_file

    wrong = False
    for file in files:
        try:
            settings = check_file(file)
        except SettingsError as error:
            wrong = True
            typer.echo(str(error), err=True)
            continue
        if not quiet:
            names = ", ".join(agent.name or "(no name)" for agent in settings.agents)
            typer.echo(f"{file}: right; {'agent' if len(settings.agents) == 1 else 'agents'}: {names}")
    raise typer.Exit(2 if wrong else 0)


@app.command(
    short_help="Call an agent, speak to it, record its answers.",
    epilog="""\b
Examples:
  greenroom call --embedded --say "What time is it?"
  greenroom call --embedded -c worker.yaml --say Hello --say Goodbye
  greenroom call -c worker.yaml --wav question.wav --out answer.wav --json

\b
Exit codes:
  0  every turn was answered
  1  an agent came, but a turn was not answered
  2  a file or an option is wrong
  3  the media server does not answer
  4  no agent came
  5  the embedded media server or worker did not start

The key and secret of the media server come from the settings, or from LIVEKIT_API_KEY and LIVEKIT_API_SECRET.""",
)
def call(
    say: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What to say, in a synthetic voice; again for more turns.")
    ] = None,
    wav: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A recording to play, after what --say says; again for more."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write the agent's voice, as wav.")] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Bring a media server and a worker along, and take them down.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="The worker's settings; with --embedded the demo's."),
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whom to call; the first agent of the settings if not given.")
    ] = None,
    url: Annotated[str, typer.Option(metavar="URL", help="The media server, if not the settings' own.")] = "",
    agent_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Seconds until an agent has to be there.")
    ] = 15.0,
    answer_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Seconds until an answer has to be heard.")
    ] = 20.0,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The embedded worker's log too.")] = False,
) -> None:
    """Call an agent as a user would: join a room, speak, listen, and say what was heard and how soon."""
    from greenroom.embedded.call import CallOptions, run

    if config is None and embedded:
        config = DEMO
    options = CallOptions(
        config=_readable(config) if config else None,
        embedded=embedded,
        url=url,
        agent=agent,
        say=tuple(say or ()),
        wav=tuple(wav or ()),
        out=out,
        json=json,
        agent_timeout=agent_timeout,
        answer_timeout=answer_timeout,
        verbose=verbose,
    )
    raise typer.Exit(run(options))


@app.command(
    epilog="""\b
Example:
  greenroom schema > schema.json

\b
An editor takes it from the first line of a settings file:
  # yaml-language-server: $schema=schema.json"""
)
def schema() -> None:
    """Print the JSON schema of the settings, for editors."""
    from greenroom.settings_schema import encode_schema

    typer.echo(encode_schema())


def _readable(config: Path) -> Path:
    """The file, which is there to be read: what is in it, the worker checks."""
    if not config.is_file():
        raise SettingsError("no such file; expected a YAML file", file=str(config))
    return config


def _become_worker(config: Path, *options: str) -> NoReturn:
    """Run the worker in this process, in place of the command line and all that it has loaded."""
    sys.stdout.flush()
    sys.stderr.flush()
    interpreter = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]  # noqa: SLF001  # as multiprocessing does
    # -P: a file in the working directory must not stand in for a module of the standard library.
    os.execv(sys.executable, [*interpreter, "-P", "-m", "greenroom.daemon", str(config), *options])  # noqa: S606
