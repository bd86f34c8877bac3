"""The child's composition root: what a warm process boots, is asked, and runs when a job comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import structlog

from greenroom.errors import BootFailed
from greenroom.job.agentsettings import AgentProviders, build_providers, tool_sources
from greenroom.job.background import build_background
from greenroom.job.call import ServedCall
from greenroom.job.resume import AgentMaker, class_path
from greenroom.job.voices import Voices, fixed_phrases
from greenroom.jobs.ipc import Considered
from greenroom.providers.realtime import RealtimeModel
from greenroom.redaction import hide
from greenroom.reference import resolve
from greenroom.session.agent import Agent
from greenroom.session.realtime import word_for_word
from greenroom.session.requests import Accept, JobRequest, Refuse
from greenroom.settings import AgentSettings, Settings

if TYPE_CHECKING:
    from greenroom.background.player import BackgroundAudioPlayer
    from greenroom.jobs.control import JobControl
    from greenroom.jobs.ipc import JobInfo

__all__ = ["DeclaredAgent", "Runner", "load_agent", "tool_sources"]

log = structlog.get_logger(__name__)

DECLINED = "declined"
"""Why an offer was refused that ``on_request`` refused without a reason."""


class DeclaredAgent(Agent):
    """An agent that is wholly written in the YAML."""

    def __init__(self, *, instructions: str, greeting: str) -> None:
        super().__init__(instructions=instructions)
        self._greeting = greeting

    async def on_enter(self) -> None:
        """Greet: a realtime model that is the only voice is asked to."""
        if not self._greeting:
            return
        used = self.session.providers()
        if used.tts is None and isinstance(used.llm, RealtimeModel):
            self.session.generate_reply(instructions=word_for_word(self._greeting), tools=[], tool_choice="none")
        else:
            self.session.say(self._greeting)


def load_agent(settings: AgentSettings, *, beside: str) -> type[Agent] | None:
    """The class that ``agent: module:Class`` names; ``None`` for an agent that is declared in the YAML.

    ``beside``: the settings file, near which the module is looked up. Raises ``BadReference`` that says what is wrong.
    """
    return resolve(settings.agent, kind=Agent, beside=beside) if settings.agent else None


class Runner:
    """One process's work. ``boot`` once, ``consider`` as often as wanted, then ``run`` once."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._agent_settings: AgentSettings | None = None
        self._agent_class: type[Agent] | None = None
        self._providers = AgentProviders()
        self._background: BackgroundAudioPlayer | None = None

    def boot(self, settings: bytes, agent: str) -> None:
        """Import the user's module and load the models: all that can be done before a job is known. Blocks."""
        self._settings = Settings.decode(settings)
        chosen = self._agent_settings = next(entry for entry in self._settings.agents if entry.name == agent)
        hide(self._settings.server.api_secret)
        self._agent_class = load_agent(chosen, beside=self._settings.file)
        voices = Voices(self._settings, chosen)
        self._providers = build_providers(
            chosen, beside=self._settings.file, models=self._settings.models, voices=voices
        )
        self._providers.load()
        voices.prepare(fixed_phrases(chosen, self._agent_class))
        self._background = build_background(chosen, beside=self._settings.file)

    @property
    def considers(self) -> bool:
        """Whether the agent's class has an ``on_request`` of its own."""
        lineage = self._agent_class.__mro__ if self._agent_class is not None else ()
        return any("on_request" in vars(cls) for cls in lineage if cls is not Agent)

    def consider(self, job: JobInfo) -> Considered:
        """Ask the agent's class about an offer, on a loop of its own. Raises what ``on_request`` raises, and
        ``TimeoutError`` when it takes longer than ``deadlines.on_request``."""
        if self._settings is None or self._agent_class is None:
            return Considered(job.id, accepted=True)
        request = JobRequest(
            id=job.id,
            room=job.room,
            room_sid=job.room_sid,
            agent_name=job.agent_name,
            metadata=job.metadata,
            participant=job.participant,
            dispatch_id=job.dispatch_id,
            job_type=job.job_type,
            attributes=dict(job.attributes),
        )
        answer = _asked(self._agent_class, request, timeout=self._settings.worker.deadlines.on_request)
        if isinstance(answer, Accept):
            return Considered(job.id, True, "", answer.identity, answer.name, answer.metadata, dict(answer.attributes))
        if isinstance(answer, Refuse):
            return Considered(job.id, accepted=False, reason=answer.reason or DECLINED)
        if not isinstance(answer, bool):
            raise TypeError(f"on_request returned {type(answer).__name__}; expected bool, Accept or Refuse")
        return Considered(job.id, accepted=answer, reason="" if answer else DECLINED)

    async def run(self, job: JobInfo, control: JobControl) -> None:
        """Serve one job to its end."""
        if self._settings is None or self._agent_settings is None:
            raise BootFailed("a job came before the boot")
        hide(job.token)
        settings = self._agent_settings
        call = ServedCall(
            job, control, self._settings, settings, providers=self._providers, background=self._background
        )
        call.context.enter()
        path = class_path(self._agent_class or DeclaredAgent)
        await call.serve(AgentMaker(lambda: self._make_agent(settings), path, beside=self._settings.file))

    def _make_agent(self, settings: AgentSettings) -> Agent:
        if self._agent_class is not None:
            return self._agent_class()
        return DeclaredAgent(instructions=settings.instructions, greeting=settings.greeting)


async def _within(timeout: float, answer: Awaitable[object]) -> object:
    async with asyncio.timeout(timeout):
        return await answer


def _asked(agent: type[Agent], request: JobRequest, *, timeout: float) -> object:
    """What the hook says. ``asyncio.run`` would wait at its end for each thread that the hook has left behind."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_within(timeout, agent.on_request(request)))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
