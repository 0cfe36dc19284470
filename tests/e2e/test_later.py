"""What a process loads while it is watched: its allocator, or its profile, is probed from then on, and that is said."""

import concurrent.futures
import shutil
import subprocess

import pytest

from daemon import ROOT, wait_for
from profiles import load

PROGRAM = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    void (*work)(void) = NULL;
    int c;
    puts("ready");
    fflush(stdout);
    while ((c = getchar()) != EOF) {
        void *library = c == 'l' ? dlopen(argv[1], RTLD_NOW) : NULL;
        if (c == 'l' && (!library || !(work = (void (*)(void))dlsym(library, "work"))))
            return 1;
        if (c == 'w')
            work();
        puts("done");
        fflush(stdout);
    }
}
"""
# By a path of its own to its own allocator, whatever else has those names.
ALLOCATOR = r"""
#include <stddef.h>
static char room[1 << 20];
static size_t used;
__attribute__((noinline)) void *malloc(size_t n)
{
    size_t at = __atomic_fetch_add(&used, n + 15 & ~(size_t)15, __ATOMIC_RELAXED);
    return at + n < sizeof(room) ? room + at : NULL;
}
__attribute__((noinline)) void free(void *p)
{
    __asm__ volatile("" : : "r"(p));
}
static void *volatile kept;
__attribute__((noinline)) static void keep_some(void)
{
    for (int i = 0; i < 100; i++)
        kept = malloc(112);
}
__attribute__((noinline)) static void keep_none(void)
{
    for (int i = 0; i < 50; i++) {
        kept = malloc(48);
        free(kept);
    }
}
void work(void)
{
    keep_some();
    keep_none();
}
"""
PROFILE = r"""
#include <cprofd/profile.h>
CPROFD_PROFILE(opened, "opened", "what is open", "count");
static int open_now;
__attribute__((noinline)) static void open_one(void)
{
    static char keys[1000];
    CPROFD_PROFILE_ADD(opened, &keys[open_now++]);
}
void work(void)
{
    for (int i = 0; i < 10; i++)
        open_one();
}
"""


@pytest.fixture
def loads(tmp_path):
    """Starts PROGRAM, which loads a library of that source; tells it what to do."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    started = []

    def start(library, program=PROGRAM):
        for name, text, options in (("library.so", library, ["-shared", "-fPIC", "-Wl,-Bsymbolic"]), ("program", program, ["-rdynamic"])):
            (tmp_path / f"{name}.c").write_text(text)
            subprocess.run(["cc", "-O1", "-g", "-w", "-fno-builtin", "-I", f"{ROOT}/include", *options, "-o", tmp_path / name,
                            tmp_path / f"{name}.c", "-ldl"], check=True)
        process = subprocess.Popen([tmp_path / "program", tmp_path / "library.so"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"

        def tell(letter):
            process.stdin.write(letter.encode())
            process.stdin.flush()
            assert process.stdout.readline() == b"done\n"

        return process.pid, tell

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def begin(daemon, pid, kind, **values):
    query = "&".join(f"{key}={value}" for key, value in {"kinds": kind, "max_overhead": 10000, **values}.items())
    reply = daemon.request("PUT", f"/pid/{pid}/watch?{query}")
    assert reply.status == 204, reply


def probed(daemon, pid, kind, key):
    """Once the profile says that what came later is probed."""
    wait_for(lambda: key in load(daemon.get(f"/pid/{pid}/debug/pprof/{kind}")).facts, f"{key} is said")


def test_allocator(daemon, loads):
    pid, tell = loads(ALLOCATOR)
    begin(daemon, pid, "heap", rate=1)
    assert "heap.loaded_later" not in load(daemon.get(f"/pid/{pid}/debug/pprof/heap")).facts
    tell("l")
    probed(daemon, pid, "heap", "heap.loaded_later")
    tell("w")
    profile = load(daemon.get(f"/pid/{pid}/debug/pprof/heap"))
    assert profile.by_function(["keep_some", "keep_none"], "alloc_objects") == {"keep_some": 100, "keep_none": 50}, profile.folded()
    assert profile.by_function(["keep_some", "keep_none"], "inuse_space") == {"keep_some": 11200, "keep_none": 0}, profile.folded()
    assert profile.facts["heap.loaded_later"].startswith("1: ") and "heap.later_unprobed" not in profile.facts, profile.facts
    assert "mapped by the program" in profile.facts["heap.loaded_later"], profile.facts
    daemon.request("DELETE", f"/pid/{pid}/watch")


def test_allocator_that_becomes_too_dear(daemon, loads):
    """The budget bounds what comes later, too: what it costs is known, and how often it is called is seen while it runs."""
    often = "    for (int i = 0; i < 2000000; i++)\n        free(kept = malloc(16));"
    pid, tell = loads(ALLOCATOR.replace("void work(void)\n{", "void work(void)\n{\n" + often))
    begin(daemon, pid, "heap", max_overhead=5)
    tell("l")
    probed(daemon, pid, "heap", "heap.loaded_later")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(tell, "w")
        wait_for(lambda: daemon.request("GET", f"/pid/{pid}/debug/pprof/heap").status == 409, "the watch ends", 60)
        pending.result()
    assert "overhead" in daemon.request("GET", f"/pid/{pid}/debug/pprof/heap").text


def test_profile(daemon, loads):
    """A program that declares it, too: else there would be nothing to watch. The library's values count as well."""
    pid, tell = loads(PROFILE, program=PROGRAM.replace("int main(", PROFILE.split("void work")[0] + "int main(").replace(
        'puts("ready")', 'open_one(); puts("ready")'))
    begin(daemon, pid, "opened")
    tell("l")
    probed(daemon, pid, "opened", "custom.loaded_later")
    tell("w")
    profile = load(daemon.get(f"/pid/{pid}/debug/pprof/opened"))
    assert profile.total("opened") == 10, profile.folded()
    assert profile.by_function(["work"], "opened") == {"work": 10}, profile.folded()
    daemon.request("DELETE", f"/pid/{pid}/watch")
