"""Waits for locks, charged to who holds them: each releasing function's contentions and delay beside what the program says itself."""

import concurrent.futures
import os
import subprocess

import pytest

from profiles import load
from test_block import rust_locks
from waits import snapshot, waits, watched


@pytest.mark.parametrize(
    "command, names",
    [
        ("convoy", ["release_mutex", "release_long"]),
        ("barge", ["release_mutex"]),
        ("rwlock", ["release_write", "release_read"]),
        ("pi", ["release_pi"]),
        ("robust", ["release_by_exit"]),
    ],
)
@pytest.mark.chance
def test_each_lock(daemon, start_target, command, names):
    found = waits(daemon, start_target("locks"), "mutex", command)
    found.check(*names)
    found.check_none(*(name for name in found.true_delay if name.startswith("wait_")))


@pytest.mark.chance
def test_who_gives_up_has_waited_all_the_same(daemon, start_target):
    """But where nobody else waited: then no release is seen."""
    found = waits(daemon, start_target("locks"), "mutex", "timeout")
    true_ns = found.true_delay["release_long"]
    told_ns = found.delay["release_long"] + found.profile.fact("abandoned_ns")
    assert 0.98 * true_ns - found.run_delay_ns <= told_ns <= 1.02 * true_ns, (told_ns, true_ns, found.profile.facts)
    assert found.contentions["release_long"] == found.true_contentions["release_long"]


@pytest.mark.chance
def test_many_locks(daemon, start_target):
    found = waits(daemon, start_target("locks"), "mutex", "many")
    true_ns, true_n = found.true_delay["release_mutex"], found.true_contentions["release_mutex"]
    assert abs(found.profile.by_function(["release_many"], "delay")["release_many"] / true_ns - 1) <= 0.02
    assert found.profile.by_function(["release_many"], "contentions")["release_many"] == true_n
    found.check_nothing_lost()


def test_more_locks_than_there_is_room_for(daemon, start_target):
    """Releases of locks that found no room are missing, and counted."""
    found = waits(daemon, start_target("many_waits"), "mutex", "go", max_overhead=1000000)
    told, lost = sum(found.contentions.values()), found.profile.fact("lost.locks")  # a watch's first stacks may be without names
    assert lost > 0, found.profile.facts
    # A thread of whose sleep the kernel did not tell is the difference.
    assert abs(told + lost - found.true_contentions["release_each"]) <= 10 + found.profile.fact("lost.switches"), (told, found.profile.facts)


@pytest.mark.parametrize("command", ["condition", "semaphore", "barrier", "join", "semop", "flock"])
def test_signals_are_no_releases(daemon, start_target, command):
    found = waits(daemon, start_target("signals"), "mutex", command)
    true_ns = sum(ns for name, ns in found.true_delay.items() if name.startswith("wait_"))
    assert true_ns > 50_000_000
    # The program's own locks, those of its library included, may be waited for a moment.
    assert found.profile.total("delay") < true_ns / 20, found.profile.folded()
    if command in ("condition", "semaphore", "barrier"):
        assert found.profile.fact("signals") >= 19, found.profile.facts


def test_other_processes_locks_are_counted(daemon, start_target):
    found = waits(daemon, start_target("locks"), "mutex", "shared")
    assert found.profile.fact("foreign_releases") == found.true_contentions["wait_shared"]
    assert found.profile.total("contentions") <= 1, found.profile.folded()


def check_all_but_the_way_back(found, name, waited_ns):
    """A release costs what others waited until then. They tell when they run again, which may take a while on a busy machine."""
    assert 0.85 * waited_ns - found.run_delay_ns <= found.delay.get(name, 0) <= 1.01 * waited_ns, (found.delay, waited_ns, found.profile.folded())


@pytest.mark.parametrize("command, name", [("mutex", "release_mutex"), ("shared", "release_shared")])
@pytest.mark.chance
def test_cxx(daemon, start_target, command, name):
    """Three wait in each hold."""
    found = waits(daemon, start_target("std_locks"), "mutex", command)
    waited_ns = found.true_delay["wait_" + command]
    check_all_but_the_way_back(found, name, waited_ns)


@pytest.mark.parametrize("command", ["condition", "semaphore"])
def test_cxx_signals(daemon, start_target, command):
    found = waits(daemon, start_target("std_locks"), "mutex", command)
    assert found.profile.total("delay") < found.true_delay["wait_" + command] / 20, found.profile.folded()


@pytest.mark.chance
def test_rust(daemon, start_target, tmp_path):
    found = waits(daemon, start_target("rust_locks", path=rust_locks(tmp_path)), "mutex", "go")
    for release, wait in (("release_mutex", "wait_mutex"), ("release_write", "wait_read")):
        check_all_but_the_way_back(found, release, found.true_delay[wait])
    # Of several writers that wait, one gets the lock after the other: the reader is charged with the first of them at least.
    assert found.true_delay["wait_write"] / 3.3 < found.delay["release_read"] < found.true_delay["wait_write"] * 1.05, found.delay
    assert found.delay.get("signal_condition", 0) < found.true_delay["wait_condition"] / 20, found.profile.folded()


# ---- how it is asked for


@pytest.mark.chance
def test_fraction_changes_no_sum(daemon, start_target):
    """One release in three is kept, and stands for three."""
    target = start_target("locks")
    with watched(daemon, target.pid, "mutex", fraction=3):
        before = target.truth()
        for _ in range(4):
            after = target.truth("convoy")
        profile = load(snapshot(daemon, target.pid, "mutex"))
    names = ["release_mutex", "release_long"]
    true_n = sum(after["functions"][name]["calls"] - before["functions"][name]["calls"] for name in names)
    error = 4.5 * (2 / true_n) ** 0.5
    assert abs(profile.total("contentions") / true_n - 1) <= error
    assert all(sample.values[0] % 3 == 0 and sample.values[1] % 3 == 0 for sample in profile.samples)


def test_fraction_0_is_off(daemon, start_target):
    target = start_target("locks")
    with watched(daemon, target.pid, "mutex", fraction=0):
        target.truth("rwlock")
        assert load(snapshot(daemon, target.pid, "mutex")).samples == []


def test_text_is_read_by_go(daemon, start_target, go, tmp_path):
    target = start_target("locks")
    with watched(daemon, target.pid, "mutex"):
        target.truth("rwlock")
        text = snapshot(daemon, target.pid, "mutex", debug=1).text
    assert text.startswith("--- mutex:\ncycles/second=1000000000\nsampling period=1\n"), text
    path = tmp_path / "mutex.txt"
    path.write_text(text)
    done = subprocess.run(
        [go, "tool", "pprof", "-top", "-sample_index=contentions", str(path)], capture_output=True, text=True, check=False,
        env={**os.environ, "PPROF_BINARY_PATH": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr
    assert "Type: contentions" in done.stdout and "100%" in done.stdout, done.stdout


@pytest.mark.chance
def test_two_at_once(daemon, start_target):
    """Two sessions with other parameters, and block beside them, see the same locks."""
    target = start_target("locks")
    with watched(daemon, target.pid, "block"):
        found = waits(daemon, target, "mutex", "rwlock")
        blocked = load(snapshot(daemon, target.pid, "block"))
    found.check("release_write", "release_read")
    delay = blocked.by_function(["wait_read", "wait_write"], "delay")
    for name in ("wait_read", "wait_write"):
        assert abs(delay[name] / found.true_delay[name] - 1) <= 0.02


@pytest.mark.chance
def test_two_processes_at_once(daemon, start_target):
    """Their locks are at the same addresses, and are others."""
    targets = [start_target("locks"), start_target("locks")]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda target: waits(daemon, target, "mutex", "rwlock"), targets):
            found.check("release_write", "release_read")


@pytest.mark.chance
def test_watched_again_and_again(daemon, start_target):
    """Whoever waited as a watch ended is not taken for one who waits in the next, not even while another process is watched all along."""
    other, target = start_target("signals"), start_target("locks")
    with watched(daemon, other.pid, "block"), concurrent.futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(target.truth, "convoy")
        while not busy.done():
            with watched(daemon, target.pid, "mutex"):
                snapshot(daemon, target.pid, "mutex")
        busy.result()
        found = waits(daemon, target, "mutex", "convoy")
    found.check("release_mutex", "release_long")
