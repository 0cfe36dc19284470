"""Dumps of all threads (goroutine, alias threads): all there, with what they wait for and since when, whatever state the process is in."""

import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from daemon import PROGRAMS, ROOT, descendants, query, wait_for
from profiles import load

WAYS = {"wait_in_read": "io", "wait_on_cond": "lock", "wait_in_sleep": "sleep", "wait_in_poll": "sleep"}
TEXTS = {"wait_in_read": "IO wait", "wait_on_cond": "futex wait", "wait_in_sleep": "sleep", "wait_in_poll": "select"}
SOURCES = os.path.join(ROOT, "tests", "programs")
ALL = 42  # its 40, the main thread, and the one that tells the truth
GO = shutil.which("go") or "/usr/local/go/bin/go"
HEAD = re.compile(
    r'goroutine (\d+) \[([^,\]]+)(?:, (\d+) minutes)?(?:, for (\d+\.\d{3}) s)?, thread ("(?:[^"\\]|\\.)*")(?:, in (\S+))?\]:'
)


class Thread:
    """A thread of the text of debug=2."""

    def __init__(self, text):
        lines = text.splitlines()
        match = HEAD.fullmatch(lines[0])
        assert match, lines[0]
        self.tid, self.state, self.channel = int(match[1]), match[2], match[6]
        self.minutes, self.wait_s = int(match[3] or 0), float(match[4] or 0)
        self.functions = []
        for call, place in zip(lines[1::2], lines[2::2], strict=True):
            assert re.fullmatch(r"\t.+:\d+ \+0x[0-9a-f]+", place), text
            self.functions.append(call.removesuffix("(...)"))


def dump(daemon, pid, kind="goroutine", **parameters):
    return daemon.get(f"/pid/{pid}/debug/pprof/{kind}", **parameters)


def threads_of(reply):
    assert reply.status == 200, reply
    parts = reply.text.split("# cprofd.")[0].split("\n\n")
    return {thread.tid: thread for thread in (Thread(part) for part in parts if part.strip())}


def tids(pid):
    return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))


def way_of(functions):
    return next((name for name in functions if name in WAYS), None)


@pytest.fixture
def waiting(start_target):
    target = start_target("waiting_threads", "threads=40")
    time.sleep(0.3)  # until the last of them waits
    return target


def test_profile(daemon, waiting):
    reply = dump(daemon, waiting.pid)
    profile = load(reply)
    assert profile.sample_types == [("goroutine", "count")] and profile.period == 1
    assert 'filename="goroutine"' in reply.headers["content-disposition"]
    assert sorted(sample.labels["tid"] for sample in profile.samples) == tids(waiting.pid)
    assert profile.fact("threads") == len(profile.samples) == ALL == profile.fact("rooted")
    found = collections.Counter()
    for sample in profile.samples:
        way = way_of([frame.function for frame in sample.stack])
        if way:
            found[way] += sample.values[0]
            assert sample.labels["state"] == WAYS[way] and sample.labels["thread"] == "waiting_threads"
    assert found == dict.fromkeys(WAYS, 10)


def test_texts_of_each_thread(daemon, waiting):
    started = time.monotonic()
    first = threads_of(dump(daemon, waiting.pid, debug=2))
    assert sorted(first) == tids(waiting.pid) and next(iter(first)) == waiting.pid
    for thread in first.values():
        way = way_of(thread.functions)
        if way:
            assert thread.state == TEXTS[way], vars(thread)
            assert thread.functions[-2:] == ["start_thread", "clone3"] and thread.functions.count("descend") == 5
    assert "futex" in next(t for t in first.values() if t.state == "futex wait").channel
    time.sleep(1)
    second = threads_of(dump(daemon, waiting.pid, debug=2))
    passed = time.monotonic() - started
    for tid, thread in second.items():
        if way_of(thread.functions):
            assert 1 <= thread.wait_s - first[tid].wait_s <= passed + 0.1


def test_wait_is_the_time_off_the_cpu(daemon, start_target):
    """Threads that sleep until known moments: none waits for longer than between two of them."""
    target = start_target("waiting_threads", "threads=20", "all=1", "wake_ms=400")
    time.sleep(1)
    sleepers = [t for t in threads_of(dump(daemon, target.pid, debug=2)).values() if t.state == "sleep" and way_of(t.functions)]
    assert len(sleepers) >= 15
    assert all(t.wait_s < 0.45 for t in sleepers) and max(t.wait_s for t in sleepers) > 0.2


def test_wait_begins_when_the_thread_leaves_its_cpu(daemon, start_target):
    """One that burns, and then waits, from a moment that it tells."""
    script = "import time\nend = time.monotonic() + 0.3\nwhile time.monotonic() < end: pass\nprint('ready', time.monotonic(), flush=True)\ntime.sleep(100)"
    target = start_target("python3", argv=[sys.executable, "-c", script], start=False)
    began = float(target.read_line().split()[1])
    time.sleep(0.5)
    before = time.monotonic()
    (thread,) = threads_of(dump(daemon, target.pid, debug=2)).values()
    after = time.monotonic()
    assert thread.state in ("select", "sleep")
    assert before - began - 0.02 <= thread.wait_s <= after - began + 0.02


def test_text_of_counts(daemon, waiting):
    text = dump(daemon, waiting.pid, debug=1).text
    assert text.startswith("goroutine profile: total 42\n")
    groups = [part for part in text.split("\n\n") if re.match(r"(goroutine profile: total \d+\n)?\d+ @", part)]
    for way, state in WAYS.items():
        group = next(part for part in groups if f"\t{way}+0x" in part)
        head, labels, numbers, *frames = group.splitlines()[-len(group.splitlines()) :]
        if head.startswith("goroutine"):
            head, labels, numbers, *frames = group.splitlines()[1:]
        assert re.fullmatch(r"10 @( 0x[0-9a-f]+)+", head)
        assert f'"state":"{state}"' in labels and len(numbers.split()) == 2 + 10
        assert all(re.fullmatch(r"#\t0x[0-9a-f]+\t.+\+0x[0-9a-f]+\t.+:\d+", frame) for frame in frames), frames
    assert "# cprofd.threads=42" in text and "\n--- Memory map: ---\n" in text


@pytest.mark.parametrize("debug", [0, 1])
@pytest.mark.parametrize("kind", ["goroutine", "threads"])
def test_go_tool_pprof_reads_it(daemon, waiting, kind, debug, tmp_path):
    if not os.path.exists(GO):
        pytest.skip("needs go")
    url = daemon.url(f"/pid/{waiting.pid}/debug/pprof/{kind}", debug=debug)
    done = subprocess.run(
        [GO, "tool", "pprof", "-raw", url], capture_output=True, text=True, check=False,
        env={**os.environ, "PPROF_TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "goroutine/count" in done.stdout and "wait_in_read" in done.stdout, done.stdout


def test_folded_and_filters(daemon, waiting):
    lines = dump(daemon, waiting.pid, format="folded", focus="wait_in_read").text.splitlines()
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == 10 and all("waiter;descend" in line for line in lines)
    one = tids(waiting.pid)[3]
    assert list(threads_of(dump(daemon, waiting.pid, debug=2, tid=one))) == [one]
    assert len(load(dump(daemon, waiting.pid, state="lock")).samples) == 10
    assert dump(daemon, waiting.pid, thread="nothing", debug=1).text.startswith("goroutine profile: total 0\n")


def test_kernel_frames(daemon, waiting):
    kernel = threads_of(dump(daemon, waiting.pid, debug=2, kernel=1))
    reader = next(t for t in kernel.values() if "wait_in_read" in t.functions)
    assert reader.functions[0] == reader.channel and any("entry_SYSCALL" in name for name in reader.functions)


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"seconds": 1}, '"seconds" parameter is not supported for this profile type'),
        ({"debug": 1, "format": "folded"}, "debug"),
        ({"hz": 100}, "unknown parameter"),
        ({"state": "asleep"}, "state"),
    ],
)
def test_refused(daemon, waiting, parameters, words):
    reply = dump(daemon, waiting.pid, **parameters)
    assert reply.status == 400 and words in reply.text and reply.headers["x-go-pprof"] == "1"


def test_no_such_process(daemon):
    assert dump(daemon, 4194303).status == 404


def test_debug_is_read_as_go_reads_it(daemon, waiting):
    assert len(load(dump(daemon, waiting.pid, debug="x")).samples) == ALL


def test_index_has_the_link(daemon, waiting):
    page = daemon.get(f"/pid/{waiting.pid}/debug/pprof/").text
    assert "full goroutine stack dump" in page and "goroutine?debug=2" in page and "threads?debug=1" in page


# ---- processes that hang


def test_stopped_process(daemon, waiting):
    os.kill(waiting.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: open(f"/proc/{waiting.pid}/stat", encoding="ascii").read().split()[2] == "T", "it stops")
        found = threads_of(dump(daemon, waiting.pid, debug=2))
        assert {thread.state for thread in found.values()} == {"stopped"}
        assert collections.Counter(way_of(t.functions) for t in found.values() if way_of(t.functions)) == dict.fromkeys(WAYS, 10)
        assert open(f"/proc/{waiting.pid}/stat", encoding="ascii").read().split()[2] == "T"
    finally:
        os.kill(waiting.pid, signal.SIGCONT)


def test_spinning_threads(daemon, start_target):
    """More of them than CPUs: each is seen, be it on a CPU or not."""
    target = start_target("ten_parallel")
    for _ in range(5):
        profile = load(dump(daemon, target.pid))
        assert sorted(sample.labels["tid"] for sample in profile.samples) == tids(target.pid)
        assert profile.fact("truncated.running") == 0
        spinning = [s for s in profile.samples if s.labels["state"] in ("cpu", "runq")]
        assert spinning and all(any(f.function.startswith("par") for f in s.stack) for s in spinning), profile.folded()


def test_exited_main_thread(daemon, start_target):
    target = start_target("main_exits")
    wait_for(lambda: open(f"/proc/{target.pid}/stat", encoding="ascii").read().split()[2] == "Z", "the main thread ends")
    found = threads_of(dump(daemon, target.pid, debug=2))
    assert found.pop(target.pid).state == "exited"
    assert any("survivor_work" in thread.functions for thread in found.values())


def test_held_memory_lock(daemon, start_target):
    """Which nothing that reads its /proc files can outwait: kernels that need it for the list of mappings say so; the stacks are read without."""
    target = start_target("mmap_lock")
    try:
        reply = dump(daemon, target.pid, debug=2)
        assert reply.seconds < 10
        if reply.status == 503:
            assert "lock" in reply.text
            return
        found = threads_of(reply)
        assert sorted(found) == tids(target.pid)
        assert {"request_wait_answer", "vm_mmap_pgoff"} & {thread.channel for thread in found.values()}
        for function in ("locked_work", "hold_for_reading", "queue_for_writing"):
            assert any(function in thread.functions for thread in found.values()), reply.text
        assert "# cprofd.rooted=3\n" in reply.text or len(found) != 3, reply.text
    finally:
        target.process.kill()


def test_vfork_parent(daemon, start_target):
    """Which waits uninterruptibly, and shares its memory with the child."""
    target = start_target("vfork_waits")
    found = threads_of(dump(daemon, target.pid, debug=2))
    (parent,) = [thread for thread in found.values() if "wait_in_vfork" in thread.functions]
    assert parent.state == "vfork wait" and parent.functions[-2:] == ["start_thread", "clone3"], vars(parent)
    with open(f"/proc/{target.pid}/task/{parent.tid}/children", encoding="ascii") as file:
        child = int(file.read().split()[0])
    (only,) = threads_of(dump(daemon, child, debug=2)).values()
    assert "wait_in_vfork" in only.functions


def test_threads_that_end_meanwhile(daemon, start_target):
    """Those that were there all the while are there; of those that came and went, whatever was met, whole."""
    target = start_target("short_threads")
    for _ in range(20):
        profile = load(dump(daemon, target.pid))
        assert target.pid in [sample.labels["tid"] for sample in profile.samples]
        assert len({sample.labels["tid"] for sample in profile.samples}) == len(profile.samples)


@pytest.mark.parametrize("command", [
    ["python3", "-c", "import threading, time\nfor i in range(9): threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
                      "print('ready', flush=True); time.sleep(100)"],
    ["node", "-e", "console.log('ready'); setInterval(() => {}, 1000)"],
    ["java", os.path.join(SOURCES, "Hot.java")],
], ids=["python3", "node", "java"])  # fmt: skip
def test_languages(daemon, start_target, command):
    """All threads are there, each with a proven root."""
    path = shutil.which(command[0])
    if not path:
        pytest.skip(f"needs {command[0]}")
    target = start_target(command[0], argv=[path, *command[1:]])
    time.sleep(0.5)
    profile = load(dump(daemon, target.pid))
    # Java's come and go.
    assert abs(len(profile.samples) - len(tids(target.pid))) <= (5 if command[0] == "java" else 0)
    assert profile.fact("rooted") >= len(profile.samples) - (1 if command[0] == "java" else 0), profile.facts


# ---- what it does to the target, and how


def test_neither_ptrace_nor_stops(daemon, waiting, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = tmp_path / "trace"
    family = descendants(daemon.pid)
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=ptrace,kill,tgkill,tkill,pidfd_send_signal,bpf"]
    for pid in family:
        command += ["-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        for _ in family:
            assert "attached" in strace.stderr.readline()
        found = len(load(dump(daemon, waiting.pid)).samples)
        strace.send_signal(signal.SIGINT)
        strace.stderr.read()
    text = trace.read_text()
    assert found == ALL and "BPF_ITER_CREATE" in text
    assert "ptrace(" not in text and "SIGSTOP" not in text
    assert not re.search(rf"kill\({waiting.pid}\b|pidfd_send_signal", text), text


def eu_stacks(pid):
    """Each thread's functions by eu-stack, which stops the process."""
    done = subprocess.run(["eu-stack", "-p", str(pid)], capture_output=True, text=True, check=False)
    stacks = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"TID (\d+):", line):
            stacks[int(match[1])] = current = []
        elif match := re.match(r"#\d+ +0x[0-9a-f]+ (?:- \d+ )?(\S+)", line):
            current.append(match[1])
    return stacks


def test_agrees_with_eu_stack(daemon, start_target):
    if not shutil.which("eu-stack"):
        pytest.skip("needs eu-stack")
    target = start_target("waiting_threads", "threads=1000")
    wait_for(lambda: len(tids(target.pid)) == 1002, "all threads are there")
    time.sleep(0.5)
    profile = load(dump(daemon, target.pid))
    theirs = eu_stacks(target.pid)
    assert len(theirs) == 1002 == len(profile.samples)
    for sample in profile.samples:
        ours = [frame.function for frame in sample.stack]
        other = theirs[sample.labels["tid"]]
        if way := way_of(ours):  # the others do something now and then; and libc's functions have several names
            assert ours[ours.index(way) : -1] == other[other.index(way) : -1] and len(other) >= 9, (ours, other)
            assert ours[-1].strip("_") == other[-1].strip("_") == "clone3"


def test_names_of_threads_are_hostile(daemon, start_target):
    target = start_target("ten_series", argv=["/usr/bin/python3", "-c", (
        "import ctypes, time; ctypes.CDLL(None).prctl(15, b'a\\xff]\\n\"b[', 0, 0, 0); print('ready', flush=True); time.sleep(100)"
    )])
    (thread,) = threads_of(dump(daemon, target.pid, debug=2)).values()
    assert thread.state in ("select", "sleep")


def test_another_pid_namespace(daemon, start_target):
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    target = start_target("waiting_threads", argv=["unshare", "--pid", "--fork", "--kill-child", os.path.join(PROGRAMS, "waiting_threads"), "threads=8"])
    with open(f"/proc/{target.pid}/task/{target.pid}/children", encoding="ascii") as file:
        inner = int(file.read().split()[0])
    time.sleep(0.3)
    assert sorted(threads_of(dump(daemon, inner, debug=2))) == tids(inner)


def test_many_at_once(daemon, waiting):
    """Each asker gets all threads, though one dump at a time is taken."""
    script = f"for i in $(seq 20); do curl -sf '{daemon.url(query(f'/pid/{waiting.pid}/debug/pprof/goroutine', debug=1))}' | head -1 & done; wait"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["goroutine profile: total 42"] * 20


def test_as_a_service(either, waiting):
    """The few rights of the service are enough."""
    reply = dump(either, waiting.pid, debug=2)
    found = threads_of(reply)
    assert sorted(found) == tids(waiting.pid)
    assert {t.channel for t in found.values() if t.state == "futex wait"} != {None}
    assert load(dump(either, waiting.pid)).fact("rooted") == ALL
    assert either.get(f"/pid/{waiting.pid}/debug/pprof/threadcreate").status == 200
    assert either.get(f"/pid/{waiting.pid}/debug/pprof/threadcreate", seconds=1).status == 200
