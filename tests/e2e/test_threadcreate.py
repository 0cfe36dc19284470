"""The stacks that made threads: in a window, while a process is watched, and of threads that nobody saw being made."""

import concurrent.futures
import os
import re
import shutil
import subprocess

import pytest

from daemon import wait_for
from profiles import load

GO = shutil.which("go") or "/usr/local/go/bin/go"
MAKERS = ["make_first", "make_second"]


def threadcreate(daemon, pid, **parameters):
    return daemon.get(f"/pid/{pid}/debug/pprof/threadcreate", **parameters)


def made(profile):
    return profile.by_function(MAKERS, "threadcreate")


@pytest.fixture
def maker(start_target):
    return start_target("makes_threads")


def test_threads_that_are_older(daemon, maker):
    """Never 409: of each but the main one, the function that it began with, marked as such."""
    profile = load(threadcreate(daemon, maker.pid))
    assert profile.sample_types == [("threadcreate", "count")] and profile.period == 1
    stacks = sorted([frame.function for frame in sample.stack] for sample in profile.samples)
    assert stacks == sorted([["[created earlier]", "old_start", "start_thread", "clone3"]] * 3
                            + [["[created earlier]", "answer", "start_thread", "clone3"]])  # fmt: skip
    assert sorted(sample.labels["tid"] for sample in profile.samples) == sorted(
        int(tid) for tid in os.listdir(f"/proc/{maker.pid}/task") if int(tid) != maker.pid
    )
    assert all("state" not in sample.labels for sample in profile.samples)


def test_text(daemon, maker):
    text = threadcreate(daemon, maker.pid, debug=1).text
    assert text.startswith("threadcreate profile: total 4\n3 @ 0x")
    assert re.search(r"\n#\t0x[0-9a-f]+\told_start\+0x[1-9a-f][0-9a-f]*\t\S+makes_threads\.c:\d+\n", text), text


@pytest.mark.parametrize("debug", [0, 1])
def test_go_tool_pprof_reads_it(daemon, maker, debug, tmp_path):
    if not os.path.exists(GO):
        pytest.skip("needs go")
    url = daemon.url(f"/pid/{maker.pid}/debug/pprof/threadcreate", debug=debug)
    done = subprocess.run(
        [GO, "tool", "pprof", "-raw", url], capture_output=True, text=True, check=False, env={**os.environ, "PPROF_TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0 and "threadcreate/count" in done.stdout and "old_start" in done.stdout, done.stderr + done.stdout


def test_window(daemon, maker):
    """Each thread that is made in it, in its maker's place; processes are none."""
    daemon.wait_for_sessions(0)  # a watch that was ended a moment ago is open still
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(threadcreate, daemon, maker.pid, seconds=3)
        daemon.wait_for_open()
        maker.truth("50")
        reply = pending.result()
    profile = load(reply)
    assert made(profile) == {"make_first": 50, "make_second": 100} and profile.total("threadcreate") == 150, profile.folded()
    assert profile.fact("rooted") == 150 and 'filename="threadcreate-delta"' in reply.headers["content-disposition"]


def test_watched(daemon, maker):
    """Totals grow, and say since when."""
    path = f"/pid/{maker.pid}/watch"
    assert daemon.request("PUT", path + "?kinds=threadcreate").status == 204
    try:
        wait_for(lambda: "older_threads" not in load(threadcreate(daemon, maker.pid)).facts, "older threads are there, too")
        maker.truth("10")
        first = load(threadcreate(daemon, maker.pid))
        assert made(first) == {"make_first": 10, "make_second": 20} and "since" in first.facts
        older = [[frame.function for frame in sample.stack] for sample in first.samples if sample.stack[0].function == "[created earlier]"]
        assert sorted(stack[1] for stack in older) == ["answer", "old_start"] and first.total("threadcreate") == 34, first.folded()
        maker.truth("5")
        second = load(threadcreate(daemon, maker.pid))
        assert made(second) == {"make_first": 15, "make_second": 30} and second.facts["since"] == first.facts["since"]
        assert threadcreate(daemon, maker.pid, debug=1).text.startswith("threadcreate profile: total 49\n")
    finally:
        assert daemon.request("DELETE", path).status == 204
    wait_for(lambda: "since" not in load(threadcreate(daemon, maker.pid)).facts, "it is no longer watched")


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": 1, "debug": 1}, "seconds and debug params are incompatible"),
        ({"state": "cpu"}, "unknown parameter"),
        ({"hz": 9}, "unknown parameter"),
    ],
)
def test_refused(daemon, maker, parameters, words):
    reply = threadcreate(daemon, maker.pid, **parameters)
    assert reply.status == 400 and words in reply.text


def test_started_by_the_library_of_cxx(daemon, start_target):
    """std::thread's own beginning is not what was meant."""
    target = start_target("cxx_waits")
    profile = load(threadcreate(daemon, target.pid))
    starts = {sample.stack[1].function for sample in profile.samples}
    assert starts and "execute_native_thread_routine" not in starts, starts


def test_windows_beside_a_watch(daemon, maker):
    """Others may look while a process is watched, several at once."""
    assert daemon.request("PUT", f"/pid/{maker.pid}/watch?kinds=threadcreate").status == 204
    try:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            replies = list(pool.map(lambda _: threadcreate(daemon, maker.pid, seconds=1), range(3)))
        assert [reply.status for reply in replies] == [200] * 3, replies
        load(threadcreate(daemon, maker.pid))
    finally:
        assert daemon.request("DELETE", f"/pid/{maker.pid}/watch").status == 204
