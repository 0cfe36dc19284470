"""Where time goes that is not spent on a CPU: each kind beside what programs noted of their own waits."""

import concurrent.futures
import os
import signal
import subprocess
import threading
import time

import pytest

from profiles import load
from waiting import (
    PER_SPAN_NS,
    Schedstats,
    Window,
    by_function_and_state,
    by_state,
    by_thread,
    charge,
    check_closes,
    check_near,
    get,
    schedstat,
    spans_of,
    sums,
    tids_of,
)

# What a busy machine does to a program's own notes, and to timers' samples, it does once; and each wait is compared with a clock.
pytestmark = [pytest.mark.chance, pytest.mark.quiet]

STATES = ["cpu", "runq", "lock", "io", "sleep", "other"]
SECONDS = 3


def check_against_spans(found, spans, relative=0.02):
    """Of each function, the time in its state, the run queue and the way there and back is that of its spans."""
    total, count = sums(spans, "function", "what")
    for (function, what), ns in total.items():
        mine = found[function, what] + found[function, "runq"]
        slack = PER_SPAN_NS * count[function, what] + 200_000
        # What a wait for a disk has of CPU time is much: it is in the span, and not in the state.
        if what == "io" and ns < 0.5 * SECONDS * 1e9:
            assert mine <= ns * (1 + relative) + slack, (function, mine, ns)
            check_near(mine + found[function, "cpu"], ns, (function, what, "with its CPU time"), 0.1, slack * 10)
        else:
            check_near(mine, ns, (function, what), relative, slack)
        others = sum(value for (name, state), value in found.items() if name == function and state not in (what, "runq", "cpu"))
        assert others <= 0.005 * ns + slack, (function, what, {key: value for key, value in found.items() if key[0] == function})


def test_wall_knows_every_wait(daemon, start_target):
    target = start_target("waits")
    tids = tids_of(target.pid)
    before = schedstat(target.pid)
    profile = get(daemon, target.pid, "wall", seconds=SECONDS, max_overhead=1000000)
    after = schedstat(target.pid)
    window = Window(profile)
    spans = spans_of(target, window)
    check_closes(profile, tids & tids_of(target.pid))
    functions = {span.function for span in spans}
    found = by_function_and_state(profile, functions, "wall")
    check_against_spans(found, spans)
    states = by_state(profile, "wall")
    assert set(states) <= set(STATES), states
    least = sum(after[tid][0] - before[tid][0] for tid in before if tid in after)
    assert states["cpu"] <= least * 1.02 + 40_000_000, (states, least)


def test_offcpu_knows_every_wait(daemon, start_target):
    target = start_target("waits")
    profile = get(daemon, target.pid, "offcpu", seconds=SECONDS, max_overhead=1000000)
    spans = spans_of(target, Window(profile))
    # It tells a wait when it ends: of those that never do, it knows nothing or all.
    spans = [span for span in spans if not span.function.startswith("never_")]
    found = by_function_and_state(profile, {span.function for span in spans}, "offcpu")
    check_against_spans(found, spans)


@pytest.mark.parametrize("kind", ["wall", "offcpu"])
def test_two_sessions_side_by_side(daemon, start_target, kind):
    """Different windows and parameters of one process, at once: each is right by itself."""
    target = start_target("waits", "only=in_nanosleep,in_sem_wait,in_pipe_read,never_cond")
    asked = [{"seconds": 3}, {"seconds": 1.5}, {"seconds": 2, "kernel": 1}, {"seconds": 2, "state": "lock"}]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        futures = []
        for parameters in asked:
            futures.append(pool.submit(get, daemon, target.pid, kind, **parameters))
            time.sleep(0.2)
        profiles = [future.result() for future in futures]
    for parameters, profile in zip(asked, profiles):
        spans = [span for span in spans_of(target, Window(profile)) if not span.function.startswith("never_")]
        if "state" in parameters:
            assert set(by_state(profile, kind)) == {"lock"}
            spans = [span for span in spans if span.what == "lock"]
        found = by_function_and_state(profile, {span.function for span in spans}, kind)
        check_against_spans(found, spans)


def test_threads_that_never_switch_have_the_whole_window(daemon, start_target):
    target = start_target("waiting_threads", "threads=1000")
    profile = get(daemon, target.pid, "wall", seconds=2)
    check_closes(profile, tids_of(target.pid))
    truth = target.truth()["functions"]
    found = by_function_and_state(profile, set(truth), "wall")
    for function, state in (("wait_in_read", "io"), ("wait_on_cond", "lock"), ("wait_in_sleep", "sleep"), ("wait_in_poll", "sleep")):
        check_near(found[function, state], truth[function]["calls"] * (profile.end_ns - profile.start_ns), function, 0.01)


def test_threads_that_are_born_and_die(daemon, start_target):
    """The wall time is between the sum of the lives that the threads saw and that of the lives that those saw who started them."""
    target = start_target("short_waits", "wait_ms=20")
    profile = get(daemon, target.pid, "wall", seconds=SECONDS, max_overhead=1000000)
    spans = spans_of(target, Window(profile))
    total, count = sums(spans, "function", "what")
    found = by_function_and_state(profile, {"short_wait", "join_it"}, "wall")
    check_near(
        found["short_wait", "sleep"] + found["short_wait", "runq"], total["short_wait", "sleep"], "short_wait", 0.02,
        PER_SPAN_NS * count["short_wait", "sleep"],
    )
    check_near(
        found["join_it", "lock"] + found["join_it", "runq"], total["join_it", "lock"], "join_it", 0.02, PER_SPAN_NS * count["join_it", "lock"]
    )
    lanes = {span.tid for span in spans if span.what == "outer"}
    lives = sum(ns for tid, ns in by_thread(profile, "wall").items() if tid not in lanes and tid not in tids_of(target.pid))
    assert total["short_life", "inner"] * 0.99 <= lives <= total["short_life", "outer"] * 1.01, (lives, total)


def test_run_queue_of_a_crowded_cpu(daemon, start_target):
    """Ten threads that want one CPU: how long each waited is what the kernel says of it."""
    cpu = min(os.sched_getaffinity(0))
    target = start_target("ten_parallel", preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    with Schedstats(target.pid) as stats:
        profile = get(daemon, target.pid, "wall", seconds=SECONDS, max_overhead=1000000)
    states = by_state(profile, "wall")
    check_near(states["cpu"], stats.ran_ns(profile), "cpu", 0.02, 20_000_000)
    check_near(states["runq"], stats.waited_ns(profile), "runq", 0.01, 20_000_000)
    check_closes(profile, tids_of(target.pid))


def test_ten_sleepers_and_a_worker(daemon, start_target, go):
    """The usual question to such a profile: who ran?"""
    target = start_target("waiting_threads", "threads=10", "worker=1")
    url = daemon.url(f"/pid/{target.pid}/debug/pprof/wall", seconds=2)

    def functions(*switches):
        done = subprocess.run(
            [go, "tool", "pprof", "-top", "-nodecount=0", "-nodefraction=0", *switches, url], capture_output=True, text=True, timeout=60, check=True
        )
        return {line.split()[-1] for line in done.stdout.splitlines() if line.endswith("worker_work") or "wait_" in line.split("/")[-1]}

    waits = {"wait_in_read", "wait_on_cond", "wait_in_sleep", "wait_in_poll"}
    assert functions("-tagfocus", "state:cpu") & (waits | {"worker_work"}) == {"worker_work"}
    assert functions() >= waits | {"worker_work"}


def test_stopped_process(daemon, start_target):
    """SIGSTOP takes the process out of all that it did; the window is whole nevertheless."""
    target = start_target("waits", "only=in_nanosleep,in_sem_wait,never_cond")
    tids = tids_of(target.pid)

    def stop():
        daemon.wait_for_open()
        os.kill(target.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(target.pid, signal.SIGCONT)

    stopper = threading.Thread(target=stop)
    stopper.start()
    profile = get(daemon, target.pid, "wall", seconds=2.5)
    stopper.join()
    check_closes(profile, tids)
    stopped_ns = by_state(profile, "wall")["other"]
    check_near(stopped_ns, len(tids) * 1e9, "stopped", 0.03)


@pytest.mark.parametrize("sort", ["inherit", "rwlock", "semaphore", "fcntl"])
def test_block_charges_who_waits(daemon, start_target, sort):
    target = start_target("held_locks", f"only={sort}")
    profile = get(daemon, target.pid, "block", seconds=SECONDS)
    assert profile.sample_types == [("contentions", "count"), ("delay", "nanoseconds")]
    spans = [span for span in spans_of(target, Window(profile, True)) if span.what == "lock"]
    true = sum(span.end - span.start for span in spans)
    mine = profile.by_function([f"take_{sort}"], "delay").get(f"take_{sort}", 0)
    # A wait that began before the window, or ends behind it, is counted when it ends, as in Go: one for each thread, at either end.
    check_near(mine, true, sort, 0.02, 2 * 4 * 12_000_000)
    waited = sum(1 for span in spans if span.end - span.start > 50_000)
    contentions = profile.by_function([f"take_{sort}"], "contentions").get(f"take_{sort}", 0)
    assert 0.95 * waited - 8 <= contentions <= 1.3 * waited + 8, (contentions, waited)
    assert profile.total("delay") <= mine * 1.02 + 10_000_000, profile.folded()


@pytest.mark.parametrize("sort", ["inherit", "rwlock"])
def test_mutex_charges_who_holds(daemon, start_target, sort):
    target = start_target("held_locks", f"only={sort}")
    profile = get(daemon, target.pid, "mutex", seconds=SECONDS)
    assert profile.sample_types == [("contentions", "count"), ("delay", "nanoseconds")]
    window = Window(profile, True)
    true = charge(spans_of(target, window), sort, window)
    mine = profile.by_function(list(true), "delay")
    for function, ns in true.items():
        check_near(mine.get(function, 0), ns, function, 0.02, 2 * 4 * 12_000_000)


def test_block_has_no_waits_for_time_or_data(daemon, start_target):
    target = start_target("waits", "only=in_nanosleep,in_poll,in_epoll,in_pipe_read,in_socket_read,never_read")
    profile = get(daemon, target.pid, "block", seconds=1)
    wrong = {"in_nanosleep", "in_poll", "in_epoll", "in_pipe_read", "in_socket_read", "makes_bytes", "never_read"}
    assert not profile.by_function(wrong, "delay"), profile.folded()


def test_target_that_ends_in_the_window(daemon, start_target):
    target = start_target("waits", "only=in_nanosleep,in_sem_wait,never_cond", "seconds=2")
    began = time.monotonic()
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/wall", seconds=30)
    assert time.monotonic() - began < 15
    profile = load(reply)
    assert profile.facts.get("target") == "exited", profile.facts
    found = by_function_and_state(profile, {"in_nanosleep", "never_cond"}, "wall")
    assert found["in_nanosleep", "sleep"] > 1e9 and found["never_cond", "lock"] > 1e9, profile.folded()


def test_main_thread_that_ended_before(daemon, start_target):
    target = start_target("main_exits")
    time.sleep(0.3)
    profile = get(daemon, target.pid, "wall", seconds=2)
    survivors = tids_of(target.pid) - {target.pid}
    check_closes(profile, survivors)
    assert by_thread(profile, "wall")[target.pid] == 0, "the zombie that the process has for a leader does not live"
    cpu = by_function_and_state(profile, {"survivor_work"}, "wall")["survivor_work", "cpu"]
    assert cpu > 0.9 * by_state(profile, "wall")["cpu"] > 0, profile.folded()


@pytest.mark.parametrize("thread", [0, 1])
def test_exec_in_the_window(daemon, start_target, thread):
    """The thread that has the process's number has a whole window, though it is not the same before and after; each image's time has its
    own functions.
    """
    target = start_target("exec_itself", "after_ms=1000", f"thread={thread}")
    profile = get(daemon, target.pid, "wall", seconds=2.5)
    assert profile.facts.get("target") == "execed", profile.facts
    check_near(by_thread(profile, "wall")[target.pid], profile.end_ns - profile.start_ns, "the main thread", 0.01)
    found = by_function_and_state(profile, {"before_exec", "after_exec"}, "wall")
    assert found["before_exec", "cpu"] > 5e7 and found["after_exec", "cpu"] > 5e8, profile.folded()


def started_ns(pid, tid):
    """By the wall clock, in clock ticks."""
    with open(f"/proc/{pid}/task/{tid}/stat", encoding="latin-1") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.time_ns() - boot_ns + ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def test_two_thousand_threads_born_in_the_window(daemon, start_target):
    target = start_target("many_threads", "wait_ms=500", "threads=2000")
    profile = get(daemon, target.pid, "wall", seconds=3)
    found, tids = by_thread(profile, "wall"), tids_of(target.pid)
    assert len(tids) > 2000 and not tids - set(found), sorted(tids - set(found))[:10]
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for tid in tids:
        true = profile.end_ns - max(profile.start_ns, started_ns(target.pid, tid))
        check_near(found[tid], true, f"thread {tid}", 0.01, 2 * tick_ns)


def test_forked_children_are_not_their_parent(daemon, start_target):
    target = start_target("forks")
    profile = get(daemon, target.pid, "wall", seconds=2)
    assert set(by_thread(profile, "wall")) == tids_of(target.pid)
    check_closes(profile, tids_of(target.pid))
    assert "child_work" not in profile.functions(), profile.folded()


def test_sixteen_sessions_of_a_process_that_switches_all_the_time(daemon, start_target):
    """Each closes, or says what it lost."""
    target = start_target("pingpong", "depth=3")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(get, daemon, target.pid, "wall", seconds=1 + i / 8, kernel=i % 2, max_overhead=1000000) for i in range(14)]
        profiles = [future.result() for future in futures]
    for profile in profiles:
        check_closes(profile, {target.pid})
        switches = sum(sample.values[0] for sample in profile.samples)
        assert switches > 10_000 or profile.facts.get("lost"), profile.facts
