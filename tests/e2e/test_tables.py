"""Unwinding tables as a client sees them: code without frame pointers whose stacks are whole, whenever it came, whoever asked
before, and within a budget.
"""

import concurrent.futures
import os
import re
import subprocess
import sys

from daemon import PROGRAMS, wait_for
from profiles import fetch, load
from target import check_due

LATE = ["late_inner", "late_middle", "late_outer", "main"]


def in_background(function):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future


def stacks_with(profile, function):
    """(names, leaf first; samples) of the stacks that hold a function."""
    index = profile.index("samples")
    for sample in profile.samples:
        names = [frame.function for frame in sample.stack]
        if function in names:
            yield names, sample.values[index]


def count_whole(profile):
    """Samples in late_inner: all, and those whose stacks are whole."""
    total = whole = 0
    for names, samples in stacks_with(profile, "late_inner"):
        total += samples
        at = names.index("late_inner")
        if names[at : at + 4] == LATE and names[-1] == "_start":
            whole += samples
    return total, whole


def make_tables(daemon, target):
    """Profiles until no table comes late: on a busy machine the first window may open before they are made."""
    wait_for(
        lambda: "unwind.tables_late" not in fetch(daemon, target.pid, seconds=0.3, hz=99).facts, "tables in time", 60
    )


def test_code_without_frame_pointers(daemon, start_target):
    target = start_target("late_library", "now=1")
    make_tables(daemon, target)
    profile = fetch(daemon, target.pid, seconds=2, hz=499)
    total, whole = count_whole(profile)
    check_due(profile, total)
    assert whole == total, profile.folded()
    assert profile.facts["unwind"] == "eh"
    assert profile.fact("unwind.tables") >= 5  # itself, the library, libc, the loader, the vdso
    assert "unwind.tables_missing" not in profile.facts
    assert profile.fact("rooted") == profile.fact("samples")


def test_a_library_loaded_in_the_window(daemon, start_target):
    """Its table is made at once: what was sampled before it was there says so, and is the smaller part."""
    target = start_target("late_library")
    daemon.wait_for_sessions(0)
    pending = in_background(lambda: daemon.profile(target.pid, seconds=5, hz=499))
    daemon.wait_for_open()
    used_ns = target.cpu_ns() + 300_000_000
    wait_for(lambda: target.cpu_ns() > used_ns, "the target runs", 60)
    target.truth("load")
    profile = load(pending.result(60))
    total, whole = count_whole(profile)
    assert whole > 0.6 * total, profile.folded()
    cut = sum(profile.fact(key) for key in profile.facts if key.startswith("truncated."))
    assert cut == profile.fact("truncated.new_code"), profile.facts
    assert profile.fact("rooted") + cut == profile.fact("samples")
    before = profile.by_function(["before_load"], "samples").get("before_load", 0)
    assert before > 0
    check_due(profile, before + total)


def test_exec_to_code_without_frame_pointers(daemon, start_target):
    """The tables of the image before serve the new one in nothing."""
    target = start_target("exec_itself", "after_ms=1500", "now=1", "to=" + os.path.join(PROGRAMS, "late_library"))
    profile = fetch(daemon, target.pid, seconds=5, hz=499)
    assert profile.facts["target"] == "execed"
    total, whole = count_whole(profile)
    assert whole > 0.6 * total > 0, profile.folded()
    check_due(profile, total + profile.by_function(["before_exec"], "samples").get("before_exec", 0))
    for names, _ in stacks_with(profile, "before_exec"):
        assert names[-1] == "_start", profile.folded()
    for names, _ in stacks_with(profile, "late_inner"):
        assert "before_exec" not in names, profile.folded()


def test_the_second_session_finds_the_tables(new_daemon, start_target):
    """The first reads the files: workers spend time on it. The next ones have the tables before their window opens."""
    daemon = new_daemon()
    target = start_target("late_library", "now=1")
    assert daemon.metric("cprofd_table_bytes") == 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        profiles = list(pool.map(lambda _: fetch(daemon, target.pid, seconds=1, hz=199), range(4)))
    make_tables(daemon, target)
    held = daemon.metric("cprofd_table_bytes")
    assert held > 0
    profiles += [fetch(daemon, target.pid, seconds=1, hz=199) for _ in range(2)]
    for profile in profiles[4:]:
        assert "unwind.tables_late" not in profile.facts and "unwind.tables_missing" not in profile.facts
    for profile in profiles:
        total, whole = count_whole(profile)
        check_due(profile, total)
        assert whole == total or "unwind.tables_late" in profile.facts, profile.folded()
    assert daemon.metric("cprofd_table_bytes") == held


MANY_FILES = """
import mmap, os, sys
kept = []
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        kept.append(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC))
print("ready", flush=True)
while True:
    sum(range(1000))
"""


def own_libc():
    with open("/proc/self/maps", encoding="utf-8") as file:
        return re.search(r"\s(/\S*/libc[.-]\S*)$", file.read(), re.MULTILINE).group(1)


def test_a_budget_is_kept(new_daemon, start_target, tmp_path):
    """More files than there is room for: those that come first have tables, and the profile names the others. What nobody uses any
    more makes room for the next.
    """
    daemon = new_daemon("--table-memory", "4M")
    names = []
    for i in range(80):
        names.append(str(tmp_path / f"copy{i}.so"))
        with open(own_libc(), "rb") as source, open(names[-1], "wb") as copy:
            copy.write(source.read())
    target = start_target("python", argv=[sys.executable, "-c", MANY_FILES, *names])
    make_tables(daemon, target)
    profile = fetch(daemon, target.pid, seconds=3, hz=199)
    assert profile.fact("unwind.tables_missing") > 0, profile.facts
    assert "table-memory is used up" in "\n".join(profile.comments), profile.comments
    assert 0 < daemon.metric("cprofd_table_bytes") <= 4 << 20
    assert profile.fact("rooted") > 0.9 * profile.fact("samples"), profile.facts  # the program itself comes first
    target.stop()

    target = start_target("late_library", "now=1")
    make_tables(daemon, target)
    profile = fetch(daemon, target.pid, seconds=1, hz=199)
    total, whole = count_whole(profile)
    check_due(profile, total)
    assert whole == total, profile.folded()
    assert daemon.metric("cprofd_table_bytes") <= 4 << 20


def test_nothing_is_left_of_many_sessions(new_daemon, start_target):
    """Descriptors and memory after a hundred sessions are what they were after ten."""
    daemon = new_daemon()
    targets = [start_target("late_library", "now=1"), start_target("library_reuse"), start_target("deep")]

    def ask(i):
        return daemon.profile(targets[i % len(targets)].pid, seconds=0.1, hz=99).status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {200}
        daemon.wait_for_sessions(0)
        fds, rss = daemon.n_fds(), daemon.rss_kib()
        assert set(pool.map(ask, range(100))) == {200}
    daemon.wait_for_sessions(0)
    wait_for(lambda: daemon.n_fds() <= fds + 2, f"{fds} descriptors again")  # slabs may have come
    assert daemon.rss_kib() < rss + 8192
    assert daemon.metric("cprofd_table_bytes") <= 8 << 20


def map_ids(pid):
    found = set()
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                found.update(re.findall(r"^map_id:\s*(\d+)", file.read(), re.MULTILINE))
        except OSError:
            pass
    return found


def map_exists(number):
    return subprocess.run(["bpftool", "map", "show", "id", number], capture_output=True, check=False).returncode == 0


def test_a_killed_daemon_leaves_no_tables(new_daemon, start_target):
    daemon = new_daemon()
    target = start_target("late_library", "now=1")
    fetch(daemon, target.pid, seconds=0.5, hz=99)
    maps = map_ids(daemon.pid)
    assert daemon.metric("cprofd_table_bytes") > 0 and len(maps) > 3
    assert all(map_exists(number) for number in maps)
    daemon.process.kill()
    daemon.process.wait()
    wait_for(lambda: not any(map_exists(number) for number in maps), "the maps are gone")
