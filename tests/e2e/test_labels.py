"""Labels that programs give their threads (cprofd/labels.h): each sample of a function has those that the function ran under, in every kind of
profile, and no others.
"""

import collections
import concurrent.futures
import os
import shutil
import subprocess

import pytest

from daemon import PROGRAMS, ROOT, wait_for
from profiles import load
from target import Recorder, share_error

# What a sample of a function in tests/programs/labels.c must have.
LABELS = {
    "burn_plain": {},
    "burn_buy": {"request": "/buy"},
    "burn_tenant": {"request": "/buy", "tenant": "7"},
    "burn_inner": {"request": "/inner"},
    "burn_inherited": {"team": "blue"},
    "wait_sell": {"request": "/sell"},
    "keep": {"request": "/keep"},
    "wait_lock": {"request": "/lock"},
    "burn_in_library": {"request": "/library"},
}
BURNS = [name for name in LABELS if name.startswith("burn_")]
OURS = ("pid", "tid", "thread", "state", "bytes")
LIBRARY = "library=" + os.path.join(PROGRAMS, "liblabel_library.so")


def fetch(daemon, target, kind="profile", **parameters):
    """A profile within which the target's files had been read: on a busy machine the first one may come too early for that."""
    for _ in range(8):
        profile = load(daemon.get(f"/pid/{target.pid}/debug/pprof/{kind}", **parameters))
        if profile.fact("labels.places") and not {"labels.late", "labels.places_late"} & set(profile.facts):
            break
    return profile


def in_background(function):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future


def own_labels(sample):
    return {key: value for key, value in sample.labels.items() if key not in OURS}


def is_late(own, wanted):
    """Says that some may be missing, and has none that it should not have."""
    return own.get("cprofd.labels") == "late" and {**wanted, **own} == {**wanted, "cprofd.labels": "late"}


def by_label(profile, sample_type, labels=None):
    """Sums by the named function nearest to the leaf; each sample has been found to have just its labels."""
    labels = labels or LABELS
    index, sums = profile.index(sample_type), collections.Counter()
    for sample in profile.samples:
        name = next((frame.function for frame in sample.stack if frame.function in labels), None)
        if name and not is_late(own_labels(sample), labels[name]):
            assert own_labels(sample) == labels[name], (name, sample.labels, profile.comments)
            sums[name] += sample.values[index]
    return sums


# ---- CPU time


@pytest.mark.chance
def test_shares_of_labels(daemon, start_target):
    """What has a label in a profile is what the program did under it."""
    target = start_target("labels", "only=burn_plain,burn_buy,burn_tenant,burn_inner,burn_inherited")
    with Recorder(target) as recorder:
        profile = fetch(daemon, target, seconds=2, hz=499)
    by_label(profile, "cpu")
    assert profile.facts["labels.places"] == "1" and profile.fact("labels.samples") > 0
    truth = recorder.functions_between(profile.start_ns, profile.end_ns)
    index, sums = profile.index("cpu"), collections.Counter()
    for sample in profile.samples:
        sums[sample.labels.get("request")] += sample.values[index]
    true_ns = {"/buy": truth["burn_buy"] + truth["burn_tenant"], "/inner": truth["burn_inner"]}
    n = profile.total("samples")
    for request, ns in true_ns.items():
        share = ns / sum(truth.values())
        assert abs(sums[request] / profile.total("cpu") - share) < share_error(share, n), (request, sums, truth)


@pytest.mark.parametrize("program", ["labels_exported", "labels_unpie", "labels_static"])
def test_how_it_was_linked(daemon, start_target, program):
    sums = by_label(fetch(daemon, start_target(program), seconds=0.6, hz=499), "cpu")
    assert all(sums[name] > 0 for name in BURNS[:5]), sums


def test_by_frame_pointers(daemon, start_target):
    sums = by_label(fetch(daemon, start_target("labels"), seconds=0.6, hz=499, unwind="fp"), "cpu")
    assert all(sums[name] > 0 for name in BURNS[:5]), sums


def test_none_from_copies(daemon, start_target):
    profile = load(daemon.profile(start_target("labels").pid, seconds=0.3, hz=499, unwind="copy"))
    assert "unwind=copy" in profile.facts["labels.unknown"]
    assert all(not own_labels(sample) for sample in profile.samples)


def run_copy(start_target, tmp_path, *strip):
    copy = shutil.copy(os.path.join(PROGRAMS, "labels"), tmp_path / "stripped_labels")
    subprocess.run([*strip, copy], check=True)
    return start_target("labels", "only=burn_buy,burn_tenant", path=copy)


def test_stripped(daemon, start_target, tmp_path):
    """No function has a name, but labels have."""
    target = run_copy(start_target, tmp_path, "strip", "--strip-all")
    profile = fetch(daemon, target, seconds=0.6, hz=499)
    seen = [own_labels(sample) for sample in profile.samples]
    assert LABELS["burn_buy"] in seen and LABELS["burn_tenant"] in seen, profile.comments
    assert not profile.functions() & set(LABELS)


@pytest.mark.skipif(not shutil.which("musl-gcc"), reason="needs musl-gcc")
@pytest.mark.parametrize("how", ["-static", "-pie"])
def test_musl(daemon, start_target, tmp_path, how):
    programs = os.path.join(ROOT, "tests", "programs")
    sources = [os.path.join(programs, name) for name in ("labels.c", "program.c", "wait_log.c")]
    path = tmp_path / "musl_labels"
    options = ["-O2", "-g", "-fno-omit-frame-pointer", "-D_GNU_SOURCE", "-DNO_LIBRARIES", "-fPIE" if how == "-pie" else "-fno-pie", how]
    done = subprocess.run(["musl-gcc", *options, "-I", os.path.join(ROOT, "include"), "-o", path, *sources], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"musl-gcc: {done.stderr[-200:]}")
    sums = by_label(fetch(daemon, start_target("labels", "only=" + ",".join(BURNS), path=path), seconds=0.6, hz=499), "cpu")
    assert all(sums[name] > 0 for name in BURNS[:5]), sums


def test_cxx(daemon, start_target):
    """Labels end where an exception leaves their block."""
    if not os.path.exists(os.path.join(PROGRAMS, "cxx_labels")):
        pytest.skip("no C++ compiler")
    profile = fetch(daemon, start_target("cxx_labels"), seconds=0.6, hz=499)
    sums = by_label(profile, "cpu", {"burn_within()": {"request": "/thrown"}, "burn_after()": {}})
    assert len(sums) == 2, profile.folded()


@pytest.mark.parametrize("program", ["labels", "labels_exported"])
def test_library_that_comes_later(daemon, start_target, program):
    """Its own labels, or, where the program lends its variable, the program's; of one that was loaded within the window, too."""
    target = start_target(program, LIBRARY)
    fetch(daemon, target, seconds=0.1)
    daemon.wait_for_sessions(0)
    pending = in_background(lambda: load(daemon.profile(target.pid, seconds=3, hz=199)))
    daemon.wait_for_open()
    target.truth("load")
    profile = pending.result(60)
    assert by_label(profile, "cpu")["burn_in_library"] > 0, profile.comments
    n_late = sum(sample.values[0] for sample in profile.samples if "cprofd.labels" in sample.labels)
    assert profile.sample_types[0][0] == "samples" and profile.fact("labels.late") == n_late, profile.comments
    profile = fetch(daemon, target, seconds=0.6, hz=499)
    assert by_label(profile, "cpu")["burn_in_library"] > 0 and profile.facts["labels.places"] == "2"
    assert "labels.places_late" not in profile.facts and "labels.late" not in profile.facts, profile.comments


def test_fork_and_exec(daemon, start_target):
    """A child has its parent's labels; another image has none."""
    target = start_target("labels", "only=burn_buy,burn_tenant")
    child = target.truth("fork")["child"]
    fetch(daemon, target, seconds=0.1)
    sums = by_label(load(daemon.profile(child, seconds=0.6, hz=499)), "cpu")
    assert sums["burn_buy"] > 0 and sums["burn_tenant"] > 0
    for seconds in (3, 10, 30):  # on a busy machine one image or the other hardly runs
        sums = by_exec(daemon, start_target("labels", "only=burn_buy,burn_tenant"), seconds)
        if sums["burn_plain"] > 0:
            break
    assert sums["burn_buy"] > 0 and sums["burn_plain"] > 0, sums


def by_exec(daemon, target, seconds):
    fetch(daemon, target, seconds=0.1)
    daemon.wait_for_sessions(0)
    pending = in_background(lambda: load(daemon.profile(target.pid, seconds=seconds, hz=199)))
    daemon.wait_for_open()
    used_ns = target.cpu_ns() + 300_000_000
    wait_for(lambda: target.cpu_ns() > used_ns, "the target runs", 60)
    target.process.stdin.write("exec\n")
    target.process.stdin.flush()
    sums = by_label(pending.result(90), "cpu")
    target.process.kill()  # the new image has the signal mask of the thread that executed it
    return sums


def test_odd_labels(daemon, start_target):
    """A key that is ours, bytes that are no text, and a value that has no room."""
    target = start_target("labels", "only=burn_odd")
    target.truth("odd")
    profile = fetch(daemon, target, seconds=0.6, hz=499)
    wanted = {"label.thread": "theirs", "bytes?": "a?b?[2J", "long": "v" * 249}
    by_label(profile, "cpu", {"burn_odd": wanted})
    assert all(sample.labels["thread"] == "labels" for sample in profile.samples)
    assert profile.fact("labels.cut") > 0 and "labels.left_out" not in profile.facts


def test_no_labels_no_word(daemon, start_target):
    profile = load(daemon.profile(start_target("ten_series").pid, seconds=0.3, hz=499))
    assert not [key for key in profile.facts if key.startswith("labels")]


# ---- programs that publish what is no set


@pytest.mark.parametrize(("way", "what"), [("large", "unreadable"), ("unmapped", "unreadable"), ("invalid", "unreadable"), ("malformed", "malformed")])
def test_what_is_no_set(daemon, start_target, way, what):
    """It is said, and nothing is made of it."""
    profile = fetch(daemon, start_target("hostile_labels", f"way={way}"), seconds=0.4, hz=499)
    by_label(profile, "cpu", {"burn_hostile": {"cprofd.labels": what}})
    assert profile.fact("labels." + what) > 0.9 * profile.total("samples")


def test_races(daemon, start_target):
    """Another thread changes the pointer all the time, without a word: each sample has one set or the other, or says that it has none."""
    target = start_target("hostile_labels", "way=race")
    sets = ({"side": "left", "more": "1"}, {"side": "right", "other": "1"}, {"cprofd.labels": "unreadable"})

    def is_met():
        profile = fetch(daemon, target, seconds=1, hz=999)
        seen = [own_labels(sample) for sample in profile.samples if any(f.function == "burn_hostile" for f in sample.stack)]
        assert seen and all(labels in sets for labels in seen), seen
        return profile.fact("labels.unreadable") > 0

    wait_for(is_met, "a sample while the other thread runs, too", 60)


def test_many_sets(daemon, start_target):
    """Each sample has a label of its own; the profile is as whole as without."""
    profile = fetch(daemon, start_target("hostile_labels", "way=many"), seconds=1, hz=999)
    numbers = [own_labels(sample).get("number") for sample in profile.samples if any(f.function == "burn_hostile" for f in sample.stack)]
    assert None not in numbers and len(set(numbers)) > 20, profile.comments
    assert all(profile.fact(f"lost.{reason}") == 0 for reason in ("ring", "nested", "memory"))


# ---- other kinds


@pytest.mark.parametrize("kind", ["wall", "offcpu"])
def test_waits(daemon, start_target, kind):
    """Whatever a thread does, by its state."""
    target = start_target("labels")
    profile = fetch(daemon, target, kind, seconds=1, hz=499 if kind == "wall" else None)
    sums = by_label(profile, kind)
    assert sums["wait_sell"] > 0 and sums["wait_lock"] > 0, sums
    if kind == "wall":
        assert all(sums[name] > 0 for name in BURNS[:5]), sums


def test_waits_by_label(daemon, start_target):
    """How long a request waited is no sample: all that waits in its function, and no more than the program says."""
    target = start_target("labels", "only=wait_sell,burn_buy")
    before = target.truth()
    profile = fetch(daemon, target, "offcpu", seconds=1)
    after = target.truth()
    most_ns = calls_of(after, "wait_sell") - calls_of(before, "wait_sell")
    index = profile.index("offcpu")
    waited_ns = sum(sample.values[index] for sample in profile.samples if sample.labels.get("request") == "/sell")
    assert waited_ns == by_label(profile, "offcpu")["wait_sell"]
    assert 0 < waited_ns <= most_ns + 20_000_000, (waited_ns, most_ns, profile.comments)


def calls_of(truth, name):
    return truth["functions"][name]["calls"]


@pytest.mark.parametrize(("kind", "parameters", "labels"), [
    ("block", {"rate": 1}, {"wait_lock": LABELS["wait_lock"]}),
    ("mutex", {"fraction": 1}, {"holds_lock": {"request": "/hold"}}),
    ("heap", {"rate": 1}, {"keep": LABELS["keep"]}),
    ("growth", {}, {"keep": LABELS["keep"]}),
    ("kept", {}, {"keep": LABELS["keep"]}),
    ("custom", {"add": "libc.so.6:malloc:ret", "remove": "libc.so.6:free"}, {"keep": LABELS["keep"]}),
    ("profile", {"event": "uprobe::keep"}, {"keep": LABELS["keep"]}),
])
def test_kinds(daemon, start_target, kind, parameters, labels):
    target = start_target("labels")
    profile = fetch(daemon, target, kind, seconds=1, **parameters)
    sums = by_label(profile, profile.sample_types[-1][0], labels)
    assert all(sums[name] > 0 for name in labels), (profile.folded(), profile.comments)


def test_traces(daemon, start_target):
    """A wait has the labels that the thread began it with."""
    target = start_target("labels", "only=wait_sell,wait_lock")

    def is_met():
        reply = daemon.get(f"/pid/{target.pid}/debug/pprof/trace", seconds=0.5, format="chrome", max_overhead=1000)
        if reply.status == 503:  # of some kernels' switches too much is missing, now and then
            return False
        trace, found = reply.json(), collections.Counter()
        for event in trace["traceEvents"]:
            frame = event.get("sf")
            while frame and event["ph"] == "X":
                name, frame = trace["stackFrames"][str(frame)]["name"], trace["stackFrames"][str(frame)].get("parent")
                labels = event["args"].get("labels", {})
                if name in LABELS and not is_late(labels, LABELS[name]):
                    assert labels == LABELS[name], event
                    found[name] += 1
        assert not found or int(trace["otherData"]["cprofd.labels.samples"]) > 0
        return found["wait_sell"] > 0 and found["wait_lock"] > 0

    wait_for(is_met, "a trace with waits of both", 60)


def test_dumps(daemon, start_target):
    """A thread that waits has labels, too; text has them where Go's has those of goroutines."""
    target = start_target("labels", "only=wait_lock")
    text, sums = "", {}

    def is_met():
        nonlocal text
        text = daemon.get(f"/pid/{target.pid}/debug/pprof/threads", debug=1).text
        sums.update(by_label(fetch(daemon, target, "threads"), "goroutine", {"holds_lock": {"request": "/hold"}, "wait_lock": LABELS["wait_lock"]}))
        return '"request":"/lock"' in text and "wait_lock" in sums and "holds_lock" in sums

    wait_for(is_met, "a dump that finds both in their functions", 30)


def test_watch_keeps_labels(daemon, start_target):
    """Totals, and what came to them in some seconds."""
    target = start_target("labels", "only=keep")
    assert daemon.request("PUT", f"/pid/{target.pid}/watch?kinds=allocs&rate=1&max_overhead=1000000").status == 204
    wait_for(lambda: by_label(fetch(daemon, target, "allocs"), "alloc_objects")["keep"] > 0, "an allocation")
    for parameters in ({}, {"seconds": 1}):
        assert by_label(fetch(daemon, target, "allocs", **parameters), "alloc_objects")["keep"] > 0


def test_go_tool_pprof_focuses(daemon, start_target, tmp_path):
    if not shutil.which("go"):
        pytest.skip("needs go tool pprof")
    target = start_target("labels", "only=burn_plain,burn_buy")
    url = daemon.url(f"/pid/{target.pid}/debug/pprof/profile", seconds=1, hz=499)
    command = ["go", "tool", "pprof", "-top", "-tagfocus=request=/buy", url]
    environment = {**os.environ, "PPROF_TMPDIR": str(tmp_path)}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "burn_buy" in text and "burn_plain" not in text, text
