"""wall and fgprof: all of the threads' time, each part with its state and its stack, and all parts together the threads' lifetimes."""

import collections
import concurrent.futures
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from daemon import DAEMON, PROGRAMS, descendants, wait_for
from places import namespace_is_refused
from profiles import load

pytestmark = pytest.mark.quiet  # each wait is compared with a clock

WAYS = {"wait_in_read": "io", "wait_on_cond": "lock", "wait_in_sleep": "sleep", "wait_in_poll": "sleep"}
STATES = ("cpu", "runq", "lock", "io", "sleep", "other")


def wall(daemon, pid, kind="debug/pprof/wall", **parameters):
    parameters.setdefault("seconds", 1)
    return daemon.get(f"/pid/{pid}/{kind}", **parameters)


def by_state(profile):
    sums = collections.Counter()
    for sample in profile.samples:
        sums[sample.labels["state"]] += sample.values[1]
    return sums


def lives(profile):
    sums = collections.Counter()
    for sample in profile.samples:
        sums[sample.labels["tid"]] += sample.values[1]
    return {tid: ns - profile.fact("window_ns") for tid, ns in sums.items() if ns != profile.fact("window_ns")}


def check_closes(profile, slack=0):
    """What it says of its states is in its samples, and adds up to the lifetimes. slack: for switches that the kernel did not tell of, which are
    put back where they may have been.
    """
    sums = by_state(profile)
    assert set(sums) <= set(STATES)
    for state in STATES:
        assert sums[state] == profile.fact(f"{state}_ns"), (state, profile.facts)
    lifetimes_ns = profile.fact("lifetimes_ns")
    assert abs(profile.total("wall") - lifetimes_ns) <= slack * lifetimes_ns, (profile.facts, lives(profile))
    assert profile.fact("lost.threads") == profile.fact("lost.ring") == profile.fact("lost.nested") == 0


def way_of(sample):
    return next((frame.function for frame in sample.stack if frame.function in WAYS), None)


def test_threads_that_never_switch(daemon, start_target):
    """They are all there, with the whole window each, and with what they wait for."""
    target = start_target("waiting_threads", "threads=20")
    time.sleep(0.3)
    profile = load(wall(daemon, target.pid))
    assert profile.sample_types == [("samples", "count"), ("wall", "nanoseconds")]
    assert profile.facts.get("not_dumped") is None, profile.facts
    check_closes(profile)
    assert profile.fact("threads") == 22
    assert profile.fact("lifetimes_ns") == 22 * profile.fact("window_ns")
    ways = collections.Counter()
    for sample in profile.samples:
        way = way_of(sample)
        if way:
            assert sample.labels["state"] == WAYS[way] and list(sample.values) == [1, profile.fact("window_ns")]
            ways[way] += 1
    assert ways == dict.fromkeys(WAYS, 5)


def test_one_worker_among_sleepers(daemon, start_target):
    """With state=cpu the worker alone is left."""
    target = start_target("waiting_threads", "threads=10", "all=1", "wake_ms=50", "worker=1")
    profile = load(wall(daemon, target.pid, seconds=2, hz=499))
    check_closes(profile)
    sums = by_state(profile)
    assert sums["sleep"] > 9 * profile.fact("window_ns")
    worker = sum(
        sample.values[1]
        for sample in profile.samples
        if sample.labels["state"] == "cpu" and "worker_work" in {frame.function for frame in sample.stack}
    )
    assert worker > 0.9 * sums["cpu"]
    assert abs(sums["cpu"] - profile.fact("cpu_actual_ns")) < 0.1 * profile.fact("cpu_actual_ns") + 20_000_000
    only = load(wall(daemon, target.pid, seconds=1, hz=499, state="cpu"))
    assert set(by_state(only)) == {"cpu"}
    several = load(wall(daemon, target.pid, seconds=1, state="sleep,lock"))
    assert set(by_state(several)) == {"sleep"}


def test_time_that_no_timer_met(daemon, start_target):
    """The CPU time of threads that hardly run is there, to the nanosecond; but not under the stacks that they wait with."""
    target = start_target("waiting_threads", "threads=10", "all=1", "wake_ms=50")
    profile = load(wall(daemon, target.pid, hz=1))
    check_closes(profile)
    unsampled = sum(sample.values[1] for sample in profile.samples if [frame.function for frame in sample.stack] == ["[cpu: unsampled]"])
    assert unsampled == profile.fact("unsampled_ns") > 0
    for sample in profile.samples:
        if sample.labels["state"] == "cpu" and sample.values[0] == 0:
            assert sample.stack[-1].function == "[cpu: unsampled]", sample
    assert "truncated.unsampled" not in profile.facts and "unsampled" not in profile.facts.get("truncated_at", "")


def test_one_thread(daemon, start_target):
    target = start_target("waiting_threads", "threads=4", "all=1", "wake_ms=20")
    profile = load(wall(daemon, target.pid))
    check_closes(profile)
    tid = max(sample.labels["tid"] for sample in profile.samples if sample.labels["state"] == "sleep")
    one = load(wall(daemon, target.pid, tid=tid))
    assert {sample.labels["tid"] for sample in one.samples} == {tid}
    assert one.total("wall") == one.fact("window_ns")
    named = load(wall(daemon, target.pid, thread="^no such name$"))
    assert named.samples == []
    focused = load(wall(daemon, target.pid, focus="^wait_in_sleep$"))
    assert focused.samples and all("wait_in_sleep" in {frame.function for frame in s.stack} for s in focused.samples)


def test_known_waits(daemon, start_target, tmp_path):
    """All ways to wait, for known times by known functions: what is off the CPU in each is its waits within the window."""
    target = start_target("waits", f"file={tmp_path}/file")
    profile = load(wall(daemon, target.pid, seconds=2))
    check_closes(profile)
    states = collections.defaultdict(set)
    for function, what, _object, _tid, _from, _to in target.truth("waits")["waits"]:
        if what in STATES:
            states[function].add(what)
    found = collections.defaultdict(collections.Counter)
    for sample in profile.samples:
        function = next((frame.function for frame in sample.stack if frame.function in states), None)
        if function:
            found[function][sample.labels["state"]] += sample.values[1]
    for function, sums in found.items():
        off = sum(sums[state] for state in STATES if state not in ("cpu", "runq"))
        right = sum(sums[state] for state in states[function])
        assert right >= 0.98 * off, (function, states[function], sums)
    assert len(found) >= 0.8 * len(states), (sorted(states), sorted(found))


def test_short_threads(daemon, start_target):
    """Threads that begin and end within the window have lifetimes, too."""
    target = start_target("short_threads")
    profile = load(wall(daemon, target.pid, seconds=2, hz=199))
    check_closes(profile)
    assert profile.fact("threads") > 20


IN_A_CONTAINER = """
"$1" work_us=5000 > "$2/truth" & target=$!
"$0" --listen "unix:$2/socket" & daemon=$!
until curl -sf -o "$2/healthz" --unix-socket "$2/socket" localhost/healthz; do kill -0 $daemon; sleep 0.1; done
curl -s -o "$2/profile" --unix-socket "$2/socket" "localhost/pid/$target/debug/pprof/wall?seconds=1&hz=1999"
kill $target $daemon
"""


def test_short_threads_by_a_daemon_in_a_container(tmp_path):
    """A thread that ends has given its number back before it leaves its CPU for the last time; its time is its own nonetheless."""
    refused = namespace_is_refused("--pid", "--fork", "--mount-proc")
    if refused or not shutil.which("curl"):
        pytest.skip(f"needs namespaces and curl: {refused}")
    program = os.path.join(PROGRAMS, "short_threads")
    subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "sh", "-e", "-c", IN_A_CONTAINER, DAEMON, program, tmp_path], check=True, timeout=240)
    profile = load((tmp_path / "profile").read_bytes())
    check_closes(profile, 0.001)
    of_nobody = sum(sample.values[1] for sample in profile.samples if "tid" not in sample.labels)
    assert profile.fact("threads") > 20 and of_nobody == 0, (of_nobody, profile.facts)
    assert int(profile.facts.get("unsampled_ns", 0)) < 0.03 * profile.fact("cpu_ns"), profile.facts


def test_more_than_a_table_has_room_for(daemon, start_target):
    """Counts that the kernel's table has no room for come by another way, and count as the others."""
    target = start_target("short_threads", "lanes=32", "wait_us=1000", "work_us=20")
    profile = load(wall(daemon, target.pid, seconds=3, max_overhead=1000000))
    check_closes(profile, 0.001)
    assert "thinned" not in profile.facts and "stacks_lost" not in profile.facts, profile.facts


@pytest.mark.chance
def test_short_threads_of_which_few_are_walked(daemon, start_target):
    """Too dear to walk each wait: what the others waited in is told by those that were walked, and how long by how many."""
    target = start_target("short_threads", "lanes=32", "wait_us=1000", "work_us=20")
    before = target.truth()["functions"]
    profile = load(wall(daemon, target.pid, seconds=3, max_overhead=3))
    after = target.truth()["functions"]
    check_closes(profile, 0.001)
    thin = profile.fact("thinned")
    assert thin >= 2 and profile.fact("borrowed_ns") > 0, profile.facts
    true = {name: after[name]["calls"] - before[name]["calls"] for name in ("wait_short", "wait_long")}
    found = collections.Counter()
    for sample in profile.samples:
        if sample.labels["state"] == "sleep":
            found[next((frame.function for frame in sample.stack if frame.function in true), None)] += sample.values[1]
    assert found[None] <= 0.01 * sum(found.values()), found
    share, true_share = found["wait_long"] / sum(found.values()), true["wait_long"] / sum(true.values())
    error = 4.5 * (true_share * (1 - true_share) * thin / profile.fact("threads")) ** 0.5
    assert abs(share - true_share) <= 0.02 + error, (share, true_share, error, profile.facts)


def test_target_that_ends(daemon, start_target):
    for seconds in (1, 5, 10):
        target = start_target("waiting_threads", "threads=6", "wake_ms=10", "all=1")
        timer = threading.Timer(seconds, target.process.send_signal, [signal.SIGKILL])
        timer.start()
        reply = wall(daemon, target.pid, seconds=20)
        timer.join()
        if reply.status != 404:  # it ended before a busy machine had begun
            break
    profile = load(reply)
    check_closes(profile)
    assert profile.facts["target"] == "exited"
    assert profile.fact("window_ns") < 15e9


def test_exec_in_the_window(daemon, start_target):
    target = start_target("exec_itself")
    profile = load(wall(daemon, target.pid, seconds=2))
    check_closes(profile)


def test_two_at_once(daemon, start_target):
    """Sessions on one process don't disturb one another, whatever each wants of its stacks."""
    target = start_target("waiting_threads", "threads=8", "wake_ms=10", "all=1")
    replies = [None] * 3

    def run(i, **parameters):
        replies[i] = wall(daemon, target.pid, **parameters)

    threads = [
        threading.Thread(target=run, args=(0,), kwargs={"seconds": 2}),
        threading.Thread(target=run, args=(1,), kwargs={"seconds": 1.3, "kernel": 1}),
        threading.Thread(target=run, args=(2,), kwargs={"seconds": 1.7, "unwind": "fp"}),
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    profiles = [load(reply) for reply in replies]
    for profile in profiles:
        check_closes(profile)
        assert profile.fact("lifetimes_ns") == 10 * profile.fact("window_ns")
    assert any("schedule" in frame.function for s in profiles[1].samples for frame in s.stack)
    assert not any("schedule" in frame.function for s in profiles[0].samples for frame in s.stack)


def test_they_come_and_go(daemon, start_target):
    """Whoever begins as the last one ends waits until that is over."""
    targets = [start_target("waiting_threads", "threads=4", "wake_ms=10", "all=1") for _ in range(3)]

    def run(i):
        time.sleep(0.05 * i)
        return wall(daemon, targets[i].pid, seconds=0.2)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(6):
            for profile in map(load, pool.map(run, range(3))):
                check_closes(profile)
                assert profile.fact("lifetimes_ns") == 6 * profile.fact("window_ns")


def links_of(pid):
    try:
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []
    return [name for name in names if "bpf" in name and "link" in name]


def test_the_process_that_has_the_events_dies(new_daemon, start_target):
    """The window is no whole one then; the next has events again."""
    daemon, target = new_daemon(), start_target("waiting_threads", "threads=4", "wake_ms=10", "all=1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(wall, daemon, target.pid, seconds=60)
        daemon.wait_for_sessions(1)
        holder = wait_for(lambda: [pid for pid in descendants(daemon.pid)[1:] if len(links_of(pid)) == 3], "a process has three links")
        os.kill(holder[0], signal.SIGKILL)
        reply = reply.result()
        assert reply.status == 503 and "the scheduler's events can't be had" in reply.text, reply
    check_closes(load(wall(daemon, target.pid)))
    daemon.stop()


def test_fgprof(daemon, start_target):
    target = start_target("waiting_threads", "threads=4", "all=1", "wake_ms=20")
    profile = load(wall(daemon, target.pid, "debug/fgprof"))
    assert profile.sample_types == [("samples", "count"), ("time", "nanoseconds")]
    assert profile.period == 10_000_000 and profile.period_type == ("wallclock", "nanoseconds")
    assert profile.total("time") == profile.fact("lifetimes_ns")
    folded = wall(daemon, target.pid, "debug/fgprof", format="folded")
    assert folded.status == 200 and folded.headers["content-type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in folded.text.splitlines() if not line.startswith("#")]
    assert any("wait_in_sleep" in stack for stack, _ in lines) and all(int(count) >= 0 for _, count in lines)


def test_bad_parameters(daemon, start_target):
    target = start_target("waiting_threads", "threads=1")
    for parameters in ({"state": "asleep"}, {"unwind": "copy"}, {"event": "cpu-clock"}, {"seconds": 0}):
        reply = wall(daemon, target.pid, **parameters)
        assert reply.status == 400, (parameters, reply)


def test_index(daemon, start_target):
    target = start_target("waiting_threads", "threads=1")
    index = daemon.get(f"/pid/{target.pid}/debug/pprof/", format="json").json()
    kinds = {kind["name"]: kind for kind in index} if isinstance(index, list) else {k["name"]: k for k in index["kinds"]}
    assert {"wall", "offcpu"} <= set(kinds)
