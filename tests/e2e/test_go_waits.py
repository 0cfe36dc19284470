"""Waits of goroutines: what a Go program's own block and mutex profiles say of it (every event, rate 1) is what ours say. Go estimates what several waiters
waited for a release by the first and the last of them; where all began together that is exact."""

import collections
import json
import os
import threading
import time
import urllib.request

import pytest

from daemon import ROOT
from profiles import Profile, load
from test_goroutines import build_program, toolchains

SOURCE = os.path.join(ROOT, "tests", "programs", "go_lock_waits.go")
ALLOWED = 0.02
SLACK_NS = 2_000_000  # for what is short: a clock is read before the probe, or behind it
SECONDS = "9"


def own(target, kind):
    address = target.truth()["address"]
    with urllib.request.urlopen(f"http://{address}/debug/pprof/{kind}", timeout=60) as reply:
        return Profile(reply.read())


def by_function(profile):
    """function of the program nearest to the leaf -> [contentions, ns]."""
    sums = collections.defaultdict(lambda: [0, 0])
    for sample in profile.samples:
        name = next((f.function for f in sample.stack if f.function.startswith("main.")), None)
        if name:
            sums[name][0] += sample.values[0]
            sums[name][1] += sample.values[1]
    return sums


def leaves(profile):
    return {s.stack[0].function for s in profile.samples if any(f.function.startswith("main.") for f in s.stack)}


def watch(daemon, target):
    """From when this returns all counts."""
    reply = daemon.request("PUT", f"/pid/{target.pid}/watch?kinds=block,mutex&max_overhead=1000")
    assert reply.status == 204, reply


def both(daemon, target):
    """kind -> our profile and the program's own."""
    return {kind: (load(daemon.get(f"/pid/{target.pid}/debug/pprof/{kind}")), own(target, kind)) for kind in ("block", "mutex")}


def run_whole(daemon, target):
    """Profiles from before and after a run of which no stack was cut short: until there are unwinding tables, some are."""
    for _ in range(10):
        before = both(daemon, target)
        target.truth("run")
        after = both(daemon, target)
        cut = [sum(profile.fact("truncated.new_code") for profile, _ in each.values()) for each in (before, after)]
        if cut[0] == cut[1]:
            return before, after
    pytest.fail(f"stacks are cut short all the time: {cut}")


def added(before, after):
    """function -> [contentions, ns] since then."""
    a, b = by_function(before), by_function(after)
    return {name: [b[name][0] - a[name][0], b[name][1] - a[name][1]] for name in b}


def assert_agree(ours, theirs, names, exact_counts=True):
    for name in names:
        assert abs(ours[name][1] - theirs[name][1]) <= ALLOWED * theirs[name][1] + SLACK_NS, (name, ours[name], theirs[name])
        assert ours[name][0] == theirs[name][0] or not exact_counts, (name, ours[name], theirs[name])


WAITERS = ("main.wantsMutex", "main.convoyMember", "main.wantsReading", "main.receivesLate", "main.sendsLate", "main.selectsLate", "main.waitsForGroup",
           "main.deeper")


def start(go, tmp_path, start_target, flags=(), toolchain="local"):
    path, done = build_program(go, SOURCE, tmp_path, flags, toolchain)
    if done.returncode != 0:
        pytest.skip(f"{toolchain} does not build it: {done.stderr[-200:]}")
    return start_target("go_lock_waits", path=path)


def older_than_22(toolchain):
    return toolchain != "local" and int(toolchain.split(".")[1]) < 22


@pytest.mark.chance
@pytest.mark.parametrize(
    "toolchain, flags", [(each, []) for each in ["local", *toolchains()]] + [("local", ["-buildmode=pie", "-ldflags=-s -w"])]
)
def test_as_its_own(daemon, go, tmp_path, start_target, toolchain, flags):
    target = start(go, tmp_path, start_target, flags, toolchain)
    watch(daemon, target)
    before, after = run_whole(daemon, target)
    ours = {kind: added(before[kind][0], after[kind][0]) for kind in after}
    theirs = {kind: added(before[kind][1], after[kind][1]) for kind in after}
    for kind, (profile, _) in after.items():
        assert profile.facts["waits"] == "of goroutines"
        assert [t for t, _ in profile.sample_types] == ["contentions", "delay"]
        assert profile.fact("lost.locks") == profile.fact("lost.nested") == profile.fact("lost.ring") == 0
    assert_agree(ours["block"], theirs["block"], WAITERS)
    # Go adds waits for the condition's own lock.
    assert_agree(ours["block"], theirs["block"], ["main.waitsForCond"], exact_counts=False)
    if older_than_22(toolchain):  # Go charged a release with the wait of the one that it woke
        ours["waited"] = {hold: ours["block"][wait] for hold, wait in (("main.holdsMutex", "main.wantsMutex"), ("main.holdsWriting", "main.wantsReading"))}
        assert_agree(ours["mutex"], ours["waited"], ours["waited"], exact_counts=False)
    else:
        assert_agree(ours["mutex"], theirs["mutex"], ["main.holdsMutex", "main.holdsWriting"])
    assert leaves(after["block"][0]) == leaves(after["block"][1])
    assert leaves(after["mutex"][0]) <= leaves(after["mutex"][1]) | {"sync.(*RWMutex).RUnlock"}
    # Whoever waits is charged to somebody. The two sessions' probes look at their clocks one after another, with whatever else runs between.
    waited, charged = ours["block"]["main.convoyMember"][1], ours["mutex"]["main.convoyMember"][1]
    assert abs(waited - charged) <= 2 * ALLOWED * waited + 5 * SLACK_NS


def test_a_rate_and_a_fraction(daemon, go, tmp_path, start_target):
    """0 is none."""
    target = start(go, tmp_path, start_target)
    replies = {}

    def ask(kind, name):
        replies[kind] = daemon.get(f"/pid/{target.pid}/debug/pprof/{kind}", seconds=SECONDS, **{name: "0"})

    askers = [threading.Thread(target=ask, args=each) for each in (("block", "rate"), ("mutex", "fraction"))]
    for asker in askers:
        asker.start()
    time.sleep(2)
    target.truth("run")
    for asker in askers:
        asker.join()
    for reply in replies.values():
        assert load(reply).samples == []


def test_threads_where_threads_are_asked_for(daemon, go, tmp_path, start_target):
    target = start(go, tmp_path, start_target)
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/block", seconds="1", tid=str(target.pid))
    assert "waits" not in load(reply).facts


def test_watched(daemon, go, tmp_path, start_target):
    """Totals that grow."""
    target = start(go, tmp_path, start_target)
    watch(daemon, target)
    contentions = []
    for _ in range(2):
        target.truth("run")
        ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/block"))
        assert ours.facts["waits"] == "of goroutines"
        contentions.append(ours.total("contentions"))
    assert contentions[1] > contentions[0] + 100
    assert json.loads(daemon.get(f"/pid/{target.pid}/watch").text)
