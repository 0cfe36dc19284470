"""Other events than time: what happened exactly N times in the window is N in the profile, with the stacks
that it happened in.
"""

import concurrent.futures
import os
import subprocess

import pytest

from daemon import PROGRAMS
from profiles import load

COUNTED = os.path.join(PROGRAMS, "counted")
N = 500


def count(daemon, target, n=N, **parameters):
    """The profile of a window in which the program does n of each thing."""
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(daemon.profile, target.pid, seconds=3, **parameters)
        daemon.wait_for_open()
        before = target.truth()["functions"]
        after = target.truth(str(n))["functions"]
        done = {name: after[name]["calls"] - before[name]["calls"] for name in after}
        assert all(done[name] == n for name in done if name != "count_switches"), done
        profile = load(pending.result())
        profile.switches = done["count_switches"]
        return profile


def check(profile, event, function, least, most, types=None):
    """The event's count, and that its stacks lead through the function that makes it."""
    assert [each[0] for each in profile.sample_types] == (types or [f"{event}_sample", f"{event}_event"])
    total = profile.total(f"{event}_event")
    in_function = profile.by_function([function], f"{event}_event").get(function, 0)
    assert least <= in_function <= most, (in_function, total, profile.folded(), profile.facts)
    assert in_function <= total


def test_uprobe_at_a_functions_entry(daemon, start_target):
    target = start_target("counted")
    profile = count(daemon, target, event=f"uprobe:{COUNTED}:counted_function")
    check(profile, "counted_function", "counted_function", N, N)
    assert profile.total("counted_function_sample") == N
    assert {sample.stack[0].function for sample in profile.samples} == {"counted_function"}
    assert all(
        "do_all" in [frame.function for frame in sample.stack] for sample in profile.samples
    ), profile.folded()


def test_uprobe_every_tenth_hit(daemon, start_target):
    target = start_target("counted")
    profile = count(daemon, target, event=f"uprobe:{COUNTED}:counted_function", period=10)
    check(profile, "counted_function", "counted_function", N - 10, N + 10)
    assert N // 10 - 1 <= profile.total("counted_function_sample") <= N // 10 + 1


def test_uprobe_at_an_inner_address(daemon, start_target):
    """SYMBOL+0xOFF: an instruction's boundary within the function, found by its disassembly."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", COUNTED], capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("needs objdump")
    body = listing.stdout.split("<counted_function>:\n")[1].split("\n\n")[0].splitlines()
    addresses = [int(line.split(":")[0], 16) for line in body]
    target = start_target("counted")
    profile = count(
        daemon, target, event=f"uprobe:{COUNTED}:counted_function+0x{addresses[2] - addresses[0]:x}"
    )
    total = sum(sample.values[1] for sample in profile.samples)
    assert total == N, profile.folded()


def test_uprobe_filters_by_process(daemon, start_target):
    """The same binary in another process hits the probe as well, and doesn't count."""
    target, other = start_target("counted"), start_target("counted")
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(
            daemon.profile, target.pid, seconds=2, event=f"uprobe:{COUNTED}:counted_function"
        )
        daemon.wait_for_open()
        other.truth(str(N))
        profile = load(pending.result())
    assert profile.total("counted_function_event") == 0


def test_usdt(daemon, start_target):
    notes = subprocess.run(["readelf", "-n", COUNTED], capture_output=True, text=True, check=False).stdout
    if "cprofd_test" not in notes:
        pytest.skip("needs a build with sys/sdt.h (systemtap-sdt-dev) and readelf")
    target = start_target("counted")
    profile = count(daemon, target, event=f"usdt:{COUNTED}:cprofd_test:counted")
    check(profile, "counted", "count_probes", N, N)


def test_page_faults(daemon, start_target):
    target = start_target("counted")
    profile = count(daemon, target, event="page-faults")
    check(profile, "page-faults", "count_faults", N, N + 3)


def test_context_switches(daemon, start_target):
    """As many as the kernel counted for the thread; asking for that may take one more at each end."""
    target = start_target("counted")
    profile = count(daemon, target, event="context-switches")
    assert profile.switches >= N // 2
    check(profile, "context-switches", "count_switches", profile.switches, profile.switches + 2)


def test_tracepoint(daemon, start_target):
    target = start_target("counted")
    reply = daemon.profile(target.pid, seconds=0.1, event="tracepoint:syscalls:sys_enter_getppid")
    if reply.status == 503:
        pytest.skip(f"needs tracefs: {reply.text}")
    profile = count(daemon, target, event="tracepoint:syscalls:sys_enter_getppid")
    check(profile, "sys_enter_getppid", "count_system_calls", N, N)


def test_sessions_on_one_tracepoint(daemon, start_target):
    """Each has all of it."""
    event, targets = "tracepoint:syscalls:sys_enter_getppid", [start_target("system_calls") for _ in range(2)]
    reply = daemon.profile(targets[0].pid, seconds=0.1, event=event)
    if reply.status == 503 and "tracefs" in reply.text:
        pytest.skip(f"needs tracefs: {reply.text}")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda target: daemon.profile(target.pid, seconds=1, event=event), 2 * targets))
    assert [reply.status for reply in replies] == [200] * 4, replies


def test_cycles_where_there_is_a_pmu(daemon, program_target):
    reply = daemon.profile(program_target.pid, seconds=1, event="cycles")
    if reply.status == 400:
        pytest.skip("needs a PMU")
    profile = load(reply)
    assert [each[0] for each in profile.sample_types] == ["cycles_sample", "cycles_event"]
    assert profile.period == 1_000_000 and profile.total("cycles_event") > 0
