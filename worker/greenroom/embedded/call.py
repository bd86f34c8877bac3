"""``greenroom call``: a simulated caller that speaks, listens and measures."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from livekit.api.livekit_api import LiveKitAPI
from livekit.api.twirp_client import TwirpError

from greenroom.audio import AudioFrame, write_wav
from greenroom.embedded.caller import EAR_RATE, Caller
from greenroom.embedded.callreport import CallExit, CallReport, Narrator, Turn
from greenroom.embedded.console import open_room
from greenroom.embedded.loglines import LogLine, render
from greenroom.embedded.mediaserver import MediaServerError
from greenroom.embedded.microphone import SAMPLE_RATE
from greenroom.embedded.stack import Observer, Stack, probe, read_settings
from greenroom.embedded.transcript import Speaker
from greenroom.embedded.utterance import Utterance, recorded, spoken
from greenroom.embedded.workerprocess import WorkerFailed, WorkerProcess
from greenroom.errors import GreenroomError, ServerError, SettingsError
from greenroom.settings import ServerSettings, Settings
from greenroom.settings_file import SERVER_VARIABLES

__all__ = ["CallExit", "CallOptions", "run"]

GREETING_TIMEOUT = 30.0
LONGEST_ANSWER = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What the command line was given.

    ``config``: the worker's YAML, for the agent's name and the media server; needed with ``embedded``.
    ``url``, ``api_key``, ``api_secret``: instead of those in the file or the environment.
    ``agent``: the name to dispatch; ``None`` for the file's first agent, or for one that joins every room.
    ``say`` is spoken first, then ``wav``, each in its order. ``out``: where the agent's audio is written.
    ``json``: the report on standard output, everything else on standard error.
    ``agent_timeout``, ``answer_timeout``: how long the agent may take to come, and to be heard after a turn.
    ``verbose``: the embedded worker's log too.
    """

    config: Path | None = None
    embedded: bool = False
    url: str = ""
    api_key: str = ""
    api_secret: str = field(default="", repr=False)
    agent: str | None = None
    say: tuple[str, ...] = ()
    wav: tuple[Path, ...] = ()
    out: Path | None = None
    json: bool = False
    agent_timeout: float = 15.0
    answer_timeout: float = 20.0
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    """Where to call, and whom. ``worker``: the one that was brought along."""

    server: ServerSettings
    agent: str
    worker: WorkerProcess | None = None


class _CallFailed(GreenroomError):
    """The call did not come to what it was made for."""

    def __init__(self, message: str, *, exit_code: CallExit) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(options: CallOptions) -> int:
    """Make the call; return a ``CallExit``. Never raises for what a user, a server or an agent may do."""
    narrator = Narrator(diagnostics=options.json)
    # What LiveKit logs of a failure is in the error that we report, and there without the token.
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    report = CallReport()
    try:
        exit_code = asyncio.run(_call(options, report=report, narrator=narrator))
    except KeyboardInterrupt:
        exit_code, report.error = CallExit.INTERRUPTED, "interrupted"
    except (GreenroomError, OSError) as error:
        exit_code, report.error = _exit_code(error), str(error)
        narrator.fail(report.error)
    if options.json:
        sys.stdout.write(f"{report.encode()}\n")
        sys.stdout.flush()
    return int(exit_code)


def _exit_code(error: Exception) -> CallExit:
    match error:
        case _CallFailed(exit_code=exit_code):
            return exit_code
        case WorkerFailed() | MediaServerError():
            return CallExit.NOT_STARTED
        case ServerError():
            return CallExit.UNREACHABLE
        case _:
            return CallExit.SETTINGS


async def _call(options: CallOptions, *, report: CallReport, narrator: Narrator) -> CallExit:
    _check(options)
    recordings = [await asyncio.to_thread(recorded, path, sample_rate=SAMPLE_RATE) for path in options.wav]
    synthesising = asyncio.create_task(_synthesise(options.say, narrator), name="synthesise")
    try:
        async with _reached(options, narrator) as line:
            utterances = [*await synthesising, *recordings]
            if line.worker is not None:
                narrator.progress("Waiting for the worker")
                await line.worker.wait_ready()
            await _Conversation(options, line=line, report=report, narrator=narrator).hold(utterances)
    finally:
        synthesising.cancel()
        await asyncio.gather(synthesising, return_exceptions=True)
    return CallExit.OK


def _check(options: CallOptions) -> None:
    if options.embedded and options.config is None:
        raise SettingsError("--embedded needs a configuration; expected -c FILE")
    if not options.say and not options.wav:
        raise SettingsError("nothing to say; expected --say TEXT or --wav FILE")
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise SettingsError(f"{options.out}: there is no such folder", key="--out")


async def _synthesise(texts: Sequence[str], narrator: Narrator) -> list[Utterance]:
    utterances = []
    for text in texts:
        narrator.progress(f"Synthesising “{text}”")
        utterances.append(await spoken(text, sample_rate=SAMPLE_RATE))
    return utterances


@asynccontextmanager
async def _reached(options: CallOptions, narrator: Narrator) -> AsyncIterator[_Line]:
    """The way to the agent; with ``embedded``, what is behind it lives as long as this context."""
    if options.embedded:
        assert options.config is not None  # noqa: S101  # checked before

        def show(line: LogLine) -> None:
            if options.verbose or line.failure:
                narrator.tell("worker", render(line).plain, style="dim")

        observer = Observer(progress=narrator.progress, log=show)
        async with Stack(options.config, observer=observer, own_server=True, traceless=True) as stack:
            yield _Line(stack.server, _agent_name(options, stack.settings), stack.worker)
            narrator.progress("Taking the worker and the media server down")
        return
    server, settings = await asyncio.to_thread(_given, options)
    await probe(server)
    yield _Line(server, _agent_name(options, settings))


def _agent_name(options: CallOptions, settings: Settings | None) -> str:
    if options.agent is not None or settings is None:
        return options.agent or ""
    return settings.agents[0].name


def _given(options: CallOptions) -> tuple[ServerSettings, Settings | None]:
    """The media server from the options, the file and the environment, in this order."""
    wanted = {"url": options.url, "api_key": options.api_key, "api_secret": options.api_secret}
    given = {SERVER_VARIABLES[key]: value for key, value in wanted.items() if value}
    environ = {**os.environ, **given}
    settings, server = read_settings(options.config, environ=environ) if options.config else (None, None)
    found = {key: wanted[key] or getattr(server, key, environ.get(name, "")) for key, name in SERVER_VARIABLES.items()}
    if missing := [SERVER_VARIABLES[key] for key, value in found.items() if not value]:
        raise SettingsError(f"no media server: {', '.join(missing)} not set; expected them, -c FILE, or --embedded")
    return ServerSettings(url=found["url"], api_key=found["api_key"], api_secret=found["api_secret"]), settings


class _Conversation:
    """One call, turn after turn. Fills in ``report`` as it goes, so that a failed call still says how far it came."""

    def __init__(self, options: CallOptions, *, line: _Line, report: CallReport, narrator: Narrator) -> None:
        self._options = options
        self._server = line.server
        self._agent = line.agent
        self._report = report
        self._narrator = narrator

    async def hold(self, utterances: Sequence[Utterance]) -> None:
        """Join, hear the greeting, take every turn, leave. Raises when any turn stays unanswered."""
        entrance = open_room(self._server, agent=self._agent, prefix="call", identity="caller")
        self._report.room, self._report.agent = entrance.room, self._agent
        self._narrator.begin()
        self._narrator.tell("calling", f"{self._agent or 'the unnamed agent'} in room {entrance.room}", style="dim")
        started = time.monotonic()
        async with Caller(entrance, said=self._say) as caller:
            try:
                joined = await self._meet(caller)
                self._report.joined_seconds = _rounded(joined - started)
                await self._greet(caller, joined=joined)
                for utterance in utterances:
                    await self._take_turn(caller, utterance)
            finally:
                await self._record(caller)

    def _say(self, speaker: Speaker, text: str) -> None:
        if speaker == "agent":
            self._narrator.tell("agent", text, style="green")
        else:
            self._narrator.tell("heard", text, style="cyan")

    async def _meet(self, caller: Caller) -> float:
        try:
            joined = await caller.wait_for_agent(timeout=self._options.agent_timeout)
        except TimeoutError:
            why = await _why_absent(self._server, room=self._report.room, agent=self._agent)
            message = f"no agent came within {self._options.agent_timeout:g} s: {why}"
            raise _CallFailed(message, exit_code=CallExit.NO_AGENT) from None
        self._narrator.tell("joined", caller.agent_identity, style="dim")
        return joined

    async def _greet(self, caller: Caller, *, joined: float) -> None:
        """Let the agent finish what it says of its own accord."""
        try:
            await caller.wait_for_pause(since=joined, timeout=GREETING_TIMEOUT)
        except TimeoutError:
            message = f"the agent was not ready to listen within {GREETING_TIMEOUT:g} s of joining"
            raise _CallFailed(message, exit_code=CallExit.UNANSWERED) from None
        self._report.greeting = caller.transcript.text("agent", since=0.0)
        heard = caller.ear.first_audible(after=joined)
        self._report.greeting_seconds = None if heard is None else _rounded(heard - joined)

    async def _take_turn(self, caller: Caller, utterance: Utterance) -> None:
        turn = Turn(user=utterance.text)
        self._report.turns.append(turn)
        self._narrator.tell("you", utterance.text, style="bold cyan")
        began = time.monotonic()
        words = await caller.speak(utterance.pcm)
        try:
            answered = await caller.wait_for_voice(after=words.ended, timeout=self._options.answer_timeout)
            turn.response_seconds = _rounded(answered - words.ended)
            await caller.wait_for_pause(since=answered, timeout=LONGEST_ANSWER)
        except TimeoutError:
            raise self._unanswered(turn) from None
        finally:
            turn.transcript = caller.transcript.text("user", since=began)
            turn.answer = caller.transcript.text("agent", since=began)
        turn.answer_seconds = _rounded((caller.ear.last_audible or answered) - answered)
        self._narrator.tell("", f"answered after {turn.response_seconds:.2f} s", style="dim")

    def _unanswered(self, turn: Turn) -> _CallFailed:
        if turn.response_seconds is not None:
            message = f"the answer to {turn.user!r} did not end within {LONGEST_ANSWER:g} s"
        else:
            message = f"no answer to {turn.user!r} was heard within {self._options.answer_timeout:g} s"
        return _CallFailed(message, exit_code=CallExit.UNANSWERED)

    async def _record(self, caller: Caller) -> None:
        audio = AudioFrame(caller.ear.recording(), EAR_RATE)
        if len(audio.pcm) == 0:
            return
        path = self._options.out or _temporary_wav()
        await asyncio.to_thread(write_wav, path, audio)
        self._report.recording = str(path)
        self._narrator.tell("recorded", f"{path} ({audio.duration:.1f} s)", style="dim")


async def _why_absent(server: ServerSettings, *, room: str, agent: str) -> str:
    """What the media server knows of the dispatch, as a sentence."""
    kind = f"worker for {agent!r}" if agent else "worker for unnamed agents"
    try:
        async with LiveKitAPI(server.url, server.api_key, server.api_secret) as api:
            dispatches = await api.agent_dispatch.list_dispatch(room)
    except (TwirpError, aiohttp.ClientError, TimeoutError):
        return f"is a {kind} running?"
    if any(dispatch.state.jobs for dispatch in dispatches):
        return "a worker took the job, but its agent did not join the room; the worker's log says why"
    if agent and not dispatches:
        return "the room was not dispatched; it may have existed before the call"
    return f"nobody took the job: no {kind} is registered, or all of them are full"


def _temporary_wav() -> Path:
    handle, name = tempfile.mkstemp(prefix="greenroom-call-", suffix=".wav")
    os.close(handle)
    return Path(name)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
