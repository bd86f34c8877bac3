"""Random conversations: whatever happens, in whatever order, what ``witness`` watches holds.

``make test-dialog`` holds a hundred thousand of them. A failure ends in a short script; to keep it as a test, hand that
to ``converse`` here.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test

from .moves import Script, Talk, converse, scripts
from .tally import Tally

QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(QUICK, max_examples=800)
@given(scripts())
def test_what_always_holds(script: Script) -> None:
    with Tally().watching():
        converse(script)


def test_what_always_holds_move_by_move() -> None:
    quick = settings(QUICK, max_examples=60, stateful_step_count=25)
    with Tally().watching():
        run_state_machine_as_test(Talk, settings=quick)
