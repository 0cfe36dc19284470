"""Custom profiles: what a program has open, as it declares it by include/cprofd/profile.h, and as a query says by functions. Every count is exact."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import threading
import urllib.parse

import pytest

from daemon import PROGRAMS, query, wait_for
from profiles import load

PLAIN = "plain=1"
OPEN = "blobstore.Open"


def watch(daemon, target, kinds, **values):
    reply = daemon.request("PUT", query(f"/pid/{target.pid}/watch", kinds=kinds, **values))
    assert reply.status == 204, reply


def get(daemon, target, name, **values):
    return daemon.get(f"/pid/{target.pid}/debug/pprof/{urllib.parse.quote(name)}", **values)


def profile(daemon, target, name, **values):
    reply = get(daemon, target, name, **values)
    assert reply.status == 200, reply
    return load(reply)


def leaves(found, index=0):
    """What each innermost function has."""
    sums = {}
    for sample in found.samples:
        name = sample.stack[0].function
        sums[name] = sums.get(name, 0) + sample.values[index]
    return sums


def check_nothing_lost(found):
    assert not {key: value for key, value in found.facts.items() if key.startswith("lost.") and value != "0"}, found.facts
    assert "custom.untracked" not in found.facts and "thinned" not in found.facts


# ---- declared ones


def test_go_example(daemon, start_target):
    target = start_target("blobs")
    watch(daemon, target, OPEN)
    target.truth("x")
    found = profile(daemon, target, OPEN)
    assert found.sample_types == [(OPEN, "count")]
    assert leaves(found) == {"take_snapshots": 800}
    assert found.fact("samples") == 800 and found.fact("custom.added") == 1000
    check_nothing_lost(found)


@pytest.mark.skipif(not shutil.which("go"), reason="needs Go's pprof")
@pytest.mark.parametrize("declared", [True, False])
def test_go_tool_pprof(daemon, start_target, declared):
    target = start_target("blobs", *([] if declared else [PLAIN]))
    if declared:
        watch(daemon, target, OPEN)
    else:
        watch(daemon, target, "custom", add="blob_open", remove="blob_close")
    target.truth("x")
    url = daemon.url(f"/pid/{target.pid}/debug/pprof/{OPEN if declared else 'custom'}")
    shown = subprocess.run(["go", "tool", "pprof", "-top", url], capture_output=True, text=True, check=True, env={**os.environ, "PPROF_TMPDIR": "/tmp"})
    assert re.search(r"^\s+800\s+100%\s+100%\s+800\s+100%\s+take_snapshots$", shown.stdout, re.MULTILINE), shown.stdout


def test_weights(daemon, start_target):
    target = start_target("blobs")
    watch(daemon, target, "blobstore.Bytes")
    target.truth("x")
    found = profile(daemon, target, "blobstore.Bytes")
    assert found.sample_types == [("blobstore.Bytes", "count"), ("weight", "bytes")]
    assert leaves(found) == {"take_snapshots": 800} and leaves(found, 1) == {"take_snapshots": 800_000}


def test_added_twice_counts_once(daemon, start_target):
    target = start_target("blobs", "replace=1")
    watch(daemon, target, OPEN)
    target.truth("x")
    found = profile(daemon, target, OPEN)
    assert leaves(found) == {"take_snapshots": 800} and found.fact("custom.replaced") == 1000


def test_removed_twice_is_counted(daemon, start_target):
    target = start_target("blobs", "remove_unknown=1")
    watch(daemon, target, OPEN)
    target.truth("x")
    found = profile(daemon, target, OPEN)
    assert leaves(found) == {"take_snapshots": 800} and found.fact("custom.unknown_removes") == 200


def test_what_was_open_before_is_not_known(daemon, start_target):
    target = start_target("blobs", "before=1")
    watch(daemon, target, OPEN)
    assert profile(daemon, target, OPEN).samples == []
    target.truth("x")
    assert leaves(profile(daemon, target, OPEN)) == {"take_snapshots": 800}


def test_window_shows_what_is_open_at_its_end(daemon, start_target):
    target = start_target("values")
    over = threading.Event()

    def work():
        while not over.wait(0.02):
            target.truth("close")
            target.truth("add 10")

    thread = threading.Thread(target=work)
    thread.start()
    reply = get(daemon, target, "values", seconds=2, max_overhead=1000000)  # none is to stand for others
    over.set()
    thread.join()
    assert reply.status == 200, reply
    assert reply.headers["content-disposition"] == 'attachment; filename="values-delta"'
    found = load(reply)
    assert leaves(found).get("open_many", 0) <= 10 < found.fact("custom.added"), (found.facts, found.folded())
    assert not set(leaves(found)) - {"open_many"}
    check_nothing_lost(found)


def test_text(daemon, start_target):
    target = start_target("blobs")
    watch(daemon, target, OPEN)
    target.truth("x")
    text = get(daemon, target, OPEN, debug=1).text
    assert text.startswith(f"{OPEN} profile: total 800\n800 @ 0x"), text
    assert re.search(r"^#\t0x[0-9a-f]+\ttake_snapshots\+0x", text.split("\n")[2]), text


def test_not_watched(daemon, start_target):
    target = start_target("blobs")
    reply = get(daemon, target, OPEN)
    assert reply.status == 409 and f"{OPEN}?seconds=10" in reply.text and f"PUT /pid/{target.pid}/watch?kinds={OPEN}" in reply.text, reply
    for values in ({}, {"seconds": 1}):
        reply = get(daemon, target, "blobstore.Nope", **values)
        assert reply.status == 404 and reply.text.startswith("Unknown profile"), reply
    reply = daemon.request("PUT", query(f"/pid/{target.pid}/watch", kinds="blobstore.Nope"))
    assert reply.status == 400 and "is not a kind that can be watched; these can: allocs, block" in reply.text, reply
    assert get(daemon, target, OPEN, tid=1).status == 400


def test_index(daemon, start_target):
    target = start_target("blobs")
    watch(daemon, target, OPEN)
    target.truth("x")
    page = daemon.get(f"/pid/{target.pid}/debug/pprof/").text
    assert f"<tr><td>800</td><td><a href='./{OPEN}?debug=1'>{OPEN}</a> (watched)</td></tr>" in page
    assert f"<li>{OPEN}: blobs that are open now</li>" in page and "(not watched)" in page
    listed = {each["name"]: each for each in daemon.get(f"/pid/{target.pid}/debug/pprof/", format="json").json()}
    assert listed[OPEN]["count"] == 800 and listed[OPEN]["watched"] and listed[OPEN]["description"] == "blobs that are open now"
    assert listed["blobstore.Bytes"]["sample_types"] == ["blobstore.Bytes/count", "weight/bytes"]
    assert not listed["blobstore.Bytes"]["watched"]
    assert "seconds" in {each["name"] for each in listed[OPEN]["parameters"]}


def test_hostile_names(daemon, start_target):
    target = start_target("values")
    name = "</td><script>alert('1')</script>%s\"\\"
    page = daemon.get(f"/pid/{target.pid}/debug/pprof/").text
    assert "<script>" not in page and "<b>" not in page and "&lt;script&gt;" in page
    assert "1 profiles that the process declares, or files that may declare some, are left out" in page
    listed = {each["name"] for each in daemon.get(f"/pid/{target.pid}/debug/pprof/", format="json").json()}
    assert name in listed and not any(each.startswith("one,") for each in listed)
    watch(daemon, target, name)
    target.truth("add 3")
    assert leaves(profile(daemon, target, name)) == {"open_many": 3}
    assert daemon.get(f"/pid/{target.pid}/watch").json()["watched"][0]["kind"] == name
    # A name that is a kind's stays that kind's.
    assert get(daemon, target, "heap").status == 409


def test_cxx(daemon, start_target):
    target = start_target("cxx_blobs")
    watch(daemon, target, "store::Handle")
    target.truth("x")
    found = profile(daemon, target, "store::Handle")
    assert {re.sub(r"\(.*", "", name): n for name, n in leaves(found).items()} == {"open_handles": 100}, found.folded()


# ---- lives


def test_threads(daemon, start_target):
    target = start_target("values")
    watch(daemon, target, "values")
    target.truth("threads 20")
    target.truth("add 5")
    assert leaves(profile(daemon, target, "values")) == {"open_in_thread": 20, "open_many": 5}
    target.truth("close")
    assert profile(daemon, target, "values").samples == []


def test_a_child_is_another_process(daemon, start_target):
    target = start_target("values")
    watch(daemon, target, "values")
    target.truth("add 10")
    target.truth("fork 30")
    found = profile(daemon, target, "values")
    assert leaves(found) == {"open_many": 10} and found.fact("custom.added") == 10, found.facts


def test_exec_drops_all(daemon, start_target):
    target = start_target("values")
    watch(daemon, target, "values")
    target.truth("add 10")
    target.process.stdin.write("exec\n")
    target.process.stdin.flush()
    target.read_ready()
    wait_for(lambda: get(daemon, target, "values").status == 200, "it is watched anew")
    wait_for(lambda: "anew" in profile(daemon, target, "values").facts, "its values are those of the new program")
    assert profile(daemon, target, "values").samples == []
    target.truth("add 4")
    assert leaves(profile(daemon, target, "values")) == {"open_many": 4}


def test_more_than_there_is_room_for_is_said(daemon, start_target):
    target = start_target("values")
    watch(daemon, target, "values", max_overhead=1000000)
    target.truth("add 70000")
    found = profile(daemon, target, "values")
    assert leaves(found) == {"open_many": 65536} and found.fact("custom.untracked") == 70000 - 65536


# ---- by functions


@pytest.mark.parametrize("skip, leaf", [(None, "take_snapshots"), (0, "blob_open"), (1, "take_snapshots"), (31, None)])
def test_query(daemon, start_target, skip, leaf):
    target = start_target("blobs", PLAIN)
    values = {} if skip is None else {"skip": skip}
    watch(daemon, target, "custom", add="blob_open", remove="blob_close", **values)
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert found.sample_types == [("custom", "count")]
    assert found.total("custom") == 800
    if leaf:
        assert leaves(found) == {leaf: 800}
    else:
        assert len(found.samples[0].stack) == 1
    check_nothing_lost(found)


@pytest.mark.parametrize("add", ["blob_open", "blob_open:ret", "blobs:blob_open:arg0", "blob_open+0x0"])
def test_query_weights(daemon, start_target, add):
    target = start_target("blobs", PLAIN)
    watch(daemon, target, "custom", add=add, remove="blob_close:arg0", weight="arg1", unit="bytes")
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert found.sample_types == [("custom", "count"), ("weight", "bytes")]
    assert leaves(found) == {"take_snapshots": 800} and leaves(found, 1) == {"take_snapshots": 800_000}
    check_nothing_lost(found)


@pytest.mark.parametrize("library", ["libc.so.6", "libc.so", "libc"])
def test_query_of_a_library(daemon, start_target, library):
    """What malloc gives and free takes, of the blobs, which are all that take_snapshots allocates."""
    target = start_target("blobs", PLAIN)
    watch(daemon, target, "custom", add=f"{library}:malloc:ret", remove=f"{library}:free", weight="arg0", unit="bytes", max_overhead=1000000)
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert leaves(found).get("take_snapshots") == 800, found.folded()
    assert leaves(found, 1)["take_snapshots"] == 800 * 16


POINTERS = {0x7FFF12345678: True, 1: True, 0x80000000: True, -4096: True, 0: False, -1: False, -4095: False, 0xFFFFFFFF: False, 0xFFFFF001: False}


@pytest.mark.parametrize(
    "key, results",
    [
        (None, POINTERS),
        ("pointer", POINTERS),
        ("int", {0: True, 3: True, 0x7FFFFFFF: True, 0x5A5A00000004: True, -1: False, 0xFFFFFFFF: False, 0x80000000: False, 0x5A5AFFFFFFFF: False}),
        ("long", {0: True, 3: True, 0xFFFFFFFF: True, 0x7FFFFFFFFFFFFFFF: True, -1: False, -5000: False, -0x8000000000000000: False}),
    ],
)
def test_results_that_are_errors(daemon, start_target, key, results):
    target = start_target("values")
    watch(daemon, target, "custom", add="give_value:ret", remove="take_value", **({"key": key} if key else {}))
    for value in results:
        target.truth(f"give {value}")
    found = profile(daemon, target, "custom")
    assert leaves(found) == {"want_value": sum(results.values())} and found.fact("custom.failed_adds") == list(results.values()).count(False)
    for value, added in results.items():
        if added:
            target.truth(f"take {value ^ 0x1234500000000 if key == 'int' else value}")
    found = profile(daemon, target, "custom")
    assert found.samples == [] and "custom.unknown_removes" not in found.facts, found.facts


def test_what_is_added_alone_is_counted(daemon, start_target):
    """Without remove= each call counts, whatever its value, since the watch began."""
    target = start_target("blobs", PLAIN)
    watch(daemon, target, "custom", add="blob_open:ret", weight="arg1", unit="bytes")
    for times in (1, 2):
        target.truth("x")
        found = profile(daemon, target, "custom")
        assert found.sample_types == [("custom", "count"), ("weight", "bytes")]
        assert leaves(found) == {"take_snapshots": 1000 * times} and leaves(found, 1) == {"take_snapshots": 1_000_000 * times}
    assert found.facts["custom.counted"] and "custom.removes_at" not in found.facts and "custom.replaced" not in found.facts, found.facts
    check_nothing_lost(found)
    assert "<tr><td>2000</td><td><a href='custom'>" in daemon.get(f"/pid/{target.pid}/debug/pprof/").text
    assert get(daemon, target, "custom", add="blob_open:ret", weight="arg1", unit="bytes").status == 200
    assert get(daemon, target, "custom", add="blob_open:ret", remove="blob_close").status == 409
    watch(daemon, target, "custom", add="blob_open", weight="arg0")  # addresses are no weights
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert found.total("weight") == 1000 << 40 and found.facts["custom.cut_weights"] == "1000", found.facts
    watch(daemon, target, "custom", add="blob_open", remove="blob_close")
    assert get(daemon, target, "custom", add="blob_open").status == 409


def test_counted_results_that_are_errors(daemon, start_target):
    target = start_target("values")
    watch(daemon, target, "given", add="give_value:ret", key="int")
    for value in (0, 3, 3, -1):
        target.truth(f"give {value}")
    found = profile(daemon, target, "given")
    assert found.sample_types == [("given", "count")] and leaves(found) == {"want_value": 3}
    assert found.fact("custom.failed_adds") == 1


def test_files_and_lines(daemon, start_target, tmp_path):
    """Of values without a weight, in a file that nobody has asked about."""
    target = start_target("blobs", PLAIN, path=shutil.copy(os.path.join(PROGRAMS, "blobs"), tmp_path / "blobs"))
    watch(daemon, target, "custom", add="blob_open", remove="blob_close")
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert {(os.path.basename(each.stack[0].filename), each.stack[0].line > 0) for each in found.samples} == {("blobs.c", True)}, found.facts


def test_query_of_cxx(daemon, start_target):
    target = start_target("cxx_blobs")
    watch(daemon, target, "custom", add="store::handle<int>::handle()", remove="store::handle<int>::~handle()")
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert sum(leaves(found).values()) == 50 and next(iter(leaves(found))).startswith("open_handles"), found.folded()


@pytest.mark.parametrize(
    "values, says",
    [
        ({}, 'custom needs "add"'),
        ({"remove": "blob_open"}, '"remove" goes with "add"'),
        ({"add": "blob_open:arg6"}, "arguments that can be read are arg0 to arg5"),
        ({"add": "blob_opn", "remove": "blob_close"}, "blob_opn in blobs: the file has no such function"),
        ({"add": "blob_open", "remove": "blob_clos"}, "blob_clos in blobs: the file has no such function"),
        ({"add": "libx.so:f", "remove": "blob_close"}, 'no file "libx.so" is mapped for execution; these are: blobs libc.so.6'),
        ({"add": "blob_opn", "remove": "blob_close"}, "; like it: blob_open;"),
        ({"add": "BlobOpen", "remove": "blob_close"}, "; like it: blob_open;"),
        ({"add": "malloc:ret", "remove": "blob_close"}, "it calls that of another file, which must be named before it; libc.so.6 has it"),
        ({"add": "blobs:opendir", "remove": "blob_close"}, "; libc.so.6 has it: write libc.so.6:opendir"),
        ({"add": "libc.so.6:strlen", "remove": "blob_close"}, "chosen at run time (IFUNC)"),
        ({"add": "libc.so.6:mallok:ret", "remove": "blob_close"}, "; like it: malloc"),
        ({"add": "blob_open+0xffff", "remove": "blob_close"}, "lies outside of the function"),
        ({"add": "a:b:c", "remove": "blob_close"}, "write [OBJECT:]SYMBOL"),
        ({"add": "blob_open", "remove": "blob_close", "weight": "arg6"}, "not one of them"),
        ({"add": "blob_open", "remove": "blob_close", "weight": "ret"}, "weight=ret goes with"),
        ({"add": "blob_open", "remove": "blob_close", "unit": "bytes"}, '"unit" goes with "weight"'),
        ({"add": "blob_open", "remove": "blob_close", "key": "float"}, "give pointer|int|long (default pointer)"),
        ({"key": "int"}, 'custom needs "add"'),
        ({"add": "blob_open", "remove": "blob_close", "skip": "32"}, "within the bounds"),
        ({"add": "blob_open", "remove": "blob_close", "skip": "x"}, "within the bounds"),
        ({"add": "blob_open", "remove": "blob_close", "tid": "1"}, "unknown parameter"),
    ],
)
def test_refused(daemon, start_target, values, says):
    target = start_target("blobs", PLAIN)
    reply = get(daemon, target, "custom", seconds=1, **values)
    assert reply.status == 400 and says in reply.text, reply
    if "tid" not in values:
        reply = daemon.request("PUT", query(f"/pid/{target.pid}/watch", kinds="custom", **values))
        assert reply.status == 400 and says in reply.text, reply


def test_watched_otherwise(daemon, start_target):
    target = start_target("blobs", PLAIN)
    watch(daemon, target, "custom", add="blob_open", remove="blob_close")
    assert get(daemon, target, "custom", add="blob_open", remove="blob_close").status == 200
    assert get(daemon, target, "custom", add="blob_close", remove="blob_open").status == 409
    assert get(daemon, target, "custom", skip=3).status == 409


def test_several_by_functions_have_names(daemon, start_target):
    target = start_target("blobs", PLAIN)
    watch(daemon, target, "blobs.open", add="blob_open", remove="blob_close")
    watch(daemon, target, "memory", add="libc:malloc:ret", remove="libc:free", weight="arg0", unit="bytes", max_overhead=1000000)
    watch(daemon, target, "custom", add="blob_open", remove="blob_close", skip=0)
    target.truth("x")
    found = profile(daemon, target, "blobs.open")
    assert found.sample_types == [("blobs.open", "count")] and leaves(found) == {"take_snapshots": 800}
    found = profile(daemon, target, "memory")
    assert found.sample_types == [("memory", "count"), ("weight", "bytes")] and leaves(found, 1)["take_snapshots"] == 800 * 16
    assert leaves(profile(daemon, target, "custom")) == {"blob_open": 800}
    page = daemon.get(f"/pid/{target.pid}/debug/pprof/").text
    assert "<tr><td>800</td><td><a href='./blobs.open?debug=1'>blobs.open</a> (watched)</td></tr>" in page
    assert "<li>blobs.open: Values of functions, by the stacks that added them: add=blob_open remove=blob_close</li>" in page
    listed = {each["name"]: each for each in daemon.get(f"/pid/{target.pid}/debug/pprof/", format="json").json()}
    assert listed["blobs.open"]["count"] == 800 and listed["blobs.open"]["watched"] and not listed["blobs.open"]["declared"]
    assert listed["memory"]["sample_types"] == ["memory/count", "weight/bytes"]
    assert get(daemon, target, "blobs.open", add="blob_open", remove="blob_close").status == 200
    assert get(daemon, target, "blobs.open", add="blob_close", remove="blob_open").status == 409
    found = profile(daemon, target, "blobs.open", seconds=1)  # by its name alone: a window of its own, by the functions of the watch
    assert found.sample_types == [("blobs.open", "count")] and found.total("blobs.open") == 0 and found.facts["custom.adds_at"], found.facts
    assert get(daemon, target, "blobs.open", seconds=1, skip=0).status == 200
    assert daemon.request("DELETE", f"/pid/{target.pid}/watch?kinds=blobs.open").status == 204
    assert get(daemon, target, "blobs.open", seconds=1).status == 404
    assert get(daemon, target, "blobs.open").status == 404 and get(daemon, target, "memory").status == 200
    reply = get(daemon, target, "blobs.open", seconds=1, add="blob_open", remove="blob_close")
    assert reply.status == 200 and load(reply).sample_types == [("blobs.open", "count")]


def test_a_query_may_take_a_declared_name(daemon, start_target):
    target = start_target("blobs")
    watch(daemon, target, OPEN, add="blob_open", remove="blob_close", skip=0)
    target.truth("x")
    assert leaves(profile(daemon, target, OPEN)) == {"blob_open": 800}
    assert daemon.get(f"/pid/{target.pid}/debug/pprof/").text.count(f"?debug=1'>{OPEN}</a>") == 1
    watch(daemon, target, OPEN)
    target.truth("x")
    assert leaves(profile(daemon, target, OPEN)) == {"take_snapshots": 800}
    values = daemon.get(f"/pid/{target.pid}/watch").json()["watched"][0]["parameters"]
    assert set(values) == {"max_overhead"}


def test_a_query_makes_one_profile(daemon, start_target):
    target = start_target("blobs")
    functions = {"add": "blob_open", "remove": "blob_close"}
    reply = daemon.request("PUT", query(f"/pid/{target.pid}/watch", kinds=f"{OPEN},other", **functions))
    assert reply.status == 400 and "make one profile" in reply.text, reply
    for values in ({"skip": 0}, {"weight": "arg0"}, {"key": "int"}):
        reply = daemon.request("PUT", query(f"/pid/{target.pid}/watch", kinds=OPEN, **values))
        assert reply.status == 400 and "it says these itself" in reply.text, reply
        assert get(daemon, target, OPEN, seconds=1, **values).status == 400


def test_overhead(daemon, start_target):
    """Probes that a process can't bear are refused, with the figures."""
    target = start_target("blobs", PLAIN, "open=2000", "close_every=1")
    over = threading.Event()

    def work():
        while not over.is_set():
            target.truth("x")

    thread = threading.Thread(target=work)
    thread.start()
    reply = get(daemon, target, "custom", seconds=1, add="blob_open", remove="blob_close", max_overhead=0.001)
    over.set()
    thread.join()
    assert reply.status == 409 and "overhead" in reply.text, reply


def test_by_configuration_alone(new_daemon, start_target):
    daemon = new_daemon(
        "--watch", "name:blobs custom add=blob_open remove=blob_close weight=arg1 unit=bytes",
        "--watch", "name:blobs blobstore.Open,threadcreate",
        "--watch", "name:blobs sizes add=blob_open remove=blob_close weight=arg1 skip=0",
    )
    target = start_target("blobs")
    wait_for(lambda: len(daemon.get(f"/pid/{target.pid}/watch").json()["watched"]) == 4, "the rules watch it", seconds=30)
    target.truth("x")
    found = profile(daemon, target, "custom")
    assert leaves(found) == {"take_snapshots": 800} and leaves(found, 1) == {"take_snapshots": 800_000}
    assert leaves(profile(daemon, target, OPEN)) == {"take_snapshots": 800}
    assert leaves(profile(daemon, target, "sizes"), 1) == {"blob_open": 800_000}


def at_once(targets, ask):
    """What they are answered, each text once."""
    with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
        return {(reply.status, reply.text) for reply in pool.map(ask, targets)}


def watch_all(daemon, target):
    """Both of its profiles, once there is room: what ended a moment ago may still have its place."""
    replies = []

    def is_answered():
        replies.append(daemon.request("PUT", query(f"/pid/{target.pid}/watch", kinds=f"{OPEN},blobstore.Bytes")))
        return replies[-1].status != 429

    wait_for(is_answered, "there is room", seconds=60)
    return replies[-1]


def test_as_many_as_there_may_be(daemon, start_target):
    """All begin and end at once, and leave nothing that others would wait for."""
    targets = [start_target("blobs") for _ in range(17)]
    first = targets[:16]
    for _ in range(2):
        assert at_once(first, lambda target: watch_all(daemon, target)) == {(204, "")}
        reply = daemon.request("PUT", query(f"/pid/{targets[16].pid}/watch", kinds=OPEN))
        assert reply.status == 429 and "too many custom profiles: 32" in reply.text and "retry-after" in reply.headers, reply
        for target in first:
            target.truth("x")
        for target in first:
            assert leaves(profile(daemon, target, OPEN)) == {"take_snapshots": 800}
        assert at_once(first, lambda target: daemon.request("DELETE", f"/pid/{target.pid}/watch")) == {(204, "")}
