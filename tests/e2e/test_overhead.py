"""What sampling may cost the target: measured, told, kept below max_overhead by fewer samples of more weight."""

import pytest

from daemon import query
from profiles import fetch, load
from target import Recorder, total_error


def test_cost_is_told(daemon, start_target):
    profile = fetch(daemon, start_target("ten_series").pid, seconds=1, hz=499)
    assert 0 < float(profile.facts["overhead_percent"]) < 5, profile.facts
    assert profile.fact("overhead_ns") > 0
    p50, p99 = profile.fact("overhead.p50_ns"), profile.fact("overhead.p99_ns")
    assert 100 < p50 <= p99 < 1e7 and p50 * profile.total("samples") < 3 * profile.fact("overhead_ns"), profile.facts
    assert "thinned" not in profile.facts


@pytest.mark.chance
def test_fewer_samples_of_more_weight(daemon, start_target):
    """A thousand frames at 9,999 Hz cost more than 2 %: the rate falls, the total stays right."""
    target = start_target("deep", "depth=1000")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=4, hz=9999, max_overhead=2)
    actual_ns = recorder.actual_ns(profile)
    assert "ended" not in profile.facts, profile.facts
    thin = profile.fact("thinned")
    assert thin >= 2
    samples, sampled_ns = profile.total("samples"), profile.total("cpu")
    assert samples < 0.8 * profile.fact("expected"), profile.facts
    assert sampled_ns > 1.2 * samples * profile.period
    # Each sample is there by chance, once in `thin` at worst: of n due, n / thin are, give or take.
    error = max(0.02, total_error(actual_ns / profile.period / thin, 0.5))
    assert abs(sampled_ns / actual_ns - 1) <= error, (sampled_ns, actual_ns, profile.facts)
    assert target.is_alive()


def test_a_budget_that_nothing_keeps_ends_the_window(daemon, start_target):
    target = start_target("deep", "depth=1000")
    profile = fetch(daemon, target.pid, seconds=20, hz=9999, max_overhead=0.0001)
    assert profile.facts["ended"] == "overhead"
    assert profile.fact("window_ns") < 15e9
    assert profile.total("samples") > 0


def test_a_process_that_mostly_waits_keeps_all_of_its_waits(daemon, start_target):
    """What it uses is so little that a per cent of it is nothing."""
    target = start_target("held_locks", "only=mutex")
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/block", seconds=3)
    if reply.status == 503:
        pytest.skip(reply.text)
    profile = load(reply)
    assert float(profile.facts["overhead_percent"]) > 5, "this tests nothing"
    assert "thinned" not in profile.facts, profile.facts


def test_many_threads_that_mostly_wait_have_their_whole_window(daemon, start_target):
    """A switch costs something whether its stack is walked or not: of a target that uses hardly any CPU time that is a large part."""
    target = start_target("held_locks")
    reply = daemon.get(f"/pid/{target.pid}/debug/fgprof", seconds=4)
    if reply.status == 503:
        pytest.skip(reply.text)
    profile = load(reply)
    assert float(profile.facts["overhead_percent"]) > 5, "this tests nothing"
    assert "ended" not in profile.facts and profile.fact("window_ns") > 3.9e9, profile.facts
    assert "thinned" not in profile.facts, profile.facts


def test_wrong_budgets(daemon, program_target):
    for value in ("0", "-1", "x", "1000001"):
        reply = daemon.get(query(f"/pid/{program_target.pid}/debug/pprof/profile", seconds=0.1, max_overhead=value))
        assert reply.status == 400 and "max_overhead" in reply.text, (value, reply.text)
    assert load(daemon.get(query(f"/pid/{program_target.pid}/debug/pprof/profile", seconds=0.1, max_overhead=1e6)))
