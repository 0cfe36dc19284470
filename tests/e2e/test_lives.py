"""What becomes of targets and of the daemon in mid-session: exits, execs, forks, kills, and what is left
afterwards.
"""

import concurrent.futures
import glob
import json
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from daemon import PROGRAMS, descendants, is_alive, query, wait_for
from profiles import fetch, load
from target import Z, Recorder, public_copy

NOBODY = 65534


def in_background(function):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future


def test_exit_ends_the_window(daemon, start_target):
    """The reply comes at once, names and all, though the files of the process can't be asked for any more."""
    target = start_target("ten_series", "seconds=2")
    reply = daemon.profile(target.pid, seconds=30, hz=499)
    profile = load(reply)
    assert reply.seconds < 6
    assert profile.facts["target"] == "exited"
    assert 0.5e9 < profile.end_ns - profile.start_ns < 2.5e9
    assert "main" in profile.functions()
    assert profile.fact("cpu_actual_ns") > 0


def test_killed_target(daemon, start_target):
    target = start_target("ten_series")
    daemon.wait_for_sessions(0)
    pending = in_background(lambda: daemon.profile(target.pid, seconds=30, hz=199))
    daemon.wait_for_open()
    used_ns = target.cpu_ns() + 300_000_000
    wait_for(lambda: target.cpu_ns() > used_ns, "the target runs", 60)
    target.process.kill()
    profile = load(pending.result(10))
    assert profile.facts["target"] == "exited" and "main" in profile.functions(), profile.folded()


def test_deleted_binary_keeps_its_names(daemon, start_target, tmp_path):
    """Replaced and removed binaries are normal after an update of the package."""
    copy = shutil.copy(os.path.join(PROGRAMS, "ten_series"), tmp_path / "ten_series")
    target = start_target("ten_series", path=str(copy))
    os.unlink(copy)
    profile = fetch(daemon, target.pid, seconds=1, hz=199)
    assert "main" in profile.functions()


def check_both_images(target, recorder, profile, names):
    """Each image has the CPU time that it used in the window: before the exec, by what the target said last, in
    before_exec; after it, in the named functions.
    """
    told = json.loads(target.read_line())
    start_least_ns, start_most_ns = recorder.cpu_at(profile.start_ns)
    before_ns = told["process_cpu_ns"] - (start_least_ns + start_most_ns) // 2
    actual_ns = recorder.actual_ns(profile)
    sampled = profile.by_function(["before_exec", *names], "cpu")
    first_ns = sampled.get("before_exec", 0)
    # Beside the sampling error: to exec, and to load the new image, takes time as well.
    error_ns = (start_most_ns - start_least_ns) // 2 + 30_000_000
    for sampled_ns, true_ns in ((first_ns, before_ns), (sum(sampled.values()) - first_ns, actual_ns - before_ns)):
        n = max(true_ns, 0) / profile.period
        assert abs(sampled_ns - true_ns) <= error_ns + Z * max(n, 1) ** 0.5 * profile.period, (
            sampled_ns,
            true_ns,
            profile.folded(),
        )


def test_exec_does_not_end_the_window(daemon, start_target):
    """Both images are kept apart, at equal addresses too."""
    target = start_target("exec_itself", "after_ms=1500")
    with Recorder(target, with_truth=False) as recorder:
        profile = fetch(daemon, target.pid, seconds=3.5, hz=499)
    assert profile.facts["target"] == "execed"
    check_both_images(target, recorder, profile, ["after_exec"])
    assert profile.end_ns - profile.start_ns > 3.2e9


def test_exec_of_another_binary(daemon, start_target):
    target = start_target("exec_itself", "after_ms=1200", "to=" + os.path.join(PROGRAMS, "ten_series"))
    with Recorder(target, with_truth=False) as recorder:
        profile = fetch(daemon, target.pid, seconds=3, hz=499)
    check_both_images(target, recorder, profile, [f"part{i}" for i in range(1, 11)])
    places = {
        (frame.function.rstrip("0123456789"), os.path.basename(frame.mapping.filename))
        for sample in profile.samples
        for frame in sample.stack
        if re.fullmatch(r"before_exec|part\d+", frame.function)
    }
    assert places == {("before_exec", "exec_itself"), ("part", "ten_series")}


def test_exec_of_what_the_asker_may_not_trace(daemon, start_target, tmp_path_factory):
    """A user's process becomes a setuid-root one: nothing of that image counts, and the window ends."""
    program = public_copy(tmp_path_factory, "exec_itself", "ten_series")
    raised = os.path.join(os.path.dirname(program), "ten_series")
    os.chown(raised, 0, 0)
    os.chmod(raised, 0o4755)
    if os.statvfs(raised).f_flag & os.ST_NOSUID:
        pytest.skip("needs a file system that honours set-user-ID")
    target = start_target(
        "exec_itself",
        "after_ms=1500",
        f"to={raised}",
        path=program,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    url = daemon.url(f"/pid/{target.pid}/debug/pprof/profile", seconds=20, hz=499)
    start = time.monotonic()
    done = subprocess.run(
        ["curl", "-s", "--noproxy", "*", "-w", "%{http_code}", "-o", "-", url],
        capture_output=True,
        check=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        timeout=60,
    )
    assert time.monotonic() - start < 10
    body, status = done.stdout[:-3], done.stdout[-3:]
    if status == b"403":
        return
    assert status == b"200", done.stdout
    profile = load(body)
    assert "before_exec" in profile.functions()
    assert not any(name.startswith("part") for name in profile.functions())
    assert "ten_series" not in profile.folded()


def test_two_thousand_threads_born_in_the_window(daemon, start_target):
    target = start_target("many_threads", "wait_ms=1000")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target.pid, seconds=4, hz=499)
    assert target.truth()["functions"]["thread_work"]["calls"] == 2000
    truth = recorder.functions_between(profile.start_ns, profile.end_ns)
    assert truth["thread_work"] > 0.5e9
    sampled = profile.by_function(["thread_work"], "cpu").get("thread_work", 0)
    assert abs(sampled / truth["thread_work"] - 1) < 0.25, f"{sampled} {truth} {profile.facts}"
    assert target.is_alive()


def test_a_client_that_leaves_ends_its_session(daemon, program_target):
    path = query(f"/pid/{program_target.pid}/debug/pprof/profile", seconds=600)
    connection = daemon.connection(10)
    connection.request("GET", path)
    daemon.wait_for_sessions(1)
    connection.close()
    daemon.wait_for_sessions(0, 3)


def test_half_close_ends_it_too(daemon, program_target):
    connection = daemon.connection(10)
    connection.request("GET", query(f"/pid/{program_target.pid}/debug/pprof/profile", seconds=600))
    daemon.wait_for_sessions(1)
    connection.sock.shutdown(1)
    daemon.wait_for_sessions(0, 3)
    connection.close()


def bpf_objects(kind, pids):
    """Ids of the BPF objects ("prog", "map", "link") that any of the processes holds."""
    ids = set()
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/fdinfo/*"):
            try:
                with open(path, encoding="ascii") as file:
                    ids.update(int(each) for each in re.findall(rf"^{kind}_id:\s*(\d+)", file.read(), re.MULTILINE))
            except OSError:
                pass
    return ids


def all_ids(kind):
    done = subprocess.run(["bpftool", "-j", kind, "list"], capture_output=True, text=True, check=True)
    return {each["id"] for each in json.loads(done.stdout or "[]")}


def probes_of(pids):
    """Perf events that hold a probe or a program, of any of the processes, as bpftool tells them."""
    done = subprocess.run(["bpftool", "-j", "perf", "list"], capture_output=True, text=True, check=False)
    try:
        return [each for each in json.loads(done.stdout or "[]") if each["pid"] in pids]
    except ValueError:
        return []


@pytest.mark.parametrize(
    "event",
    ["cpu-clock", f"uprobe:{PROGRAMS}/counted:counted_function", "context-switches"],
    ids=["timer", "uprobe", "context-switches"],
)
def test_killed_daemon_leaves_nothing(new_daemon, start_target, event):
    """SIGKILL in mid-session: the target is unharmed, no process of the daemon lives on, and the kernel holds
    nothing of its.
    """
    if not shutil.which("bpftool"):
        pytest.skip("needs bpftool")
    daemon = new_daemon()
    target = start_target("counted")
    pending = in_background(lambda: daemon.profile(target.pid, seconds=60, event=event))
    daemon.wait_for_open()
    family = descendants(daemon.pid)
    held = {kind: bpf_objects(kind, family) for kind in ("prog", "link", "map")}
    assert held["prog"] and held["map"], (held, family)
    daemon.process.kill()
    daemon.process.wait()
    with pytest.raises(Exception):
        pending.result(10)
    wait_for(lambda: not any(is_alive(pid) for pid in family), "the daemon's children end", 5)
    for kind, ids in held.items():
        wait_for(lambda: not ids & all_ids(kind), f"no {kind} is left of {ids}", 5)
    assert not probes_of(family)
    before = target.truth()["functions"]["counted_function"]["calls"]
    assert target.truth("1000")["functions"]["counted_function"]["calls"] == before + 1000


def test_stopped_daemon_answers_what_runs_or_closes(new_daemon, start_target):
    """SIGTERM in mid-session ends the daemon soon, with its children, and the target goes on."""
    daemon = new_daemon()
    target = start_target("ten_series")
    pending = in_background(lambda: daemon.profile(target.pid, seconds=60))
    daemon.wait_for_sessions(1)
    daemon.stop()
    try:
        pending.result(10)
    except OSError:
        pass
    except Exception as error:  # the connection may end without a reply
        assert "Remote" in type(error).__name__ or "Incomplete" in type(error).__name__
    assert target.is_alive()


def test_a_killed_worker_costs_one_reply_at_worst(new_daemon, start_target):
    daemon = new_daemon()
    target = start_target("ten_series")
    fetch(daemon, target.pid, seconds=0.2)
    for pid in descendants(daemon.pid)[1:]:
        with contextlib.suppress(ProcessLookupError):  # a collector that was just ending
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    profile = fetch(daemon, target.pid, seconds=0.5, hz=199)
    assert "main" in profile.functions()


def test_a_process_that_is_gone(daemon, start_target):
    target = start_target("counted")
    pid = target.pid
    target.stop()
    reply = daemon.profile(pid, seconds=1)
    assert reply.status == 404 and reply.headers["x-go-pprof"] == "1"
