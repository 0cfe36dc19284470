"""Where memory grows: each page is charged to who touches it first, and what is charged closes with the kernel's own count."""

import concurrent.futures
import resource
import shutil
import subprocess
import sys
import time

import pytest

from daemon import wait_for
from profiles import load

PAGE = resource.getpagesize()
GROWERS = ["touches_mapped", "touches_heap", "touches_break", "touches_stack", "touches_by_read", "populates", "touches_in_parallel"]
ENDS = 8 * PAGE  # between what is counted and what is looked at; stacks and bookkeeping of the program


def growth(daemon, pid, **parameters):
    parameters.setdefault("seconds", 3)
    parameters.setdefault("max_overhead", 1000000)
    return daemon.get(f"/pid/{pid}/debug/pprof/growth", **parameters)


def in_window(daemon, pid, work, **parameters):
    """The profile of a window in which work is done: all of it, however slow the machine is."""
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(growth, daemon, pid, **parameters)
        daemon.wait_for_open()
        work()
        ended_ns = time.time_ns()
        profile = load(pending.result())
        assert ended_ns < profile.end_ns or "target" in profile.facts, "the window was too short for this machine"
        return profile


def calls(truth):
    return {name: each["calls"] for name, each in truth["functions"].items()}


def check_closes(profile):
    """What was added, less what was given back, is what the kernel counts now and did not before."""
    added, freed = profile.fact("growth.added_bytes"), profile.fact("growth.freed_bytes")
    others = profile.fact("growth.others_added_bytes") - profile.fact("growth.others_freed_bytes")
    assert added - freed + others == profile.fact("rss_anon_growth_bytes"), profile.facts
    after, before = profile.fact("rss_anon_after_bytes"), profile.fact("rss_anon_before_bytes")
    assert after - before == profile.fact("rss_anon_growth_bytes")


def test_who_touches_memory(daemon, start_target):
    """Mapped, by malloc, by brk, on a stack, in a system call, in parallel: to the page. What is not touched, what a child has, what is copied because
    of a child, what is read as zeros and what is shared does not count."""
    target = start_target("grows")
    before = calls(target.truth("mapped"))
    truths = []
    profile = in_window(daemon, target.pid, lambda: truths.append(calls(target.truth("all"))))
    assert profile.sample_types == [("faults", "count"), ("growth", "bytes")] and profile.period == 1
    grown = profile.by_function(GROWERS, "growth")
    for name in GROWERS:
        due = (truths[0][name] - before[name]) * PAGE
        assert due <= grown.get(name, 0) + PAGE and grown.get(name, 0) <= due + ENDS, (name, due, grown, profile.folded())
    total = profile.total("growth")
    assert total == profile.fact("growth.added_bytes") and profile.fact("samples") == profile.total("faults") == profile.fact("expected")
    assert 0 <= total - sum(grown.values()) <= 16 * ENDS, profile.folded()
    check_closes(profile)
    anon = (truths[0]["[RssAnon]"] - before["[RssAnon]"]) * PAGE
    assert abs(anon - profile.fact("rss_anon_growth_bytes")) <= ENDS
    assert not {"does_not_touch", "reads_only", "touches_shared"} & profile.functions(), profile.folded()


def test_huge_pages(daemon, start_target):
    """One fault may add 2 MiB."""
    target = start_target("grows")
    before = calls(target.truth("huge"))
    if before["touches_huge"] <= 1:
        pytest.skip("no huge page is to be had")
    truths = []
    profile = in_window(daemon, target.pid, lambda: truths.append(calls(target.truth("huge"))))
    faults, added = (profile.by_function(["touches_huge"], each)["touches_huge"] for each in ("faults", "growth"))
    assert added == (truths[0]["touches_huge"] - before["touches_huge"]) * PAGE > faults * PAGE, profile.folded()
    check_closes(profile)


def test_the_first_event_counts(daemon, start_target):
    """Though nothing was seen of the process before it."""
    target = start_target("grows")
    target.truth("huge")
    for _ in range(2):
        profile = in_window(daemon, target.pid, lambda: target.truth("mapped"))
        assert profile.by_function(["touches_mapped"], "growth") == {"touches_mapped": 300 * PAGE}, profile.folded()
        check_closes(profile)


def test_what_is_given_back(daemon, start_target):
    """It is not taken off what grew, but told."""
    target = start_target("grows")
    target.truth("mapped")

    def work():
        target.truth("free")
        target.truth("mapped")
        target.truth("free")

    profile = in_window(daemon, target.pid, work)
    assert profile.by_function(["touches_mapped"], "growth") == {"touches_mapped": 300 * PAGE}
    assert 600 * PAGE <= profile.fact("growth.freed_bytes") <= 600 * PAGE + ENDS, profile.facts
    assert profile.fact("rss_anon_growth_bytes") < -200 * PAGE
    check_closes(profile)


def test_threads_in_parallel(daemon, start_target):
    """Nothing is counted twice, though the kernel's counts may come in another order than they were made."""
    target = start_target("grows")
    before = calls(target.truth("parallel"))
    truths = []

    def work():
        for _ in range(8):
            truths.append(calls(target.truth("parallel")))

    profile = in_window(daemon, target.pid, work, seconds=4)
    due = (truths[-1]["touches_in_parallel"] - before["touches_in_parallel"]) * PAGE
    grown = profile.by_function(["touches_in_parallel"], "growth")["touches_in_parallel"]
    assert abs(grown - due) <= due / 1000 + ENDS, (grown, due, profile.facts)
    check_closes(profile)


def test_parameters(daemon, start_target):
    target = start_target("grows")
    target.truth("mapped")

    def work():
        target.truth("parallel")
        target.truth("mapped")

    profile = in_window(daemon, target.pid, work, focus="touches_mapped", kernel=1)
    assert profile.total("growth") == 300 * PAGE and any("fault" in name for name in profile.functions()), profile.folded()
    profile = in_window(daemon, target.pid, work, tid=target.pid)
    assert profile.total("growth") == 0  # its main thread only sleeps
    profile = in_window(daemon, target.pid, work, thread="grows", period=100)
    assert profile.period == 100 and profile.samples and all(sample.values[0] % 100 == 0 for sample in profile.samples)
    # Each CPU has its own hundreds, of events that add one page but for a few.
    assert abs(profile.total("growth") - profile.fact("growth.added_bytes")) <= 8 * 100 * PAGE, profile.facts
    reply = growth(daemon, target.pid, seconds=0.2, format="folded")
    assert reply.status == 200
    for wrong in ({"hz": 100}, {"event": "cycles"}, {"unwind": "copy"}, {"period": 0}, {"seconds": "x"}):
        assert growth(daemon, target.pid, **wrong).status == 400, wrong


def test_several_at_once(daemon, start_target):
    """Each has all of it."""
    target = start_target("grows")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pending = [pool.submit(growth, daemon, target.pid, seconds=6) for _ in range(3)]
        daemon.wait_for_open(3)
        target.truth("mapped")
        for each in pending:
            profile = load(each.result())
            assert profile.by_function(["touches_mapped"], "growth") == {"touches_mapped": 300 * PAGE}
            check_closes(profile)


def test_exec_and_exit(daemon, start_target):
    """What a new image is made of nobody has touched; of a process that ended there is no count to compare with."""
    script = "import sys, os; sys.stdin.readline(); os.execv(sys.executable, [sys.executable, '-c', 'import sys; x = bytearray(40 << 20); sys.stdin.read()'])"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: open(f"/proc/{process.pid}/wchan").read() != "0", "it waits for its line")

        def work():
            process.stdin.write("\n")
            process.stdin.flush()

        profile = in_window(daemon, process.pid, work)
        assert profile.facts["target"] == "execed" and profile.total("growth") > 40 << 20
        own = profile.fact("growth.added_bytes") + profile.fact("growth.exec_bytes") - profile.fact("growth.freed_bytes")
        others = profile.fact("growth.others_added_bytes") - profile.fact("growth.others_freed_bytes")
        assert own + others == profile.fact("rss_anon_growth_bytes"), profile.facts
        profile = in_window(daemon, process.pid, process.stdin.close)
        assert profile.facts["target"] == "exited" and "rss_anon_after_bytes" not in profile.facts
    finally:
        process.kill()
        process.wait()


PYTHON = "import sys\nkeep = []\nfor line in sys.stdin:\n    keep += [bytes(1000) for _ in range(20000)] + [{n: str(n)} for n in range(20000)]\n    print('done', flush=True)\n"
SQLITE = "create temp table t as with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) select i, hex(randomblob(64)) x from n;\n"


@pytest.mark.parametrize("command, work, least_mib", [
    ([sys.executable, "-c", PYTHON], "go\n", 20),
    (["sqlite3", ":memory:"], "pragma temp_store = 2;\n" + SQLITE + "select 'done';\n", 8),
], ids=["python3", "sqlite3"])  # fmt: skip
def test_programs(daemon, command, work, least_mib):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: open(f"/proc/{process.pid}/wchan").read() != "0", "it waits for its input")

        def run():
            process.stdin.write(work)
            process.stdin.flush()
            while "done" not in process.stdout.readline():
                pass

        profile = in_window(daemon, process.pid, run, seconds=5)
        assert profile.total("growth") == profile.fact("growth.added_bytes") > least_mib << 20, profile.facts
        assert profile.fact("rooted") >= 0.99 * profile.fact("samples")
        check_closes(profile)
    finally:
        process.kill()
        process.wait()


def test_redis(daemon, tmp_path):
    if not shutil.which("redis-server") or not shutil.which("redis-cli"):
        pytest.skip("redis is not installed")
    socket = str(tmp_path / "redis")
    process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""], stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        wait_for(lambda: subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True).stdout == b"PONG\n", "redis answers")
        sets = "".join(f"set key{i} {'x' * 500}\n" for i in range(40000))
        run = lambda: subprocess.run(["redis-cli", "-s", socket], input=sets, text=True, stdout=subprocess.DEVNULL, check=True)  # noqa: E731
        profile = in_window(daemon, process.pid, run, seconds=8)
        assert profile.total("growth") == profile.fact("growth.added_bytes") > 20 << 20, profile.facts
        closes = profile.fact("growth.added_bytes") - profile.fact("growth.freed_bytes") - profile.fact("rss_anon_growth_bytes")
        assert abs(closes) <= ENDS, profile.facts  # it never rests for long
    finally:
        process.kill()
        process.wait()


def test_index(daemon, start_target):
    target = start_target("grows")
    listed = {each["name"]: each for each in daemon.get(f"/pid/{target.pid}/debug/pprof/", format="json").json()}
    assert "growth" in listed and "period" in {each["name"] for each in listed["growth"]["parameters"]}
    assert "growth" in daemon.get(f"/pid/{target.pid}/debug/pprof/").text
