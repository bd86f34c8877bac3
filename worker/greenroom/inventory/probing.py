"""Asks providers for something small, and measures when the first of it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from msgspec import structs

from greenroom.errors import GreenroomError
from greenroom.inventory.entries import Entry
from greenroom.providers import registry
from greenroom.providers.provider import Provider
from greenroom.providers.trials import try_provider
from greenroom.redaction import redact
from greenroom.settings import ProviderSettings

__all__ = ["probe", "probe_all"]

LOADING = 60.0
"""Seconds that a model may take to be loaded."""


async def probe_all(
    entries: Sequence[tuple[Entry, ProviderSettings]], *, timeout: float
) -> AsyncGenerator[Entry, None]:
    """Each, with what came of asking it: one after the other, so that no local model is measured beside another.

    The same plugin with the same options is asked once. What cannot be asked is passed on as it is.
    """
    asked: list[tuple[str, ProviderSettings, Entry]] = []
    for entry, settings in entries:
        if not entry.usable:
            yield entry
            continue
        known = next((one for kind, other, one in asked if kind == entry.kind and _same(other, settings)), None)
        found = structs.replace(known, place=entry.place) if known else await probe(entry, settings, timeout=timeout)
        asked.append((entry.kind, settings, found))
        yield found


async def probe(entry: Entry, settings: ProviderSettings, *, timeout: float) -> Entry:
    """Load one, connect it, and ask it for something small; twice, so that the second is as in a call. ``timeout``:
    for each of them. What it raises becomes the entry's detail.
    """
    loop = asyncio.get_running_loop()
    provider: Provider | None = None
    times: dict[str, Any] = {}
    try:
        provider = registry.build(cast("Any", entry.kind), settings)
        began = loop.time()
        async with asyncio.timeout(LOADING):
            await asyncio.to_thread(provider.load)
        times["load"] = loop.time() - began
        began = loop.time()
        async with asyncio.timeout(timeout):
            await provider.warm_up()
        times["connect"] = loop.time() - began
        async with asyncio.timeout(timeout):
            await try_provider(provider)
        async with asyncio.timeout(timeout):
            times["first"] = await try_provider(provider)
    except TimeoutError:
        after = {0: "loaded", 1: "a connection"}.get(len(times), "an answer")
        return structs.replace(entry, state="silent", detail=f"not {after} in time", **times)
    except GreenroomError as error:
        return structs.replace(entry, state="silent", detail=redact(str(error)), **times)
    except Exception as error:  # noqa: BLE001  # a plugin's code: its mistakes are to be shown, and the others asked
        return structs.replace(entry, state="silent", detail=f"{type(error).__name__}: {redact(str(error))}", **times)
    finally:
        if provider is not None:
            await provider.aclose()
    return structs.replace(entry, state="answers", **times)


def _same(one: ProviderSettings, other: ProviderSettings) -> bool:
    return (one.plugin, one.options) == (other.plugin, other.options)
