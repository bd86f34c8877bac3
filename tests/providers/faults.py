"""What a caller notices when a vendor fails: ``python -m tests.providers.faults``, or ``make test-providers``.

For each provider that has a vendor, and each fault that its server can play, two calls are held in memory, with a real
session around the real plugin. In the first the vendor fails once, and there is nobody else; in the second it fails for
good, and another one stands behind it. In each call the user asks twice: once into the fault, and once more, to see
that the call goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from greenroom.dialog.deadair import DeadAirRules
from greenroom.dialog.dialog import DialogRules
from greenroom.dialog.endpoint import EndpointRules
from greenroom.dialog.turns import TurnRules
from greenroom.errors import ProviderError
from greenroom.providers.resilience.chain import Candidate
from greenroom.providers.resilience.rules import Rules
from greenroom.session.agent import Agent
from greenroom.session.hooks import ErrorEvent
from greenroom.session.session import AgentSession, SessionOptions
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput, Segment
from greenroom.testing.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from tests.providers.contract.case import FAULTS, Case, Fault, VendorServer
from tests.providers.contract.cases import CASES
from tests.providers.contract.local import AROUND

__all__ = ["Trial", "main", "tried"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"
BEGIN, END = "<!-- faults -->", "<!-- end of faults -->"
HEAD = (
    "| kind | provider | fault | once, alone: heard after | what was done | "
    "for good, with another behind: heard after | what was done |\n"
    "|---|---|---|---|---|---|---|"
)
RULES = Rules(attempts=2, delay=0.1, max_delay=0.5, timeout=1.5, stall=1.5)
"""Less patient than by default, so that the table does not take an hour."""
OPTIONS = SessionOptions(
    rules=DialogRules(
        turns=TurnRules(endpoint=EndpointRules(min_delay=0.5), transcript_timeout=4.0),
        dead_air=DeadAirRules(
            enabled=True, hold_after=4.0, fallback_after=2.0, end_after=30.0, fallback_phrase="I am sorry, once more?"
        ),
    )
)
APOLOGY = "I am sorry"
PATIENCE = 9.0
"""Seconds in which something has to be heard."""
AT_ONCE = 4
"""Calls held at the same time."""
WORDS = "This is the answer. It has two sentences."
WORDLESS = frozenset({("stt", "silence")})
"""What is no fault that anybody could tell from a user who said nothing."""


@dataclass(slots=True)
class Trial:
    """One call. ``after``: seconds from the user's last sample to the first one heard, ``None`` where nothing was;
    ``said``: what was heard, in words; ``done``: what was told of the fault; ``again``: the second turn was answered.
    """

    after: float | None = None
    said: str = ""
    done: list[str] = field(default_factory=list)
    again: bool = False
    alive: bool = False

    def wrong(self, case: Case, fault: Fault | str) -> str:
        """What should not be so; empty where all is well."""
        if not self.alive:
            return "the call ended"
        if not self.again and (case.kind, fault) not in WORDLESS:
            return "the second turn was not answered"
        if fault and not self.done and (case.kind, fault) not in WORDLESS:
            return "nothing was told"
        return ""


class Call:
    """A session in memory around one provider that is tried; the others answer as a script says."""

    def __init__(self, case: Case, tried: Any) -> None:
        self._case = case
        self._realtime = case.kind == "realtime"
        others: dict[str, Any] = {
            "stt": ScriptedSTT(["What time is it?"] * 20),
            "llm": ScriptedLLM([WORDS] * 40),
            "tts": ScriptedTTS(real_time_factor=0.02),
        }
        used = (
            {"llm": tried, "tts": ScriptedTTS(real_time_factor=0.02)}
            if self._realtime
            else {**others, case.kind: tried}
        )
        self.user, self.out = LoopbackInput(), LoopbackOutput()
        self.session = AgentSession(vad=ScriptedVAD(), options=OPTIONS, **used)
        self.trial = Trial()
        self.session.on("error", self._failed)
        self.session.on("close", lambda _: setattr(self.trial, "alive", False))

    async def hold(self, server: VendorServer, fault: Fault | str, *, times: int) -> Trial:
        """Two turns, the first of them into the fault."""
        agent = Agent(instructions="Answer briefly.")
        await self.session.start(agent, audio_in=self.user, audio_out=self.out)
        self.trial.alive = True
        try:
            server.order(fault, times=times)  # type: ignore[arg-type]
            self.trial.after = await self._ask()
            self.trial.said = self._answer()
            if times == 1:
                server.order("")
            self.trial.again = await self._ask() is not None
            alive = self.trial.alive
        finally:
            self.user.end()
            await self.session.aclose("over")
        self.trial.alive = alive
        return self.trial

    async def _ask(self) -> float | None:
        """Ask, and wait until the answer is over; seconds from the last sample of the question to the first of it."""
        spoken = self._speak()
        self.user.silence(0.6)
        await spoken.played()
        asked = spoken.end or 0.0
        loop = asyncio.get_running_loop()
        first: float | None = None
        quiet = 0
        while loop.time() < asked + PATIENCE and quiet < 8:
            await asyncio.sleep(0.1)
            heard = [frame for frame in self.out.heard if frame.at >= asked]
            first = heard[0].at if heard else None
            over = first is not None and heard[-1].at + heard[-1].duration < loop.time() - 0.05
            quiet = quiet + 1 if over and self.session.agent_state == "listening" else 0
        return first - asked if first is not None else None

    def _speak(self) -> Segment:
        if self._case.speech is None:
            return self.user.speak(1.2)
        speech = self._case.speech().audio
        return self.user.play(speech.pcm, speech.sample_rate)

    def _answer(self) -> str:
        said = [message.text for message in self.session.history.messages() if message.role == "assistant"]
        return said[-1] if said else ""

    def _failed(self, event: ErrorEvent) -> None:
        incident = event.incident
        if incident is not None:
            told = f"{incident.fault}: {incident.action.replace('_', ' ')}"
        else:
            told = "error" if isinstance(event.error, ProviderError) else f"mistake ({type(event.error).__name__})"
        if told not in self.trial.done:
            self.trial.done.append(told)


async def tried(case: Case, fault: Fault | str, *, alone: bool) -> Trial:
    """One call: the fault once and nobody else (``alone``), or for good and another one behind."""
    assert case.serve is not None
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(case.serve()) for _ in range(1 if alone else 2)]
        candidates = [
            Candidate(name, case.make(server.url), RULES)
            for name, server in zip((case.name, "another"), servers, strict=False)
        ]
        provider = AROUND[case.kind](candidates)
        try:
            await asyncio.to_thread(provider.load)
            with suppress(ProviderError):  # as in a call: the first request will find out
                await provider.warm_up()
            return await Call(case, provider).hold(servers[0], fault, times=1 if alone else 10_000)
        finally:
            await provider.aclose()


@dataclass(slots=True)
class Row:
    """``usual``: of a call without a fault."""

    case: Case
    fault: Fault
    alone: Trial
    behind: Trial
    usual: Trial

    @property
    def wrong(self) -> list[str]:
        found = [
            ("alone", self.alone.wrong(self.case, self.fault)),
            ("behind", self.behind.wrong(self.case, self.fault)),
        ]
        wrong = [f"{where}: {what}" for where, what in found if what]
        if self.fault not in ("silence",) and _heard(self.behind, self.usual).startswith("nothing"):
            wrong.append("behind: nothing was heard")
        return wrong

    def line(self) -> str:
        cells = [
            self.case.kind,
            self.case.name,
            self.fault,
            _heard(self.alone, self.usual),
            ", ".join(self.alone.done) or "–",
            _heard(self.behind, self.usual),
            ", ".join(self.behind.done) or "–",
        ]
        return f"| {' | '.join(cells)} |"


def _heard(trial: Trial, usual: Trial) -> str:
    """What the caller noticed, beside a call without a fault."""
    if trial.after is None:
        return "nothing"
    seconds = f"{trial.after:.1f} s"
    if APOLOGY in trial.said:
        return f"{seconds}, an apology"
    short = len(trial.said.split()) < 0.8 * len(usual.said.split())
    return f"{seconds}, cut short" if short else seconds


async def _rows(cases: Sequence[Case], faults: Sequence[Fault]) -> list[Row]:
    """Shown as they come; in order in what is returned."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case, fault: Fault | str, *, alone: bool) -> Trial:
        async with gate:
            return await tried(case, fault, alone=alone)

    async def row(case: Case, fault: Fault, usual: Trial) -> Row:
        alone, behind = await asyncio.gather(one(case, fault, alone=True), one(case, fault, alone=False))
        made = Row(case, fault, alone, behind, usual)
        sys.stdout.write(f"{made.line()}\n")
        sys.stdout.flush()
        return made

    usual = dict(zip(cases, await asyncio.gather(*(one(case, "", alone=True) for case in cases)), strict=True))
    return await asyncio.gather(
        *(row(case, fault, usual[case]) for case in cases for fault in faults if fault in case.faults)
    )


def write(rows: Sequence[Row], document: Path = DOCUMENT) -> None:
    """Put the table into the document."""
    text = document.read_text()
    before, _, after = re.split(f"{BEGIN}\n|{END}\n", text)
    table = "\n".join([HEAD, *(row.line() for row in rows), ""])
    document.write_text("".join([before, f"{BEGIN}\n", table, f"{END}\n", after]))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.providers.faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="providers and kinds whose name has it")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="these faults alone")
    parser.add_argument("--write", action="store_true", help="put the table into docs/providers.md")
    parser.add_argument("--verbose", action="store_true", help="and what is logged")
    chosen = parser.parse_args(arguments)
    if not chosen.verbose:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    cases = [case for case in CASES if case.serve and case.faults and chosen.only in f"{case.kind} {case.name}"]
    sys.stdout.write(f"{HEAD}\n")
    rows = asyncio.run(_rows(cases, chosen.fault or FAULTS))
    wrong = [f"{row.case.kind} {row.case.name}, {row.fault}: {what}" for row in rows for what in row.wrong]
    sys.stdout.write("".join(f"wrong: {line}\n" for line in wrong))
    sys.stdout.write(f"{len(rows)} faults, {2 * len(rows)} calls; {len(wrong)} not as they should be\n")
    if chosen.write:
        write(rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
