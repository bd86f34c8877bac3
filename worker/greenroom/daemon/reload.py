"""Settings read again while the worker runs: all of them right, or none of them taken."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

import msgspec
import structlog

from greenroom.errors import SettingsError
from greenroom.settings import Settings
from greenroom.settings_file import load

__all__ = ["CHECK_COMMAND", "CHECK_NICENESS", "CHECK_TIMEOUT", "FIXED", "read_again"]

CHECK_COMMAND = ("-P", "-m", "greenroom", "check", "--quiet", "--")
"""What an interpreter is given, before the file, to check settings in a process of its own."""
CHECK_TIMEOUT = 60.0
"""Seconds that plugins and the user's modules have to be imported."""
CHECK_NICENESS = 10
"""Of that: the calls go before it."""
FIXED = ("run_dir", "state_dir", "admin", "reconcile")
"""Keys of ``worker`` that a running worker keeps: they take another one."""

log = structlog.get_logger(__name__)


async def read_again(current: Settings) -> Settings:
    """What the file says now, checked in a process of its own as before a start. Raises ``SettingsError``.

    What cannot change while the worker runs stays as it is, with a warning.
    """
    await _check(current.file)
    settings = await asyncio.to_thread(load, current.file)
    kept = {}
    for name in FIXED:
        before = getattr(current.worker, name)
        if getattr(settings.worker, name) != before:
            log.warning("setting not changed", key=f"worker.{name}", mend="greenroom start --takeover, or a restart")
            kept[name] = before
    return msgspec.structs.replace(
        settings,
        worker=msgspec.structs.replace(settings.worker, **kept),
        logs=msgspec.structs.replace(settings.logs, format=current.logs.format),
    )


async def _check(file: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *CHECK_COMMAND, file),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, CHECK_NICENESS)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            _, said = await process.communicate()
    except TimeoutError:
        problem = f"not checked within {CHECK_TIMEOUT:g} s; expected agents that import sooner"
        raise SettingsError(problem, file=file) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = said.decode(errors="replace").strip()
        raise SettingsError(words or f"{file}: the check ended with exit code {process.returncode}")
