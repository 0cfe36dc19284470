"""What a process allocates, and what of that is live, by the functions that allocate: at rate 1 exactly, else within the sampling error."""

import concurrent.futures
import glob
import math
import os
import re
import shutil
import subprocess
import time

import pytest

from daemon import BUILD, ROOT, wait_for
from profiles import load
from target import Z

GO = shutil.which("go") or "/usr/local/go/bin/go"
TYPES = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]


def heap(daemon, pid, kind="heap", **parameters):
    return daemon.get(f"/pid/{pid}/debug/pprof/{kind}", **parameters)


def by_site(profile, sites):
    """[objects, bytes allocated, objects, bytes live] of each function, as in the program's truth."""
    sums = [profile.by_function(sites, each) for each, _ in TYPES]
    return {site: [each.get(site, 0) for each in sums] for site in sites}


def grown(before, after):
    return {site: [b - a for a, b in zip(before[site], after[site])] for site in after}


def truncated(profile):
    return {key: value for key, value in profile.facts.items() if key.startswith("truncated.")}


def settled(daemon, program):
    """The program's truth and its profile, once the tables are there by which all of its stacks are walked: that may take a moment."""
    last = [None, load(heap(daemon, program.pid))]

    def no_more():
        last[:] = [program.truth("1")["sites"], load(heap(daemon, program.pid)), truncated(last[1])]
        return truncated(last[1]) == last[2]

    wait_for(no_more, "all stacks are whole")
    return last[0], by_site(last[1], last[0])


@pytest.fixture
def program(start_target):
    return start_target("heap")


@pytest.fixture
def watch(daemon):
    watched = []

    def begin(pid, **parameters):
        query = "&".join(f"{key}={value}" for key, value in {"kinds": "heap", "max_overhead": 10000, **parameters}.items())
        reply = daemon.request("PUT", f"/pid/{pid}/watch?{query}")
        assert reply.status == 204, reply
        watched.append(pid)

    yield begin
    for pid in watched:
        daemon.request("DELETE", f"/pid/{pid}/watch")


def test_exact_at_rate_1(daemon, program, watch):
    """Each allocation counts for the function that made it, and is live until it is freed: by whoever frees it, by realloc too where that moves,
    shrinks, or gives nothing; not where it fails. What is old, and what another process frees, does not count."""
    program.truth("3")
    watch(program.pid, rate=1)
    before, first = settled(daemon, program)
    after = program.truth("200")["sites"]
    profile = load(heap(daemon, program.pid))
    assert grown(first, by_site(profile, after)) == grown(before, after), profile.folded()
    assert profile.sample_types == TYPES and profile.period == 1 and "since" in profile.facts
    assert profile.fact("heap.untracked") == profile.fact("lost.table") == profile.fact("lost.nested") == 0, profile.facts
    again = program.truth("50")["sites"]
    assert grown(first, by_site(load(heap(daemon, program.pid)), again)) == grown(before, again)


def test_leaves_are_who_allocates(daemon, program, watch):
    watch(program.pid, rate=1)
    program.truth("1")
    profile = load(heap(daemon, program.pid))
    assert {"keep_small", "align", "grow"} <= {sample.stack[0].function for sample in profile.samples}, profile.folded()
    assert "malloc" not in profile.functions()


def test_kinds(daemon, program, watch):
    """allocs shows the same, with another type first; to watch it is to watch heap."""
    watch(program.pid, kinds="allocs", rate=1)
    program.truth("10")
    first, second = heap(daemon, program.pid), heap(daemon, program.pid, kind="allocs")
    live, all_of_it = load(first), load(second)
    assert [live.total(each) for each, _ in TYPES] == [all_of_it.total(each) for each, _ in TYPES]
    assert 'filename="heap"' in first.headers["content-disposition"] and 'filename="allocs"' in second.headers["content-disposition"]
    assert daemon.get(f"/pid/{program.pid}/watch").json()["watched"][0]["kind"] == "heap"
    assert daemon.request("PUT", f"/pid/{program.pid}/watch?kinds=heap,allocs&rate=1&max_overhead=10000").status == 204


def test_gc_and_rate(daemon, program, watch):
    watch(program.pid, rate=1)
    assert heap(daemon, program.pid, gc=1).status == 200
    assert heap(daemon, program.pid, rate=1).status == 200
    assert heap(daemon, program.pid, rate=2).status == 409


@pytest.mark.parametrize("rate", ["0", "68719476737", "1.5", "much"])
def test_bad_rates(daemon, program, rate):
    assert heap(daemon, program.pid, rate=rate, seconds=1).status == 400


def test_unwatched(daemon, program):
    reply = heap(daemon, program.pid)
    assert reply.status == 409 and "seconds=" in reply.text and "watch" in reply.text


def test_window(either, program):
    """What is allocated in it, and live at its end: of so many rounds, the first and the last of which it may cut. With the rights of the service,
    too."""
    before = program.truth()["sites"]
    each = grown(before, program.truth("20")["sites"])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(heap, either, program.pid, seconds=2, rate=1, max_overhead=10000)
        while not pending.done():
            program.truth("20")
            time.sleep(0.05)
        profile = load(pending.result())
    found = by_site(profile, each)
    rounds = min(found[site][0] // each[site][0] for site in each)
    assert rounds > 0, profile.folded()
    for site, values in each.items():
        for i, value in enumerate(values):
            assert abs(found[site][i] - rounds * value) <= 2 * values[i & 1], (site, rounds, found[site], values)
    assert profile.facts["lost.table"] == "0", profile.facts  # stacks that find no room are said in windows, too


def test_text(daemon, program, watch):
    watch(program.pid, rate=1)
    settled(daemon, program)
    program.truth("10")
    profile = load(heap(daemon, program.pid))
    text = heap(daemon, program.pid, debug=1).text
    objects, space, live_objects, live_space = (profile.total(each) for each, _ in TYPES)
    assert text.startswith(f"heap profile: {live_objects}: {live_space} [{objects}: {space}] @ heap/2\n"), text[:200]
    n, all_bytes, *_ = max(sample.values for sample in profile.samples if sample.stack[0].function == "keep_small")
    assert n >= 10 and all_bytes == 100 * n
    counts = rf"{n}: {all_bytes} \[{n}: {all_bytes}\]"
    assert re.search(rf"\n{counts} @( 0x[0-9a-f]+)+\n#\t0x[0-9a-f]+\tkeep_small\+0x[0-9a-f]+\t\S+heap\.c:\d+\n", text), text


@pytest.mark.parametrize("debug", [0, 1])
def test_go_tool_pprof_reads_it(daemon, program, watch, debug, tmp_path):
    if not os.path.exists(GO):
        pytest.skip("needs go")
    watch(program.pid, rate=1)
    program.truth("10")
    url = daemon.url(f"/pid/{program.pid}/debug/pprof/heap", debug=debug)
    done = subprocess.run(
        [GO, "tool", "pprof", "-sample_index=inuse_space", "-top", "-unit=b", url],
        capture_output=True, text=True, check=False, env={**os.environ, "PPROF_TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0 and re.search(r"^ +655360B .* grow$", done.stdout, re.M), done.stderr + done.stdout


@pytest.mark.chance
@pytest.mark.parametrize("rate", [1000, 20000])
def test_sampled(daemon, program, watch, rate):
    """Estimates have no bias. An allocation of S bytes that is sampled with probability p varies by S^2 (1 - p) / p."""
    before = program.truth("1")["sites"]
    watch(program.pid, rate=rate)
    after = program.truth("2000")["sites"]
    profile = load(heap(daemon, program.pid))
    sizes = {"keep_small": 100, "keep_calloc": 500, "free_most": 1000, "duplicate": 16, "align": 640}
    expected, found = grown(before, after), by_site(profile, sizes)
    for site, size in sizes.items():
        p = -math.expm1(-size / rate)
        for i, each in enumerate(found[site]):
            objects = expected[site][i & ~1]
            error = Z * math.sqrt(objects * (1 - p) / p) * (size if i & 1 else 1)
            assert abs(each - expected[site][i]) <= error + 1, (site, i, each, expected[site], error)


def test_exec_begins_anew(daemon, start_target, watch):
    """The old image's memory is gone with it."""
    program = start_target("exec_itself", "after_ms=3000")
    watch(program.pid, rate=1)

    def anew():
        reply = heap(daemon, program.pid)
        return reply.status == 200 and "anew" in load(reply).facts

    wait_for(anew, "the watch begins anew")


SHIM = os.path.join(BUILD, "shim", "libcprofd-heap.so")


@pytest.mark.parametrize("rate", [1, 4096])
def test_allocator_that_samples_by_itself(daemon, start_target, watch, rate):
    """Its own samples are taken, and no other probes are put beside. Where it takes each allocation, the truth."""
    if not os.path.exists(SHIM):
        pytest.skip("needs libcprofd-heap.so")
    program = start_target("heap", env={**os.environ, "LD_PRELOAD": SHIM, "CPROFD_HEAP_RATE": str(rate)})
    program.truth("1")
    watch(program.pid)
    before, first = settled(daemon, program)
    after = program.truth("300")["sites"]
    profile = load(heap(daemon, program.pid))
    assert "own" in profile.facts["heap.sampling"] and "malloc" not in profile.facts["heap.functions"], profile.facts
    found, expected = grown(first, by_site(profile, after)), grown(before, after)
    if rate == 1:
        # The library tells that an object ends before it asks for more room, and where that fails that it is there again.
        assert found["fail_to_grow"][0] == 2 * expected["fail_to_grow"][0] and found["fail_to_grow"][2:] == expected["fail_to_grow"][2:]
        found["fail_to_grow"] = expected["fail_to_grow"]
        assert found == expected, profile.folded()
    else:
        assert 0.8 < found["grow"][3] / expected["grow"][3] < 1.25 and found["give_back"][2:] == [0, 0], profile.folded()


def profile_of_a_round(daemon, watch, path):
    """Of a program that says that it is ready, and for each byte that it gets that it is done."""
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            watch(process.pid, rate=1)
            process.stdin.write(b"x")
            process.stdin.flush()
            process.stdout.readline()
            return load(heap(daemon, process.pid))
        finally:
            process.kill()


MIXED_SITES = """
#include <stdio.h>
#include <stdlib.h>
#include <cprofd/profile.h>
static __attribute__((noinline)) void tell(long p)
{
    __asm__ volatile(CPROFD_USDT("otel_memory", "ORDER1", "ARGUMENTS1") : : "D"(p), "S"(100L), "d"(100L));
    __asm__ volatile(CPROFD_USDT("otel_memory", "ORDER2", "ARGUMENTS2") : : "D"(p + 4096), "S"(100L), "d"(100L));
}
static void *volatile kept;
static __attribute__((noinline)) void by_malloc(void) { kept = malloc(100); }
int main(void)
{
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {
        for (int i = 0; i < 100; i++) {
            tell(65536 + i);
            by_malloc();
        }
        puts("done");
        fflush(stdout);
    }
}
"""


@pytest.mark.parametrize(
    "first, second, told",
    [
        (("alloc", "8@%%rax 8@%%rsi 8@%%rdx"), ("alloc", "8@%%rdi 8@%%rsi 8@%%rdx"), True),
        (("alloc", "8@%%rax 8@%%rsi 8@%%rdx"), ("free", "8@%%rdi"), False),
    ],
)
def test_sites_that_cannot_be_read(daemon, watch, tmp_path, first, second, told):
    """One that can be read stands before the C library's functions, wherever in the file it is; where only frees can, these count. It is said."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    text = MIXED_SITES
    for i, (name, arguments) in enumerate((first, second), 1):
        text = text.replace(f"ORDER{i}", name).replace(f"ARGUMENTS{i}", arguments)
    (tmp_path / "mixed.c").write_text(text)
    subprocess.run(["cc", "-O1", "-g", "-I", os.path.join(ROOT, "include"), "-o", tmp_path / "mixed", tmp_path / "mixed.c"], check=True)
    profile = profile_of_a_round(daemon, watch, tmp_path / "mixed")
    assert profile.total("alloc_objects") == 100 and ("malloc" in profile.facts["heap.functions"]) != told, (profile.folded(), profile.facts)
    assert "otel_memory:alloc" in profile.facts["heap.unprobed"], profile.facts


CXX = """
#include <cstdio>
#include <map>
#include <new>
#include <string>
#include <vector>
#include <unistd.h>
struct alignas(64) wide { char bytes[128]; };
void *volatile kept;
static std::vector<std::string> *strings;
static std::map<int, int> *numbers;
__attribute__((noinline)) void fill_vector() { strings = new std::vector<std::string>; strings->reserve(500);
    for (int i = 0; i < 500; i++) strings->emplace_back(100, 'x'); }
__attribute__((noinline)) void fill_map() { numbers = new std::map<int, int>; for (int i = 0; i < 700; i++) (*numbers)[i] = i; }
__attribute__((noinline)) void make_arrays() { for (int i = 0; i < 300; i++) { int *p = new int[25]; kept = p; if (i % 3) delete[] p; } }
struct sized { char bytes[40]; };
__attribute__((noinline)) void make_sized() { for (int i = 0; i < 200; i++) { sized *p = new sized; kept = p; if (i % 2) delete p; } }
__attribute__((noinline)) void make_wide() { for (int i = 0; i < 10; i++) kept = new wide; }
__attribute__((noinline)) void make_in_place() { static char room[64]; for (int i = 0; i < 10; i++) kept = new (room) int; }
int main() { char c; std::printf("ready\\n"); std::fflush(stdout);
    while (read(0, &c, 1) == 1) { fill_vector(); fill_map(); make_arrays(); make_sized(); make_wide(); make_in_place(); std::printf("done\\n"); std::fflush(stdout); } }
"""
# Objects in all, and live; bytes of either.
CXX_TRUTH = {
    "fill_vector": [502, 24 + 500 * 32 + 500 * 101, 502, 24 + 500 * 32 + 500 * 101],
    "fill_map": [701, 48 + 700 * 40, 701, 48 + 700 * 40],
    "make_arrays": [300, 30000, 100, 10000],
    "make_sized": [200, 8000, 100, 4000],  # by a delete that knows the size
    "make_wide": [10, 1280, 10, 1280],
}


@pytest.mark.parametrize(
    "options, preload",
    [([], ""), (["-static"], ""), (["-static-pie"], ""), ([], "libjemalloc.so.2"), ([], "libtcmalloc_minimal.so.4"), ([], "libmimalloc.so.2")],
)
def test_cxx(daemon, watch, tmp_path, options, preload):
    """Containers, by the functions that fill them, in dynamic and static programs and by other allocators, whose operator new ends in jumps; C++'s
    operators are no frames of them."""
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    library = next(iter(glob.glob(f"/usr/lib/*/{preload}*")), "") if preload else ""
    if preload and not library:
        pytest.skip(f"needs {preload}")
    (tmp_path / "cxx.cc").write_text(CXX)
    done = subprocess.run(["g++", "-O1", "-g", *options, "-o", tmp_path / "cxx", tmp_path / "cxx.cc"], capture_output=True, text=True, check=False)
    if done.returncode != 0 and options:
        pytest.skip(f"can't link {options}: {done.stderr}")
    environ = {**os.environ, "LD_PRELOAD": library} if library else None
    process = subprocess.Popen([tmp_path / "cxx"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
    try:
        process.stdout.readline()
        watch(process.pid, rate=1)
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.readline()
        profile = load(heap(daemon, process.pid))
        names = {each.split("(")[0] for each in profile.functions()}
        sums = {name: [0] * 4 for name in CXX_TRUTH}
        for sample in profile.samples:
            site = next((frame.function.split("(")[0] for frame in sample.stack if frame.function.split("(")[0] in CXX_TRUTH), None)
            if site:
                sums[site] = [a + b for a, b in zip(sums[site], sample.values)]
        assert sums == CXX_TRUTH and "make_in_place" not in names, profile.folded()
        assert not any(sample.stack[0].function.startswith("operator new") for sample in profile.samples), profile.folded()
        assert "heap.unprobed" not in profile.facts and "heap.replaced" not in profile.facts, profile.facts
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


OWN_NEW = """
#include <cstdio>
#include <cstdlib>
#include <new>
static char arena[1 << 20];
static size_t used;
void *operator new(size_t n)
{
    if (n > sizeof(arena) - used)
        throw std::bad_alloc();
    void *p = arena + used;
    used += n + 15 & ~size_t(15);
    return p;
}
void operator delete(void *) noexcept {}
#define SITE __attribute__((noinline))
static void *volatile kept;
SITE static void keep_new() { kept = ::operator new(100); }
SITE static void keep_malloc() { kept = malloc(100); }
SITE static void fail() { try { kept = ::operator new(size_t(1) << 30); } catch (const std::bad_alloc &) {} }
SITE static int deep(int n)
{
    volatile char room[64] = {};
    for (int i = 0; n == 0 && i < 100; i++) {
        keep_malloc();
        keep_new();
    }
    return n ? deep(n - 1) + room[0] : 0;
}
int main()
{
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {
        fail();
        int r = deep(30);
        puts("done");
        fflush(stdout);
        if (r)
            return 1;
    }
}
"""


def test_new_that_throws(daemon, watch, tmp_path):
    """An operator new that is left by an exception ends there: what the thread allocates below that depth is no part of it."""
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    (tmp_path / "own.cc").write_text(OWN_NEW)
    subprocess.run(["g++", "-O1", "-g", "-w", "-o", tmp_path / "own", tmp_path / "own.cc"], check=True)
    profile = profile_of_a_round(daemon, watch, tmp_path / "own")
    sums = {site: 0 for site in ("keep_new", "keep_malloc")}
    for sample in profile.samples:
        site = next((name for name in sums for frame in sample.stack if frame.function.split("(")[0] == name), None)
        if site:
            sums[site] += sample.values[0]
    assert sums == {"keep_new": 100, "keep_malloc": 100} and "heap.unprobed" not in profile.facts, (profile.folded(), profile.facts)


BUSY = """
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    static void *volatile kept;
    printf("ready\\n");
    fflush(stdout);
    for (;;) {
        kept = malloc(64);
        free(kept);
    }
}
"""


def compiled(tmp_path, source):
    """The program, as the system's compiler makes it."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    (tmp_path / "program.c").write_text(source)
    subprocess.run(["cc", "-O1", "-w", "-o", tmp_path / "program", tmp_path / "program.c"], check=True)
    return tmp_path / "program"


@pytest.fixture
def busy(tmp_path):
    """A program that does nothing but allocate and free."""
    process = subprocess.Popen([compiled(tmp_path, BUSY)], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_refused_where_it_would_cost_too_much(daemon, busy):
    """The answer has the figures, and what to do."""
    reply = heap(daemon, busy.pid, seconds=1)
    assert reply.status == 409 and "overhead" in reply.text and "max_overhead=5" in reply.text and "%" in reply.text, reply
    assert "libcprofd-heap.so" in reply.text and re.search(r"allocs\?seconds=10&duty=[0-9.]+\)", reply.text), reply
    assert daemon.request("PUT", f"/pid/{busy.pid}/watch?kinds=heap").status == 409
    profile = load(heap(daemon, busy.pid, seconds=1, max_overhead=1000000))
    assert profile.fact("probe.hit_ns") > 0 and profile.total("inuse_space") <= 64 * 8192, profile.facts


PACED = """
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
    struct pollfd in = {.fd = 0, .events = POLLIN};
    static void *volatile kept;
    char line[16];
    printf("ready\\n");
    fflush(stdout);
    for (long n = 0;;) {
        for (int i = 0; i < 20; i++, n++) {
            kept = malloc(1000);
            free(kept);
        }
        if (poll(&in, 1, 1) > 0) {
            if (read(0, line, sizeof(line)) <= 0)
                return 0;
            printf("%ld\\n", n);
            fflush(stdout);
        }
    }
}
"""


@pytest.fixture
def paced(tmp_path):
    """A program that allocates for a moment each millisecond, and tells how often it did so far. In step with nothing of ours."""
    with subprocess.Popen([compiled(tmp_path, PACED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()

        def count():
            process.stdin.write("?\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        process.count = count
        yield process
        process.kill()


def test_price_of_what_is_called(daemon, tmp_path):
    """Places that the kernel single-steps, at which this program never is (an operator new's), make what it calls no dearer."""
    library = next(iter(glob.glob("/usr/lib/*/libjemalloc.so.2")), "")
    if not library:
        pytest.skip("needs libjemalloc.so.2")
    environ = {**os.environ, "LD_PRELOAD": library}
    with subprocess.Popen([compiled(tmp_path, PACED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        process.stdout.readline()
        profile = load(heap(daemon, process.pid, seconds=1, max_overhead=100))  # at the price of single steps: 200 % of a fifth of a CPU
        process.stdin.close()
    assert "_Znwm" in profile.facts["heap.functions"] and "ended" not in profile.facts and profile.samples, profile.facts


def test_allocations_for_a_part_of_the_time(daemon, paced):
    """What is seen while probes are attached is scaled by how long that was. What is live is not known, and not shown."""
    before = paced.count()
    reply = heap(daemon, paced.pid, kind="allocs", seconds=5, duty=30, rate=1, max_overhead=1000000)
    done = paced.count() - before
    profile = load(reply)
    assert profile.sample_types == TYPES[:2] and profile.facts["duty"] == "30" and profile.fact("slices") > 0, profile.facts
    window, attached = profile.fact("window_ns"), profile.fact("attached_ns")
    objects = profile.total("alloc_objects")
    assert 0 < attached < window and float(profile.facts["scaled"].split(":")[0]) == pytest.approx(window / attached, abs=0.002), profile.facts
    assert objects == pytest.approx(profile.fact("heap.sampled") * window / attached, rel=0.001, abs=2), profile.facts
    assert profile.total("alloc_space") == pytest.approx(1000 * objects, rel=0.001, abs=1000), profile.folded()
    assert profile.fact("heap.sampled") < done and "free" not in profile.facts["heap.functions"], (done, profile.facts)
    assert not re.search("heap.(untracked|replaced|lost_frees)", " ".join(profile.facts)), profile.facts


def test_slices_slow_what_never_waits(daemon, busy):
    """What time alone says would be too low by a factor, and the profile says so. (How right the totals are: test_duty.py.)"""
    profile = load(heap(daemon, busy.pid, kind="allocs", seconds=3, duty=10, max_overhead=1000000))
    assert profile.total("alloc_objects") > 0 and float(profile.facts["slowed_percent"].split(":")[0]) > 2, profile.facts
    assert profile.facts["warning.duty"], profile.facts


@pytest.mark.parametrize(
    "kind, parameters, says",
    [("heap", {"seconds": 5}, "allocs?seconds=N&duty=PERCENT"), ("allocs", {}, "\"seconds\", of 2 at least"),
     ("allocs", {"seconds": 1}, "\"seconds\", of 2 at least"), ("custom", {"seconds": 5, "add": "f", "remove": "g"}, "event=uprobe:PATH:SYMBOL&duty=")],
)
def test_duty_where_it_makes_no_sense(daemon, kind, parameters, says):
    reply = daemon.get(f"/pid/{os.getpid()}/debug/pprof/{kind}", duty=10, **parameters)
    assert reply.status == 400 and says in reply.text, reply


def test_bursts_end_a_window(daemon, tmp_path):
    """A program that allocates for some 40 ms, and then sleeps for so long that no two comparisons in a row are above the budget: on the whole it is."""
    bursts = compiled(
        tmp_path, BUSY.replace("#include <stdlib.h>", "#include <stdlib.h>\n#include <unistd.h>").replace(
            "for (;;) {", "for (int i = 0;; i++) {\n        if (i % 30000 == 0)\n            usleep(350000);"))
    with subprocess.Popen([bursts], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            reply = None
            for _ in range(20):  # 409 where one is met before the window
                reply = heap(daemon, process.pid, seconds=20)
                if reply.status != 409:
                    break
            assert load(reply).facts["ended"] == "overhead", reply
        finally:
            process.kill()


@pytest.mark.parametrize("rate", [1, 4096])
def test_churn(daemon, start_target, watch, rate):
    """Threads that free one another's blocks, as fast as they can: no object is lost or left over, and their end is seen in all of them."""
    program = start_target("churn", "blocks=500")
    watch(program.pid, rate=rate, max_overhead=1000000)
    truth = program.truth(os.environ.get("CPROFD_CHURN", "100000"))
    profile = load(heap(daemon, program.pid))
    found = [profile.by_function(["churn"], each)["churn"] for each, _ in TYPES]
    assert not {"heap.replaced", "heap.untracked", "heap.lost_frees"} & profile.facts.keys() and profile.fact("lost.nested") == 0, profile.facts
    expected = truth["allocated"] + truth["live"]
    if rate == 1:
        assert found == expected
    else:
        sampled = profile.fact("heap.sampled")
        assert abs(found[1] / expected[1] - 1) < Z / math.sqrt(sampled) and abs(found[3] / expected[3] - 1) < 0.5, (found, expected)


def test_ends_where_it_becomes_too_dear(daemon, start_target):
    """A watch of a process that did nothing when it began."""
    program = start_target("churn")
    assert daemon.request("PUT", f"/pid/{program.pid}/watch?kinds=heap").status == 204
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(program.truth, "2000000")
        wait_for(lambda: heap(daemon, program.pid).status == 409, "the watch ends", 60)
        assert "overhead" in heap(daemon, program.pid).text
        assert pending.result()["allocated"][0] == 4000000


def test_no_allocator(daemon, start_target, tmp_path):
    """A program that has none is told so."""
    source = tmp_path / "bare.c"
    source.write_text("void _start(void) { for (;;) __asm__ volatile(\"mov $34, %%eax\\n syscall\" ::: \"rax\", \"rcx\", \"r11\"); }\n")
    path = tmp_path / "bare"
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    subprocess.run(["cc", "-static", "-nostdlib", "-o", path, source], check=True)
    process = subprocess.Popen([path])
    try:
        reply = heap(daemon, process.pid, seconds=1)
        assert reply.status == 400 and "allocate" in reply.text, reply
    finally:
        process.kill()
        process.wait()
