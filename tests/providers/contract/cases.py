"""Every provider, a line each: whoever writes a plugin adds its kinds here."""

from __future__ import annotations

from tests.plugins.cartesia.cases import cartesia_cases
from tests.plugins.deepgram.cases import deepgram_cases
from tests.plugins.openai.cases import openai_cases
from tests.plugins.openai_realtime.cases import realtime_cases
from tests.plugins.wyoming.cases import wyoming_cases
from tests.providers.contract.case import Case, Kind
from tests.providers.contract.local import local_cases

__all__ = ["CASES", "of_kind"]

CASES: tuple[Case, ...] = (
    *local_cases(),
    *openai_cases(),
    *realtime_cases(),
    *deepgram_cases(),
    *cartesia_cases(),
    *wyoming_cases(),
)


def of_kind(kind: Kind) -> list[Case]:
    return [case for case in CASES if case.kind == kind]
