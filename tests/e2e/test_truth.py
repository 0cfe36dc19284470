"""Is what a profile says true? Shares of functions within the sampling error, totals within 2 % of the
kernel's own clock or the sampling error, where that is larger. The statistics: target.share_error,
target.total_error.
"""

import concurrent.futures
import os

import pytest

from daemon import query
from profiles import fetch, load
from target import Recorder, Z, share_error, total_error

N_CPUS = os.cpu_count()


def check_total(profile, recorder, lanes=1):
    """The sampled CPU time beside the process's CPU clock in the same window; lanes: how many CPUs it can use
    at once.
    """
    actual_ns = recorder.actual_ns(profile)
    busy = min(actual_ns / (profile.end_ns - profile.start_ns) / min(lanes, N_CPUS), 1)
    allowed = max(0.02, total_error(actual_ns / profile.period, busy))
    sampled_ns = profile.total("cpu")
    assert abs(sampled_ns / actual_ns - 1) <= allowed, (sampled_ns, actual_ns, busy, allowed, profile.facts)
    assert profile.fact("cpu_sampled_ns") == sampled_ns


def check_shares(profile, recorder, names=None):
    """Each function's share of the sampled time of all of them beside its share of the CPU time that they
    really took.
    """
    truth = recorder.functions_between(profile.start_ns, profile.end_ns)
    names = names or list(truth)
    all_ns = sum(truth[name] for name in names)
    sampled = profile.by_function(names, "cpu")
    n_samples = sum(profile.by_function(names, "samples").values())
    assert n_samples > 0, profile.facts
    for name in names:
        share, true_share = sampled.get(name, 0) / sum(sampled.values()), truth[name] / all_ns
        assert abs(share - true_share) <= share_error(true_share, n_samples), (
            name,
            share,
            true_share,
            n_samples,
        )


def check_belongs(profile, names, at_least=0.97):
    """Nearly all samples are in the functions that the program spends its time in, but for what it answers the test."""
    answers = profile.by_function(["answer"], "samples").get("answer", 0)
    samples = profile.total("samples") - answers
    error = Z * (samples * at_least * (1 - at_least)) ** 0.5
    assert sum(profile.by_function(names, "samples").values()) >= at_least * samples - error - 2, f"{profile.facts}\n{profile.folded()}"


@pytest.mark.parametrize(
    "name, options, hz, seconds, lanes",
    [
        ("ten_parallel", [], 499, 4, 10),
        ("ten_series", [], 999, 4, 1),
        ("ten_series", [], 100, 5, 1),
        ("short_threads", [], 100, 6, 1),
        ("short_threads", ["lanes=2"], 999, 3, 2),
        ("alternate", [], 100, 8, 1),
        ("alternate", ["clock=wall"], 100, 8, 1),
        ("wake_burn", [], 100, 10, 1),
        ("wake_burn", [], 999, 4, 1),
        ("library_reuse", [], 499, 3, 1),
        ("many_threads", ["wait_ms=800"], 499, 4, 2),
    ],
)
@pytest.mark.chance
def test_shares_and_total(daemon, start_target, name, options, hz, seconds, lanes):
    target = start_target(name, *options)
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=seconds, hz=hz)
    check_total(profile, recorder, lanes)
    names = list(recorder.truths[0][1])
    if len(names) > 1 and name != "many_threads":
        check_shares(profile, recorder)
    # Making a thread, and waking, cost something too.
    check_belongs(profile, names, {"many_threads": 0.7, "short_threads": 0.85, "wake_burn": 0.9}.get(name, 0.97))
    assert target.is_alive()


def test_period_is_what_was_asked_for(daemon, program_target):
    for hz in (19, 100, 999):
        profile = fetch(daemon, program_target.pid, seconds=0.3, hz=hz)
        assert abs(profile.period * hz / 1e9 - 1) < 0.01
    profile = fetch(daemon, program_target.pid, seconds=0.3, period=2_500_000)
    assert abs(profile.period / 2_500_000 - 1) < 0.01


def test_least_period_is_raised_and_said(daemon, program_target):
    profile = fetch(daemon, program_target.pid, seconds=0.3, period=50_000)
    assert abs(profile.period / 100_000 - 1) < 0.01
    assert "period_raised" in profile.facts
    assert "period_raised" not in fetch(daemon, program_target.pid, seconds=0.1, hz=100).facts


@pytest.mark.chance
def test_a_thousand_short_windows(daemon, start_target):
    """Profiles of two periods each, merged: only windows that begin at a random phase make a true sum. And
    none of them leaves anything behind.
    """
    target = start_target("alternate")
    fetch(daemon, target.pid, seconds=0.02)
    before = daemon.n_fds(), daemon.rss_kib()
    path = query(f"/pid/{target.pid}/debug/pprof/profile", seconds=0.02, hz=100)
    with Recorder(target) as recorder, concurrent.futures.ThreadPoolExecutor(4) as pool:
        profiles = list(pool.map(lambda _: load(daemon.get(path)), range(1000)))
    sampled_ns = sum(profile.total("cpu") for profile in profiles)
    actual_ns = sum(recorder.cpu_between(profile.start_ns, profile.end_ns) for profile in profiles)
    n_samples = sum(profile.total("samples") for profile in profiles)
    allowed = max(0.02, total_error(actual_ns / 1e7, 1, len(profiles)))
    assert abs(sampled_ns / actual_ns - 1) <= allowed, (sampled_ns, actual_ns, allowed)
    first = sum(profile.by_function(["first_half"], "cpu").get("first_half", 0) for profile in profiles)
    assert abs(first / sampled_ns - 0.5) <= share_error(0.5, n_samples) + 0.01, (first, sampled_ns)
    daemon.wait_for_sessions(0)
    assert daemon.n_fds() <= before[0] + 2, (before, daemon.n_fds())
    assert daemon.rss_kib() <= before[1] + 4096, (before, daemon.rss_kib())


@pytest.mark.chance
def test_ten_sessions_at_once(daemon, start_target):
    """Each has its own period, and its own right total."""
    target = start_target("ten_series")
    rates = [19, 49, 97, 100, 151, 199, 251, 499, 750, 999]
    with Recorder(target) as recorder, concurrent.futures.ThreadPoolExecutor(len(rates)) as pool:
        profiles = list(pool.map(lambda hz: fetch(daemon, target.pid, seconds=4, hz=hz), rates))
    for hz, profile in zip(rates, profiles):
        assert abs(profile.period * hz / 1e9 - 1) < 0.01
        check_total(profile, recorder)
        check_shares(profile, recorder)


@pytest.mark.parametrize("unit_us", [95, 100, 104, 108, 112])
@pytest.mark.chance
def test_no_cycle_keeps_in_step(daemon, start_target, unit_us):
    """Rounds of 5.2 to 6.2 ms, at a rate whose timers tick every 5.8 ms or so (tests/unit/test_tick.c has more
    such cases than there is time for here)."""
    target = start_target("ten_series", f"unit_us={unit_us}")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=4, hz=499)
    check_total(profile, recorder)
    check_shares(profile, recorder)


@pytest.mark.parametrize("kernel", [0, 1])
@pytest.mark.chance
def test_kernel_time(daemon, start_target, kernel):
    """Time in the kernel counts in any case; kernel=1 shows where it goes, kernel=0 charges it to the caller."""
    target = start_target("system_calls")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=4, hz=499, kernel=kernel)
    check_total(profile, recorder)
    check_shares(profile, recorder)
    leaf_in_kernel = profile.in_leaf_mapping("[kernel.kallsyms]", "samples")
    if not kernel:
        assert leaf_in_kernel == 0
        return
    kernel_share = leaf_in_kernel / profile.total("samples")
    true_share = 0.8
    assert abs(kernel_share - true_share) <= share_error(true_share, profile.total("samples")) + 0.03
    assert any("read" in name for name in profile.functions_in("[kernel.kallsyms]")), profile.folded()


@pytest.mark.chance
def test_forked_children_are_not_counted(daemon, start_target):
    target = start_target("forks", "children=2")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=3, hz=499)
    check_total(profile, recorder)
    assert "child_work" not in profile.functions()
    check_belongs(profile, ["parent_work"], 0.9)


@pytest.mark.chance
def test_main_thread_that_ended(daemon, start_target):
    """A zombie leads the process, and its work goes on in another thread."""
    target = start_target("main_exits")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=2, hz=499)
    check_total(profile, recorder)


def test_idle_target_has_an_empty_profile(daemon, start_target):
    target = start_target("counted")
    profile = fetch(daemon, target.pid, seconds=0.5)
    assert profile.total("samples") <= 1
    assert profile.fact("cpu_actual_ns") < 50_000_000


def test_deep_recursion_says_that_it_is_cut(daemon, start_target):
    shallow = fetch(daemon, start_target("deep", "depth=60").pid, seconds=1, hz=499)
    assert max(len(sample.stack) for sample in shallow.samples) >= 62
    assert "[truncated: too_deep]" not in shallow.functions()
    assert "main" in shallow.functions()
    deep = fetch(daemon, start_target("deep", "depth=5000").pid, seconds=1, hz=499)
    assert "[truncated: too_deep]" in deep.functions()
    assert deep.fact("truncated.too_deep") > 0.9 * deep.total("samples") > 0
    check_belongs(deep, ["bottom_work"], 0.9)
    # The cut ones have as many frames as are walked, and the mark; on the way down a stack is still whole.
    for sample in deep.samples:
        is_cut = sample.stack[-1].function == "[truncated: too_deep]"
        assert is_cut == (len(sample.stack) > 1024), (len(sample.stack), sample.stack[-1])
        assert is_cut or sample.stack[-1].function.startswith("[truncated: ") or "main" in [
            frame.function for frame in sample.stack
        ]


def test_libraries_at_one_address(daemon, start_target):
    """Two libraries take turns at one address: each gets its own time, in its own file."""
    target = start_target("library_reuse")
    profile = fetch(daemon, target.pid, seconds=3, hz=499)
    assert target.truth()["reused"] > 0, "the libraries did not share an address"
    files = {
        (frame.function, os.path.basename(frame.mapping.filename))
        for sample in profile.samples
        for frame in sample.stack
        if frame.function.endswith("_library_work")
    }
    assert files == {
        ("first_library_work", "libfirst_reuse.so"),
        ("second_library_work", "libsecond_reuse.so"),
    }


def test_sums_agree_with_the_headers(daemon, program_target):
    reply = daemon.profile(program_target.pid, seconds=1, hz=199)
    profile = load(reply)
    assert int(reply.headers["cprofd-samples"]) == profile.total("samples") == profile.fact("samples")
    assert int(reply.headers["cprofd-lost"]) == sum(
        profile.fact(key) for key in profile.facts if key.startswith("lost.")
    )
    assert "cprofd-rooted" in reply.headers


def test_folded_is_the_same_profile(daemon, program_target):
    reply = daemon.profile(program_target.pid, seconds=1, hz=199, format="folded")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain")
    lines = reply.text.splitlines()
    assert lines
    names = [line.rsplit(" ", 1)[0].split(";") for line in lines]
    assert all(int(line.rsplit(" ", 1)[1]) > 0 for line in lines)
    assert any(stack[-1].startswith("part") and "main" in stack for stack in names)


def test_one_thread_alone(daemon, start_target):
    """tid= and thread= choose threads; labels say which one it was."""
    target = start_target("ten_parallel")
    tids = sorted(int(tid) for tid in os.listdir(f"/proc/{target.pid}/task"))
    everything = fetch(daemon, target.pid, seconds=1, hz=199)
    assert {sample.labels["pid"] for sample in everything.samples} == {target.pid}
    busy = {}
    for sample in everything.samples:
        busy[sample.labels["tid"]] = sample.stack
        assert sample.labels["thread"]
    assert set(busy) <= set(tids) and len(busy) == 10
    tid = min(busy)
    one = fetch(daemon, target.pid, seconds=1, hz=199, tid=tid)
    assert {sample.labels["tid"] for sample in one.samples} == {tid}
    none = fetch(daemon, target.pid, seconds=0.3, hz=199, thread="^no such name$")
    assert none.total("samples") == 0


def test_focus_keeps_stacks_with_a_function(daemon, program_target):
    profile = fetch(daemon, program_target.pid, seconds=1, hz=499, focus="^part10$")
    assert profile.samples
    assert all(any(frame.function == "part10" for frame in sample.stack) for sample in profile.samples)
