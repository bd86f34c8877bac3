"""``greenroom dev`` as a process of its own, and a Chromium whose microphone is a wav file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from playwright.async_api import Browser, async_playwright

from greenroom.audio import AudioFrame, write_wav
from greenroom.embedded.utterance import spoken

START_TIMEOUT = 90.0
STOP_TIMEOUT = 30.0
MICROPHONE_RATE = 48000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)

Speak = Callable[..., Awaitable[Path]]
Open = Callable[..., Awaitable[Browser]]


class Dev:
    """The running command: ``url`` of its page, and all that it has printed."""

    def __init__(self, config: Path, *, printed: Path) -> None:
        self.url = ""
        self._printed = printed
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
        with printed.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "greenroom",
                    "dev",
                    "-c",
                    str(config),
                    "--port",
                    "0",
                    "--no-open",
                    "--no-reload",
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=environ,
            )

    @property
    def output(self) -> str:
        return self._printed.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Read on until it prints where to talk."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"Talk at (http://\S+)", self.output):
                self.url = found[1]
                return
            time.sleep(0.1)
        pytest.fail(f"greenroom dev did not come up:\n{self.output}")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT)


@contextmanager
def running(config: Path, *, printed: Path) -> Iterator[Dev]:
    dev = Dev(config, printed=printed)
    try:
        dev.wait_ready()
        yield dev
    finally:
        if dev.process.poll() is None:
            dev.interrupt()


@pytest.fixture(scope="session")
def demo() -> Path:
    return Path(__file__).parents[3] / "config" / "demo.yaml"


@pytest.fixture
def speak(tmp_path: Path) -> Speak:
    """Writes a wav in which each text is said after that many seconds of silence since the end of the one before."""

    async def write(*parts: tuple[float, str]) -> Path:
        pieces = []
        for pause, text in parts:
            pieces.append(np.zeros(round(pause * MICROPHONE_RATE), dtype=np.int16))
            pieces.append((await spoken(text, sample_rate=MICROPHONE_RATE)).pcm)
        pieces.append(np.zeros(60 * MICROPHONE_RATE, dtype=np.int16))
        path = tmp_path / "voice.wav"
        write_wav(path, AudioFrame(np.concatenate(pieces), MICROPHONE_RATE))
        return path

    return write


@pytest.fixture
async def open_browser() -> AsyncIterator[Open]:
    """Chromium with a microphone that hears ``voice``, or with none."""
    async with async_playwright() as playwright:
        browsers: list[Browser] = []

        async def launch(voice: Path | None = None) -> Browser:
            fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"] if voice else []
            heard = [f"--use-file-for-fake-audio-capture={voice}%noloop"] if voice else []
            # The system's browser where there is one, else the one that Playwright installed.
            path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            browsers.append(await playwright.chromium.launch(executable_path=path, args=[*FLAGS, *fake, *heard]))
            return browsers[-1]

        yield launch
        for browser in browsers:
            await browser.close()
