from __future__ import annotations

from greenroom.jobs.breaker import LAST_RETRY, TRIPS_AT, Breaker


def test_delays_grow_to_a_bound() -> None:
    breaker = Breaker()
    delays = []
    for _ in range(2000):
        breaker.failed("no such class", 100.0)
        delays.append(breaker.not_before - 100.0)
    assert delays[:7] == [1, 2, 4, 8, 16, 32, LAST_RETRY]
    assert delays[-1] == LAST_RETRY


def test_a_reason_is_news_once() -> None:
    breaker = Breaker()
    assert breaker.failed("no such class", 0.0)
    assert not breaker.failed("no such class", 1.0)
    assert breaker.failed("no such module", 2.0)


def test_it_opens_and_closes() -> None:
    breaker = Breaker()
    assert not breaker.succeeded(), "that an agent boots is no news if it always did"
    for n in range(TRIPS_AT):
        assert not breaker.open
        breaker.failed("no such class", float(n))
    assert breaker.open
    assert breaker.succeeded()
    assert not breaker.open
    assert breaker.error == ""
    assert breaker.not_before < 0
    assert breaker.failed("no such class", 9.0), "after a good boot it is news again"
