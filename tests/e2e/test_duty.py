"""duty=: what is seen while probes are attached for a part of the time, against what programs count themselves in the window."""

import bisect
import contextlib
import math
import mmap
import shutil
import struct
import subprocess
import threading
import time

import pytest
from daemon import wait_for
from profiles import load

# Of each thread: a:SPIN allocates all the time, and counts to SPIN between; c computes; s:US allocates twenty times, and then sleeps so long. The
# file has how often each thread did, a line of the cache for each.
WORKERS = """
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static volatile uint64_t (*counts)[8];
struct worker { char kind; long n; int at; };
static void *work(void *arg)
{
    struct worker *w = arg;
    void *volatile kept;
    for (;;) {
        for (int i = 0; i < 20 && w->kind != 'c'; i++) {
            kept = malloc(1000);
            for (volatile long k = 0; k < w->n && w->kind == 'a'; k++)
                ;
            free(kept);
            counts[w->at][0]++;
        }
        for (volatile long k = 0; k < 1000 && w->kind == 'c'; k++)
            ;
        if (w->kind == 's')
            usleep(w->n);
    }
    return NULL;
}
int main(int argc, char **argv)
{
    static struct worker workers[64];
    pthread_t thread;
    int fd = open(argv[1], O_RDWR);
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int i = 2; i < argc; i++) {
        workers[i] = (struct worker){argv[i][0], argv[i][1] ? atol(argv[i] + 2) : 0, i - 1};
        pthread_create(&thread, NULL, work, &workers[i]);
    }
    counts[0][0] = 1;
    for (;;)
        pause();
}
"""


class Workers:
    """Such a program, and how many allocations it had made at any time since it began."""

    def __init__(self, program, path, threads):
        path.write_bytes(bytes(4096))
        self.process = subprocess.Popen([program, path, *threads])
        with open(path, "rb") as file:
            self.counts = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
        wait_for(lambda: self.counts[0], "it runs")
        self.pid, self.times, self.sums, self.ends = self.process.pid, [], [], False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.ends:
            self.times.append(time.time_ns())
            self.sums.append(sum(struct.unpack("512Q", self.counts)[8::8]))
            time.sleep(0.004)

    def at(self, time_ns):
        wait_for(lambda: self.times[-1] > time_ns, "it is looked at")
        i = bisect.bisect(self.times, time_ns)
        part = (time_ns - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        return self.sums[i - 1] + part * (self.sums[i] - self.sums[i - 1])

    def stop(self):
        self.ends = True
        self.thread.join()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    directory = tmp_path_factory.mktemp("duty")
    (directory / "workers.c").write_text(WORKERS)
    subprocess.run(["cc", "-O1", "-w", "-pthread", "-o", directory / "workers", directory / "workers.c"], check=True)
    return directory / "workers"


@contextlib.contextmanager
def workers(program, path, *threads):
    target = Workers(program, path, threads)
    try:
        yield target
    finally:
        target.stop()


def allocs(daemon, target, **parameters):
    """The profile, and how many allocations there were in its window. One in which others took the CPUs for most of the slices can say nothing, and
    says so: then another one.
    """
    for _ in range(4):
        reply = daemon.get(f"/pid/{target.pid}/debug/pprof/allocs", max_overhead=1000000, **parameters)
        assert reply.status == 200, reply
        profile = load(reply)
        facts = profile.facts
        error = number(facts.get("scaled_error_percent", "100"))
        assert error <= 5 or "warning.duty" in facts, facts
        if profile.fact("slices") > 2 and error < 40:
            return profile, target.at(profile.start_ns) - target.at(profile.start_ns - profile.fact("window_ns"))
    return pytest.skip("others take the CPUs: no window tells more of its slices than that it can't")


def number(fact):
    return float(fact.split(":")[0])


# Where nothing else runs 10 million allocations a second; a server that waits for its clock; threads of all sorts; CPUs that others want, too.
@pytest.mark.chance
@pytest.mark.parametrize(
    "threads, hogs, rate, slowed",
    [
        (["a:240"], [], 1 << 18, True),
        (["s:1000"], [], 1 << 13, False),
        (["a:1000", "c", "s:1000"], [], 1 << 18, True),
        (["a:2000"], ["c", "c"], 1 << 16, True),
    ],
    ids=["busy", "waiting", "mixed", "hogs"],
)
def test_totals(daemon, program, tmp_path, threads, hogs, rate, slowed):
    """They are the program's own within what the profile says, however much its probes slow it."""
    with workers(program, tmp_path / "others", *hogs), workers(program, tmp_path / "counts", *threads) as target:
        profile, done = allocs(daemon, target, seconds=5, duty=10, rate=rate)
    facts, total = profile.facts, profile.total("alloc_objects")
    error = math.hypot(number(facts["scaled_error_percent"]) / 100, profile.fact("heap.sampled") ** -0.5)
    assert total == pytest.approx(done, rel=0.05 + 3 * error), facts
    by_time = total / number(facts["scaled"]) * profile.fact("window_ns") / profile.fact("attached_ns")
    if slowed:
        assert facts["scaled_by"].startswith("own CPU time") and by_time < 0.8 * done and "warning.duty" in facts, (by_time, facts)
    else:
        assert number(facts["scaled"]) < 2 * profile.fact("window_ns") / profile.fact("attached_ns"), facts
