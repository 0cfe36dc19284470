"""Profiles from copied stacks: asked for by unwind=copy, and all there is where BPF can't be loaded: for a daemon of an ordinary user's,
too, on its own processes.
"""

import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from daemon import DAEMON, wait_for
from profiles import fetch, load
from target import public_copy

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
PARANOID = "/proc/sys/kernel/perf_event_paranoid"
SERIES = [f"part{i}" for i in range(1, 11)]


def paranoid():
    with open(PARANOID, encoding="ascii") as file:
        return int(file.read())


@pytest.fixture
def set_paranoid():
    """Sets the kernel's setting, and sets it back."""
    before = paranoid()

    def change(level):
        try:
            with open(PARANOID, "w", encoding="ascii") as file:
                file.write(str(level))
        except OSError as error:
            pytest.skip(f"needs to set kernel.perf_event_paranoid: {error}")

    yield change
    change(before)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The daemon and a program where every user can run them."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    names = ("ten_series", "system_calls")
    directory = os.path.dirname(public_copy(tmp_path_factory, *names, DAEMON))
    return {name: os.path.join(directory, name) for name in (*names, "cprofd")}


@pytest.fixture
def nobodys_daemon(new_daemon, programs):
    """A daemon without any privilege."""
    daemon = new_daemon(wrapper=AS_NOBODY, program=programs["cprofd"])
    yield daemon
    daemon.stop()


def nobodys_target(start_target, programs, name):
    return start_target(name, argv=[*AS_NOBODY, programs[name]])


def as_nobody(daemon, path, **parameters):
    """A request by nobody, as curl sends it: the daemon knows askers by their sockets."""
    done = subprocess.run(
        [*AS_NOBODY, "curl", "-s", "-w", "\n%{http_code}", daemon.url(path, **parameters)],
        capture_output=True,
        timeout=60,
        check=True,
    )
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def nobodys_quality(daemon, pid, **parameters):
    status, body = as_nobody(daemon, f"/pid/{pid}/debug/quality", **parameters)
    assert status == 200, body
    return json.loads(body)


# ---- unwind=


@pytest.mark.parametrize("kernel", [0, 1])
def test_copied_stacks_are_whole(daemon, program_target, kernel):
    profile = fetch(daemon, program_target.pid, seconds=3, hz=999, unwind="copy", kernel=kernel)
    assert profile.facts["unwind"] == "copy"
    assert profile.fact("rooted") == profile.fact("samples") > 0
    assert "events_bound" not in profile.facts
    roots = {sample.stack[-1].function for sample in profile.samples}
    assert roots <= {"_start", "clone3"}
    assert len(set(SERIES) & profile.functions()) >= 3
    assert "warning" not in profile.facts, profile.facts


def test_the_same_stacks_either_way(daemon, program_target):
    """What most of the time goes to has the same stack in the kernel's walk and in a worker's."""

    def common(unwind):
        profile = fetch(daemon, program_target.pid, seconds=2, hz=999, unwind=unwind)
        assert profile.facts["unwind"] == unwind
        return {
            tuple(frame.function for frame in sample.stack)
            for sample in profile.samples
            if sample.stack[0].function in SERIES
        }

    assert common("eh") == common("copy")


def test_frame_pointers_on_request(daemon, program_target):
    profile = fetch(daemon, program_target.pid, seconds=0.5, hz=499, unwind="fp")
    assert profile.facts["unwind"] == "fp" and "unwind.tables" not in profile.facts


def test_threads_have_their_names(daemon, start_target):
    target = start_target("ten_parallel")
    profile = fetch(daemon, target.pid, seconds=1.5, hz=499, unwind="copy")
    by_eh = fetch(daemon, target.pid, seconds=1.5, hz=499, unwind="eh")

    def threads(of):
        return {sample.labels["tid"]: sample.labels["thread"] for sample in of.samples}

    both = threads(profile).keys() & threads(by_eh).keys()
    assert both and all(threads(profile)[tid] == threads(by_eh)[tid] for tid in both)
    tid = next(iter(both))
    alone = fetch(daemon, target.pid, seconds=1, hz=499, unwind="copy", tid=tid)
    assert set(threads(alone)) <= {tid}


def test_new_threads_are_followed(daemon, start_target):
    """Threads that the window sees begin go by the name of their parent, until they have another."""
    target = start_target("short_threads", "lanes=2")
    profile = fetch(daemon, target.pid, seconds=1.5, hz=499, unwind="copy")
    assert len({sample.labels["tid"] for sample in profile.samples}) > 1
    assert all(sample.labels["thread"] for sample in profile.samples)


def test_exec_and_new_code(daemon, start_target):
    target = start_target("exec_itself", "after_ms=1500")
    profile = fetch(daemon, target.pid, seconds=3.5, hz=499, unwind="copy")
    assert profile.facts["target"] == "execed"
    counts = profile.by_function(["before_exec", "after_exec"], "samples")
    assert counts.get("before_exec", 0) > 0 and counts.get("after_exec", 0) > 0, profile.folded()


def test_an_exec_that_nobody_was_told_of(daemon, start_target):
    """While the daemon is held up, a ring has room for a part of what it would tell, and an exec may be in what is lost."""
    target = start_target("exec_itself", "after_ms=1500")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(fetch, daemon, target.pid, seconds=3.5, hz=9999, unwind="copy", max_overhead=1000000)
        time.sleep(1)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            time.sleep(1)
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        profile = reply.result()
    assert profile.fact("lost.ring") > 0, profile.facts
    counts = profile.by_function(["before_exec", "after_exec"], "samples")
    assert counts.get("before_exec", 0) > 0 and counts.get("after_exec", 0) > 0, profile.folded()
    assert "unmapped" not in profile.facts, profile.facts


CHANGES = """
import mmap
print("ready", flush=True)
while True:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
"""


def test_more_changes_than_are_kept_are_said(daemon, start_target):
    target = start_target("python3", argv=["/usr/bin/python3", "-c", CHANGES])
    profile = fetch(daemon, target.pid, seconds=8, hz=49, unwind="copy")
    assert int(profile.facts["changes_lost"].split()[0]) > 0, profile.facts
    assert profile.fact("samples") > 0


def test_exit_ends_the_window(daemon, start_target):
    target = start_target("ten_series", "seconds=1.5")
    reply = daemon.profile(target.pid, seconds=30, hz=499, unwind="copy")
    profile = load(reply)
    assert reply.seconds < 10
    assert profile.facts["target"] == "exited" and "part10" in profile.functions()


def test_a_stack_longer_than_its_copy_says_so(daemon, start_target):
    target = start_target("deep", "depth=3000")
    profile = fetch(daemon, target.pid, seconds=1, hz=199, unwind="copy")
    cut = profile.fact("truncated.unreadable") + profile.fact("truncated.too_deep")
    # Once in a thousand samples it is on its way down, where a stack is still whole.
    samples, rooted = profile.fact("samples"), profile.fact("rooted")
    assert 0 < cut <= samples - rooted and cut >= 0.9 * samples - 3, profile.facts
    for sample in profile.samples:
        functions = [frame.function for frame in sample.stack]
        assert functions[-1].startswith("[truncated: ") or "bottom_work" not in functions, functions[:3]


def test_software_events_too(daemon, start_target):
    target = start_target("system_calls")
    profile = fetch(daemon, target.pid, seconds=1, event="page-faults", unwind="copy")
    assert profile.facts["unwind"] == "copy"


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"unwind": "dwarf"}, ["auto|eh|fp|copy", "dwarf"]),
        ({"unwind": ""}, ["auto|eh|fp|copy"]),
        ({"unwind": "copy", "event": "uprobe:/bin/true:main"}, ["unwind=copy", "BPF"]),
        ({"unwind": "copy", "audit": 1}, ["audit=1", "unwind=copy"]),
        ({"audit": "yes"}, ["audit", "0|1"]),
        ({"unwind": "copy", "event": "tracepoint:sched:sched_switch"}, ["unwind=copy", "BPF"]),
    ],
)
def test_what_does_not_go_together(daemon, program_target, parameters, words):
    reply = daemon.profile(program_target.pid, seconds=0.1, **parameters)
    assert reply.status == 400
    assert all(word in reply.text for word in words), reply.text


def test_nothing_is_left(daemon, program_target):
    """Rings, events and threads' names go with the session."""
    fetch(daemon, program_target.pid, seconds=0.2, unwind="copy")
    daemon.wait_for_sessions(0)
    fds = daemon.n_fds()
    for _ in range(5):
        fetch(daemon, program_target.pid, seconds=0.2, unwind="copy")
    daemon.wait_for_sessions(0)
    wait_for(lambda: daemon.n_fds() <= fds, "no descriptor is left")


# ---- audit=1


def test_the_audit_agrees(daemon, start_target):
    """A second unwinder finds the same stacks."""
    target = start_target("ten_series")
    quality = daemon.get(f"/pid/{target.pid}/debug/quality", seconds=3, hz=499, audit=1).json()
    assert quality["unwind"] == "eh"
    assert 0 < quality["audited"] <= 256
    assert quality["agreed"] == quality["audited"] and quality["differs_by"] == [], quality
    profile = fetch(daemon, target.pid, seconds=1, hz=499, audit=1)
    assert profile.fact("agreed") == profile.fact("audited") > 0


def test_the_audit_finds_what_frame_pointers_skip(daemon, start_target):
    """Followed through code that does not keep them, frame pointers leave callers out: the audit says where."""
    target = start_target("system_calls")
    quality = daemon.get(f"/pid/{target.pid}/debug/quality", seconds=2, hz=499, audit=1, unwind="fp").json()
    assert quality["agreed"] < quality["audited"]
    assert sum(each["samples"] for each in quality["differs_by"]) == quality["audited"] - quality["agreed"]
    assert any("libc" in each["object"] for each in quality["differs_by"])
    quality = daemon.get(f"/pid/{target.pid}/debug/quality", seconds=2, hz=499, audit=1).json()
    assert quality["audited"] > 0 and quality["agreed"] == quality["audited"], quality


def test_no_audit_unless_asked_for(daemon, program_target):
    quality = daemon.get(f"/pid/{program_target.pid}/debug/quality", seconds=0.3).json()
    assert "audited" not in quality


# ---- without BPF


def test_root_without_bpf(new_daemon, start_target):
    """CAP_PERFMON alone: events on each CPU, all of the time."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    daemon = new_daemon(wrapper=("setpriv", "--bounding-set=-bpf,-sys_admin"))
    target = start_target("ten_series")
    profile = fetch(daemon, target.pid, seconds=1, hz=499)
    assert profile.facts["unwind"] == "copy" and "events_bound" not in profile.facts
    assert profile.fact("rooted") == profile.fact("samples") > 0
    assert daemon.get("/healthz").status == 200
    assert "without BPF" in daemon.log()
    daemon.stop()


@pytest.mark.quiet
def test_an_ordinary_user_sees_user_time(nobodys_daemon, start_target, programs, set_paranoid):
    set_paranoid(2)
    assert nobodys_daemon.get("/healthz").status == 200
    target = nobodys_target(start_target, programs, "ten_series")
    quality = nobodys_quality(nobodys_daemon, target.pid, seconds=1.5, hz=499)
    assert quality["unwind"] == "copy" and "perf_event_paranoid" in quality["user_time_only"]
    assert "CAP_PERFMON" in quality["events_bound"]
    assert quality["rooted"] == quality["samples"] > 0

    in_kernel = nobodys_target(start_target, programs, "system_calls")
    quality = nobodys_quality(nobodys_daemon, in_kernel.pid, seconds=1.5, hz=499)
    assert quality["cpu_sampled_ns"] < 0.8 * quality["cpu_actual_ns"]


@pytest.mark.quiet
def test_an_ordinary_user_sees_all_time(nobodys_daemon, start_target, programs, set_paranoid):
    set_paranoid(1)
    target = nobodys_target(start_target, programs, "system_calls")
    quality = nobodys_quality(nobodys_daemon, target.pid, seconds=1.5, hz=499)
    assert quality["unwind"] == "copy" and "user_time_only" not in quality and "events_bound" in quality
    assert "warning" not in quality, quality
    assert quality["rooted"] == quality["samples"]


def test_an_ordinary_user_is_told_what_needs_bpf(nobodys_daemon, start_target, programs):
    target = nobodys_target(start_target, programs, "ten_series")
    for parameters in ({"unwind": "eh"}, {"unwind": "fp"}, {"audit": 1}):
        status, body = as_nobody(nobodys_daemon, f"/pid/{target.pid}/debug/pprof/profile", seconds=0.2, **parameters)
        assert status == 503
        assert b"CAP_BPF" in body and b"unwind=copy" in body, body
    status, body = as_nobody(
        nobodys_daemon, f"/pid/{target.pid}/debug/pprof/profile", seconds=0.2, event="uprobe:/bin/true:main"
    )
    assert status == 503 and b"CAP_BPF" in body, body


@pytest.mark.quiet
def test_an_ordinary_users_kernel_frames(nobodys_daemon, start_target, programs, set_paranoid):
    """Root may see them, the daemon may not."""
    set_paranoid(2)
    target = nobodys_target(start_target, programs, "ten_series")
    reply = nobodys_daemon.profile(target.pid, seconds=0.2, kernel=1)
    assert reply.status == 503
    assert "perf_event_paranoid" in reply.text and "kernel frames" in reply.text


def test_an_ordinary_user_gets_no_other(nobodys_daemon, program_target):
    status, body = as_nobody(nobodys_daemon, f"/pid/{program_target.pid}/debug/pprof/profile", seconds=0.2)
    assert status == 403, body
