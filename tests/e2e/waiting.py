"""Truths about waiting: what a program noted of its own waits (tests/programs/wait_log.h), cut to a profile's window, and what a profile says
of the same.
"""

import collections
import contextlib
import os
import threading
import time

from profiles import load
from target import Recorder

# What a noted span has beside the wait itself: the clock's reading on both sides, the way into the kernel and back.
PER_SPAN_NS = 6_000

Span = collections.namedtuple("Span", "function what object tid start end")


class Window:
    """A profile's window on the monotonic clock. The wall clock may be set, slowly: so the offset is taken when the window has just ended.
    The time of a difference of two profiles is its end, as in Go.
    """

    def __init__(self, profile, is_difference=False):
        self.ns = profile.end_ns - profile.start_ns
        self.start = profile.start_ns - (time.time_ns() - time.monotonic_ns()) - (self.ns if is_difference else 0)
        self.end = self.start + self.ns


def spans_of(target, window):
    """The target's spans that reach into the window, cut to it."""
    told = target.truth("waits")
    assert told["monotonic_ns"] >= window.end, "asked before the window's end"
    cut = []
    for function, what, thing, tid, start, end in told["waits"]:
        start, end = max(start, window.start), min(end or window.end, window.end)
        if start < end:
            cut.append(Span(function, what, thing, tid, start, end))
    return cut


def sums(spans, *keys):
    """Nanoseconds, and the number of spans, by the given fields of a span."""
    total, count = collections.Counter(), collections.Counter()
    for span in spans:
        key = tuple(getattr(span, name) for name in keys)
        key = key[0] if len(keys) == 1 else key
        total[key] += span.end - span.start
        count[key] += 1
    return total, count


def by_function_and_state(profile, names, sample_type, tids=None):
    """{(function, state): value}: a sample counts for that of the names which is nearest to its leaf; None where none is there. tids: of these
    threads alone. What a new thread waits for its first CPU has the stack of its maker, whose time it is not: left out.
    """
    wanted, index, found = set(names), profile.index(sample_type), collections.Counter()
    for sample in profile.samples:
        if tids and sample.labels["tid"] not in tids:
            continue
        if sample.labels.get("state") == "runq" and any("pthread_create" in frame.function for frame in sample.stack):
            continue
        function = next((frame.function for frame in sample.stack if frame.function in wanted), None)
        found[function, sample.labels.get("state")] += sample.values[index]
    return found


def by_thread(profile, sample_type):
    index, found = profile.index(sample_type), collections.Counter()
    for sample in profile.samples:
        found[sample.labels["tid"]] += sample.values[index]
    return found


def by_state(profile, sample_type):
    index, found = profile.index(sample_type), collections.Counter()
    for sample in profile.samples:
        found[sample.labels.get("state")] += sample.values[index]
    return found


def with_short_names(profile):
    """The profile, with functions called by the last part of their names: Rust's have their crate's in front."""
    for sample in profile.samples:
        sample.stack[:] = [frame._replace(function=frame.function.rsplit("::", 1)[-1]) for frame in sample.stack]
    return profile


def tids_of(pid):
    return {int(name) for name in os.listdir(f"/proc/{pid}/task")}


def schedstat(pid):
    """{tid: (ns on a CPU, ns in run queues)} by the kernel's own account, of the threads that live."""
    found = {}
    for tid in tids_of(pid):
        try:
            with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as file:
                run_ns, wait_ns, _ = (int(each) for each in file.read().split())
        except OSError:
            continue
        found[tid] = (run_ns, wait_ns)
    return found


class Schedstats:
    """The kernel's own account of each of a process's threads, noted all the time.

    A wait for a CPU is booked as it ends, all of it: of ten threads that wait 100 ms each, a second's worth is booked late at either edge of a
    window. So each is put back to where it was: it ended at the note that has it first, give or take a note.
    """

    def __init__(self, pid):
        self.pid, self.notes, self.ended = pid, collections.defaultdict(list), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ended.wait(0.01):
            for tid in tids_of(self.pid):
                with contextlib.suppress(OSError), open(f"/proc/{self.pid}/task/{tid}/schedstat", encoding="ascii") as file:
                    before = time.time_ns()
                    run_ns, wait_ns, _ = (int(each) for each in file.read().split())
                    self.notes[tid].append(((before + time.time_ns()) // 2, run_ns, wait_ns))

    def __enter__(self):
        self.thread.start()
        time.sleep(0.1)
        return self

    def __exit__(self, *unused):
        time.sleep(1)  # for waits that are under way at the window's end
        self.ended.set()
        self.thread.join()

    def ran_ns(self, profile):
        series = [[(when, run_ns) for when, run_ns, _ in notes] for notes in self.notes.values()]
        return sum(Recorder.at(each, profile.end_ns) - Recorder.at(each, profile.start_ns) for each in series)

    def waited_ns(self, profile):
        total = 0
        for notes in self.notes.values():
            for (_, _, before), (when, _, after) in zip(notes, notes[1:]):
                total += max(0, min(when, profile.end_ns) - max(when - (after - before), profile.start_ns))
        return total


def get(daemon, pid, kind, **parameters):
    return with_short_names(load(daemon.get(f"/pid/{pid}/debug/pprof/{kind}", **parameters)))


def check_near(mine, true, what, relative=0.02, slack=0):
    assert abs(mine - true) <= relative * abs(true) + slack, (what, mine, true, f"{100 * (mine / max(true, 1) - 1):+.2f} %")


def check_closes(profile, tids, relative=0.01):
    """Each thread that lived through the window has all of it, whatever it did; nobody has more."""
    found, window_ns = by_thread(profile, "wall"), profile.end_ns - profile.start_ns
    missing = [tid for tid in tids if tid not in found]
    assert not missing, f"{len(missing)} of {len(tids)} threads are not there: {missing[:10]}"
    for tid, ns in found.items():
        assert ns <= window_ns * (1 + relative), (tid, ns, window_ns)
        if tid in tids:
            check_near(ns, window_ns, f"thread {tid}", relative)


def holds_of(spans, lock):
    """[[span, threads]]: who held the lock, one after the other. Holds at the same time (by readers) are one, which the last of them ends: nobody is
    woken by the others.
    """
    holds = []
    for hold in sorted((span for span in spans if span.what == "hold" and span.object == lock), key=lambda span: span.start):
        if holds and hold.start < holds[-1][0].end:
            last, tids = holds[-1]
            holds[-1] = [max(last, hold, key=lambda span: span.end)._replace(start=last.start), tids | {hold.tid}]
        else:
            holds.append([hold, {hold.tid}])
    return holds


def charge(spans, lock, window):
    """{function that releases: ns}: each hold is charged with what of all other threads' waits fell into it. A handover is the next hold's, but not
    for whom the release woke: its way to a CPU is nobody's. Nobody is charged with a hold that goes on at the window's end.
    """
    waits = [span for span in spans if span.what == "lock" and span.object == lock]
    charged = collections.Counter()
    released = 0
    for hold, tids in holds_of(spans, lock):
        for wait in waits:
            if hold.end < window.end and not (wait.tid in tids and wait.start < released):
                charged[hold.function] += max(0, min(wait.end, hold.end) - max(wait.start, released))
        released = hold.end
    return charged
