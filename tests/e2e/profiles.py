"""A profile as the tests look at it: stacks of named frames with values and labels, and what the profile says
of itself. Whatever is loaded is first held against the strictest readers' rules (pprofile.check_valid).
"""

import collections
import re

import pprofile

Frame = collections.namedtuple("Frame", "function system_name filename start_line line mapping address")


class Sample:
    """frames: leaf first, inlined functions as frames of their own; values; labels by name."""

    def __init__(self, frames, values, labels):
        self.frames, self.values, self.labels = frames, values, labels

    def mapping_of_leaf(self):
        return self.frames[0].mapping if self.frames else None


class Profile:
    """A decoded and checked profile."""

    def __init__(self, data):
        raw = pprofile.parse(data)
        pprofile.check_valid(raw)
        text = raw.string_table
        self.sample_types = [(text[each.type], text[each.unit]) for each in raw.sample_type]
        self.period = raw.period
        self.start_ns, self.end_ns = raw.time_nanos, raw.time_nanos + raw.duration_nanos
        self.facts = dict(
            match.groups()
            for match in (
                re.fullmatch(r"cprofd\.([^=]+)=(.*)", text[each], re.DOTALL) for each in raw.comment
            )
            if match
        )
        self.comments = [text[each] for each in raw.comment]
        functions = {each.id: each for each in raw.function}
        mappings = {each.id: text[each.filename] for each in raw.mapping}
        self.mappings = list(mappings.values())
        locations = {
            each.id: [
                Frame(
                    text[function.name],
                    text[function.system_name],
                    text[function.filename],
                    function.start_line,
                    line.line,
                    mappings.get(each.mapping_id),
                    each.address,
                )
                for line in each.line
                for function in [functions[line.function_id]]
            ]
            or [Frame(f"0x{each.address:x}", "", "", 0, 0, mappings.get(each.mapping_id), each.address)]
            for each in raw.location
        }
        self.samples = [
            Sample(
                [frame for each in sample.location_id for frame in locations[each]],
                list(sample.value),
                {text[label.key]: text[label.str] if label.str else label.num for label in sample.label},
            )
            for sample in raw.sample
        ]

    def fact(self, key):
        """A number that the profile says of itself; 0 where it says nothing."""
        return int(self.facts.get(key, 0))

    def index(self, sample_type):
        return [each[0] for each in self.sample_types].index(sample_type)

    def total(self, sample_type):
        index = self.index(sample_type)
        return sum(sample.values[index] for sample in self.samples)

    def functions(self):
        return {frame.function for sample in self.samples for frame in sample.frames}

    def functions_in(self, mapping):
        return {
            frame.function for sample in self.samples for frame in sample.frames if frame.mapping == mapping
        }

    def by_function(self, names, sample_type):
        """How much belongs to each of the named functions: a sample counts for the one nearest to its leaf."""
        wanted, index, sums = set(names), self.index(sample_type), collections.Counter()
        for sample in self.samples:
            for frame in sample.frames:
                if frame.function in wanted:
                    sums[frame.function] += sample.values[index]
                    break
        return dict(sums)

    def folded(self):
        """Stacks as text, for messages of failed tests."""
        lines = sorted(
            f"{sample.values[0]:8} " + " < ".join(frame.function for frame in sample.frames[:8])
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
