"""Time namespaces: the kernel notes times by its own clock, whatever the daemon's and a process's own clocks are."""

import subprocess
import time

import pytest

from daemon import DAEMON, PROGRAMS
from places import namespace_is_refused
from profiles import fetch, load
from test_jit import check_names

HOUR = 3600


def inside(seconds):
    """The command that runs another in a time namespace whose clock is so far ahead."""
    command = ["unshare", "--time", f"--monotonic={seconds}"]
    refused = namespace_is_refused(*command[1:])
    if refused:
        pytest.skip(f"needs time namespaces: {refused}")
    told = subprocess.run([*command, DAEMON, "--version"], capture_output=True, text=True, check=False).stderr
    if "unshare --fork" in told:
        pytest.skip("on this kernel only children get into a time namespace")
    assert told == ""
    return command


@pytest.fixture(scope="module", params=[1000 * HOUR, -HOUR], ids=["ahead", "behind"])
def elsewhere(request, new_daemon):
    return new_daemon(wrapper=inside(request.param))


def test_windows(elsewhere, start_target):
    """What is compared with the kernel's times: samples in the window, the threads' time in it, and the events of a trace."""
    target = start_target("ten_series")
    for unwind in ("eh", "copy"):
        profile = fetch(elsewhere, target.pid, seconds=0.5, hz=499, unwind=unwind)
        assert profile.total("samples") > 0, profile.facts
    profile = load(elsewhere.get(f"/pid/{target.pid}/debug/pprof/wall", seconds=0.5))
    lifetimes_ns = profile.fact("lifetimes_ns")
    assert abs(profile.total("wall") - lifetimes_ns) <= 0.02 * lifetimes_ns and profile.fact("cpu_ns") > 0, profile.facts
    before_ns = time.monotonic_ns()
    trace = elsewhere.get(f"/pid/{target.pid}/debug/pprof/trace", seconds=0.5, format="chrome").json()
    assert before_ns < int(trace["otherData"]["cprofd.start_monotonic_ns"]) < time.monotonic_ns()
    assert any(event["ph"] == "X" for event in trace["traceEvents"]), trace["otherData"]


def test_a_dump_of_another_clock(daemon, start_target):
    """What the process made is not later than the window, though its clock says so."""
    target = start_target("jit", argv=[*inside(HOUR), f"{PROGRAMS}/jit", "dump=1"])
    check_names(fetch(daemon, target.pid, seconds=0.5, hz=199))
