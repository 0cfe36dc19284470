"""The tests' own tools: a comparison that can't fail proves nothing. No daemon is needed."""

import os
import subprocess
import sys
import time

import pytest

from count_results import count
from daemon import wait_for
from target import Recorder, Target, share_error, total_error
from test_truth import check_shares, check_total

pytestmark = pytest.mark.alone


class MadeUp:
    """A profile that says what it is told to."""

    period = 1_000_000
    facts = {}

    def __init__(self, start_ns, end_ns, times, actual_ns):
        self.start_ns, self.end_ns, self.times = start_ns, end_ns, times
        self.numbers = {"cpu_actual_ns": actual_ns, "cpu_sampled_ns": sum(times.values())}

    def total(self, sample_type):
        return sum(self.times.values()) // (1 if sample_type == "cpu" else self.period)

    def by_function(self, names, sample_type):
        return {
            name: self.times[name] // (1 if sample_type == "cpu" else self.period)
            for name in names
            if name in self.times
        }

    def fact(self, key):
        return self.numbers[key]


@pytest.fixture(scope="module")
def recorded():
    target = Target("ten_series")
    with Recorder(target) as recorder:
        time.sleep(0.3)
        start_ns, enough_ns = time.time_ns(), target.cpu_ns() + 1_300_000_000
        wait_for(lambda: target.cpu_ns() > enough_ns, "the target runs", 120)
        end_ns = time.time_ns()
        time.sleep(0.2)
    target.stop()
    return recorder, start_ns, end_ns


def test_recorded_truth_is_the_programs(recorded):
    recorder, start_ns, end_ns = recorded
    least_ns, most_ns = recorder.cpu_bounds(start_ns, end_ns)
    parts = recorder.functions_between(start_ns, end_ns)
    assert least_ns <= 1.01 * (end_ns - start_ns)
    assert 0.97 * least_ns - 20_000_000 < sum(parts.values()) < 1.03 * most_ns + 20_000_000
    assert 8 < parts["part10"] / parts["part1"] < 11


def test_a_true_profile_passes_and_false_ones_fail(recorded):
    recorder, start_ns, end_ns = recorded
    truth = {name: int(value) for name, value in recorder.functions_between(start_ns, end_ns).items()}
    actual_ns = int(recorder.cpu_between(start_ns, end_ns))
    check_shares(MadeUp(start_ns, end_ns, truth, actual_ns), recorder)
    check_total(MadeUp(start_ns, end_ns, truth, actual_ns), recorder)
    swapped = {**truth, "part10": truth["part5"], "part5": truth["part10"]}
    with pytest.raises(AssertionError):
        check_shares(MadeUp(start_ns, end_ns, swapped, actual_ns), recorder)
    with pytest.raises(AssertionError):
        check_total(MadeUp(start_ns, end_ns, {**truth, "part10": 0, "part9": 0, "part8": 0}, actual_ns), recorder)
    # A clock that tells more than there can have been.
    doubled = {name: 2 * value for name, value in truth.items()}
    most_ns = recorder.cpu_bounds(start_ns, end_ns)[1]
    with pytest.raises(AssertionError):
        check_total(MadeUp(start_ns, end_ns, doubled, most_ns + 11_000_000), recorder)


def test_errors_shrink_with_samples():
    assert share_error(0.5, 100) > share_error(0.5, 10000) > 0
    assert share_error(0, 100) > 0
    assert total_error(1000, 1.0) < 0.01 < total_error(1000, 0.1)


def test_what_chance_may_fail_is_repeated_once(tmp_path):
    (tmp_path / "test_it.py").write_text("""
import os, pytest

@pytest.mark.chance
def test_first_time_only():
    if not os.path.exists("seen"):
        open("seen", "w").close()
        assert 0, "by chance"

@pytest.mark.chance
def test_always():
    assert 0, "wrong"

def test_unmarked():
    assert 0, "wrong"
""")
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest", "test_it.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": here}, capture_output=True, text=True, check=False
    )
    assert "2 failed, 1 passed" in done.stdout, done.stdout
    assert done.stdout.count("repeated: ") == 2 and "test_first_time_only: AssertionError: by chance" in done.stdout, done.stdout


def test_results_are_counted_truthfully(tmp_path):
    path = tmp_path / "results.xml"
    assert count(str(path)) == (0, 1, 0)
    path.write_text("<testsuites><testsuite tests='0' failures='0' errors='0' skipped='0'/></testsuites>")
    assert count(str(path)) == (0, 1, 0)
    path.write_text("<testsuites><testsuite tests='9' failures='2' errors='1' skipped='3'/></testsuites>")
    assert count(str(path)) == (3, 3, 3)
    path.write_text("<testsuites><testsuite tests=")
    assert count(str(path)) == (0, 1, 0)
