"""When threads ran and waited for a CPU, by the scheduler's tracepoints, as bpftrace reads them: a reference that has nothing in common with us but
the kernel. Its own account (schedstat) is none for threads that are woken often: it lets a thread run from when it was put into a queue.
"""

import collections
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time

PROGRAM = """
BEGIN { %s printf("begun\\n"); }
END { clear(@is); }
tracepoint:sched:sched_switch /@is[args->next_pid]/ { printf("in %%d %%llu\\n", args->next_pid, nsecs); }
tracepoint:sched:sched_switch /@is[args->prev_pid]/ { printf("out%%d %%d %%llu\\n", args->prev_state == 0, args->prev_pid, nsecs); }
tracepoint:sched:sched_waking /@is[args->pid]/ { printf("wake %%d %%llu\\n", args->pid, nsecs); }
"""
EVENT = re.compile(r"(in|out0|out1|wake) (\d+) (\d+)$")
FOLLOWS = {"cpu": ("ou",), "runq": ("in",), "waits": ("wa",)}


class Tracepoints:
    """What some threads did while the context lasts. lost: why nothing can be said; None where all is there."""

    def __init__(self, tids):
        self.tids, self.events, self.lost = sorted(tids), collections.defaultdict(list), None

    @contextlib.contextmanager
    def record(self):
        if not shutil.which("bpftrace"):
            self.lost = "needs bpftrace"
            yield self
            return
        marks = "".join(f"@is[{tid}] = 1; " for tid in self.tids)
        environment = {**os.environ, "BPFTRACE_PERF_RB_PAGES": "4096"}
        command = ["bpftrace", "-q", "-B", "full", "-e", PROGRAM % marks]
        with tempfile.TemporaryFile("w+") as out:  # no pipe: it would fill up, and the events' buffers behind it
            bpftrace = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
            try:
                while b"begun" not in os.pread(out.fileno(), 4096, 0):
                    if bpftrace.poll() is not None:
                        raise AssertionError(f"bpftrace ended with {bpftrace.returncode}")
                    time.sleep(0.01)
                yield self
            finally:
                bpftrace.terminate()
                bpftrace.wait(60)
            out.seek(0)
            self._read(out)

    def _read(self, lines):
        for line in lines:
            match = EVENT.match(line)
            if match:
                self.events[int(match[2])].append((int(match[3]), match[1]))
            elif "lost" in line.lower():
                self.lost = f"bpftrace says: {line.strip()}"

    def sums(self, start_ns, end_ns):
        """{state: ns} within a window, of all of the threads: on a CPU, from their wakes, or from when they were preempted, until they ran, and what
        can't be said: some kernels skip these tracepoints on a CPU that has just been idle, so that a thread leaves where it never came to."""
        found = collections.Counter(cpu=0, runq=0, unknown=0)

        def add(state, since, until):
            found[state] += max(0, min(until, end_ns) - max(since, start_ns))

        for tid in self.tids:
            state, since, is_woken = "waits", end_ns, False
            for now, what in sorted(self.events[tid]):
                if what == "wake" and state in ("cpu", "runq"):
                    is_woken = state == "cpu"  # it is about to leave
                    continue
                if since == end_ns:
                    state, since = "cpu" if what.startswith("out") else "waits", start_ns
                add(state if what[:2] in FOLLOWS[state] else "unknown", since, now)
                if what == "in":
                    state, is_woken = "cpu", False
                else:
                    state = "runq" if what in ("wake", "out1") or is_woken else "waits"
                since = now
            add(state, since, end_ns)
        return found
