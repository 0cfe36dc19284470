"""Goroutines of Go programs: what their own runtime says of them in its profile is what we say, for releases from 1.18 on, stripped or not."""

import collections
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

from daemon import ROOT
from profiles import Profile, load

SOURCE = os.path.join(ROOT, "tests", "programs", "go_goroutines.go")
BUILDS = {
    "whole": [],
    "stripped": ["-ldflags=-s -w"],
    "position-independent": ["-buildmode=pie", "-ldflags=-s -w"],
}
# What the program does to answer is in its own answer alone.
OWN = ("net/http.(*conn).serve", "net/http.(*connReader)")
HEAD = re.compile(r"goroutine (\d+) \[([^\]]*)\]:")
OLD_DEPTH = 32  # of Go's own goroutine profiles before 1.23


def build(go, directory, flags=(), toolchain="local"):
    return build_program(go, SOURCE, directory, flags, toolchain)


def release(go, toolchain):
    """Its own go command: another one's takes GOTOOLCHAIN for nothing where there are no modules."""
    if toolchain == "local":
        return go
    cache = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{cache}/golang.org/toolchain@v0.0.1-{toolchain}.linux-amd64/bin/go"


def build_program(go, source, directory, flags=(), toolchain="local"):
    """Where it is, and how that went. Nobody is asked for a toolchain."""
    program = str(directory / os.path.basename(source).removesuffix(".go"))
    command = release(go, toolchain)
    env = {**os.environ, "GOFLAGS": "-buildvcs=false", "GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    env.pop("GOROOT", None)
    done = subprocess.run(
        [command, "build", *flags, "-o", program, source], capture_output=True, text=True, timeout=300, cwd=directory, check=False, env=env
    )
    if done.returncode == 0 and toolchain != "local":
        said = subprocess.run([command, "version", program], capture_output=True, text=True, check=True).stdout
        assert toolchain in said, said
    return program, done


@pytest.fixture(scope="module")
def program(go, tmp_path_factory):
    path, done = build(go, tmp_path_factory.mktemp("go"))
    assert done.returncode == 0, done.stderr
    return path


def toolchains():
    """Releases that are there without asking anybody, one of each."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.path.exists(go):
        return []
    cache = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    there = os.path.join(cache, "golang.org")
    names = os.listdir(there) if os.path.isdir(there) else []
    matches = (re.fullmatch(r"toolchain@v0\.0\.1-(go1\.(\d+)\.\d+)\.linux-amd64", name) for name in names)
    return sorted({match[2]: match[1] for match in matches if match and int(match[2]) >= 18}.values())


def own(target, path):
    with urllib.request.urlopen(f"http://{target.truth()['address']}/debug/pprof/{path}", timeout=60) as reply:
        return reply.read()


def stacks(profile, depth=None):
    """How many goroutines have which stack and labels. Before 1.20 Go's own table has no types of generic functions, and DWARF has them."""
    counts = collections.Counter()
    for sample in profile.samples:
        names = ((re.sub(r"\[.*\]", "[...]", f.function) if depth else f.function, f.line) for f in sample.stack)
        stack = tuple(each for each in names if each[0] != "runtime.goexit")[:depth]
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if isinstance(v, str)))
        if stack and not any(function.startswith(OWN) for function, _ in stack):
            counts[stack, labels] += sample.values[0]
    return counts


def named(daemon, target):
    """A reply is due within seconds, with the names that are known by then; the rest are read behind it, and are in a later one."""
    for _ in range(20):
        ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine"))
        if not int(ours.facts.get("symbols.pending", 0)):
            return ours
        time.sleep(0.5)
    pytest.fail(f"names are pending all the time: {ours.facts}")


def assert_same(daemon, target, depth=None):
    """Of a program at rest: on a busy machine, 100,000 goroutines take their time to come to where they wait, and so does the one that has just
    accepted the connection that the program's own profile is asked for by. So it is compared until then.
    """
    for _ in range(6):
        ours = named(daemon, target)
        theirs = Profile(own(target, "goroutine"))
        assert ours.sample_types == theirs.sample_types == [("goroutine", "count")]
        a, b = stacks(ours, depth), stacks(theirs, depth)
        if a == b:
            return ours
        time.sleep(0.5)
    assert a - b == collections.Counter() and b - a == collections.Counter()
    return ours


def heads(text):
    """What the first line of each goroutine says, by its number; those that serve the answer left out."""
    found = {}
    for part in text.split("\n\n"):
        match = HEAD.match(part)
        if match and not any(function in part for function in OWN):
            created = re.search(r"^created by (\S+)( in goroutine \d+)?\n\t(\S+)", part, re.MULTILINE)
            functions = re.findall(r"^(?!created by|goroutine |\t)(.+)\([^)]*\)$", part, re.MULTILINE)
            found[int(match[1])] = (match[2], functions, created.groups() if created else None)
    return found


@pytest.mark.parametrize("flags", BUILDS)
def test_profile_is_the_programs_own(daemon, go, tmp_path, start_target, flags):
    path, done = build(go, tmp_path, BUILDS[flags])
    assert done.returncode == 0, done.stderr
    if flags == "position-independent" and shutil.which("strip"):
        subprocess.run(["strip", path], check=True)
    target = start_target("go_goroutines", "goroutines=600", path=path)
    ours = assert_same(daemon, target)
    assert ours.total("goroutine") >= 604
    assert ours.fact("goroutines") >= 604 and "goroutines.torn" not in ours.facts


@pytest.mark.parametrize("toolchain", toolchains())
def test_releases(daemon, go, tmp_path, start_target, toolchain):
    path, done = build(go, tmp_path, toolchain=toolchain)
    if done.returncode != 0:
        pytest.skip(f"{toolchain} does not build it: {done.stderr[-200:]}")
    target = start_target("go_goroutines", "goroutines=300", path=path)
    minor = int(toolchain.split(".")[1])
    assert_same(daemon, target, OLD_DEPTH if minor < 23 else None)
    text = daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine", debug="2").text
    assert heads(text) == heads(own(target, "goroutine?debug=2").decode())


def test_text_of_each(daemon, program, start_target):
    target = start_target("go_goroutines", "goroutines=300", path=program)
    ours = heads(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine", debug="2").text)
    theirs = heads(own(target, "goroutine?debug=2").decode())
    assert ours == theirs
    states = {state for state, _, _ in ours.values()}
    assert {"chan receive", "select", "sync.Mutex.Lock", "sleep", "IO wait", "chan receive, locked to thread"} <= states


def test_text_of_all(daemon, program, start_target):
    target = start_target("go_goroutines", "goroutines=300", path=program)
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine", debug="1")
    groups = [part for part in reply.text.split("\n\n") if re.match(r"(goroutine profile: total \d+\n)?\d+ @ ", part)]
    total = int(re.match(r"goroutine profile: total (\d+)\n", reply.text)[1])
    counts = [int(re.search(r"^(\d+) @ ", group, re.MULTILINE)[1]) for group in groups]
    assert sum(counts) == total >= 304
    assert counts == sorted(counts, reverse=True)
    assert '# labels: {"number":"0", "text":"a \\"quoted\\" \\\\ one"}' in reply.text
    ours, theirs = (set(re.findall(r"^#\t0x[0-9a-f]+\t+(.*)\+0x", text, re.MULTILINE)) for text in (reply.text, own(target, "goroutine?debug=1").decode()))
    assert ours - theirs == set() and {"main.waitsCond[...]", "sync.runtime_notifyListWait"} <= ours, (ours, theirs)


def test_100000_goroutines(daemon, program, start_target):
    target = start_target("go_goroutines", "goroutines=100000", path=program)
    ours = assert_same(daemon, target)
    assert ours.total("goroutine") >= 100004


def test_running_ones(daemon, program, start_target):
    target = start_target("go_goroutines", "spin=1", path=program)
    found = 0
    for _ in range(20):
        ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine"))
        spinning = [s for s in ours.samples if s.stack[-1].function == "main.spins"]
        found += len(spinning)
        for sample in spinning:
            assert {f.function for f in sample.stack[:-1]} <= {f.function for f in sample.stack if f.function.startswith("runtime.")}
        # It is there in any case, if not where it was.
        assert len(spinning) + sum(s.stack[-1].function == "[running]" for s in ours.samples) >= 1
    assert found > 0


def test_while_they_change(daemon, program, start_target):
    """None is lost, and none is put together from two moments: outermost functions are those that goroutines begin in."""
    target = start_target("go_goroutines", "goroutines=200", "churn=200", path=program)
    begun = {"main.churns", "main.main", "runtime.main", "main.isLocked", "net/http.(*Server).Serve", "net/http.Serve"}
    for _ in range(10):
        ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine"))
        assert ours.total("goroutine") >= 404
        assert ours.fact("goroutines") == ours.fact("samples") + (ours.fact("goroutines") - ours.total("goroutine"))
        churning = sum(s.values[0] for s in ours.samples if any(f.function == "main.churns" for f in s.stack))
        lost = sum(s.values[0] for s in ours.samples if s.stack[-1].function == "[running]")
        assert churning + lost >= 200
        for sample in ours.samples:
            names = [f.function for f in sample.stack]
            if "main.churns" in names:
                assert names[-1] in begun, names


def test_a_stopped_program(daemon, program, start_target):
    target = start_target("go_goroutines", "goroutines=100", path=program)
    target.process.send_signal(signal.SIGSTOP)
    try:
        ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine"))
        assert ours.total("goroutine") >= 104
    finally:
        target.process.send_signal(signal.SIGCONT)


def test_threads_of_a_go_program(daemon, program, start_target):
    target = start_target("go_goroutines", "goroutines=100", path=program)
    threads = len(os.listdir(f"/proc/{target.pid}/task"))
    ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/threads"))
    assert abs(ours.total("goroutine") - threads) <= 2 and "goroutines" not in ours.facts
    of_one = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine", tid=str(target.pid)))
    assert of_one.total("goroutine") == 1


def test_an_unknown_release(daemon, go, tmp_path, start_target):
    """Threads, and the profile says so."""
    path, done = build(go, tmp_path, BUILDS["stripped"])
    assert done.returncode == 0, done.stderr
    data = open(path, "rb").read()
    at = data.index(b"\xff Go buildinf:") + 33
    version = data[at : data.index(b"\x00", at)]
    assert version.startswith(b"go1.")
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"go9.")
    target = start_target("go_goroutines", "goroutines=100", path=path)
    ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine"))
    assert ours.total("goroutine") < 100
    assert re.match(r"unknown: how go9\..* lays out its goroutines is not known.*threads are shown", ours.facts["goroutines"])


def test_focus_and_quality(daemon, program, start_target):
    target = start_target("go_goroutines", "goroutines=120", path=program)
    ours = load(daemon.get(f"/pid/{target.pid}/debug/pprof/goroutine", focus="main.sleeps"))
    assert ours.total("goroutine") == 10
    assert ours.fact("filtered") > 0
