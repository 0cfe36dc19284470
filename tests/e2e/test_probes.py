"""Where functions are probed, what that costs them, and that nothing of it harms them.
"""

import concurrent.futures
import os
import re
import signal
import time

import pytest

from daemon import PROGRAMS, descendants, wait_for
from profiles import load

CALLED = os.path.join(PROGRAMS, "called")
N = 500

pytestmark = pytest.mark.skipif(not os.path.exists(CALLED), reason="places are found in x86-64 code alone")


def probe(daemon, target, function, n=N, **parameters):
    """The profile of a window in which each function is called n times."""
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(daemon.profile, target.pid, seconds=3, event=f"uprobe:{CALLED}:{function}", **parameters)
        daemon.wait_for_open()
        target.truth(str(n))
        return load(pending.result())


@pytest.mark.parametrize(
    "function, place",
    [
        ("called_test", "called_test+0x3 (1 x je, emulated)"),
        ("called_frame", "called_frame+0x1a (1 x ja, emulated)"),
        ("called_leaf", "called_leaf (1 x lea, single-stepped)"),
        ("called_loop", "called_loop (1 x xor, single-stepped)"),
        ("called_returns", "called_returns (1 x push, emulated)"),
        ("called_last", "called_last+0x3 (1 x jmp, emulated)"),
    ],
)
@pytest.mark.parametrize("unwind", ["eh", "fp"])
def test_each_call_counts_once_wherever_the_probe_is(daemon, start_target, function, place, unwind):
    profile = probe(daemon, start_target("called"), function, unwind=unwind)
    calls = 2 * N if function == "called_leaf" else N  # called_last ends in it
    assert profile.facts["probe"] == place
    assert profile.total(f"{function}_event") == calls, profile.folded()
    assert int(profile.facts["probe.hit_ns"]) > 0
    assert int(profile.facts["overhead_ns"]) >= calls * int(profile.facts["probe.hit_ns"])
    if unwind == "eh" or function != "called_frame":
        assert all(
            [frame.function for frame in sample.stack[:2]] == [function, "call_all"] for sample in profile.samples
        ), profile.folded()


@pytest.mark.parametrize(
    "function, place",
    [("called_returns", "called_returns (2"), ("called_loop", "called_loop+0x9 (1"), ("called_test", "called_test+0x6 (1")],
)
def test_results_are_read_at_rets(daemon, start_target, function, place):
    profile = probe(daemon, start_target("called"), f"{function}:ret")
    assert profile.facts["probe"] == f"{place} x ret, single-stepped)"
    assert profile.facts["probe.tail_calls"] == "0"
    assert profile.facts["probe.ways_in"] == "0"
    assert profile.total(f"{function}_event") == N, profile.folded()
    assert all([frame.function for frame in sample.stack[:2]] == [function, "call_all"] for sample in profile.samples)


def test_places_that_are_none(daemon, start_target):
    target = start_target("called")
    for symbol, message in (
        ("called_test+0x1", "no instruction begins at that offset"),
        ("called_test+0x3:ret", "there is no ret at that offset"),
        ("called_last:ret", "it has no ret of its own"),
    ):
        reply = daemon.profile(target.pid, seconds=1, event=f"uprobe:{CALLED}:{symbol}")
        assert reply.status == 400 and message in reply.text, reply


def test_a_target_that_cannot_bear_it(daemon, start_target):
    """Millions of calls a second: refused with the figures, and the program goes on as if nothing had been."""
    target = start_target("called", "spin=1")
    for function in ("called_returns", "called_leaf"):
        reply = daemon.profile(target.pid, seconds=5, event=f"uprobe:{CALLED}:{function}")
        assert reply.status == 409, reply
        figures = re.search(r"overhead: it happens (?:about|more than) (\d+) times a second .* each probe costs (\d+) ns: ([\d.]+) %", reply.text)
        assert figures and "max_overhead" in reply.text, reply.text
        assert int(figures[1]) > 10_000 and int(figures[2]) > 0 and float(figures[3]) > 5, reply.text
        assert reply.seconds < 4
    before = target.truth()["functions"]["spins"]["calls"]
    time.sleep(0.5)
    assert target.truth()["functions"]["spins"]["calls"] > before


def test_a_target_that_turns_busy_in_the_window(daemon, start_target):
    """It was idle when the window opened: the window ends, with what there is."""
    target = start_target("called")
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(daemon.profile, target.pid, seconds=20, event=f"uprobe:{CALLED}:called_leaf", period=1000)
        daemon.wait_for_open()
        target.truth(str(300_000))
        profile = load(pending.result())
    assert profile.facts["ended"] == "overhead", profile.facts
    assert int(profile.facts["window_ns"]) < 15e9


@pytest.mark.chance
def test_probes_for_a_part_of_the_time(daemon, start_target):
    """What is seen in a tenth of each second stands for the rest. (How right that is: test_duty.py.)"""
    target = start_target("called", "spin=1")
    before = target.truth()
    reply = daemon.profile(
        target.pid, seconds=6.5, event=f"uprobe:{CALLED}:called_returns", period=100, duty=10, max_overhead=1000000
    )
    after = target.truth()
    profile = load(reply)
    attached, window = int(profile.facts["attached_ns"]), int(profile.facts["window_ns"])
    assert profile.facts["duty"] == "10"
    assert 0.03 < attached / window < 0.25, profile.facts
    hits, total = int(profile.facts["expected"]) * 100, profile.total("called_returns_event")
    assert total == pytest.approx(hits * float(profile.facts["scaled"].split(":")[0]), rel=0.01), profile.facts
    # Attached, it is many times as slow: without the pauses the program would have come no further than that.
    spins = after["functions"]["spins"]["calls"] - before["functions"]["spins"]["calls"]
    assert spins > 3 * hits, (spins, profile.facts)
    assert profile.facts["warning.duty"], profile.facts


def test_a_file_by_its_name(daemon, start_target):
    """As in add= of custom profiles: the last part of the path of what is mapped will do."""
    target = start_target("called")
    reply = daemon.profile(target.pid, seconds=0.1, event="uprobe:called:called_returns")
    assert reply.status == 200 and load(reply).facts["probe"].startswith("called_returns ("), reply
    reply = daemon.profile(target.pid, seconds=0.1, event="uprobe:nosuch.so:called_returns")
    assert reply.status == 400 and "maps none of that name" in reply.text, reply


def holders(daemon):
    """The daemon's processes that have probes attached."""
    found = []
    for pid in descendants(daemon.pid)[1:]:
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any("bpf_link" in link or "perf_event" in link for link in links):
            found.append(pid)
    return found


def test_a_window_outlives_what_holds_its_probes(daemon, start_target):
    """It ends there, with what was counted, and says so."""
    target = start_target("called", "spin=1")
    others = holders(daemon)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for wait in (0.5, 2, 8):  # which may be before the window has begun
            pending = pool.submit(
                daemon.profile, target.pid, seconds=60, event=f"uprobe:{CALLED}:called_returns", period=1000, max_overhead=1000000
            )
            mine = wait_for(lambda: [pid for pid in holders(daemon) if pid not in others], "probes are attached", 30)
            time.sleep(wait)
            os.kill(mine[0], signal.SIGKILL)
            reply = pending.result()
            if reply.status == 200:
                break
    profile = load(reply)
    assert "died" in profile.facts["ended"] and int(profile.facts["window_ns"]) < 59e9, profile.facts
    assert profile.total("called_returns_event") > 0, profile.facts


def test_detaching_under_load(daemon, start_target):
    """Probes come and go while two threads run through them; the program checks each result. CPROFD_DETACH_ROUNDS=1000 for all of it."""
    target = start_target("called", "spin=1")
    rounds = int(os.environ.get("CPROFD_DETACH_ROUNDS", "20"))
    symbols = ["called_returns:ret", "called_last", "called_loop", "called_returns", "called_leaf:ret"]
    for i in range(rounds):
        reply = daemon.profile(
            target.pid, seconds=0.02, event=f"uprobe:{CALLED}:{symbols[i % len(symbols)]}", period=100, max_overhead=1000000
        )
        assert reply.status == 200, reply
        assert target.is_alive()
    before = target.truth()["functions"]["spins"]["calls"]
    time.sleep(0.5)
    assert target.truth()["functions"]["spins"]["calls"] > before
