"""Code that a program makes at run time has the names that its runtime tells: by a perf map, by a jitdump, wherever the process sees
them. What others put there in the runtime's place harms nobody, and is said.
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

from daemon import PROGRAMS, ROOT, descendants, wait_for
from places import name_of, namespace_is_refused
from profiles import fetch, load
from target import Recorder, share_error
from waiting import Window

SOURCES = os.path.join(ROOT, "tests", "programs")
HOT, WARM, CALLER = "jit::hot /srv/app.js:10:2", "jit::warm /srv/app.js:20:2", "jit::caller /srv/app.js:30:2"


@pytest.fixture(autouse=True)
def x86_64():
    if os.uname().machine != "x86_64":
        pytest.skip("the program makes code for x86-64 alone")


@pytest.fixture
def start_jit(start_target):
    """Starts the program; whatever it or a test puts into /tmp is gone afterwards."""
    targets = []

    def start_one(*options, **more):
        target = start_target("jit", *options, **more)
        targets.append(target)
        return target

    yield start_one
    for target in targets:
        target.stop()
        for path in (f"/tmp/perf-{target.pid}.map", f"/tmp/jit-{target.pid}.dump"):
            with contextlib.suppress(OSError):
                os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(path)


def map_path(target):
    return f"/tmp/perf-{target.pid}.map"


def jit_stacks(profile):
    """The frames of samples in made code, from the leaf on, and how many these are."""
    return [
        (sample.stack, sample.values[0])
        for sample in profile.samples
        if "[anon]" in sample.stack[0].function or "jit" in sample.stack[0].function
    ]


def check_names(profile, names=(HOT, WARM)):
    """The stacks that end in the loops: nearly all that end in made code. At the first and last instructions of a function its frame pointer
    is its caller's, who is missed then.
    """
    stacks = jit_stacks(profile)
    assert {stack[0].function for stack, _ in stacks} <= {CALLER, *names}, profile.folded()
    loops = [(stack, n) for stack, n in stacks if stack[0].function != CALLER]
    called = [(stack, n) for stack, n in loops if [frame.function for frame in stack[1:3]] == [CALLER, "run"]]
    assert sum(n for _, n in called) >= 0.9 * sum(n for _, n in loops) > 0, profile.folded()
    return [stack for stack, _ in called]


@pytest.mark.parametrize("region", ["anon", "memfd", "zero"])
@pytest.mark.parametrize("source", ["map", "dump", "both"])
def test_names_and_shares(either, start_jit, source, region):
    """Names, who called, files and lines where they are told; and the time is where it was."""
    options = [f"{kind}=1" for kind in ("map", "dump") if source in (kind, "both")]
    target = start_jit(f"region={region}", *options)
    with Recorder(target) as recorder:
        profile = fetch(either, target.pid, seconds=2, hz=499)
    stacks = check_names(profile)
    with_lines = source != "map"
    lines = {HOT: 11, WARM: 21}
    for stack in stacks:
        loop = stack[0]
        assert (loop.filename, loop.line) in (("/srv/app.js", lines[loop.function]), ("/srv/app.js", lines[loop.function] - 1)) or (
            not with_lines and (loop.filename, loop.line) == ("", 0)
        )
        assert stack[0].mapping.has_functions and stack[0].mapping.has_filenames == with_lines
    sampled = profile.by_function([HOT, WARM], "cpu")
    truth = recorder.functions_between(profile.start_ns, profile.end_ns)
    share, true = sampled[HOT] / sum(sampled.values()), truth["jit::hot"] / sum(truth.values())
    n = sum(sampled.values()) / profile.period
    assert abs(share - true) <= share_error(true, n) + 0.01, (share, true, n)
    named, total = map(int, re.match(r"(\d+) of (\d+) ", profile.facts["jit"]).groups())
    assert named == total > 0, profile.facts["jit"]
    assert "unavailable" not in profile.facts, profile.facts


@pytest.mark.parametrize("source", ["map", "dump"])
def test_code_that_was_replaced(daemon, start_jit, source):
    """What is at an address at the end of the window gives the name."""
    target = start_jit(f"{source}=1")
    check_names(fetch(daemon, target.pid, seconds=0.5, hz=199))
    target.truth("replace")
    time.sleep(0.1)
    check_names(fetch(daemon, target.pid, seconds=0.5, hz=199), ("jit::replaced", WARM))


def test_symbol(daemon, start_jit):
    """The same names, one by one."""
    target = start_jit("map=1")
    region = target.truth()["region"]
    addresses = [region + 0x100, region + 0x20D, region + 0x20E, region + 0x300]
    reply = daemon.request(
        "POST", f"/pid/{target.pid}/debug/pprof/symbol", body="+".join(hex(address) for address in addresses)
    )
    assert reply.text == (
        f"num_symbols: 1\n{addresses[0]:#x} {HOT}\n{addresses[1]:#x} {WARM}\n"
        f"{addresses[2]:#x} [anon]+{addresses[2]:#x}\n{addresses[3]:#x} {CALLER}\n"
    )


def test_symbolize(daemon, start_jit):
    target = start_jit("dump=1")
    fast = fetch(daemon, target.pid, seconds=0.5, hz=199, symbolize="fast")
    assert {(stack[0].filename, stack[0].line) for stack in check_names(fast)} == {("", 0)}
    bare = fetch(daemon, target.pid, seconds=0.5, hz=199, symbolize="none")  # no reader has a file of it
    assert HOT in bare.functions() and "main" not in bare.functions()


@pytest.mark.parametrize(
    "switches", [("--mount", "--pid", "--fork"), ("--user", "--map-root-user", "--mount", "--pid", "--fork")], ids=["root", "user"]
)
@pytest.mark.parametrize("source", ["map", "dump"])
def test_in_a_container(either, start_target, switches, source, tmp_path):
    """Its PID and its /tmp are others than ours."""
    refused = namespace_is_refused(*switches)
    if refused:
        pytest.skip(f"needs namespaces: {refused}")
    shell = f"mount -t tmpfs tmpfs /tmp; {PROGRAMS}/jit {source}=1; true"
    if PROGRAMS.startswith("/tmp/"):  # not to hide it
        shell = f"mkdir -p {tmp_path}/b; mount --bind {PROGRAMS} {tmp_path}/b; cd {tmp_path}/b; mount -t tmpfs tmpfs /tmp; ./jit {source}=1; true"
    target = start_target("jit", argv=["unshare", *switches, "sh", "-e", "-c", shell])
    inside = [pid for pid in descendants(target.pid) if name_of(pid) == "jit"]
    assert len(inside) == 1
    with open(f"/proc/{inside[0]}/status", encoding="ascii", errors="replace") as status:
        own = re.search(r"NSpid:.*\s(\d+)\n", status.read()).group(1)
    assert own != str(inside[0]) and not os.path.exists(f"/tmp/perf-{inside[0]}.map")
    check_names(fetch(either, inside[0], seconds=0.5, hz=199))


# ---- what else can be in the map's place


def hostile_symlink(path, text):
    with open(path + ".real", "w", encoding="utf-8") as file:
        file.write(text)
    os.symlink(path + ".real", path)


def hostile_owner(path, text):
    plain(path, text)
    os.chown(path, 65534, 65534)


def hostile_mode(path, text):
    plain(path, text)
    os.chmod(path, 0o666)


def hostile_age(path, text):
    plain(path, text)
    os.utime(path, (0, 1_000_000_000))


def plain(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


HOSTILE = {
    "symlink": (hostile_symlink, "it is a symbolic link"),
    "owner": (hostile_owner, "neither the process's user's nor root's"),
    "mode": (hostile_mode, "others may write it"),
    "age": (hostile_age, "written before the process began"),
    "fifo": (lambda path, text: os.mkfifo(path), "no regular file"),
    "directory": (lambda path, text: os.mkdir(path), "no regular file"),
}


def made_names(target):
    region = target.truth()["region"]
    return f"{region + 0x100:x} e {HOT}\n{region + 0x200:x} e {WARM}\n{region + 0x300:x} 8 {CALLER}\n"


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_map(either, start_jit, kind):
    make, said = HOSTILE[kind]
    target = start_jit()
    make(map_path(target), made_names(target))
    try:
        profile = fetch(either, target.pid, seconds=0.5, hz=199)
        assert said in profile.facts["jit"], profile.facts
        assert HOT not in profile.functions()
        assert all(re.match(r"\[anon\]\+0x", stack[0].function) for stack, _ in jit_stacks(profile)), profile.folded()
    finally:
        with contextlib.suppress(OSError):
            os.unlink(map_path(target) + ".real")


def test_what_is_in_a_map(daemon, start_jit):
    """Rubbish before and after, a hole of gigabytes, lines without end: names are still those of the lines that are right."""
    target = start_jit()
    names = made_names(target).encode()
    rubbish = os.urandom(1 << 20)
    for case, text in {
        "before": rubbish + b"\n" + names,
        "after": names + rubbish,
        "endless": names + b"1" * (1 << 20),
        "beyond": b"0 fffffffffffffffff x\n" + names + b"10000000000000000 ffffffffffffffff y\n",
        "older": b"0 ffffffffffffffff everything\n" + names,
        "unsorted": b"".join(sorted(names.splitlines(keepends=True), reverse=True)),
    }.items():
        with open(map_path(target), "wb") as file:
            file.write(text)
        profile = fetch(daemon, target.pid, seconds=0.3, hz=199)
        assert {stack[0].function for stack, _ in jit_stacks(profile)} <= {HOT, WARM, CALLER}, (case, profile.folded())
    with open(map_path(target), "wb") as file:
        file.write(names)
        file.seek(20 << 30)
        file.write(b"\n")
    profile = fetch(daemon, target.pid, seconds=0.3, hz=199)
    assert HOT not in profile.functions()
    assert "too large: its older lines were not read" in profile.facts["jit"]
    assert daemon.metric("cprofd_worker_restarts_total") == 0


def test_a_map_that_changes_all_the_time(daemon, start_jit):
    """It is cut and written again and again while it is read: what has a name has the right one."""
    target = start_jit()
    names, ended = made_names(target), threading.Event()

    def change():
        while not ended.is_set():
            plain(map_path(target), "1 1 x\n" * 50000 + names)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            profile = fetch(daemon, target.pid, seconds=0.2, hz=199)
            for stack, _ in jit_stacks(profile):
                assert stack[0].function in (HOT, WARM, CALLER) or stack[0].function.startswith("[anon]+0x"), profile.folded()
    finally:
        ended.set()
        thread.join()
    assert daemon.metric("cprofd_worker_restarts_total") == 0


@pytest.mark.parametrize("what", ["lookup", "open", "read"])
def test_a_map_that_cannot_be_read(daemon, start_target, tmp_path, what):
    """Its file system does not answer: the profile comes all the same, with the names of all else."""
    switches = ("--mount", "--pid", "--fork")
    refused = namespace_is_refused(*switches) or (None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "no /dev/fuse")
    if refused:
        pytest.skip(f"needs namespaces and FUSE: {refused}")
    plain(tmp_path / "perf-1.map", "1 1 x\n")
    shell = f"""mount -t tmpfs tmpfs /mnt; mkdir /mnt/programs /mnt/files
        mount --bind {PROGRAMS} /mnt/programs; mount --bind {tmp_path} /mnt/files
        exec {sys.executable} {ROOT}/tests/e2e/fuse_server.py /tmp /mnt/files/hang /mnt/files/perf-1.map -- /mnt/programs/jit"""
    target = start_target("jit", argv=["unshare", *switches, "sh", "-e", "-c", shell])
    inside = next(pid for pid in descendants(target.pid) if name_of(pid) == "jit")
    plain(tmp_path / "hang", what)
    reply = daemon.profile(inside, seconds=0.5, hz=199)
    profile = load(reply)
    assert "run" in profile.functions() and jit_stacks(profile), profile.folded()
    said = "its file system does not answer" if what != "read" else "symbols.pending_in=code that was made at run time: all names"
    assert any(said in comment for comment in profile.comments), profile.comments


# ---- the reference


def perf_shares(path, start_ns, end_ns):
    """Names and shares of samples by perf, of a window on the monotonic clock."""
    window = ",".join(f"{ns // 10**9}.{ns % 10**9:09}" for ns in (start_ns, end_ns))
    done = subprocess.run(
        ["perf", "report", "-i", path, "--stdio", "--no-children", "-g", "none", "-F", "sample,sym", "-t", "\t", "--time", window],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"\s*(\d+)\s*\t\[[.k]\] (.*?)\s*$", line)
        if match:
            found[match.group(2)] = found.get(match.group(2), 0) + int(match.group(1))
    total = sum(found.values())
    return {name: n / total for name, n in found.items()}, total


def profile_with_perf(daemon, target, tmp_path):
    """The same seconds by both, however long perf takes to begin: runtimes compile anew what is hot, and what is called what changes then. It
    records for as long as the command lives that it starts once it has begun; of that the window is cut out. Both see the kernel.
    """
    if not shutil.which("perf"):
        pytest.skip("needs perf")
    path = str(tmp_path / "perf.data")
    command = ["perf", "record", "-q", "-k", "mono", "-e", "cpu-clock", "-F", "499", "-p", str(target.pid), "-o", path]
    command += ["--", "sh", "-c", "echo begun; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as perf:
        if perf.stdout.readline() == "begun\n":
            profile = fetch(daemon, target.pid, seconds=3, hz=499, kernel=1)
            window = Window(profile)
        _, errors = perf.communicate(timeout=60)
    if perf.returncode != 0:
        pytest.skip(f"perf cannot record here: {errors[-200:]}")
    shares, n = perf_shares(path, window.start, window.end)
    return profile, shares, n


def leaf_shares(profile):
    sums, index = {}, profile.index("samples")
    for sample in profile.samples:
        leaf = sample.stack[0].function
        sums[leaf] = sums.get(leaf, 0) + sample.values[index]
    total = sum(sums.values())
    return {name: n / total for name, n in sums.items()}, total


def check_against_perf(daemon, target, tmp_path, prefix):
    """Every name with a share worth the word that perf has for made code, the profile has, and in the same share."""
    for _ in range(5):
        profile, theirs, n_theirs = profile_with_perf(daemon, target, tmp_path)
        if not profile.fact("symbols.pending"):
            break
    assert not profile.fact("symbols.pending"), profile.comments  # a reply is due within seconds: later ones have all names
    ours, n_ours = leaf_shares(profile)
    compared = {name for name, share in theirs.items() if name.startswith(prefix) and share > 0.02}
    compared |= {name for name, share in ours.items() if name.startswith(prefix) and share > 0.02}
    assert compared, (theirs, ours)
    for name in compared:
        a, b = ours.get(name, 0), theirs.get(name, 0)
        allowed = share_error(b, n_theirs) + share_error(b, n_ours) + 0.02
        assert abs(a - b) <= allowed, (name, a, b, allowed, ours, theirs)
    return profile


def test_names_are_those_of_perf(daemon, start_jit, tmp_path):
    check_against_perf(daemon, start_jit("map=1"), tmp_path, "jit::")


# ---- real runtimes


def need(command):
    path = shutil.which(command)
    if not path:
        pytest.skip(f"needs {command}")
    return path


def fetch_named(daemon, target, **parameters):
    """A reply is due within seconds, with the names that are known by then: a later one has all."""
    for _ in range(10):
        profile = fetch(daemon, target.pid, **parameters)
        if not profile.fact("symbols.pending"):
            return profile
    pytest.fail(f"names are pending all the time: {profile.comments}")


def wait_until_compiled(target, seconds):
    """What is hot is compiled once the program has had so much of the CPU."""
    wait_for(lambda: target.cpu_ns() > seconds * 1e9, "it has run for a while", 60)


# Whichever V8 did not inline.
IN_SCRIPT = re.compile(rf"JS:[*^~]+(spin|hot|warm|slice) {SOURCES}/hot.js:\d+:\d+$")


@pytest.fixture
def start_node(start_target, tmp_path):
    node = need("node")
    started = []

    def start(*switches):
        target = start_target("node", argv=[node, *switches, os.path.join(SOURCES, "hot.js")], cwd=tmp_path)
        started.append(target)
        wait_until_compiled(target, 1)
        return target

    yield start
    for target in started:
        target.stop()
        with contextlib.suppress(OSError):
            os.unlink(map_path(target))


def test_node(daemon, start_node, tmp_path):
    """Its names are perf's; functions of the script have its path, line and column."""
    profile = check_against_perf(daemon, start_node("--perf-basic-prof"), tmp_path, "JS:")
    assert any(IN_SCRIPT.match(name) for name in profile.functions()), profile.folded()
    assert "interpreter" not in profile.facts


def test_node_frames_of_the_interpreter(daemon, start_node):
    """Each interpreted function has a trampoline of its own, and it stands in the map."""
    profile = fetch_named(daemon, start_node("--perf-basic-prof", "--interpreted-frames-native-stack"), seconds=2, hz=199)
    assert any(re.search(r"JS:[~*^]\S* node:internal", name) for name in profile.functions()), profile.folded()


def test_node_jitdump(daemon, start_node):
    """Names at least; V8 20's lines are rubbish for some scripts, and then there are none, but never wrong ones."""
    profile = fetch_named(daemon, start_node("--perf-prof"), seconds=2, hz=199)
    assert any(IN_SCRIPT.match(name) for name in profile.functions()), (profile.folded(), profile.facts)
    with open(os.path.join(SOURCES, "hot.js"), encoding="utf-8") as script:
        n_lines = len(script.readlines())
    for sample in profile.samples:
        for frame in sample.stack:
            if frame.function.startswith("JS:") and frame.filename.endswith("hot.js"):
                assert 0 < frame.line <= n_lines


def test_node_without_a_map(daemon, start_node):
    profile = fetch_named(daemon, start_node(), seconds=1, hz=199)
    assert "start node with --perf-basic-prof" in profile.facts["jit"], profile.facts


@pytest.mark.chance
def test_java(daemon, start_target, tmp_path):
    """Its map is written when one asks for it; before that, the profile says how."""
    java, jcmd = need("java"), need("jcmd")
    target = start_target("java", argv=[java, "-XX:+PreserveFramePointer", os.path.join(SOURCES, "Hot.java")], cwd=tmp_path, start=False)
    assert target.read_line(60).startswith("ready"), "needs a JDK that runs sources"
    wait_until_compiled(target, 4)
    try:
        profile = fetch_named(daemon, target, seconds=1, hz=199)
        assert "jcmd PID Compiler.perfmap" in profile.facts["jit"], profile.facts
        done = subprocess.run([jcmd, str(target.pid), "Compiler.perfmap"], capture_output=True, text=True, timeout=60, check=False)
        if not os.path.exists(map_path(target)):
            pytest.skip(f"needs a JDK with Compiler.perfmap: {done.stdout[-200:]}")
        profile = check_against_perf(daemon, target, tmp_path, "long Hot.")
        assert "long Hot.fib(int)" in profile.functions(), profile.folded()
    finally:
        target.stop()
        with contextlib.suppress(OSError):
            os.unlink(map_path(target))


def new_pythons():
    found = glob.glob("/root/.pyenv/versions/3.1[2-9]*/bin/python3") + [shutil.which(f"python3.{n}") for n in range(12, 16)]
    return sorted(path for path in found if path and os.access(path, os.X_OK))


@pytest.mark.parametrize("switch", ["perf", "perf_jit"])
def test_python(daemon, start_target, tmp_path, switch):
    """Functions of Python stand among those of the interpreter."""
    tried = 0
    for python in new_pythons():
        ask = "import sys, sysconfig; print(sysconfig.get_config_var('PY_HAVE_PERF_TRAMPOLINE'), sys.version_info[1])"
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False).stdout.split()
        has, minor = answer or ("no", "0")  # a pyenv's shim of a version that is not in use
        if has != "1" or (switch == "perf_jit" and int(minor) < 13):
            continue
        tried += 1
        target = start_target("python", argv=[python, "-X", switch, os.path.join(SOURCES, "hot.py")], cwd=tmp_path)
        try:
            profile = fetch_named(daemon, target, seconds=1, hz=199)
        finally:
            target.stop()
            for path in (map_path(target), f"/tmp/jit-{target.pid}.dump"):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        if switch == "perf_jit":  # what it wrote last is in its buffer still
            assert "jitdump of " in profile.facts["jit"], profile.facts
            continue
        for function in ("inner", "outer"):
            assert any(name.startswith(f"py::{function}:{SOURCES}/hot.py") for name in profile.functions()), profile.folded()
        assert "interpreter" not in profile.facts
    if tried == 0:
        pytest.skip("needs Python 3.12 or later (perf_jit: 3.13)")
