"""Programs to profile, what they really did, and the statistics of comparing that with samples."""

import json
import math
import os
import select
import shutil
import signal
import subprocess
import threading
import time

import pytest

from daemon import PROGRAMS

# A comparison of a sampled share with the truth fails by chance once in 150,000 (two-sided normal tail at
# this many standard deviations); where a program's cycle is near a timer's, whose samples vary up to 1.4 times as much
# (tests/unit/test_tick.c), once in 700. A run makes about a hundred such comparisons, and repeats what fails (conftest.py).
Z = 4.5


class Target:
    """A program of tests/programs, started, ready, and told to end when the test is over."""

    def __init__(self, name, *options, path=None, argv=None, start=True, **popen):
        self.name = name
        command = argv or [path or os.path.join(PROGRAMS, name), *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace", **popen
        )
        self.lock = threading.Lock()
        self.pid = self.process.pid
        if start:
            self.read_ready()

    def read_ready(self):
        line = self.read_line()
        if line.startswith("cannot"):
            self.stop()
            pytest.skip(f"{self.name}: {line.strip()}")
        assert line.startswith("ready"), f"{self.name}: {line!r}"

    def read_line(self, seconds=30):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert ready, f"{self.name} says nothing"
        return self.process.stdout.readline()

    def truth(self, command=""):
        """What it has done so far, from itself."""
        with self.lock:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            return json.loads(self.read_line())

    def cpu_ns(self):
        """The kernel's account of the process's CPU time, all threads, ended ones too."""
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Recorder:
    """Notes a target's clocks while a request runs, so that the truth of exactly the profile's window is
    known afterwards: the window is somewhere within the request. Times are of the wall clock, as in
    profiles.
    """

    def __init__(self, target, with_truth=True):
        self.target, self.with_truth = target, with_truth
        self.cpu, self.truths = [], []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.note()
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.ended.set()
        self.thread.join()
        self.note()

    def note(self):
        try:
            before = time.time_ns()
            cpu_ns = self.target.cpu_ns()
            self.cpu.append((before, time.time_ns(), cpu_ns))
        except OSError:
            return
        if self.with_truth and (not self.truths or time.time_ns() - self.truths[-1][0] > 40_000_000):
            try:
                told = self.target.truth()
            except (OSError, ValueError, AssertionError):
                self.with_truth = False
                return
            offset = time.time_ns() - time.monotonic_ns()
            self.truths.append((told["monotonic_ns"] + offset, told["functions"]))

    def run(self):
        while not self.ended.wait(0.008):
            self.note()

    @staticmethod
    def at(series, when):
        """A series' value at a time, between two notes."""
        before = [point for point in series if point[0] <= when]
        after = [point for point in series if point[0] > when]
        if not before or not after:
            return (after or before)[0 if after else -1][1]
        (t0, v0), (t1, v1) = before[-1], after[0]
        return v0 + (v1 - v0) * (when - t0) / (t1 - t0)

    def cpu_between(self, start_ns, end_ns):
        notes = [((before + after) // 2, cpu_ns) for before, after, cpu_ns in self.cpu]
        return self.at(notes, end_ns) - self.at(notes, start_ns)

    def cpu_at(self, when):
        """The CPU time at a moment was at least, and at most: what was noted before it, and after it."""
        least = max((cpu_ns for _, after, cpu_ns in self.cpu if after <= when), default=0)
        return least, min((cpu_ns for before, _, cpu_ns in self.cpu if before >= when), default=math.inf)

    def cpu_bounds(self, start_ns, end_ns):
        """How much CPU time it used for certain in a window, and at most. On a busy machine notes are far apart."""
        (start_least, start_most), (end_least, end_most) = self.cpu_at(start_ns), self.cpu_at(end_ns)
        return max(end_least - start_most, 0), end_most - start_least

    def actual_ns(self, profile):
        """The CPU time of a profile's window by the kernel's clock, which the daemon tells, and which must lie between what
        was noted here. The daemon opens the window and reads the clock one after the other.
        """
        told_ns = profile.fact("cpu_actual_ns")
        least_ns, most_ns = self.cpu_bounds(profile.start_ns, profile.end_ns)
        assert least_ns - 10_000_000 <= told_ns <= most_ns + 10_000_000, (least_ns, told_ns, most_ns)
        return told_ns

    def functions_between(self, start_ns, end_ns):
        """CPU time of each function in the window."""
        return {
            name: self.at([(t, f[name]["cpu_ns"]) for t, f in self.truths], end_ns)
            - self.at([(t, f[name]["cpu_ns"]) for t, f in self.truths], start_ns)
            for name in self.truths[0][1]
        }


def share_error(share, n_samples):
    """How far a sampled share may be from a true one: Z standard deviations of the binomial distribution, and
    what two samples make, since a share of zero has no deviation.
    """
    return Z * math.sqrt(max(share * (1 - share), 1e-9) / n_samples) + 2 / n_samples


# The deviation of a window's number of samples, whatever its length, of a target that never pauses: three timers' first and last ticks
# are at random (measured: 1.16 to 1.22 of windows of two periods; tests/unit/test_tick.c simulates them).
ENDS_DEVIATION = 1.25


def total_error(n_expected, busy, n_windows=1):
    """The relative error that sampling allows a total. Of the n_expected / busy ticks that a CPU's timer
    makes in the windows, each finds the target running with probability busy, a target that never pauses
    has no such error. The ends of each window are at random.
    """
    variance = n_expected * max(1 - busy, 0) + n_windows * ENDS_DEVIATION**2
    return Z * math.sqrt(variance) / max(n_expected, 1)


def check_due(profile, samples):
    """These are nearly all samples that the target's CPU time makes, however little of it a busy machine gave."""
    due = profile.fact("expected")
    assert samples > 0 and samples >= 0.9 * due - Z * due**0.5 - 3, (samples, profile.facts, profile.folded())


def make_public(directory):
    """Any user may go there, from /tmp on."""
    while directory not in ("/", "/tmp"):
        os.chmod(directory, 0o755)
        directory = os.path.dirname(directory)


def public_copy(tmp_path_factory, name, *more):
    """A copy of programs that any user may run, wherever the build is."""
    directory = str(tmp_path_factory.mktemp("public"))
    make_public(directory)
    for each in (name, *more):
        shutil.copy(os.path.join(PROGRAMS, each), directory)
    return os.path.join(directory, name)
