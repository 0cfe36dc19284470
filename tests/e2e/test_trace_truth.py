"""Is the execution trace true? Beside what programs noted of their own waits, and what the kernel counts of switches."""

import collections
import concurrent.futures
import json
import os
import signal
import threading
import time

import pytest

from target import Recorder
from test_trace import go_parsed
from waiting import PER_SPAN_NS, Span, check_near, sums, tids_of

pytestmark = [pytest.mark.chance, pytest.mark.quiet]

RUN = {"running", "runnable"}


def trace(daemon, pid, **parameters):
    reply = daemon.get(f"/pid/{pid}/debug/pprof/trace", format="chrome", max_overhead=1000000, **parameters)
    assert reply.status == 200, reply
    return json.loads(reply.body)


def functions_of(told, event):
    """Names on an event's stack, leaf first."""
    found, at = [], event.get("sf")
    while at:
        frame = told["stackFrames"][str(at)]
        found.append(frame["name"])
        at = int(frame.get("parent", 0))
    return found


def slices(told, pid):
    return [event for event in told["traceEvents"] if event["ph"] == "X" and event["pid"] == pid]


def test_waits(daemon, start_target):
    """By function: the time that its thread waited and then could run. The window is not told on a clock that the program knows, so it is
    found by the spans' own ends: the total of a window of known length is what can be compared.
    """
    target = start_target("waits", "only=in_nanosleep,in_clock_nanosleep,in_epoll,in_pipe_read,in_sem_wait,in_cond_wait,in_semop")
    told = trace(daemon, target.pid, seconds=2)
    window_ns = int(told["otherData"]["cprofd.window_ns"])
    ours, names = collections.Counter(), {}
    for event in sorted(slices(told, target.pid), key=lambda event: event["ts"]):
        if event["name"] not in RUN:
            names[event["tid"]] = next((each for each in functions_of(told, event) if each.startswith(("in_", "makes_", "never_"))), None)
        elif event["name"] == "running":
            names[event["tid"]] = None
        if names.get(event["tid"]):
            ours[names[event["tid"]]] += event["dur"] * 1000
    answer = target.truth("waits")
    spans = [Span(*each) for each in answer["waits"]]
    spans = [span._replace(end=span.end or answer["monotonic_ns"]) for span in spans]
    total, count = sums(spans, "function")
    first, last = min(span.start for span in spans), max(span.end for span in spans)
    for function, ns in total.items():
        share = ns / (last - first)
        check_near(ours[function], share * window_ns, function, 0.03, PER_SPAN_NS * count[function] + 30_000_000)


def test_every_thread_has_all_of_the_window(daemon, start_target):
    target = start_target("waiting_threads", "threads=100", "worker=1")
    told = trace(daemon, target.pid, seconds=1)
    found = collections.Counter()
    for event in slices(told, target.pid):
        found[event["tid"]] += event["dur"] * 1000
    assert set(found) == tids_of(target.pid)
    for tid, ns in found.items():
        check_near(ns, max(found.values()), tid, 0.01)
    check_near(max(found.values()), 1e9, "the window", 0.05)


def switches(pid):
    """Voluntary and other switches of all threads, by the kernel's count."""
    total = 0
    for tid in tids_of(pid):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii", errors="replace") as file:
            total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total


def test_no_switch_is_lost(daemon, start_target):
    """100,000 switches a second: as many as the kernel counted within the window."""
    target = start_target("pingpong", "depth=3", "threads=1")
    notes, ended = [], threading.Event()

    def note():
        while not ended.wait(0.005):
            before = time.monotonic_ns()
            n = switches(target.pid)
            notes.append(((before + time.monotonic_ns()) // 2, n))

    noting = threading.Thread(target=note)
    noting.start()
    try:
        told = trace(daemon, target.pid, seconds=1)
    finally:
        ended.set()
        noting.join()
    start = int(told["otherData"]["cprofd.start_monotonic_ns"])
    true = Recorder.at(notes, start + int(told["otherData"]["cprofd.window_ns"])) - Recorder.at(notes, start)
    found = sum(1 for event in slices(told, target.pid) if event["name"] == "running")
    assert found > 5_000, "this tests nothing"
    check_near(found, true, "switches", 0.02, 10)
    lost = {key: value for key, value in told["otherData"].items() if "lost" in key or "dropped" in key or "invented" in key}
    assert not any(int(value) > 0.001 * found for value in lost.values()), lost


def is_whole(told):
    return "cprofd.ended" not in told["otherData"] and all(int(value) == 0 for key, value in told["otherData"].items() if ".lost." in key)


def test_busy_threads_are_all_there(daemon, start_target, tmp_path):
    """100 threads with 100,000 switches a second, as anybody asks for it: whole, and readable for Go's own reader."""
    target = start_target("many_switches")
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/trace", seconds=0.5, format="chrome")
    assert reply.status == 200, reply
    told = json.loads(reply.body)
    assert is_whole(told), told["otherData"]
    found = collections.Counter()
    for event in slices(told, target.pid):
        found[event["tid"]] += event["dur"]
    window_us = int(told["otherData"]["cprofd.window_ns"]) / 1000
    assert set(found) == tids_of(target.pid)
    assert all(abs(us - window_us) < 1 for us in found.values()), (window_us, found)
    names = {event["args"]["name"] for event in told["traceEvents"] if event["name"] == "thread_name"}
    assert {f"{who} {pair}" for who in ("ping", "pong") for pair in range(50)} <= names
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/trace", seconds=0.5)
    assert reply.status == 200 and "Running->Waiting" in go_parsed(reply, tmp_path / "trace")


def test_what_finds_no_room_ends_it(daemon, start_target, tmp_path):
    """It says so, and what is there is whole. The program, which leaves no CPU to anybody, is stopped once the window is over."""
    target = start_target("many_switches", "work_us=0")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(trace, daemon, target.pid, seconds=20)
        daemon.wait_for_open()
        daemon.wait_for_open(0)
        os.kill(target.pid, signal.SIGSTOP)
        told = pending.result()
    os.kill(target.pid, signal.SIGCONT)
    assert told["otherData"]["cprofd.ended"].startswith("room: "), told["otherData"]
    window_ns = int(told["otherData"]["cprofd.window_ns"])
    assert 10_000_000 < window_ns < 19_000_000_000
    found = collections.Counter()
    for event in slices(told, target.pid):
        found[event["tid"]] += event["dur"]
    assert all(abs(us - window_ns / 1000) < 1 for us in found.values()), (window_ns, found)
