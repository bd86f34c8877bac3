"""The benchmark's own parts: what it hears, what it counts, what it tells, and one cell of the real thing."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from subprocess import PIPE
from typing import cast

import msgspec
import numpy as np
import pytest

from greenroom.check import check
from greenroom.job.context import Call, Job, JobContext, JobRoom
from greenroom.session.session import SessionOptions
from greenroom.settings import ServerSettings
from tests.bench import agreement, curves, table
from tests.bench.cells import Cell, Statistics, summarise
from tests.bench.contract import Knobs
from tests.bench.copies import own_memory
from tests.bench.greenroom_agent import BenchAgent
from tests.bench.growth import Growth
from tests.bench.house import House
from tests.bench.latency import Interruption, Join, Turn
from tests.bench.picture import draw
from tests.bench.record import Environment, Record
from tests.bench.speech import FRAME, QUIET_FRAMES, RATE, Ear, Edge, tone, utterance
from tests.bench.table import OURS, PEER, checks, compare
from tests.bench.worker import Contender

LOUD = np.full(FRAME, 3000, dtype=np.int16).tobytes()
SILENT = bytes(2 * FRAME)
GREENROOM = Contender(OURS, "{python} {here}/greenroom_worker.py")


def cell(contender: str, measure: str, metric: str, *samples: float, number: int = 1) -> Cell:
    return Cell(contender=contender, round=number, measure=measure, samples={metric: list(samples)})


TURNS = [
    cell(PEER, "turn", "overhead_ms", 250, 260, 300),
    cell(OURS, "turn", "overhead_ms", 110, 120, 130),
    cell(OURS, "turn", "overhead_ms", 112, 122, 132, number=2),
    cell(PEER, "turn", "overhead_ms", 252, 262, 302, number=2),
    cell(PEER, "drain", "exit_after_leave_s", 20.5),
    cell(OURS, "drain", "exit_after_leave_s", 2.5),
]

# --- speech ---------------------------------------------------------------------------------------------------------


def test_the_utterance_is_voiced_from_end_to_end() -> None:
    frames = utterance()
    assert 1.5 < len(frames) * FRAME / RATE < 2.5
    assert all(len(frame) == 2 * FRAME for frame in frames)
    for end in (frames[0], frames[-1]):
        assert np.sqrt(np.mean(np.frombuffer(end, dtype=np.int16).astype(float) ** 2)) > 600


def test_what_is_heard_ends_with_the_first_of_many_quiet_frames() -> None:
    ear, edges = Ear(), []
    frames = [SILENT, LOUD, LOUD, SILENT, LOUD, *[SILENT] * QUIET_FRAMES]
    for number, frame in enumerate(frames):
        if (edge := ear.hear(frame, float(number))) is not None:
            edges.append(edge)
    assert edges == [Edge(1.0, loud=True), Edge(5.0, loud=False)]
    assert len(ear.kept) == 3


def test_a_pitch_is_heard() -> None:
    at = np.arange(100 * FRAME) / RATE
    frames = (8000 * np.sin(2 * np.pi * 440 * at)).astype(np.float32).reshape(-1, FRAME)
    assert tone(list(frames)) == 440
    assert tone(list(frames[:20])) == 0.0


# --- memory ---------------------------------------------------------------------------------------------------------

FORKED = """
import mmap, os, sys
shared, new = mmap.mmap(-1, 400 * 4096, mmap.MAP_PRIVATE), mmap.mmap(-1, 100 * 4096, mmap.MAP_PRIVATE)
shared[::4096] = b"x" * 400
forked = os.fork()
if not forked:
    for page in range(300):
        shared[4096 * page] = 65 if page < 200 else ord("x")
    new[::4096] = b"x" * 100
    print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_a_process_has_of_its_own_what_it_wrote_to() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKED], stdin=PIPE, stdout=PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        own = own_memory(int(parent.stdout.readline()), parent.pid)
        parent.stdin.close()
    assert 200 <= own.copied[8] * 256 < 300  # of 4 KB; and some that Python wrote to
    assert 100 <= own.copied[0] * 256 < 200
    assert 100 <= own.made * 256 < 200


# --- figures --------------------------------------------------------------------------------------------------------


def test_rounds_are_told_together_and_each() -> None:
    told = summarise(TURNS)["turn"]["overhead_ms"][OURS]
    assert told == Statistics(n=6, min=110, median=121, p95=131.5, max=132, rounds=[120, 122])


def test_a_figure_is_held_against_the_peers() -> None:
    found = {compared.row.label: compared for compared in compare(summarise(TURNS))}
    turn = found["turn, beyond its models"]
    assert turn.ratio == pytest.approx(121 / 261)
    assert turn.met is True
    assert found["SIGTERM: exit after the user left"].met is False  # within 0.5 of the peer, and above 2 s
    assert "dispatch → agent active" not in found


def test_the_table_says_what_was_wanted_and_what_is_in_doubt() -> None:
    disturbed = Cell(contender=PEER, round=3, measure="cpu", foreign_cores=0.8)
    shown = table.render([*TURNS, disturbed])
    assert "| turn, beyond its models | 261 ms | 121 ms | 0.46 | ≤ 0.50 | yes |" in shown
    assert "| SIGTERM: exit after the user left | 20.5 s | 2.50 s | 0.12 | ≤ 2 s | **no** |" in shown
    assert "In doubt: cpu of livekit-agents in round 3: others used 0.8 cores meanwhile" in shown


def test_the_work_is_told_beside_the_figures() -> None:
    notes = {"missed": 1, "early": 0, "late_ticks": 2, "tones": [440.0, 441.0, 600.0]}
    took = Cell(contender=OURS, round=1, measure="turn", samples={"reply_s": [1.98, 2.02]}, checks=notes)
    came = Cell(contender=OURS, round=1, measure="join", checks={"joined": 9, "asked": 10})
    told = checks([took, came], OURS)
    assert told["agents that came and greeted"] == "9 of 10"
    assert told["replies heard; missed; early"] == "2; 1; 0"
    assert told["replies of 440 Hz"] == "2 of 3"


def test_the_table_takes_its_place_in_a_document(tmp_path: Path) -> None:
    document = tmp_path / "d.md"
    document.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.put("new\n", document)
    assert document.read_text() == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"


def test_two_runs_agree_within_their_noise() -> None:
    first, slower = summarise(TURNS), summarise([cell(PEER, "turn", "overhead_ms", 248, 258, 298), *TURNS[1:3]])
    assert all(each.holds for each in agreement.agree(first, slower))
    other = summarise([cell(PEER, "turn", "overhead_ms", 260), cell(OURS, "turn", "overhead_ms", 200)])
    assert not any(each.holds for each in agreement.agree(first, other))
    assert "**no**" in agreement.render(agreement.agree(first, other))


def test_the_picture_is_a_picture() -> None:
    drawn = ElementTree.fromstring(draw(summarise(TURNS)))  # noqa: S314  # our own
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert "turn, beyond its models" in texts
    assert "× 0.46" in texts


def test_a_record_is_read_back(tmp_path: Path) -> None:
    record, file = Record(environment=Environment.here([])), tmp_path / "deep" / "run.json"
    for each in TURNS:
        record.add(each)
    record.write(file)
    again = Record.read(file)
    assert msgspec.to_builtins(again) == msgspec.to_builtins(record)
    assert again.rounds == 2


def test_a_contender_is_a_name_and_a_command() -> None:
    contender = Contender.parse("ours={python} {here}/worker.py --x=1")
    assert contender.name == "ours"
    assert contender.argv[1:] == [str(Path(__file__).parent / "worker.py"), "--x=1"]
    with pytest.raises(ValueError, match="expected NAME=COMMAND"):
        Contender.parse("ours")


# --- many calls at once ---------------------------------------------------------------------------------------------


def many(contender: str, *, cores: float, overheads: dict[int, list[float]]) -> Cell:
    """A run of ``growth``: each call costs ``cores`` and 25 MB, and these are its turns' overheads."""
    samples: dict[str, list[float]] = {"idle_pss_mb": [130.0]}
    for calls, overhead in overheads.items():
        samples |= {
            f"{calls}_calls_cpu_s_per_min_each": [60 * cores],
            f"{calls}_calls_cores": [calls * cores],
            f"{calls}_calls_machine_share": [0.25 * calls],
            f"{calls}_calls_pss_mb_each": [25.0],
            f"{calls}_calls_overhead_ms": overhead,
        }
    return Cell(contender=contender, round=1, measure=curves.GROWTH, samples=samples, checks={"missed_of_4": 2})


MANY = [
    many(OURS, cores=0.125, overheads={1: [100, 102], 2: [104, 110], 4: [120, 900]}),
    many(PEER, cores=0.25, overheads={1: [240, 260], 2: [300, 320]}),
]


def test_so_many_calls_fit_a_core_as_are_answered_in_time() -> None:
    best = curves.most(curves.levels(summarise(MANY), OURS))
    assert best is not None
    assert (best.calls, best.per_core) == (2, 8.0)
    assert curves.most(curves.levels(summarise(MANY), PEER)) is None


def test_growth_is_told_by_the_number_of_calls() -> None:
    shown = curves.render(MANY)
    assert "| 2 | 15.0 | 7.5 | 25.0 | 25.0 | 310 | 107 | 319 | 110 | 50 % / 50 % |" in shown
    assert "| 4 | – | 7.5 | – | 25.0 | – | 510 | – | 861 | – / 100 % |" in shown
    assert "**8.0 calls a core**. With more the machine was full" in shown
    assert "livekit-agents: with no number of calls" in shown
    assert "Missed or answered early by greenroom in round 1, 4 calls: 2 turns" in shown


def test_the_picture_of_growth_is_a_picture() -> None:
    drawn = ElementTree.fromstring(curves.draw(summarise(MANY)))  # noqa: S314  # our own
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert {"greenroom", "livekit-agents", "1", "2", "4"} <= set(texts)
    assert len([element for element in drawn.iter() if element.tag.endswith("polyline")]) == 6


def test_a_document_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "d.md"
    document.write_text("nothing to see\n")
    with pytest.raises(ValueError, match="has no <!-- growth -->"):
        table.put("new\n", document, begin="<!-- growth -->", end="<!-- end of growth -->")
    assert document.read_text() == "nothing to see\n"


# --- the worker -------------------------------------------------------------------------------------------------------


def test_knobs_travel_as_metadata() -> None:
    knobs = Knobs(reply_s=1.0, greet=True)
    assert Knobs.of(knobs.encode()) == knobs
    assert Knobs.of("") == Knobs()


def test_the_workers_settings_are_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.setenv(name, "x" * 32)
    monkeypatch.setenv("LIVEKIT_URL", "ws://127.0.0.1:7880")
    monkeypatch.setenv("BENCH_IDLE", "3")
    monkeypatch.setenv("BENCH_STATE", str(tmp_path))
    settings = check(Path(__file__).with_name("worker.yaml"))
    assert settings.worker.warm == 3


async def test_the_agent_holds_its_call_by_the_metadata() -> None:
    server = ServerSettings(url="ws://127.0.0.1", api_key="key", api_secret="secret")
    knobs = Knobs(preemptive=True, endpointing=0.2, vad_silence=0.1, interrupt_min=0.7)
    job = Job("AJ_1", JobRoom("room", "RM_1"), "bench", knobs.encode())
    JobContext(job, server=server, call=cast("Call", None)).enter()
    options = BenchAgent().session_options(SessionOptions())
    assert options.rules.preemptive
    assert options.rules.turns.endpoint.min_delay == 0.2
    assert options.rules.interruption.stop_after == 0.7
    assert options.voice.min_silence == 0.1


@pytest.mark.e2e
@pytest.mark.models
async def test_the_worker_keeps_the_contract() -> None:
    """It comes, greets, answers in the tone and length that are asked for, and lets itself be interrupted."""
    async with House() as house:
        joined = await Join(times=1, idle=1).run(house, GREENROOM)
        turns = await Turn(times=2, idle=1).run(house, GREENROOM)
        stopped = await Interruption(times=1, idle=1).run(house, GREENROOM)
    assert joined.checks == {"joined": 1, "asked": 1}
    assert (turns.checks["missed"], turns.checks["early"]) == (0, 0)
    assert all(abs(hz - 440) <= 4 for hz in turns.checks["tones"])
    assert all(1.9 < seconds < 2.1 for seconds in turns.samples["reply_s"])
    assert all(0 < ms < 1000 for ms in turns.samples["overhead_ms"])
    assert stopped.checks["missed"] == 0


@pytest.mark.e2e
@pytest.mark.models
async def test_several_calls_at_once_are_measured() -> None:
    async with House() as house:
        grown = await Growth(calls=(2,), seconds=4.0, idle=1).run(house, GREENROOM)
    assert all(5 < mb < 100 for mb in grown.samples["2_calls_pss_mb_each"])
    assert all(0 < cores < 2 for cores in grown.samples["2_calls_cores"])
    assert grown.samples["2_calls_machine_share"]
    assert {"turns_of_2", "missed_of_2", "late_ticks_of_2"} <= grown.checks.keys()
