"""A real media server and a real worker: brought up, watched, started anew, taken down without a trace."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from greenroom.embedded.loglines import LogLine
from greenroom.embedded.stack import Observer, Stack
from greenroom.embedded.workerprocess import WorkerFailed
from greenroom.errors import LinkLost, SettingsError

pytestmark = pytest.mark.e2e

AGENT = """\
agents:
  - name: stack-test
    llm: {plugin: script}
worker: {warm: 1}
logs: {level: warning, format: console}
"""


@pytest.fixture(autouse=True)
def _no_server_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "worker.yaml"
    file.write_text(AGENT)
    return file


def stack(config: Path, lines: list[LogLine] | None = None) -> Stack:
    observer = Observer(progress=lambda _: None, log=(lines if lines is not None else []).append)
    return Stack(config, observer=observer, traceless=True)


def write(config: Path, text: str) -> None:
    config.write_text(text)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def worker_of(running: Stack) -> psutil.Process:
    """The Python process on the leash."""
    assert running.worker.pid is not None
    children = psutil.Process(running.worker.pid).children()
    return next(
        child for child in children if "greenroom.embedded.worker" in child.cmdline() and "-P" in child.cmdline()
    )


async def test_up_and_down_without_a_trace(config: Path) -> None:
    lines: list[LogLine] = []
    before = set(descendants())
    async with stack(config, lines) as running:
        await running.worker.wait_ready(timeout=60)
        assert running.worker.state == "ready"
        family = set(descendants()) - before
        assert len(family) >= 3
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive
    assert running.worker.pid is None
    assert [line for line in lines if line.level == "info"] == [], "the settings want warnings only"


async def test_a_worker_that_is_killed_is_seen_and_can_be_started_anew(config: Path) -> None:
    async with stack(config) as running:
        await running.worker.wait_ready(timeout=60)
        first = worker_of(running)
        os.kill(first.pid, signal.SIGKILL)
        await running.worker.wait_ended()
        assert running.worker.state == "failed"
        assert "killed by SIGKILL" in running.worker.problem
        write(config, AGENT.replace("stack-test", "renamed"))
        await running.restart_worker()
        await running.worker.wait_ready(timeout=60)
        assert running.settings.agents[0].name == "renamed"
        assert worker_of(running).pid != first.pid


async def test_a_broken_file_leaves_the_worker_alone(config: Path) -> None:
    async with stack(config) as running:
        await running.worker.wait_ready(timeout=60)
        pid = worker_of(running).pid
        write(config, "agents: 7\n")
        with pytest.raises(SettingsError, match=r"worker.yaml:1: agents"):
            await running.check()
        with pytest.raises(SettingsError, match=r"worker.yaml:1: agents"):
            await running.restart_worker()
        assert worker_of(running).pid == pid
        assert running.worker.state == "ready"


async def test_a_plugin_that_is_not_there_stops_all_before_a_worker_runs(config: Path) -> None:
    before = set(descendants())
    write(config, AGENT.replace("script", "oracle"))
    with pytest.raises(SettingsError, match=r"worker.yaml:3: agents\[0\].llm.plugin: no plugin `oracle`"):
        async with stack(config):
            pytest.fail("it came up")
    assert set(descendants()) <= before


async def test_a_worker_that_the_server_refuses_says_so(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stack(config) as other:
        monkeypatch.setenv("LIVEKIT_URL", other.server.url)
        monkeypatch.setenv("LIVEKIT_API_KEY", other.server.api_key)
        monkeypatch.setenv("LIVEKIT_API_SECRET", "not-the-secret-of-this-server-at-all")
        async with stack(config) as refused:
            assert refused.server.url == other.server.url
            with pytest.raises(WorkerFailed, match="the worker ended"):
                await refused.worker.wait_ready(timeout=60)
            assert "not-the-secret" not in refused.worker.problem


async def test_a_named_server_that_does_not_answer(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "ws://127.0.0.1:9")
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")
    with pytest.raises(LinkLost, match=r"no LiveKit server answers at ws://127.0.0.1:9"):
        async with stack(config):
            pytest.fail("it came up")
