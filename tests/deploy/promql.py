"""What an expression of Prometheus asks for, held against what there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Expr, VectorSelector

from greenroom.ops import gauges, measures, metrics
from greenroom.ops.facts import JobState
from greenroom.ops.measures import MEASURES, Measure

__all__ = ["RECORDED", "problems", "selected"]

TARGET = {"job", "instance", "namespace", "pod"}
"""Labels that Prometheus adds to whatever it scrapes."""
ABOUT_TARGETS = {"up"}
"""Metrics that are Prometheus' own."""
RECORDED = {
    "greenroom:slots_taken": set[str](),
    "greenroom:response_seconds:p95_5m": {"agent"},
    "greenroom:joined_seconds:p95_5m": {"agent"},
}
"""What greenroom.rules.yaml records, and the labels of it beside those of the target."""
VALUES: dict[tuple[str, str], set[str]] = {
    (measures.JOBS.name, "state"): set(get_args(JobState)),
    (measures.LINKS.name, "state"): set(gauges.LINK_STATES),
    (measures.PROCESSES.name, "state"): {"starting", "warm", "serving"},
    (measures.JOB_MEMORY_BYTES.name, "of"): {"sum", "max"},
    (measures.DISPATCH_SECONDS.name, "stage"): {"accepted", "assigned", "joined", "first_audio"},
    (measures.RECOVERY_SECONDS.name, "stage"): {"joined", "first_audio"},
    (measures.PROVIDER_SECONDS.name, "stage"): {"first", "whole"},
    (measures.DEAD_AIR.name, "step"): {"hold", "fallback", "end"},
    (measures.TURN_SECONDS.name, "segment"): {
        *("end_of_turn", "transcript", "hook", "model", "sentence", "voice", "response")
    },
    **{(measure.name, measure.labels[-1]): set(values) for measure, values in metrics.EXPECTED.items()},
}
"""What labels may say, where they are asked for something in particular."""


@dataclass(frozen=True)
class Selected:
    """A metric as an expression names it, and the values that its labels are held against."""

    name: str
    labels: dict[str, set[str]]


def selected(expression: str) -> list[Selected]:
    """What the expression selects. Raises ``ValueError`` for one that is none."""
    found = []
    for node in _nodes(expression):
        if isinstance(node, VectorSelector):
            wanted: dict[str, set[str]] = {}
            for matcher in node.matchers.matchers:
                values = matcher.value.split("|") if "Re" in str(matcher.op) else [matcher.value]
                wanted.setdefault(matcher.name, set()).update(values)
            assert node.name is not None, expression
            found.append(Selected(node.name, wanted))
    return found


def problems(expression: str) -> list[str]:
    """What the expression asks for and nobody measures: metrics, labels, and values of labels."""
    found = []
    known = set(TARGET)
    for one in selected(expression):
        labels = _labels(one.name)
        if labels is None:
            found.append(f"{one.name} is no metric")
            continue
        known |= labels
        for label, values in one.labels.items():
            if label not in labels | TARGET:
                found.append(f"{one.name} has no label {label}")
                continue
            allowed = VALUES.get((one.name.removesuffix("_bucket"), label))
            if allowed is not None:
                found += [f"{one.name}: {label} is never {value}" for value in sorted(values - allowed)]
    found += [f"nothing has the label {label}" for label in _grouped(expression) if label not in known]
    return found


def _labels(name: str) -> set[str] | None:
    if name in ABOUT_TARGETS:
        return set()
    if name in RECORDED:
        return RECORDED[name]
    measure = MEASURES.get(name)
    if measure is not None and measure.kind != "histogram":
        return set(measure.labels)
    for suffix in ("_bucket", "_sum", "_count"):
        histogram = MEASURES.get(name.removesuffix(suffix))
        if name.endswith(suffix) and histogram is not None and histogram.kind == "histogram":
            return _with_bounds(histogram) if suffix == "_bucket" else set(histogram.labels)
    return None


def _with_bounds(histogram: Measure) -> set[str]:
    return {*histogram.labels, "le"}


def _grouped(expression: str) -> Iterator[str]:
    """The labels that something is summed or matched by."""
    for node in _nodes(expression):
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            yield from node.modifier.labels
        if isinstance(node, BinaryExpr) and node.modifier is not None:
            yield from node.modifier.group_labels or ()
            if node.modifier.matching is not None:
                yield from node.modifier.matching.labels


def _nodes(expression: str) -> list[Expr]:
    found: list[Expr] = []
    promql_parser.walk(promql_parser.parse(expression), pre_visit=lambda node: found.append(node))
    return found
