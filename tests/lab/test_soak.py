"""The soak can be repeated, notices what it is there to notice, and passes in its short form."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from authproxy.demo.stand_ins.remote_write import Sample
from lab.soak.clients import Seen
from lab.soak.figures import Figure, longest_generation, measure, slope_per_hour
from lab.soak.ledger import Ledger
from lab.soak.report import BETWEEN, cause, slopes
from lab.soak.run import Window
from lab.soak.schedule import (
    ENDINGS,
    MEASURED,
    PLACES,
    RELOAD,
    RESPONSES,
    UNENDED,
    Fault,
    Schedule,
    is_within,
)
from tests.support.prometheus import require_prometheus
from tests.support.source import ROOT

UP = {"__name__": "up", "job": "soak"}


def faults(seed: int, count: int = 60) -> list[Fault]:
    return list(itertools.islice(Schedule(seed).rounds(), count))


def test_a_seed_gives_the_same_faults_again_and_another_one_others() -> None:
    assert faults(7) == faults(7) != faults(8)


def test_each_kind_of_fault_comes_in_each_round() -> None:
    kinds = [fault.kind for fault in faults(7, 17)]
    assert {*RESPONSES, *PLACES, *ENDINGS, RELOAD} <= set(kinds)
    assert sum(kind.startswith("identity") for kind in kinds) == 2


def test_a_fault_that_this_machine_cannot_play_is_left_out() -> None:
    schedule = Schedule(7, without=("address changed",))
    kinds = {fault.kind for fault in itertools.islice(schedule.rounds(), 60)}
    assert "address changed" not in kinds
    assert "target refused" in kinds


def test_no_process_is_ended_in_the_stretch_that_is_measured() -> None:
    moments = (0, 299, 300, 479, 480, 1103, 1104, 1200)
    unended = [moment for moment in moments if is_within(UNENDED, moment, 1200)]
    measured = [moment for moment in moments if is_within(MEASURED, moment, 1200)]
    assert (unended, measured) == ([300, 479, 480, 1103], [480, 1103])


def sample(value: float, at: int = 1000) -> Sample:
    return Sample.of("up", value, at, job="soak")


def test_the_ledger_misses_what_never_came_and_what_came_otherwise() -> None:
    ledger = Ledger()
    ledger.add([sample(1, at=1000), sample(2, at=2000)])
    labels = frozenset(UP.items())
    assert ledger.missing({labels: {1000: "1", 2000: "2"}}) == 0
    assert ledger.missing({labels: {3000: "1"}}) == 1
    assert ledger.missing({labels: {1000: "7"}}) == 1
    assert ledger.missing({frozenset({("__name__", "down")}): {1000: "1"}}) == 1


def test_the_ledger_tells_repeated_samples_from_contradicting_ones() -> None:
    ledger = Ledger()
    stale = float("nan")
    ledger.add([sample(1), sample(stale, at=2000)])
    ledger.add([sample(1), sample(stale, at=2000)])
    assert (ledger.samples, ledger.repeated, ledger.contradicted) == (2, 2, [])
    ledger.add([sample(5), sample(6, at=2000)])
    assert (ledger.samples, len(ledger.contradicted)) == (2, 2)


def test_a_slope_is_that_of_the_least_squares_line() -> None:
    assert slope_per_hour([(0, 5), (1800, 6), (3600, 7)]) == pytest.approx(2)
    assert slope_per_hour([(0, 1), (10, 1), (20, 1)]) == 0
    # By hand: the line through (0, 0), (1, 0), (2, 3) rises by 1.5 for each.
    assert slope_per_hour([(0, 0), (3600, 0), (7200, 3)]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two moments"):
        slope_per_hour([(1, 1), (1, 2)])


def test_slopes_are_those_of_processes_that_live_on() -> None:
    def figure(at: float, pid: int, size: int) -> Figure:
        return Figure(at, (pid,), 7, size, size // 10)

    figures = [figure(0, 1, 900), figure(10, 2, 100), figure(20, 2, 110), figure(30, 2, 120)]
    assert [each.pids for each in longest_generation([*figures, figure(40, 3, 9)])] == [(2,)] * 3
    found = slopes(figures)
    assert found is not None
    assert (found.memory, found.descriptors) == (pytest.approx(3600), pytest.approx(360))


def test_a_process_is_measured_with_those_below_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        figure = measure(os.getpid())
        child.kill()
    assert figure is not None
    assert {os.getpid(), child.pid} <= set(figure.pids)
    assert figure.pss_bytes > figure.allocated_bytes > 1_000_000
    assert figure.descriptors >= 6
    assert measure(child.pid) is None


def test_trouble_belongs_to_the_fault_that_a_request_met_or_to_none() -> None:
    windows = [Window("first", 10, 12, 13), Window("second", 20, 22, 22)]
    assert cause(Seen(9, 10.5, "503"), windows) == "first"
    assert cause(Seen(12.9, 15, "503"), windows) == "first"
    assert cause(Seen(14, 15, "503"), windows) == BETWEEN
    assert cause(Seen(19, 25, "503"), windows) == "second"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.real("prometheus")
def test_the_short_form_ends_well(tmp_path: Path) -> None:
    require_prometheus()
    report = tmp_path / "report.md"
    command = [sys.executable, "-m", "lab.soak", "--seconds", "45", "--report", str(report)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "All is well." in report.read_text()
