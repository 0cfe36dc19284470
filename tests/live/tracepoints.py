"""When threads ran and waited for a CPU, by the scheduler's tracepoints, as ftrace writes them down: a reference that has nothing in common with us but
the kernel, and takes no CPU while it records. The kernel's own account (schedstat) is none for threads that are woken often: it lets a thread run from
when it was put into a queue.
"""

import collections
import contextlib
import os
import re
import time

TRACING = "/sys/kernel/tracing"
BUFFER_KB = 65536  # a CPU: a million switches
SWITCH = re.compile(r" (\d+)\.(\d+): sched_switch: .*? prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+) ==> .* next_pid=(\d+) next_prio")
WAKE = re.compile(r" (\d+)\.(\d+): sched_waking: .* pid=(\d+) prio=")
PER_SWITCH_NS = 1000  # who comes second to a tracepoint looks at the clock when the first is done
FOLLOWS = {"cpu": ("left", "preempted"), "runq": ("came",), "waits": ("woken",)}


class Tracepoints:
    """What some threads did while the context lasts. lost: why nothing can be said; None where all is there."""

    def __init__(self, tids):
        self.tids, self.events, self.lost = sorted(map(int, tids)), collections.defaultdict(list), None

    @contextlib.contextmanager
    def record(self):
        if not os.path.isdir(f"{TRACING}/instances"):
            self.lost = f"needs tracefs in {TRACING}"
            yield self
            return
        instance = f"{TRACING}/instances/reference-{os.getpid()}"
        os.mkdir(instance)

        def write(name, what):
            with open(f"{instance}/{name}", "w", encoding="ascii") as file:
                file.write(what)

        try:
            write("buffer_size_kb", str(BUFFER_KB))
            write("trace_clock", "mono")
            write("events/sched/sched_waking/enable", "1")
            write("events/sched/sched_switch/enable", "1")
            start_ns, runs = time.monotonic_ns(), self._runs()
            yield self
            end_ns, runs = time.monotonic_ns(), self._runs() - runs
            write("tracing_on", "0")
            self._read(instance)
            self._check(start_ns, end_ns, runs)
        finally:
            os.rmdir(instance)

    def _read(self, instance):
        for cpu in os.listdir(f"{instance}/per_cpu"):
            with open(f"{instance}/per_cpu/{cpu}/stats", encoding="ascii") as file:
                lost = sum(map(int, re.findall(r"(?:overrun|dropped events): (\d+)", file.read())))
            if lost:
                self.lost = f"ftrace lost {lost} events"
        known = set(self.tids)
        with open(f"{instance}/trace", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                switch = SWITCH.search(line)
                match = switch or WAKE.search(line)
                now = match and int(match[1]) * 1_000_000_000 + int(match[2]) * 1000
                if switch and int(switch[3]) in known:
                    self.events[int(switch[3])].append((now, "preempted" if switch[4].startswith("R") else "left"))
                if switch and int(switch[5]) in known:
                    self.events[int(switch[5])].append((now, "came"))
                if match and not switch and int(match[3]) in known:
                    self.events[int(match[3])].append((now, "woken"))

    def _runs(self):
        """How often they were put on a CPU, as the kernel counts."""
        total = 0
        for tid in self.tids:
            with contextlib.suppress(OSError), open(f"/proc/{tid}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[2])
        return total

    def _check(self, start_ns, end_ns, runs):
        """Some kernels skip these tracepoints on a CPU that was idle, until it has been idle once more: there is more than is told, then."""
        found = self.sums(start_ns, end_ns)
        if found["runs"] < 0.99 * runs or found["unknown"] > 0.01 * found["cpu"]:
            self.lost = f"ftrace has {found['runs']} of {runs} switches, and can't say what was for {found['unknown'] / 1e6:.1f} ms"

    def of_thread(self, tid, start_ns, end_ns):
        """{state: ns} within a window: on a CPU, from its wakes, or from when it was preempted, until it ran, what can't be said; and the runs."""
        found = collections.Counter(cpu=0, runq=0, unknown=0, runs=0)

        def add(state, since, until):
            found[state] += max(0, min(until, end_ns) - max(since, start_ns))

        state, since, is_woken = "waits", end_ns, False
        for now, what in self.events[tid]:
            found["runs"] += what == "came" and start_ns <= now <= end_ns
            if what == "woken" and state in ("cpu", "runq"):
                is_woken = state == "cpu"  # it is about to leave
                continue
            if since == end_ns:
                state, since = "waits" if what in ("came", "woken") else "cpu", start_ns
            add(state if what in FOLLOWS[state] else "unknown", since, now)
            if what == "came":
                state, is_woken = "cpu", False
            else:
                state = "waits" if what == "left" and not is_woken else "runq"
            since = now
        add(state, since, end_ns)
        return found

    def sums(self, start_ns, end_ns):
        """The same of all of them."""
        return sum((self.of_thread(tid, start_ns, end_ns) for tid in self.tids), collections.Counter())


def beside(pid, get):
    """What get() returns, and the events of the process's threads meanwhile: all of them, if that can be had."""
    for _ in range(5):
        tracepoints = Tracepoints(os.listdir(f"/proc/{pid}/task"))
        with tracepoints.record():
            got = get()
        if not tracepoints.lost:
            break
    return got, tracepoints
