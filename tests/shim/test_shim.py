#!/usr/bin/python3
"""What the shim tells of allocations, against what programs allocated; and programs with it, against themselves without it.

    test_shim.py BUILD_ROOT SOURCE_ROOT
"""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD, SOURCE = sys.argv[1:3] if len(sys.argv) > 2 else ("build", ".")
SHIM = os.path.join(BUILD, "shim/libcprofd-heap.so")
RECORD = os.path.join(BUILD, "tests/shim/libheap-record.so")
CHURN = os.path.join(BUILD, "tests/shim/churn")
RECORD_CXX = os.path.join(BUILD, "tests/shim/libheap-record-cxx.so")
CHURN_CXX = os.path.join(BUILD, "tests/shim/churn_cxx")
CHURN_STATIC = os.path.join(BUILD, "tests/shim/churn_static")
SOURCES = [os.path.join(SOURCE, "shim", name) for name in ("heap.c", "heap_live.c", "heap_sampler.c")]
MEAN = 64 << 10  # of sizes from 39 to 32 KiB


def run(command, folder=None, rate=None, preload=None, **more):
    environment = dict(os.environ, **more)
    if preload:
        environment["LD_PRELOAD"] = preload
    if rate is not None:
        environment["CPROFD_HEAP_RATE"] = str(rate)
    if folder:
        environment["RECORD_FILE"] = os.path.join(folder, "record")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0 or "cannot be preloaded" in done.stderr:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def allocators():
    """Those of other makers that are here."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False, env=dict(os.environ, PATH=os.environ["PATH"] + ":/sbin")).stdout
    names = ("libjemalloc.so.2", "libmimalloc.so.2", "libtcmalloc_minimal.so.4")
    return [line.split(" => ")[1] for line in listed.splitlines() if line.split()[0] in names and os.uname().machine.replace("_", "-") in line.replace("_", "-")]


class Recorded(unittest.TestCase):
    """A shim that records."""

    def churn(self, *options, rate=1, program=CHURN, preload=RECORD):
        """For each process (of churn and its child) what was told, and the truth."""
        with tempfile.TemporaryDirectory() as folder:
            output = run([program, *options], folder, rate, preload)
            with open(os.path.join(folder, "record"), encoding="utf-8") as file:
                told = {record["pid"]: record for record in map(json.loads, file)}
        truth = {record["pid"]: record for record in map(json.loads, output.splitlines())}
        self.assertEqual(told.keys(), truth.keys())
        for record in told.values():
            for contradiction in ("born_twice", "ended_unborn", "untracked", "no_room"):
                self.assertEqual(record[contradiction], 0, (contradiction, record))
        return [(told[pid], truth[pid]) for pid in sorted(told)]

    def check_exact(self, told, truth):
        self.assertEqual((told["marked_allocs"], told["marked_bytes"], told["marked_live"], told["marked_live_bytes"]),
                         (truth["allocs"], truth["bytes"], truth["live"], truth["live_bytes"]))
        self.assertEqual(told["marked_weight"], told["marked_bytes"])

    def test_everything_at_rate_1(self):
        (told, truth), = self.churn()
        self.check_exact(told, truth)
        self.assertGreater(truth["live"], 1000)

    def test_fork(self):
        parent, child = self.churn("fork=1", "threads=2", "rounds=5000")
        self.check_exact(*parent)
        self.check_exact(*child)
        self.assertGreater(child[1]["allocs"], parent[1]["allocs"])

    def test_signals(self):
        (told, truth), = self.churn("signals=1")
        self.check_exact(told, truth)

    def test_refused_reallocs(self):
        (told, truth), = self.churn("fail=1", "rounds=5000")
        self.assertEqual((told["marked_live"], told["marked_live_bytes"]), (truth["live"], truth["live_bytes"]))
        self.assertGreater(told["marked_allocs"], truth["allocs"])  # told anew

    def test_many_threads(self):
        (told, truth), = self.churn("threads=32", "rounds=1000")
        self.check_exact(told, truth)

    def test_static_program(self):
        (told, truth), = self.churn(program=CHURN_STATIC, preload=None)
        self.check_exact(told, truth)

    def check_sampled(self, told, truth, mean):
        """A sample of weight w was taken with probability size / w: no allocation adds more variance than mean * size, nearly."""
        for name in ("bytes", "live_bytes"):
            deviation = math.sqrt((mean + 32768) * truth[name])
            self.assertLess(abs(told["marked_" + name.replace("bytes", "weight")] - truth[name]), 6 * deviation, (name, told, truth))

    def test_sampled(self):
        for _ in range(5):
            (told, truth), = self.churn("keep=20000", "rounds=40000", rate=MEAN)
            self.check_sampled(told, truth, MEAN)
            self.assertGreater(told["marked_allocs"], 100)
            self.assertLess(told["marked_allocs"], truth["allocs"] / 2)

    def test_sampled_in_a_child(self):
        for told, truth in self.churn("keep=20000", "rounds=40000", "fork=1", rate=MEAN):
            self.check_sampled(told, truth, MEAN)

    def test_default_rate(self):
        (told, truth), = self.churn("rounds=100000", rate="")
        self.check_sampled(told, truth, 512 << 10)
        self.assertLess(told["allocs"], truth["bytes"] / (512 << 10) * 1.5)

    def test_none_at_rate_0(self):
        (told, _), = self.churn(rate=0)
        self.assertEqual(told["allocs"], 0)

    @unittest.skipUnless(shutil.which("musl-gcc"), "needs musl-gcc")
    def test_musl(self):
        """Its calloc and memalign come back to malloc and aligned_alloc by their public names: nothing may be told twice."""
        with tempfile.TemporaryDirectory() as folder:
            record, churn, static = (os.path.join(folder, name) for name in ("record.so", "churn", "static"))
            common = ["musl-gcc", "-O2", "-D_GNU_SOURCE", "-std=gnu17", "-DCPROFD_HEAP_RECORD", "-fno-builtin", "-I", SOURCE]
            recorder = os.path.join(SOURCE, "tests/shim/record.c")
            source = os.path.join(SOURCE, "tests/shim/churn.c")
            run([*common, "-fPIC", "-fvisibility=hidden", "-shared", *SOURCES, recorder, "-o", record])
            run([*common, source, "-o", churn])
            wrap = ["-Wl,--wrap=" + name for name in ("malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc", "memalign",
                                                      "valloc", "pvalloc", "free")]
            run([*common, "-DCPROFD_HEAP_WRAP", "-static", *wrap, source, *SOURCES, recorder, "-o", static])
            for program, preload in ((churn, record), (static, None)):
                for options in ([], ["fork=1"]):
                    for told, truth in self.churn(*options, program=program, preload=preload):
                        self.check_exact(told, truth)

    def test_other_allocators(self):
        found = allocators()
        if not found:
            self.skipTest("needs libjemalloc.so.2, libmimalloc.so.2 or libtcmalloc_minimal.so.4")
        for library in found:
            with self.subTest(library):
                (told, truth), = self.churn("rounds=5000", preload=f"{RECORD} {library}")
                self.check_exact(told, truth)

    @unittest.skipUnless(os.path.exists(RECORD_CXX) and os.path.exists(CHURN_CXX), "needs a C++ compiler")
    def test_operators(self):
        """Each once, whether they call malloc or have an allocator of their own; and their exceptions come through."""
        for library in ["", *allocators()]:
            with self.subTest(library):
                options = ["aligned=0"] if not library else ["huge=0"] if "mimalloc" in library else []
                (told, truth), = self.churn(*options, program=CHURN_CXX, preload=f"{RECORD_CXX} {library}")
                self.check_exact(told, truth)

    def test_programs_at_rate_1(self):
        """Contradictions only: an end without a birth, or a second birth, is memory that went around the shim, or a fault of its."""
        for command in PROGRAMS:
            if not shutil.which(command[0]):
                continue
            with self.subTest(command[0]), tempfile.TemporaryDirectory() as folder:
                run(command, folder, 1, RECORD)
                with open(os.path.join(folder, "record"), encoding="utf-8") as file:
                    for record in map(json.loads, file):
                        self.assertEqual((record["born_twice"], record["ended_unborn"], record["no_room"]), (0, 0, 0), record)
                        self.assertGreater(record["allocs"], 10)


PYTHON = """
import json, re, zlib, threading
def work(n):
    d = {str(i): [i] * (i % 50) for i in range(n)}
    return len(zlib.compress(json.dumps(d).encode()))
threads = [threading.Thread(target=work, args=(2000,)) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(work(5000), len(re.findall("a+", "aab" * 10000)))
"""
SQL = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i, hex(i) from n; "
SQL += "create index x on t(b); select count(*), max(b) from t where b like '3%';"
NODE = "const a = []; for (let i = 0; i < 20000; i++) a.push(Buffer.alloc(i % 300)); console.log(a.length, JSON.stringify(a.slice(0, 9)).length)"
PROGRAMS = [
    ["/usr/bin/python3", "-c", PYTHON],
    ["sqlite3", ":memory:", SQL],
    ["node", "-e", NODE],
    ["perl", "-e", 'my %h; $h{$_} = "x" x ($_ % 100) for 1..20000; print scalar(keys %h), "\\n"'],
    ["gcc", "-O1", "-S", "-o", "-", "-x", "c", "/dev/null"],
    ["git", "--version"],
]


class Programs(unittest.TestCase):
    """The shim as it is shipped."""

    def test_the_same_with_and_without(self):
        ran = 0
        for command in PROGRAMS:
            if not shutil.which(command[0]):
                continue
            with self.subTest(command[0]):
                self.assertEqual(run(command, preload=SHIM), run(command))
                self.assertEqual(run(command, preload=SHIM, rate=1000), run(command))
                ran += 1
        self.assertGreater(ran, 0)

    @unittest.skipUnless(shutil.which("redis-server") and shutil.which("redis-cli"), "needs redis")
    def test_redis(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
                                      env=dict(os.environ, LD_PRELOAD=SHIM), stdout=subprocess.DEVNULL)
            try:
                for _ in range(500):
                    with socket.socket(socket.AF_UNIX) as probe:
                        if probe.connect_ex(path) == 0:
                            break
                    time.sleep(0.02)
                commands = "\n".join([f"set k{i} {'v' * (i % 500 + 1)}" for i in range(3000)] + ["bgsave", "dbsize"])
                done = subprocess.run(["redis-cli", "-s", path], input=commands, capture_output=True, text=True, check=True)
                self.assertEqual(done.stdout.splitlines()[-1], "3000")
                with open(f"/proc/{server.pid}/maps", encoding="utf-8") as file:
                    self.assertIn("libcprofd-heap.so", file.read())
            finally:
                server.terminate()
                server.wait()

    def test_sites(self):
        """Those of the contract, in the shipped library: arguments where its first reader looks for them, no semaphores."""
        notes = subprocess.run(["readelf", "-nW", SHIM], capture_output=True, text=True, check=True).stdout.split("Provider: ")[1:]
        found = set()
        for note in notes:
            words = note.split()
            provider, name = words[0], words[2]
            self.assertIn("Semaphore: 0x0000000000000000", note)
            found.add((provider, name, note.split("Arguments: ")[1].splitlines()[0].strip()))
        if os.uname().machine == "x86_64":
            self.assertEqual(found, {("otel_memory", "alloc", "8@%rdi 8@%rsi 8@%rdx"), ("otel_memory", "free", "8@%rdi"),
                                     ("cprofd", "heap_untracked", "8@%rdi 8@%rsi")})
        else:
            self.assertEqual({name for _, name, _ in found}, {"alloc", "free", "heap_untracked"})

    def test_linked(self):
        """Linking the library does what preloading does."""
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "linked")
            run(["cc", "-x", "c", os.path.join(SOURCE, "tests/shim/churn.c"), "-x", "none", "-Wl,--no-as-needed", RECORD, "-pthread", "-D_GNU_SOURCE", "-o",
                 program, "-Wl,-rpath," + os.path.dirname(RECORD)])
            run([program], folder, 1)
            with open(os.path.join(folder, "record"), encoding="utf-8") as file:
                self.assertGreater(json.loads(file.readline())["marked_allocs"], 10000)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
