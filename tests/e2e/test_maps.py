"""What a program maps by itself, beside what its allocator does: exactly, whatever the rate."""

import shutil
import subprocess

import pytest

from profiles import load

PROGRAM = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#define MIB (1ul << 20)
#define SITE __attribute__((noinline))
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)
static void *volatile kept;
static char *map(size_t n, int prot, int flags)
{
    char *p = mmap(NULL, n, prot, flags, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}
SITE static void keep_maps(void)
{
    for (int i = 0; i < 10; i++)
        kept = map(MIB, RW, ANON);
}
SITE static void drop_maps(void)
{
    for (int i = 0; i < 10; i++) {
        char *p = map(65536, RW, ANON);
        if (i % 2)
            munmap(p, 65536);
    }
}
SITE static void trim_both(void)
{
    char *p = map(4 * MIB, RW, ANON);
    munmap(p, MIB);
    munmap(p + 3 * MIB, MIB);
}
SITE static void trim_away(void)
{
    char *p = map(2 * MIB, RW, ANON);
    munmap(p + MIB, MIB);
    munmap(p, MIB);
}
SITE static void grow_map(void)
{
    kept = mremap(map(MIB, RW, ANON), MIB, 3 * MIB, MREMAP_MAYMOVE);
}
SITE static void replace_map(void)
{
    char *p = map(MIB, RW, ANON);
    kept = mmap(p, MIB, RW, ANON | MAP_FIXED, -1, 0);
}
SITE static void fail_to_grow(void)
{
    if (mremap(map(MIB, RW, ANON), MIB, 1ul << 60, MREMAP_MAYMOVE) != MAP_FAILED)
        abort();
}
SITE static void map_no_object(void)
{
    kept = map(MIB, PROT_NONE, ANON);
    kept = map(61440, RW, ANON);
    kept = map(MIB, RW, MAP_SHARED | MAP_ANONYMOUS);
}
SITE static void by_malloc(void)
{
    for (int i = 0; i < 4; i++) {
        char *p = malloc(MIB);
        if (!p || !(p = realloc(p, 2 * MIB)))
            abort();
        kept = p;
        if (i % 2)
            free(p);
    }
}
int main(void)
{
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {
        keep_maps();
        drop_maps();
        trim_both();
        trim_away();
        grow_map();
        replace_map();
        fail_to_grow();
        map_no_object();
        by_malloc();
        puts("done");
        fflush(stdout);
    }
}
"""
K = 1024
# Objects and bytes in all, and live.
MAPPED = {
    "keep_maps": [10, 10240 * K, 10, 10240 * K],
    "drop_maps": [10, 640 * K, 5, 320 * K],
    "trim_both": [1, 4096 * K, 1, 2048 * K],
    "trim_away": [1, 2048 * K, 0, 0],
    "grow_map": [2, 4096 * K, 1, 3072 * K],
    "replace_map": [2, 2048 * K, 1, 1024 * K],
    "fail_to_grow": [1, 1024 * K, 1, 1024 * K],
}
BY_MALLOC = {"by_malloc": [8, 12288 * K, 2, 4096 * K]}


def profile_of(daemon, path, rate):
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            reply = daemon.request("PUT", f"/pid/{process.pid}/watch?kinds=heap&rate={rate}&max_overhead=10000")
            assert reply.status == 204, reply
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.readline() == b"done\n"
            return load(daemon.get(f"/pid/{process.pid}/debug/pprof/heap"))
        finally:
            process.kill()


@pytest.mark.parametrize(
    "options, rate, expected, said",
    [
        ([], 1, {**MAPPED, **BY_MALLOC}, False),
        ([], 1 << 36, MAPPED, False),
        (["-static"], 1, BY_MALLOC, True),
    ],
)
def test_mapped(daemon, tmp_path, options, rate, expected, said):
    """Once each, also where malloc maps; cut at either end, moved and replaced. Where allocator and program are one file, it is said that none count."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    (tmp_path / "maps.c").write_text(PROGRAM)
    done = subprocess.run(["cc", "-O1", "-g", "-w", *options, "-o", tmp_path / "maps", tmp_path / "maps.c"], capture_output=True, text=True, check=False)
    if done.returncode != 0 and options:
        pytest.skip(f"can't link {options}: {done.stderr}")
    profile = profile_of(daemon, tmp_path / "maps", rate)
    sites = {**MAPPED, **BY_MALLOC, "map_no_object": None}
    sums = [profile.by_function(sites, each) for each in ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")]
    found = {site: [each.get(site, 0) for each in sums] for site in sites if site in sums[0]}
    if rate > 1:
        found.pop("by_malloc", None)  # by chance
    assert found == expected, profile.folded()
    assert ("heap.mmap" in profile.facts) == said and "heap.replaced" not in profile.facts, profile.facts
