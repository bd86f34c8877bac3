"""A job's journal: what it is of, where it is, and that it can be left out. Without a room."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from greenroom.dialog.events import Started
from greenroom.dialog.history import ChatContext, Message
from greenroom.job.agentsettings import AgentProviders, session_options
from greenroom.job.call import ServedCall
from greenroom.job.resume import begin
from greenroom.jobs.control import JobControl
from greenroom.jobs.ipc import JobInfo
from greenroom.journal.reader import read
from greenroom.session.agent import Agent
from greenroom.settings import (
    AgentSettings,
    InterruptionSettings,
    JournalSettings,
    ServerSettings,
    Settings,
    TurnSettings,
    WorkerSettings,
)

from .calls import path_of, write

AGENT = AgentSettings(name="desk", turns=TurnSettings(min_delay=0.3, interruption=InterruptionSettings(min_words=2)))
JOB = JobInfo(
    id="AJ_x",
    room="hall",
    room_sid="RM_x",
    agent_name="desk",
    url="ws://127.0.0.1:9",
    token="token-of-the-job",
    identity="agent",
)


class Butler(Agent):
    def __init__(self) -> None:
        context = ChatContext([Message("m", "user", "We spoke yesterday.")])
        super().__init__(instructions="Be discreet.", chat_ctx=context)


def job(folder: Path, journal: JournalSettings) -> ServedCall:
    settings = Settings(
        server=ServerSettings(url="ws://127.0.0.1:9", api_key="devkey", api_secret="s" * 32),
        agents=(AGENT,),
        worker=WorkerSettings(state_dir=str(folder), journal=journal),
    )
    return ServedCall(JOB, JobControl(_say), settings, AGENT, providers=AgentProviders())


def _say(message: object) -> None:
    """Nobody listens."""


async def test_a_job_opens_the_journal_of_its_call(tmp_path: Path) -> None:
    old = path_of(write(tmp_path / "journals", job="old"))
    os.utime(old, (1.0, 1.0))
    options = session_options(AGENT)
    before = asyncio.get_running_loop().time()
    writer = job(tmp_path, JournalSettings(redact=("yesterday",)))._open_record(begin(Butler()), options)
    assert writer is not None
    writer.event(Started(), before + 1)
    writer.close()
    path = Path(writer.path)
    assert path == tmp_path / "journals" / "AJ_x.journal"
    journal = read(path)
    header = journal.header
    assert (header.job, header.room, header.agent, header.attempt) == ("AJ_x", "hall", "desk", 1)
    assert header.agent_class == f"{__name__}:Butler"
    assert header.history == (Message("m", "user", "We spoke xxx."),)
    assert before <= header.began <= before + 60
    assert header.rules == options.rules
    assert (header.rules.turns.endpoint.min_delay, header.rules.interruption.min_words) == (0.3, 2)
    assert "token-of-the-job" not in await asyncio.to_thread(path.read_text)


async def test_a_job_may_have_none(tmp_path: Path) -> None:
    assert job(tmp_path, JournalSettings(enabled=False))._open_record(begin(Butler()), session_options(AGENT)) is None
    assert os.listdir(tmp_path) == []
