"""The faults that tell most, once each. ``make test-faults`` tries all, often."""

from __future__ import annotations

import pytest

from tests.faults.chords import WORDS, Listener, sound
from tests.faults.daemons import DaemonKilled, TakenOver
from tests.faults.jobs import MidSentence, MidTool
from tests.faults.runner import try_out
from tests.faults.scenario import Row, Scenario, Trial, missing
from tests.faults.servers import server_scenarios
from tests.faults.table import HEAD, line

FORCED = next(kind for kind in server_scenarios() if kind.name == "server-forced-token")


@pytest.mark.e2e
@pytest.mark.parametrize("kind", [MidSentence, MidTool, DaemonKilled, TakenOver, FORCED], ids=lambda kind: kind.name)
async def test_a_fault(kind: type[Scenario]) -> None:
    row = await try_out(kind, times=1)
    assert len(row.trials) == 1
    assert not row.failures(), "\n".join(row.failures())


@pytest.mark.parametrize("sample_rate", [16_000, 24_000, 48_000])
def test_every_word_is_told_from_every_other(sample_rate: int) -> None:
    listener, pcm = Listener(sample_rate), sound(" ".join(WORDS), sample_rate=sample_rate)
    step = sample_rate // 100
    heard = [word for at in range(0, len(pcm), step) for word in listener.hear(pcm[at : at + step])]
    assert [word.text for word in heard] == list(WORDS)


def test_missing_words_are_counted_in_order() -> None:
    assert missing("abcd", "axcd") == ["b"]
    assert missing("ab", "ba") in (["a"], ["b"])
    assert missing("ab", "aabb") == []
    assert missing("a", "") == ["a"]


def test_a_row_says_what_is_wrong_with_it() -> None:
    row = Row(MidSentence, [Trial(1.0), Trial(9.0, words_lost=2, wrong=("it was odd",)), Trial(lost=1)])
    assert row.failures() == [
        "trial 2: it was odd",
        "1 calls were lost",
        "2 words of history were lost",
        "the median of 5.00 s is more than 3 s",
        "the worst of 9.00 s is more than 8 s",
    ]
    assert line(row) == f"| {MidSentence.fault} | 3 | 1 | 2 | 5.00 s | 9.00 s |"
    assert HEAD.count("|") == 14
