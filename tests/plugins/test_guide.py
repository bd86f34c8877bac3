"""The plugin of docs/plugins.md, built, installed, tested and spoken with as it is printed there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from greenroom.audio import AudioFrame
from greenroom.providers import registry
from greenroom.providers.assembly import assemble
from greenroom.session.agent import Agent
from greenroom.session.session import AgentSession
from greenroom.settings import ProviderSettings
from greenroom.settings_file import load
from greenroom.testing.loopback import LoopbackInput, LoopbackOutput
from greenroom.testing.providers import ScriptedLLM, ScriptedSTT, ScriptedVAD
from tests.plugins.tones import read, spell

GUIDE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text().partition("\n## Writing a plugin\n")[2]
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL))
PROVIDER, TESTS = "greenroom_piper_http.py", "test_piper_http.py"
MISTAKE = re.search(r"^worker\.yaml:7: .*$", GUIDE, flags=re.MULTILINE)
SERVER = {"LIVEKIT_URL": "ws://127.0.0.1:7880", "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret"}
RATE = 16000
"""Of the server's voice: another than the provider's, as many of Piper's are."""
SETTINGS = """\
agents:
  - name: desk
    vad: {{plugin: silero}}
    llm: {{plugin: script}}
    tts:
      plugin: piper_http
      {option}
"""


def run(*command: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``path``: where packages are found, beside those of this environment."""
    environ = {**os.environ, **SERVER, "PIP_NO_INPUT": "1", **({"PYTHONPATH": str(path)} if path is not None else {})}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed: built to a wheel, and that unpacked, without a network."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        (source / name).write_text(text)
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    done = run("pip", "install", *options, "--target", str(folder), ".", cwd=source)
    assert done.returncode == 0, said(done)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process too."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, Path(PROVIDER).stem, raising=False)


def test_the_guide_is_whole() -> None:
    assert set(FILES) == {"pyproject.toml", PROVIDER, TESTS}


def test_a_provider_takes_less_than_60_lines() -> None:
    assert 30 < FILES[PROVIDER].count("\n") < 60


def test_it_is_found_by_its_entry_point(site: Path, tmp_path: Path) -> None:
    done = run("greenroom", "providers", "--json", cwd=tmp_path, path=site)
    listed = {(one["plugin"], one["kind"]): one["state"] for one in map(json.loads, done.stdout.splitlines())}
    assert listed.get(("piper_http", "tts")) == "ready", said(done)
    assert "piper_http" not in registry.names(), "it was never installed"


@pytest.mark.parametrize(
    ("option", "mistake"),
    [
        ("speed: 1.2", None),
        ("url: piper.local:5000", MISTAKE[0] if MISTAKE else ""),
        ("speed: 9", "worker.yaml:7: agents[0].tts.speed: expected `float` <= 4.0"),
        ("sped: 2", "worker.yaml:7: agents[0].tts.sped: unknown key (did you mean `speed`?)"),
    ],
)
def test_a_wrong_option_is_named_with_file_line_and_key(
    site: Path, tmp_path: Path, option: str, mistake: str | None
) -> None:
    (tmp_path / "worker.yaml").write_text(SETTINGS.format(option=option))
    done = run("greenroom", "check", "worker.yaml", cwd=tmp_path, path=site)
    assert done.returncode == (2 if mistake else 0), said(done)
    if mistake is not None:
        assert mistake in said(done)


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    for name in ("pyproject.toml", TESTS):  # without the module, so that what was installed is tested
        (tmp_path / name).write_text(FILES[name])
    done = run("pytest", "-q", cwd=tmp_path, path=site)
    assert done.returncode == 0, said(done)
    passed = re.search(r"^(\d+) passed in", done.stdout, flags=re.MULTILINE)
    assert passed is not None, "none of them may be skipped"
    assert int(passed[1]) > 20


@pytest.mark.usefixtures("installed")
async def test_an_agent_speaks_with_it(tmp_path: Path) -> None:
    async with piper() as url:
        (tmp_path / "worker.yaml").write_text(SETTINGS.format(option=f"url: {url}"))
        tts = assemble("tts", given(tmp_path / "worker.yaml"))
        session = AgentSession(vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["one two three"]), tts=tts)
        user, out = LoopbackInput(), LoopbackOutput(sample_rate=24_000)
        await session.start(Agent(instructions="Count."), audio_in=user, audio_out=out)
        try:
            async with asyncio.timeout(10):
                await session.say("hello there")
                await session.generate_reply()
        finally:
            await session.aclose("test over")
            user.end()
            await tts.aclose()
    heard = [word.word for frame in out.heard for word in read(frame.pcm, out.sample_rate)]
    assert heard == ["hello", "there", "one", "two", "three"]


def given(file: Path) -> ProviderSettings:
    """The voice of the only agent in the file."""
    voice = load(file, environ=SERVER).agents[0].tts
    assert voice is not None
    return voice


@asynccontextmanager
async def piper() -> AsyncIterator[str]:
    """The address of a server as Piper's is, whose words can be read out of its sound."""

    async def synthesize(request: web.Request) -> web.Response:
        asked = await request.json()
        return web.Response(body=wav(spell(asked["text"], RATE)[0]))

    app = web.Application()
    app.router.add_post("/synthesize", synthesize)
    async with TestServer(app) as server:
        yield str(server.make_url("/synthesize"))


def wav(frame: AudioFrame) -> bytes:
    with io.BytesIO() as data:
        with wave.open(data, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(frame.sample_rate)
            file.writeframes(frame.pcm.tobytes())
        return data.getvalue()
