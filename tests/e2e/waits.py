"""Waits of test programs for each other, as block and mutex show them beside what the programs say themselves (tests/programs/waits.h)."""

import collections
import contextlib
import re

from daemon import query
from profiles import load

# A thread that is woken has still to run before it can look at the clock; and the program's own clock is read before and after a wait.
GRAIN_NS = 300_000


def plain_name(function):
    """Without what C++ and Rust put around it."""
    return re.sub(r"\(.*\)$", "", function.replace("(anonymous namespace)::", "")).rsplit("::", 1)[-1]


class Waits:
    """What a kind's profile says of what a program did at one command, and what the program says."""

    def __init__(self, profile, before, after):
        self.profile = profile
        names = {*after["functions"], "release_mutex", "release_read", "release_write", "release_many", "release_shared", "signal_condition"}
        self.contentions = self.by_function(names, 0)
        self.delay = self.by_function(names, 1)
        self.true_contentions = self.difference(before, after, "calls")
        self.true_delay = self.difference(before, after, "cpu_ns")
        self.handover_ns = after.get("handover_ns", 0) - before.get("handover_ns", 0)
        self.run_delay_ns = after.get("delay_ns", 0) - before.get("delay_ns", 0)

    def by_function(self, names, index):
        sums = collections.Counter()
        for sample in self.profile.samples:
            name = next((name for name in (plain_name(frame.function) for frame in sample.stack) if name in names), None)
            sums[name] += sample.values[index]
        return dict(sums)

    @staticmethod
    def difference(before, after, field):
        return {name: each[field] - before["functions"][name][field] for name, each in after["functions"].items()}

    def check(self, *names, counts=True):
        """Each function's figures are the program's own. What passes between a release and the next hold may be the next hold's; a thread
        that had no CPU on its way to the lock, or back, takes that for a wait of its own.
        """
        for name in names:
            true_ns, delay_ns, true_n = self.true_delay[name], self.delay.get(name, 0), self.true_contentions[name]
            message = (name, delay_ns, true_ns, self.contentions.get(name), true_n, self.profile.facts, self.profile.folded())
            grain_ns = GRAIN_NS * max(self.contentions.get(name, 0), 1)
            assert true_ns > 0, message
            slack_ns = max(0.02 * true_ns, min(grain_ns, 0.05 * true_ns))
            assert true_ns - slack_ns - self.run_delay_ns <= delay_ns <= true_ns + slack_ns + self.handover_ns, message
            if counts:
                assert abs(self.contentions.get(name, 0) - true_n) <= max(0.02 * true_n, 1), message
        self.check_nothing_lost()

    def check_nothing_lost(self):
        """But for single switches, which this kernel tells nobody of now and then: its own trace has a gap there, too."""
        lost = {key: value for key, value in self.profile.facts.items() if key.startswith("lost.") and value != "0"}
        if self.profile.fact("lost.switches") <= 10:
            lost.pop("lost.switches", None)
        assert not lost, lost

    def check_none(self, *names):
        assert not any(self.contentions.get(name) or self.delay.get(name) for name in names), self.profile.folded()


@contextlib.contextmanager
def watched(daemon, pid, kinds, **parameters):
    path = query(f"/pid/{pid}/watch", kinds=kinds, **parameters)
    reply = daemon.request("PUT", path)
    assert reply.status == 204, reply
    try:
        yield
    finally:
        daemon.request("DELETE", query(f"/pid/{pid}/watch", kinds=kinds))


def snapshot(daemon, pid, kind, **parameters):
    return daemon.get(query(f"/pid/{pid}/debug/pprof/{kind}", **parameters))


def waits(daemon, target, kind, command, **parameters):
    """What it waits for while it obeys a command."""
    with watched(daemon, target.pid, kind, **parameters):
        before = target.truth()
        after = target.truth(command)
        return Waits(load(snapshot(daemon, target.pid, kind)), before, after)
