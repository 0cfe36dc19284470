"""Waits for locks and other threads, charged to who waits: each function's contentions and delay beside what the program says itself."""

import concurrent.futures
import os
import shutil
import subprocess

import pytest

from daemon import query
from profiles import load
from waits import snapshot, waits, watched

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")


@pytest.mark.parametrize(
    "program, command, names",
    [
        ("locks", "convoy", ["wait_mutex"]),
        ("locks", "rwlock", ["wait_read", "wait_write"]),
        ("locks", "timeout", ["wait_mutex", "wait_timed"]),
        ("locks", "pi", ["wait_pi"]),
        ("locks", "robust", ["wait_robust"]),
        ("locks", "shared", ["wait_shared"]),
        ("signals", "condition", ["wait_condition"]),
        ("signals", "semaphore", ["wait_semaphore"]),
        ("signals", "join", ["wait_thread"]),
        ("signals", "semop", ["wait_semop"]),
        ("signals", "flock", ["wait_flock"]),
        ("signals", "fcntl", ["wait_fcntl"]),
    ],
)
@pytest.mark.chance
def test_each_way_of_waiting(daemon, start_target, program, command, names):
    found = waits(daemon, start_target(program), "block", command)
    found.check(*names)


@pytest.mark.parametrize("what", ["mutex", "shared", "condition", "semaphore", "atomic"])
@pytest.mark.chance
def test_cxx(daemon, start_target, what):
    """Where a thread that comes late finds it free, or one that looks a few times before it sleeps, the program knows of no sleep."""
    waits(daemon, start_target("std_locks"), "block", what).check("wait_" + what, counts=False)


@pytest.mark.chance
def test_barrier(daemon, start_target):
    """Who comes last does not wait, but may take long to be told so: that is no contention."""
    waits(daemon, start_target("signals"), "block", "barrier").check("wait_barrier", counts=False)


@pytest.mark.quiet
@pytest.mark.chance
def test_a_woken_thread_that_finds_the_lock_taken_goes_on_waiting(daemon, start_target):
    found = waits(daemon, start_target("locks"), "block", "barge")
    found.check("wait_mutex", counts=False)
    # A thread that takes the lock again at once wakes another each time: many times as often as one gets it.
    assert found.contentions["wait_mutex"] <= found.true_contentions["wait_mutex"] + 3


@pytest.mark.chance
def test_several_at_once(daemon, start_target):
    """futex_waitv: who comes late finds a word changed, and does not wait. Whoever wakes it, that is no release."""
    target = start_target("signals")
    found = waits(daemon, target, "block", "several")
    if found.true_delay["wait_several"] == 0:
        pytest.skip("this kernel has no futex_waitv")
    found.check("wait_several", counts=False)
    mutex = waits(daemon, target, "mutex", "several")
    mutex.check_none("wait_several")
    assert mutex.profile.total("delay") < mutex.true_delay["wait_several"] / 20, mutex.profile.folded()


def test_what_is_no_wait_for_a_lock_is_left_out(daemon, start_target):
    found = waits(daemon, start_target("signals"), "block", "sleeps")
    assert found.true_delay["wait_no_lock"] > 0
    found.check_none("wait_no_lock")


@pytest.mark.chance
def test_rust(daemon, start_target, tmp_path):
    found = waits(daemon, start_target("rust_locks", path=rust_locks(tmp_path)), "block", "go")
    found.check("wait_mutex", "wait_read", "wait_write", "wait_condition", "wait_parked", counts=False)


def rust_locks(tmp_path):
    if not shutil.which("rustc"):
        pytest.skip("needs rustc")
    program = str(tmp_path / "rust_locks")
    subprocess.run(["rustc", "-O", "-g", os.path.join(SOURCES, "rust_locks.rs"), "-o", program], check=True, capture_output=True)
    return program


@pytest.mark.chance
def test_musl(daemon, start_target, tmp_path):
    """Another library's locks, whose condition variables move their waiters to the lock."""
    if not shutil.which("musl-gcc"):
        pytest.skip("needs musl-gcc")
    sources = [os.path.join(SOURCES, name) for name in ("signals.c", "program.c")]
    program = str(tmp_path / "signals")
    done = subprocess.run(
        ["musl-gcc", "-static", "-O2", "-g", "-D_GNU_SOURCE", *sources, "-o", program], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("musl-gcc: " + done.stderr[-200:])
    target = start_target("signals", path=program)
    for command, name in (("condition", "wait_condition"), ("semaphore", "wait_semaphore"), ("join", "wait_thread")):
        waits(daemon, target, "block", command).check(name, counts=False)


# ---- how it is asked for


@pytest.mark.chance
def test_rate_changes_no_sum(daemon, start_target):
    """Of 300 waits of 4 ms one in five is kept: the sums are as large, on average."""
    target = start_target("signals")
    with watched(daemon, target.pid, "block", block_rate=20_000_000):
        before = target.truth()
        for _ in range(15):
            after = target.truth("semaphore")
        profile = load(snapshot(daemon, target.pid, "block"))
    names = ["wait_semaphore"]
    true_n = after["functions"][names[0]]["calls"] - before["functions"][names[0]]["calls"]
    true_ns = after["functions"][names[0]]["cpu_ns"] - before["functions"][names[0]]["cpu_ns"]
    error = 4.5 * (4 / true_n) ** 0.5  # of a sum of draws that are 5 with a probability of 1/5
    assert abs(profile.by_function(names, "contentions")[names[0]] / true_n - 1) <= error
    assert abs(profile.by_function(names, "delay")[names[0]] / true_ns - 1) <= error


def test_rate_0_is_off(daemon, start_target):
    target = start_target("signals")
    with watched(daemon, target.pid, "block", block_rate=0):
        target.truth("semaphore")
        assert load(snapshot(daemon, target.pid, "block")).samples == []


def test_a_window(daemon, start_target):
    """What waits end in so many seconds; with threads, which a watch does not tell apart."""
    target = start_target("signals")
    daemon.wait_for_sessions(0)  # a watch that was ended a moment ago is open still
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(daemon.get, query(f"/pid/{target.pid}/debug/pprof/block", seconds=3))
        daemon.wait_for_open()
        target.truth("semaphore")
        reply = pending.result()
    profile = load(reply)
    assert profile.by_function(["wait_semaphore"], "contentions") == {"wait_semaphore": 20}, (profile.facts, profile.folded())
    assert 'filename="block-delta"' in reply.headers["content-disposition"]
    assert all("tid" in sample.labels and "state" not in sample.labels for sample in profile.samples)


def test_types_and_headers(daemon, start_target):
    target = start_target("signals")
    with watched(daemon, target.pid, "block"):
        reply = snapshot(daemon, target.pid, "block")
    profile = load(reply)
    assert 'filename="block"' in reply.headers["content-disposition"]
    assert profile.sample_types == [("contentions", "count"), ("delay", "nanoseconds")]
    assert profile.period == 1
    assert snapshot(daemon, target.pid, "block").status == 409


def test_text(daemon, start_target):
    target = start_target("signals")
    with watched(daemon, target.pid, "block"):
        target.truth("semaphore")
        reply = snapshot(daemon, target.pid, "block", debug=1)
    text = reply.text
    assert text.startswith("--- contention:\ncycles/second=1000000000\n"), text
    # A compiler may have unrolled the loop that waits: then there are several stacks.
    stacks = [stack.splitlines() for stack in text.split("\n", 2)[2].split("\n\n") if "\twait_semaphore+0x" in stack]
    counts = [[int(word) for word in stack[0].split(" @ ")[0].split()] for stack in stacks]
    assert sum(delay for delay, _ in counts) >= 20 * 3_900_000 and sum(n for _, n in counts) == 20, text
