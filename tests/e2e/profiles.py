"""A profile as the tests look at it: what belongs to which function, and what the profile says of itself.
Whatever is loaded is first held against the strictest readers' rules (pprofile.check_valid).
"""

import collections
import re

import pprofile


class Profile:
    """A checked profile; samples as in pprofile (stack, values, labels)."""

    def __init__(self, data):
        raw = pprofile.parse(data)
        pprofile.check_valid(raw)
        self.sample_types = [tuple(each) for each in raw.sample_types]
        self.samples = raw.samples
        self.mappings = raw.mappings
        self.period, self.period_type = raw.period, raw.period_value_type
        self.start_ns, self.end_ns = raw.time_nanos, raw.time_nanos + raw.duration_nanos
        self.comments = raw.comments
        facts = (re.fullmatch(r"cprofd\.([^=]+)=(.*)", each, re.DOTALL) for each in raw.comments)
        self.facts = dict(match.groups() for match in facts if match)

    def fact(self, key):
        """A number that the profile says of itself; 0 where it says nothing."""
        return int(self.facts.get(key, 0))

    def index(self, sample_type):
        return [each[0] for each in self.sample_types].index(sample_type)

    def total(self, sample_type):
        index = self.index(sample_type)
        return sum(sample.values[index] for sample in self.samples)

    def functions(self):
        return {frame.function for sample in self.samples for frame in sample.stack}

    def functions_in(self, mapping):
        return {
            frame.function
            for sample in self.samples
            for frame in sample.stack
            if frame.mapping and frame.mapping.filename == mapping
        }

    def by_function(self, names, sample_type):
        """How much belongs to each of the named functions: a sample counts for the one nearest to its
        leaf.
        """
        wanted, index, sums = set(names), self.index(sample_type), collections.Counter()
        for sample in self.samples:
            for frame in sample.stack:
                if frame.function in wanted:
                    sums[frame.function] += sample.values[index]
                    break
        return dict(sums)

    def in_leaf_mapping(self, mapping, sample_type):
        """How much has its innermost frame in a mapping of this name."""
        index = self.index(sample_type)
        leaves = ((sample.stack[0].mapping, sample.values[index]) for sample in self.samples if sample.stack)
        return sum(value for leaf, value in leaves if leaf and leaf.filename == mapping)

    def folded(self):
        """Stacks as text, for messages of failed tests."""
        lines = sorted(
            f"{sample.values[0]:8} " + " < ".join(frame.function for frame in sample.stack[:8])
            for sample in self.samples
        )
        return "\n" + "\n".join(lines[-40:])


def load(reply):
    """The profile in a reply (or in bytes), which must be a good one."""
    if isinstance(reply, bytes):
        return Profile(reply)
    assert reply.status == 200, reply
    return Profile(reply.body)


def fetch(daemon, pid, **parameters):
    """A CPU profile of a process."""
    return load(daemon.profile(pid, **parameters))
