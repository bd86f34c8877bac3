"""What every provider with a vendor behind it has to keep when the vendor fails."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable

import pytest

from greenroom.errors import ProviderError
from greenroom.providers import Provider
from greenroom.providers.trials import try_provider
from greenroom.testing.contract import Leftovers, Speech
from greenroom.testing.contract.speech import buzz
from tests.providers.contract.case import FAULTS, SECRET, Case, Fault, VendorServer
from tests.providers.contract.cases import CASES
from tests.providers.contract.use import used

VENDORS = [case for case in CASES if case.serve is not None]
REFUSED = ("401", "403", "404", "expired_key")
"""What does not get better by asking again."""
PATIENCE = 8.0
"""Seconds in which a request has failed, or ended."""

pytestmark = pytest.mark.parametrize("case", VENDORS, ids=[f"{case.name}, {case.kind}" for case in VENDORS])


@pytest.fixture
async def server(case: Case) -> AsyncIterator[VendorServer]:
    assert case.serve is not None
    async with case.serve() as server:
        yield server


@pytest.fixture
async def provider(case: Case, server: VendorServer) -> AsyncIterator[Provider]:
    made = case.make(server.url)
    await asyncio.to_thread(made.load)  # imports take seconds on a busy machine, which no time here is to hold
    yield made
    await made.aclose()


@pytest.fixture
def speech(case: Case) -> Speech:
    return case.speech() if case.speech is not None else Speech(buzz(1.5, 16000))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told_and_over(
    case: Case, server: VendorServer, provider: Provider, speech: Speech, fault: Fault
) -> None:
    """It ends in a ``ProviderError`` that says whether to ask again, without the key; and then all is as before."""
    if fault not in case.faults:
        pytest.skip(f"the server plays no {fault}")
    before = await asyncio.wait_for(used(provider, speech), PATIENCE)
    server.order(fault, times=1000)
    try:
        result: object = await asyncio.wait_for(used(provider, speech), PATIENCE)
    except ProviderError as error:
        result = error
    except TimeoutError:
        result = None  # it waits for ever: whoever asks it has to be impatient
    if isinstance(result, ProviderError):
        assert SECRET not in "".join(traceback.format_exception(result))
        assert SECRET not in repr(result) + repr(result.__dict__)
        assert result.provider
        assert fault not in REFUSED or not result.retryable
        assert fault not in ("429", "500", "503", "stall", "cut") or result.retryable
    else:
        assert fault in ("silence", "stall", "malformed") or (fault == "cut" and case.kind == "stt"), result
    server.order("")
    assert bool(await asyncio.wait_for(_works(provider, speech), PATIENCE)) == bool(before)


async def test_what_is_cancelled_is_over_at_the_vendor_too(
    server: VendorServer, provider: Provider, speech: Speech
) -> None:
    left = Leftovers()
    for fault in ("stall", ""):
        server.order(fault, times=1)
        using = asyncio.create_task(used(provider, speech))
        await until(lambda: server.under_way > 0, using)
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        await provider.aclose()
        await until(lambda: server.under_way == 0)
    assert not await left.gone(within=1.0)


async def test_it_can_be_used_warm_and_after_it_was_closed(provider: Provider, speech: Speech) -> None:
    await asyncio.wait_for(provider.warm_up(), PATIENCE)
    first = await asyncio.wait_for(used(provider, speech), PATIENCE)
    await provider.aclose()
    await provider.aclose()
    assert bool(await asyncio.wait_for(used(provider, speech), PATIENCE)) == bool(first)


async def test_a_trial_says_how_long_its_first_output_took(provider: Provider) -> None:
    assert 0 <= await asyncio.wait_for(try_provider(provider), PATIENCE) < PATIENCE


async def _works(provider: Provider, speech: Speech) -> str:
    """A provider that has just failed may need a moment for its connections."""
    for attempt in range(3):
        try:
            return await used(provider, speech)
        except ProviderError:
            if attempt == 2:
                raise
            await asyncio.sleep(0.1)
    return ""


async def until(condition: Callable[[], bool], unless: asyncio.Task[str] | None = None) -> None:
    """Servers run on threads of their own, and have nothing to wake anybody here with."""
    async with asyncio.timeout(PATIENCE):
        while not condition() and not (unless is not None and unless.done()):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
