"""offcpu: the time between a thread's leaving its CPU and its coming back."""

import collections
import re
import time

from profiles import load


def offcpu(daemon, pid, **parameters):
    parameters.setdefault("seconds", 1)
    return daemon.get(f"/pid/{pid}/debug/pprof/offcpu", **parameters)


def test_sleepers(daemon, start_target):
    """Each wait is a switch, with its length."""
    target = start_target("waiting_threads", "threads=4", "all=1", "wake_ms=50")
    profile = load(offcpu(daemon, target.pid, seconds=2))
    assert profile.sample_types == [("switches", "count"), ("offcpu", "nanoseconds")]
    assert {sample.labels["state"] for sample in profile.samples} <= {"runq", "lock", "io", "sleep", "other"}
    switches, ns = collections.Counter(), collections.Counter()
    for sample in profile.samples:
        if sample.labels["state"] == "sleep" and "wait_in_sleep" in {frame.function for frame in sample.stack}:
            switches[sample.labels["tid"]] += sample.values[0]
            ns[sample.labels["tid"]] += sample.values[1]
    assert len(switches) == 4
    window_ns = profile.fact("window_ns")
    for tid, n in switches.items():
        assert 0.8 * window_ns / 50e6 <= n <= window_ns / 50e6 + 2  # who is starved of CPU sleeps less often
        assert 0.5 * window_ns < ns[tid] <= window_ns


def test_threads_that_wait_all_the_time(daemon, start_target):
    target = start_target("waiting_threads", "threads=8")
    time.sleep(0.3)
    profile = load(offcpu(daemon, target.pid))
    share = profile.total("offcpu") / (10 * profile.fact("window_ns"))
    assert 0.999 < share <= 1


def test_wakers(daemon, start_target, tmp_path):
    """Each wait shows the stack that ended it: who unlocks a mutex, who writes to a pipe; a clock is nobody."""
    target = start_target("waits", f"file={tmp_path}/file")
    profile = load(offcpu(daemon, target.pid, seconds=2, waker=1))
    by = [[frame.function for frame in sample.stack] for sample in profile.samples]
    woken = [stack for stack in by if "[woken by]" in stack]
    assert woken, profile.folded()
    for stack in woken:
        at = stack.index("[woken by]")
        assert at < len(stack) - 1 and stack[-1] in ("clone3", "_start")
        assert at == 0 or stack[0] in ("clone3", "_start")  # one that ends has no stack any more
    makers = {name for stack in woken for name in stack[: stack.index("[woken by]")] if name.startswith("makes_")}
    assert len(makers) >= 3, profile.folded()
    assert offcpu(daemon, target.pid, waker=1, kernel=1).status == 400
    sleeper = start_target("waiting_threads", "threads=2", "all=1", "wake_ms=20")
    profile = load(offcpu(daemon, sleeper.pid, waker=1))
    outside = [s for s in profile.samples if s.stack[0].function == "[woken from outside the process]"]
    assert outside and all("wait_in_sleep" in {frame.function for frame in s.stack} for s in outside)


def test_wakers_where_few_stacks_are_walked(daemon, start_target):
    """Two threads that wake each other in write() and wait in read(): nobody is woken by a read."""
    target = start_target("pingpong", "threads=1", "depth=20")
    profile = load(offcpu(daemon, target.pid, seconds=3, waker=1, max_overhead=5))
    assert profile.fact("thinned") > 1
    stacks = [[frame.function for frame in sample.stack] for sample in profile.samples]
    wakers = [stack[: stack.index("[woken by]")] for stack in stacks if "[woken by]" in stack]
    assert wakers
    assert not [stack for stack in wakers if any("read" in name and name != "pong_thread" and "start" not in name for name in stack)]


def test_kernel_frames(daemon, start_target):
    target = start_target("waiting_threads", "threads=4", "all=1", "wake_ms=20")
    profile = load(offcpu(daemon, target.pid, kernel=1))
    assert any("schedule" in frame.function for sample in profile.samples for frame in sample.stack)
    traced = [frame.function for sample in profile.samples for frame in sample.stack if re.match("bpf_|__bpf_|__traceiter_", frame.function)]
    assert not traced, traced  # what sees the switch is no part of what waits


# Two waits in turn by one system call from one place: an eventfd's and a pipe's.
TWO_FILES = """
import os, threading, time
pipe, to_pipe = os.pipe()
event = os.eventfd(0)
def answer():
    while True:
        time.sleep(0.002)
        os.write(to_pipe, b"12345678")
        time.sleep(0.002)
        os.write(event, (1).to_bytes(8, "little"))
threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
while True:
    for fd in (pipe, event):
        os.read(fd, 8)
"""


def test_kernel_frames_of_one_place(daemon, start_target):
    """Where the user's stack stays the same, and the kernel's does not: each wait has its own."""
    target = start_target("python3", argv=["/usr/bin/python3", "-c", TWO_FILES])
    daemon.profile(target.pid, seconds=0.2)  # its tables are there then
    profile = load(offcpu(daemon, target.pid, kernel=1))
    waits = collections.Counter()
    for sample in profile.samples:
        names = [frame.function for frame in sample.stack]
        reads = [name for name in names if name.endswith("pipe_read") or name == "eventfd_read"]
        assert len(reads) <= 1, names
        if reads and sample.labels["state"] == "io":
            waits[reads[0] == "eventfd_read"] += sample.values[0]
    assert min(waits[False], waits[True]) > 0.8 * max(waits[False], waits[True]) > 0, profile.folded()
