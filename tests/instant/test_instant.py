"""The short form of ``make test-instant``: three runs, and a question that was over before the agent came."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.instant.question import ask
from tests.instant.report import Recordings, report
from tests.instant.runs import House, Run, house
from tests.instant.seam import Ruler
from tests.instant.tap import RATE

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.asyncio(loop_scope="module"),
]


FADE_IN = 0.1
"""Seconds of a stock client's overlap that may be heard twice; ``make test-instant`` counts what is more than 20 ms."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("instant")) as made:
        yield made


@pytest.mark.parametrize(
    "run",
    [
        Run(client="page", dispatch=0.5, notice=0.3),
        Run(client="page", dispatch=2.0, notice=0.0),
        Run(client="stock", dispatch=1.0, notice=0.2),
    ],
    ids=str,
)
async def test_what_was_said_before_the_agent_came_is_heard_whole_and_once(running: House, run: Run) -> None:
    tapped = await running.run(run)
    ruler = Ruler(running.source.at(RATE), running.source.words, sample_rate=RATE)
    made = report(ruler, Recordings.of(tapped), joined=tapped.joined)
    assert made.words >= 6
    if run.client == "page":
        assert made.failures == [], made
        assert made.unsent == 0, "the page records until the agent surely listens"
    else:
        # An overlap as short as the jitter buffer's fade-in is not always found, and never cut by guess.
        assert [each for each in made.failures if not each.startswith("duplicated")] == [], made
        assert made.duplicated <= FADE_IN, made


async def test_a_question_that_was_over_before_the_agent_came_is_answered(running: House) -> None:
    answer = await ask(running, dispatch=2.5)
    assert answer.failures == []
    assert answer.early > 0.5
    assert answer.delay < 6.0
