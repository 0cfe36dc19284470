"""Execution traces of native processes: read by Go's own reader, and beside what programs say of their waits themselves."""

import collections
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from daemon import PROGRAMS, query
from target import public_copy
from waits import GRAIN_NS, Waits, plain_name

GO = shutil.which("go") or "/usr/local/go/bin/go"
ATTEMPTS = 6
NOBODY = 65534


def trace(daemon, pid, **parameters):
    """A kernel that skips events makes traces that are refused, rightly: then once more."""
    for _ in range(ATTEMPTS):
        reply = daemon.get(query(f"/pid/{pid}/debug/pprof/trace", max_overhead=1000, **parameters))
        if reply.status != 503 or "would not tell what happened" not in reply.text:
            break
    assert reply.status == 200, reply
    assert int(reply.headers["cprofd-lost"]) == 0
    assert int(reply.headers["cprofd-repaired"]) <= int(reply.headers["cprofd-samples"]) / 1000 + 1
    return reply


class Chrome:
    """Slices by thread, with their stacks leaf first, from a trace in Chromium's format."""

    def __init__(self, reply):
        assert reply.headers["content-type"] == "application/json"
        trace_json = reply.json()
        self.frames = trace_json["stackFrames"]
        self.facts = trace_json["otherData"]
        self.names = {event["tid"]: event["args"]["name"] for event in trace_json["traceEvents"] if event["name"] == "thread_name" and event["pid"]}
        self.slices = collections.defaultdict(list)
        for event in trace_json["traceEvents"]:
            if event["ph"] == "X" and event["pid"]:
                self.slices[event["tid"]].append(event)
        for events in self.slices.values():
            events.sort(key=lambda event: event["ts"])

    def stack(self, event):
        frame, stack = event.get("sf"), []
        while frame:
            stack.append(plain_name(self.frames[str(frame)]["name"]))
            frame = self.frames[str(frame)].get("parent")
        return stack

    def waits_ns(self, function):
        """The time from where threads stopped in a function for a lock to where they ran on."""
        total = 0
        for events in self.slices.values():
            for event, after in zip(events, [*events[1:], {}]):
                if event["name"].startswith("lock") and function in self.stack(event):
                    total += 1000 * (event["dur"] + (after["dur"] if after.get("name") == "runnable" else 0))
        return total


def go_parsed(reply, path):
    if not os.path.exists(GO):
        pytest.skip("needs go")
    path.write_bytes(reply.body)
    done = subprocess.run(
        [GO, "tool", "trace", "-d=parsed", str(path)], capture_output=True, text=True, errors="replace", check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_go_reads_it(daemon, start_target, tmp_path):
    target = start_target("held_locks")
    reply = trace(daemon, target.pid)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"] == 'attachment; filename="trace"'
    text = go_parsed(reply, tmp_path / "trace")
    assert re.search(rf'Label="held_locks" Resource=Goroutine\({target.pid}\)|GoID={target.pid} Undetermined->Waiting', text)
    assert 'Running->Waiting Reason="sync (futex)"' in text and 'Reason="sleep (clock_nanosleep)"' in text
    assert "take_mutex @ 0x" in text and "cprofd.invented" in text
    last = int(re.findall(r"Time=(\d+)", text)[-1])
    assert 900_000_000 <= last < 1_500_000_000


def test_wakes_have_their_maker(daemon, start_target):
    chrome = Chrome(trace(daemon, start_target("held_locks", "only=mutex").pid, format="chrome"))
    roots = {chrome.stack(event)[-1] for events in chrome.slices.values() for event in events if chrome.stack(event)}
    assert not roots & {"clone3", "start_thread", "_start"}, roots
    assert any("take_mutex" in chrome.stack(event) for events in chrome.slices.values() for event in events)


@pytest.mark.chance
def test_waits_are_as_long_as_the_program_says(daemon, start_target):
    target = start_target("locks")
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(trace, daemon, target.pid, seconds=6, format="chrome")
        daemon.wait_for_open()
        before = target.truth()
        after = target.truth("convoy")
        chrome = Chrome(pending.result())
    true_ns = Waits.difference(before, after, "cpu_ns")["wait_mutex"]
    contentions = Waits.difference(before, after, "calls")["wait_mutex"]
    assert true_ns > 0
    assert abs(chrome.waits_ns("wait_mutex") - true_ns) <= max(0.02 * true_ns, min(GRAIN_NS * contentions, 0.05 * true_ns)), chrome.facts


def test_each_thread_has_the_whole_window(daemon, start_target):
    """Those that do nothing in it, too."""
    target = start_target("waiting_threads")
    chrome = Chrome(trace(daemon, target.pid, format="chrome"))
    tids = {int(tid) for tid in os.listdir(f"/proc/{target.pid}/task")}
    assert tids <= set(chrome.slices), tids - set(chrome.slices)
    window_us = int(chrome.facts["cprofd.window_ns"]) / 1000
    for tid in tids:
        assert abs(sum(event["dur"] for event in chrome.slices[tid]) - window_us) < 1, chrome.slices[tid]


def test_threads_that_come_and_go(daemon, start_target, tmp_path):
    text = go_parsed(trace(daemon, start_target("short_threads").pid, seconds=0.5), tmp_path / "trace")
    assert "NotExist->Runnable" in text and "Running->NotExist" in text


def test_perfetto(daemon, start_target):
    reply = trace(daemon, start_target("held_locks").pid, seconds=0.3, format="perfetto")
    assert reply.headers["content-type"] == "application/octet-stream"
    assert b"take_mutex" in reply.body and b"lock (futex)" in reply.body


def test_target_that_ends(daemon, start_target, tmp_path):
    target = start_target("held_locks")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(daemon.get, query(f"/pid/{target.pid}/debug/pprof/trace", seconds=20, max_overhead=1000))
        daemon.wait_for_sessions(1)
        target.stop()
        reply = pending.result()
    if reply.status == 200:
        assert "cprofd.target" in go_parsed(reply, tmp_path / "trace")
    else:
        assert reply.status in (404, 503), reply


def test_exec_of_what_the_asker_may_not_trace(daemon, start_target, tmp_path_factory):
    """A user's process becomes a setuid-root one: the trace ends there, says so, and has what was before."""
    program = public_copy(tmp_path_factory, "exec_itself", "ten_series")
    raised = os.path.join(os.path.dirname(program), "ten_series")
    os.chown(raised, 0, 0)
    os.chmod(raised, 0o4755)
    if os.statvfs(raised).f_flag & os.ST_NOSUID:
        pytest.skip("needs a file system that honours set-user-ID")
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    target = start_target("exec_itself", "after_ms=2500", f"to={raised}", path=program, **nobody)
    url = daemon.url(f"/pid/{target.pid}/debug/pprof/trace", seconds=6, format="chrome", max_overhead=1000)
    done = subprocess.run(["curl", "-s", "--noproxy", "*", "-w", "%{http_code}", "-o", "-", url], capture_output=True, check=True, timeout=60, **nobody)
    body, status = done.stdout[:-3], done.stdout[-3:]
    assert status == b"200", done.stdout[:1000]
    assert b"ten_series" not in body and b'"part' not in body
    told = json.loads(body)
    facts = told["otherData"]
    assert facts["cprofd.target"] == "execed" and facts["cprofd.ended"].startswith("exec"), facts
    events = [event for event in told["traceEvents"] if event["ph"] == "X" and event["pid"] == target.pid]
    assert events and sum(event["dur"] for event in events if event["tid"] == target.pid) <= int(facts["cprofd.window_ns"]) / 1000 + 1
    assert int(facts["cprofd.window_ns"]) < 5_500_000_000


def test_exec_of_what_the_asker_may_trace(daemon, start_target, tmp_path):
    """It goes on, by the new name."""
    target = start_target("exec_itself", "after_ms=1000", f"to={PROGRAMS}/held_locks")
    reply = trace(daemon, target.pid, seconds=4, format="chrome")
    chrome = Chrome(reply)
    assert chrome.names[target.pid] == "held_locks" and "cprofd.ended" not in chrome.facts, chrome.facts
    go_parsed(trace(daemon, target.pid, seconds=0.1), tmp_path / "trace")


def test_a_process_that_forks(daemon, start_target, tmp_path):
    """Its children are not in it."""
    target = start_target("forks")
    chrome = Chrome(trace(daemon, target.pid, seconds=0.5, format="chrome"))
    assert set(chrome.slices) <= {int(tid) for tid in os.listdir(f"/proc/{target.pid}/task")}
    go_parsed(trace(daemon, target.pid, seconds=0.5), tmp_path / "trace")


def test_threads_that_are_renamed(daemon, tmp_path):
    """The last name in the window counts."""
    code = "import ctypes, time\nc = ctypes.CDLL(None)\ni = 0\nwhile True: i += 1; c.prctl(15, b'name%d' % i); time.sleep(0.01)"
    with subprocess.Popen(["/usr/bin/python3", "-c", code]) as process:
        try:
            time.sleep(0.5)
            chrome = Chrome(trace(daemon, process.pid, seconds=0.5, format="chrome"))
            assert re.fullmatch(r"name\d+", chrome.names[process.pid]), chrome.names
            go_parsed(trace(daemon, process.pid, seconds=0.1), tmp_path / "trace")
        finally:
            process.kill()


def test_a_client_that_leaves_ends_its_session(daemon, start_target):
    target = start_target("held_locks")
    connection = daemon.connection(10)
    connection.request("GET", query(f"/pid/{target.pid}/debug/pprof/trace", seconds=600))
    daemon.wait_for_sessions(1)
    connection.close()
    daemon.wait_for_sessions(0)
    assert target.is_alive()


def test_a_thread_that_is_not_moved(daemon, start_target, tmp_path):
    """Nothing at all happens in the window: its stack is there, and all of the window."""
    target = start_target("waiting_threads", "threads=1", "worker=0")
    text = go_parsed(trace(daemon, target.pid, seconds=0.1), tmp_path / "trace")
    for tid in os.listdir(f"/proc/{target.pid}/task"):
        assert re.search(rf"GoID={tid} Undetermined->(Waiting|Running|Runnable)", text), text[:2000]
    assert trace(daemon, target.pid, seconds=0.1, debug=1).status == 200


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": "x"}, "seconds"),
        ({"format": "pprof"}, "go|perfetto|chrome"),
        ({"event": "cpu-clock"}, "unknown parameter"),
    ],
)
def test_wrong_parameters(daemon, start_target, parameters, words):
    reply = daemon.get(query(f"/pid/{start_target('held_locks').pid}/debug/pprof/trace", **parameters))
    assert reply.status == 400 and words in reply.text, reply


def test_index_has_it(daemon, start_target):
    reply = daemon.get(query(f"/pid/{start_target('held_locks').pid}/debug/pprof/", format="json"))
    kind = next(kind for kind in reply.json() if kind["name"] == "trace")
    assert {parameter["name"] for parameter in kind["parameters"]} >= {"seconds", "format", "kernel"}
