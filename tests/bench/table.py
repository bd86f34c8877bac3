"""The table of the benchmark: each figure beside the peer's, their ratio, and what was wanted of it.

A figure is better when it is smaller. A ratio is greenroom's median (or p95) over the peer's in the same run; what is
wanted is a bound on it, or on the figure itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bench.cells import Cell, Statistics, Summary, summarise
from tests.bench.contract import TONE

__all__ = ["OURS", "PEER", "ROWS", "UNPRELOADED", "Compared", "Row", "checks", "compare", "put", "render"]

OURS = "greenroom"
PEER = "livekit-agents"
UNPRELOADED = "livekit-agents, no preload"
"""The peer with the preload of its local models off, as nothing in this benchmark uses its turn detector."""
NOTHING = "–"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``ratio``: wanted at most of the peer's; ``limit``: wanted at most."""

    label: str
    measure: str
    metric: str
    unit: str
    ratio: float | None = None
    limit: float | None = None
    statistic: Literal["median", "p95"] = "median"
    peer: str = PEER


ROWS = (
    Row("dispatch → agent active", "join", "active_ms", "ms", 0.85),
    Row("dispatch → greeting heard", "join", "greeting_ms", "ms", 0.80),
    Row("8 dispatches at once, 8 warm → greeting heard", "burst_warm", "greeting_ms", "ms", 0.45),
    Row("8 dispatches at once, 2 warm → greeting heard", "burst_short", "greeting_ms", "ms"),
    Row("turn, beyond its models", "turn", "overhead_ms", "ms", 0.50),
    Row("turn, beyond its models, p95", "turn", "overhead_ms", "ms", 0.50, statistic="p95"),
    Row("turn with early answers, beyond its models", "turn_preemptive", "overhead_ms", "ms", 0.50),
    Row("interruption, beyond 500 ms of speech", "interrupt", "overhead_ms", "ms", 0.75),
    Row("memory, 4 warm processes", "memory", "0_jobs_pss_mb", "MB", 0.25),
    Row("memory, 4 warm, peer without its preload", "memory", "0_jobs_pss_mb", "MB", 0.50, peer=UNPRELOADED),
    Row("memory of a warm process more", "memory", "per_idle_pss_mb", "MB", 0.60),
    Row("memory of a call more", "memory", "per_job_pss_mb", "MB", 0.60),
    Row("processor, 1 call, a minute", "cpu", "1_calls_cpu_s_per_min_each", "s", 0.50),
    Row("processor, 6 calls, a minute of each", "cpu", "6_calls_cpu_s_per_min_each", "s", 0.50),
    Row("processor, idle worker, a minute", "cpu", "idle_worker_cpu_s_per_min", "s", 0.10),
    Row("SIGTERM: exit after the user left", "drain", "exit_after_leave_s", "s", limit=2.0),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A row with its figures, where they were measured."""

    row: Row
    ours: Statistics | None
    peers: Statistics | None

    @property
    def figure(self) -> float | None:
        return getattr(self.ours, self.row.statistic) if self.ours is not None else None

    @property
    def peers_figure(self) -> float | None:
        return getattr(self.peers, self.row.statistic) if self.peers is not None else None

    @property
    def ratio(self) -> float | None:
        ours, peers = self.figure, self.peers_figure
        return ours / peers if ours is not None and peers else None

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; ``None`` where nothing is wanted, or measured."""
        if self.row.limit is not None and self.figure is not None:
            return self.figure <= self.row.limit
        if self.row.ratio is not None and self.ratio is not None:
            return self.ratio <= self.row.ratio
        return None


def compare(summary: Summary, rows: Iterable[Row] = ROWS) -> Iterator[Compared]:
    """Those rows of which there is anything."""
    for row in rows:
        found = summary.get(row.measure, {}).get(row.metric, {})
        if OURS in found or row.peer in found:
            yield Compared(row, found.get(OURS), found.get(row.peer))


def render(cells: Sequence[Cell]) -> str:
    """Markdown: the table of ratios, the transport that turns hold, and the work that was delivered."""
    summary = summarise(cells)
    lines = ["| figure | livekit-agents | greenroom | ratio | wanted | |", "|---|---|---|---|---|---|"]
    lines += [_line(compared) for compared in compare(summary)]
    if (transport := summary.get("transport", {}).get("one_way_ms", {}).get(NOTHING)) is not None:
        lines += ["", f"Of a turn and of an interruption, transport both ways: about {2 * transport.median:.0f} ms."]
    lines += ["", "| work | livekit-agents | greenroom |", "|---|---|---|"]
    theirs, ours = checks(cells, PEER), checks(cells, OURS)
    lines += [f"| {name} | {theirs.get(name, NOTHING)} | {ours.get(name, NOTHING)} |" for name in (theirs | ours)]
    lines += [
        f"\nIn doubt: {cell.measure} of {cell.contender} in round {cell.round}: "
        + (cell.error or f"others used {cell.foreign_cores:g} cores meanwhile")
        for cell in cells
        if cell.doubtful
    ]
    return "\n".join(lines)


def put(shown: str, document: Path, *, begin: str = BEGIN, end: str = END) -> None:
    """Let this be what the document has between two marks. Raises ``ValueError`` where they are not in it."""
    before, opened, rest = document.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{document} has no {begin} before a {end}")
    document.write_text(f"{before}{begin}\n{shown}{end}{after}")


def _line(compared: Compared) -> str:
    row, ratio = compared.row, compared.ratio
    wanted = NOTHING
    if row.limit is not None:
        wanted = f"≤ {row.limit:g} {row.unit}"
    elif row.ratio is not None:
        wanted = f"≤ {row.ratio:.2f}"
    columns = (
        row.label,
        _figure(compared.peers_figure, row.unit),
        _figure(compared.figure, row.unit),
        f"{ratio:.2f}" if ratio is not None else NOTHING,
        wanted,
        {True: "yes", False: "**no**", None: ""}[compared.met],
    )
    return f"| {' | '.join(columns)} |"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return NOTHING
    return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 2}f} {unit}"


# --- the work -------------------------------------------------------------------------------------------------------


def checks(cells: Iterable[Cell], contender: str) -> dict[str, str]:
    """What a contender delivered, of all that was asked of it."""
    mine = [cell for cell in cells if cell.contender == contender]
    found: dict[str, str] = {}
    joined = [cell.checks for cell in mine if "joined" in cell.checks]
    if joined:
        found["agents that came and greeted"] = f"{_sum(joined, 'joined')} of {_sum(joined, 'asked')}"
    turns = [cell for cell in mine if cell.measure in ("turn", "turn_preemptive")]
    if turns:
        notes = [cell.checks for cell in turns]
        lengths = [seconds for cell in turns for seconds in cell.samples.get("reply_s", ())]
        tones = [hz for note in notes for hz in note.get("tones", ())]
        found["replies heard; missed; early"] = f"{len(lengths)}; {_sum(notes, 'missed')}; {_sum(notes, 'early')}"
        found["their length"] = f"{min(lengths):.2f} to {max(lengths):.2f} s" if lengths else NOTHING
        found[f"replies of {TONE:g} Hz"] = f"{sum(abs(hz - TONE) <= 4 for hz in tones)} of {len(tones)}"
        found["late ticks of the driver"] = str(_sum(notes, "late_ticks"))
    stops = [cell for cell in mine if cell.measure == "interrupt"]
    if stops:
        heard = sum(len(cell.samples.get("stop_ms", ())) for cell in stops)
        found["interruptions heeded; missed"] = f"{heard}; {_sum([cell.checks for cell in stops], 'missed')}"
    for cell in mine:
        for name, value in cell.checks.items():
            if name.startswith("turns_of_"):
                key = f"turns in {name.removeprefix('turns_of_')} calls, a round"
                found[key] = f"{found[key]}, {value}" if key in found else str(value)
    drains = [cell.checks for cell in mine if cell.measure == "drain" and cell.checks]
    if drains:
        whole = sum(note["reply_in_progress_s"] > 1.8 and note["next_turn_answered"] for note in drains)
        found["after SIGTERM: reply whole and next turn answered"] = f"{whole} of {len(drains)}"
    return found


def _sum(notes: Iterable[dict[str, int]], key: str) -> int:
    return sum(note.get(key, 0) for note in notes)
