#!/usr/bin/python3
"""A reader of pprof profiles that owes nothing to the code under test: gzip, the protobuf wire format by hand, and the rules of the strictest
readers.

parse() gives a Profile. Its fields are those of profile.proto, under their names there (sample_type, location, ...), strings still as
indices; its properties (sample_types, samples, mappings, comments, ...) are the same with everything resolved. check_valid() tells what
any of google/pprof, Parca, Alloy and Pyroscope would refuse, misread or leave out.

    pprofile.py FILE...    checks profiles, and prints what is in them
"""

import collections
import sys
import zlib

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# Made-up addresses, where no code can be (pprof/locations.c): they are in no mapping.
MADE_UP = range(1 << 60, 1 << 61)

ValueType = collections.namedtuple("ValueType", "type unit")
Mapping = collections.namedtuple(
    "Mapping", "id start limit offset filename build_id has_functions has_filenames has_line_numbers has_inline_frames"
)
# inlined: whether the frame stands for a call that was inlined into the next one of the stack.
Frame = collections.namedtuple("Frame", "function system_name filename start_line line mapping address inlined")
# stack: leaf first, inlined functions as frames of their own. labels: text or number by key. units: of numbers, by key.
Sample = collections.namedtuple("Sample", "values stack labels units")


class ProfileError(ValueError):
    """Bytes that are no profile."""


class InvalidProfile(AssertionError):
    """A profile that some reader would refuse or misread; problems has each reason."""

    def __init__(self, problems):
        super().__init__("\n".join(problems))
        self.problems = problems


# ---- wire format


def read_varint(data, at):
    """(value, position after it)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ProfileError("cut short in a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            if value >> 64:
                raise ProfileError("a number beyond 64 bits")
            return value, at
    raise ProfileError("a number of more than ten bytes")


def read_fields(data):
    """(number, wire type, value) of each field of a message."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = read_varint(data, at)
        elif wire in (BYTES, FIXED64, FIXED32):
            size = {FIXED64: 8, FIXED32: 4}.get(wire)
            if size is None:
                size, at = read_varint(data, at)
            if size > len(data) - at:
                raise ProfileError(f"cut short in field {number}")
            value, at = data[at : at + size], at + size
        else:
            raise ProfileError(f"field {number} has wire type {wire}")
        yield number, wire, value


def signed(value):
    return value - (1 << 64) if value >> 63 else value


class Message:
    """A decoded message. FIELDS: number -> (name, kind); kind: "int", "uint", "bool", a Message class, or a list of one of
    them or of "text". packed: names of the number lists that came packed."""

    FIELDS = {}

    def __init__(self, data=b""):
        self.packed = set()
        for name, kind in self.FIELDS.values():
            setattr(self, name, [] if isinstance(kind, list) else 0 if kind in ("int", "uint") else False if kind == "bool" else None)
        for number, wire, value in read_fields(data):
            if number not in self.FIELDS:
                raise ProfileError(f"{type(self).__name__} has no field {number}")
            self._add(*self.FIELDS[number], wire, value)

    def _add(self, name, kind, wire, value):
        element = kind[0] if isinstance(kind, list) else kind
        if element in ("int", "uint", "bool"):
            values = self._numbers(name, isinstance(kind, list), element, wire, value)
        elif wire != BYTES:
            raise ProfileError(f"{name} has wire type {wire}")
        elif element == "text":
            values = [self._text(name, value)]
        else:
            values = [element(value)]
        if isinstance(kind, list):
            getattr(self, name).extend(values)
        else:
            setattr(self, name, values[-1])

    def _numbers(self, name, repeated, element, wire, value):
        if wire == VARINT:
            values = [value]
        elif wire == BYTES and repeated:
            self.packed.add(name)
            values, at = [], 0
            while at < len(value):
                number, at = read_varint(value, at)
                values.append(number)
        else:
            raise ProfileError(f"{name} has wire type {wire}")
        return [signed(each) if element == "int" else bool(each) if element == "bool" else each for each in values]

    @staticmethod
    def _text(name, value):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProfileError(f"{name} has a string that is no UTF-8: {value[:80]!r}") from error


class RawValueType(Message):
    FIELDS = {1: ("type", "int"), 2: ("unit", "int")}


class RawLabel(Message):
    FIELDS = {1: ("key", "int"), 2: ("str", "int"), 3: ("num", "int"), 4: ("num_unit", "int")}


class RawSample(Message):
    FIELDS = {1: ("location_id", ["uint"]), 2: ("value", ["int"]), 3: ("label", [RawLabel])}


class RawMapping(Message):
    FIELDS = {
        1: ("id", "uint"), 2: ("memory_start", "uint"), 3: ("memory_limit", "uint"), 4: ("file_offset", "uint"),
        5: ("filename", "int"), 6: ("build_id", "int"), 7: ("has_functions", "bool"), 8: ("has_filenames", "bool"),
        9: ("has_line_numbers", "bool"), 10: ("has_inline_frames", "bool"),
    }  # fmt: skip


class RawLine(Message):
    FIELDS = {1: ("function_id", "uint"), 2: ("line", "int"), 3: ("column", "int")}


class RawLocation(Message):
    FIELDS = {
        1: ("id", "uint"), 2: ("mapping_id", "uint"), 3: ("address", "uint"), 4: ("line", [RawLine]), 5: ("is_folded", "bool"),
    }  # fmt: skip


class RawFunction(Message):
    FIELDS = {
        1: ("id", "uint"), 2: ("name", "int"), 3: ("system_name", "int"), 4: ("filename", "int"), 5: ("start_line", "int"),
    }  # fmt: skip


# ---- the profile


class Profile(Message):
    """A profile as it came, and its parts with names and references resolved. Resolving one that check_valid() refuses may fail with an
    InvalidProfile."""

    FIELDS = {
        1: ("sample_type", [RawValueType]), 2: ("sample", [RawSample]), 3: ("mapping", [RawMapping]),
        4: ("location", [RawLocation]), 5: ("function", [RawFunction]), 6: ("string_table", ["text"]),
        7: ("drop_frames", "int"), 8: ("keep_frames", "int"), 9: ("time_nanos", "int"), 10: ("duration_nanos", "int"),
        11: ("period_type", RawValueType), 12: ("period", "int"), 13: ("comment", ["int"]),
        14: ("default_sample_type", "int"), 15: ("doc_url", "int"),
    }  # fmt: skip

    def text(self, index):
        if not 0 <= index < len(self.string_table):
            raise InvalidProfile([f"string {index} of {len(self.string_table)}"])
        return self.string_table[index]

    def _value_type(self, raw):
        return ValueType(self.text(raw.type), self.text(raw.unit))

    @property
    def sample_types(self):
        return [self._value_type(each) for each in self.sample_type]

    @property
    def period_value_type(self):
        """None where there is none."""
        return self._value_type(self.period_type) if self.period_type else None

    @property
    def default_type(self):
        """The name of the type that is shown first."""
        return self.text(self.default_sample_type) or self.sample_types[-1].type

    @property
    def comments(self):
        return [self.text(each) for each in self.comment]

    @property
    def documentation(self):
        return self.text(self.doc_url)

    @property
    def mappings(self):
        return [
            Mapping(
                each.id, each.memory_start, each.memory_limit, each.file_offset, self.text(each.filename), self.text(each.build_id),
                each.has_functions, each.has_filenames, each.has_line_numbers, each.has_inline_frames,
            )
            for each in self.mapping
        ]  # fmt: skip

    def _frames(self, location, mappings, functions):
        """The frames of one location; one without a name where it has no line."""
        mapping = mappings.get(location.mapping_id)
        if not location.line:
            return [Frame("", "", "", 0, 0, mapping, location.address, False)]
        frames = []
        for i, line in enumerate(location.line):
            if line.function_id not in functions:
                raise InvalidProfile([f"location {location.id} has no function {line.function_id}"])
            function = functions[line.function_id]
            names = [self.text(each) for each in (function.name, function.system_name, function.filename)]
            inlined = i + 1 < len(location.line)
            frames.append(Frame(*names, function.start_line, line.line, mapping, location.address, inlined))
        return frames

    @property
    def samples(self):
        mappings = {each.id: each for each in self.mappings}
        functions = {each.id: each for each in self.function}
        frames = {each.id: self._frames(each, mappings, functions) for each in self.location}
        samples = []
        for raw in self.sample:
            missing = [each for each in raw.location_id if each not in frames]
            if missing:
                raise InvalidProfile([f"a sample has no location {missing[0]}"])
            stack = [frame for each in raw.location_id for frame in frames[each]]
            labels = {self.text(each.key): self.text(each.str) if each.str else each.num for each in raw.label}
            units = {self.text(each.key): self.text(each.num_unit) for each in raw.label if not each.str}
            samples.append(Sample(tuple(raw.value), stack, labels, units))
        return samples


def decompress(data):
    """What is in one gzip member, which must be whole and all there is; other data as it is."""
    if data[:2] != b"\x1f\x8b":
        return data
    stream = zlib.decompressobj(wbits=31)
    try:
        raw = stream.decompress(data)
    except zlib.error as error:
        raise ProfileError(f"bad gzip: {error}") from error
    if not stream.eof:
        raise ProfileError("gzip data cut short")
    if stream.unused_data:
        raise ProfileError("more data after the gzip member")
    return raw


def parse(data):
    """The profile in some bytes, gzipped or not. ProfileError for what is none."""
    return Profile(decompress(data))


def read(path):
    with open(path, "rb") as file:
        return parse(file.read())


# ---- the rules


def check_strings(profile):
    table = profile.string_table
    if not table or table[0] != "":
        yield "string_table[0] is not empty"
    for text, n in collections.Counter(table).items():
        if n > 1:
            yield f"string {text[:80]!r} is there {n} times"
    for text in table:
        if len(text.encode()) > 65535:
            yield f"string {text[:80]!r}... is longer than 65535 bytes: Pyroscope cuts it in the middle of a character"


def string_references(profile):
    """(where, index) of each reference to a string."""
    for each in profile.sample_type + ([profile.period_type] if profile.period_type else []):
        yield "a value type", each.type
        yield "a value type", each.unit
    for number, sample in enumerate(profile.sample):
        for label in sample.label:
            for index in (label.key, label.str, label.num_unit):
                yield f"a label of sample {number}", index
    for each in profile.mapping:
        yield f"mapping {each.id}", each.filename
        yield f"mapping {each.id}", each.build_id
    for each in profile.function:
        for index in (each.name, each.system_name, each.filename):
            yield f"function {each.id}", index
    for index in profile.comment:
        yield "a comment", index
    for index in (profile.drop_frames, profile.keep_frames, profile.default_sample_type, profile.doc_url):
        yield "the header", index


def check_references(profile):
    """Nothing else can be checked where this finds anything."""
    for where, index in string_references(profile):
        if not 0 <= index < len(profile.string_table):
            yield f"{where} names string {index} of {len(profile.string_table)}"
    for what, table in (("mapping", profile.mapping), ("location", profile.location), ("function", profile.function)):
        for number, each in enumerate(table, 1):
            if each.id != number:
                yield f"{what} number {number} has id {each.id}: ids must count up from 1"


def check_header(profile):
    types = profile.sample_types
    if not types:
        yield "there is no sample type"
    for each in types + ([profile.period_value_type] if profile.period_type else []):
        if not each.type or not each.unit:
            yield f"value type {each.type!r}/{each.unit!r} lacks a name or a unit"
    for each, n in collections.Counter(each.type for each in types).items():
        if n > 1:
            yield f"sample type {each!r} is there {n} times"
    if profile.default_sample_type and profile.default_type not in [each.type for each in types]:
        yield f"default sample type {profile.default_type!r} is none of the sample types"
    if profile.drop_frames or profile.keep_frames:
        yield "drop_frames or keep_frames is set: pprof hides frames by them"
    if "comment" in profile.packed:
        yield "the comments are packed: Alloy loses them all"
    if profile.doc_url and not profile.documentation.startswith(("http://", "https://")):
        yield f"doc_url {profile.documentation!r} is no link"
    if min(profile.time_nanos, profile.duration_nanos, profile.period) < 0:
        yield "time, duration or period is negative"


def check_labels(profile, where, sample):
    for label in sample.label:
        key = profile.text(label.key)
        if not key:
            yield f"{where} has a label without a key"
        elif label.str and (label.num or label.num_unit):
            yield f"{where}: label {key} is both text and number"
        elif not label.str and not label.num and not label.num_unit:
            yield f"{where}: label {key} is empty, or 0 without a unit: it reads as no label"
    for key, n in collections.Counter(label.key for label in sample.label).items():
        if n > 1:
            yield f"{where} has label {profile.text(key)} {n} times"


def check_samples(profile):
    seen = {}
    for number, sample in enumerate(profile.sample):
        where = f"sample {number}"
        if len(sample.value) != len(profile.sample_type):
            yield f"{where} has {len(sample.value)} values for {len(profile.sample_type)} types"
        if min(sample.value, default=0) < 0 or max(sample.value, default=0) <= 0:
            yield f"{where} has no positive value, or a negative one: Pyroscope drops it"
        for each in sample.location_id:
            if not 1 <= each <= len(profile.location):
                yield f"{where} names location {each} of {len(profile.location)}"
        yield from check_labels(profile, where, sample)
        labels = frozenset((each.key, each.str, each.num, each.num_unit) for each in sample.label)
        first = seen.setdefault((tuple(sample.location_id), labels), number)
        if first != number:
            yield f"{where} is the same as sample {first}, and was not merged with it"


def check_mappings(profile):
    for each in profile.mappings:
        where = f"mapping {each.id}"
        if not each.filename:
            yield f"{where} has no name"
        if each.start > each.limit:
            yield f"{where} ends before it starts"
        if each.build_id.strip("0123456789abcdef"):
            yield f"{where} has build id {each.build_id!r}, which is not lower-case hex"


def check_location(profile, location):
    where = f"location {location.id}"
    if not 1 <= location.mapping_id <= len(profile.mapping):
        yield f"{where} names mapping {location.mapping_id} of {len(profile.mapping)}"
        return
    mapping = profile.mapping[location.mapping_id - 1]
    if location.address == 0:
        yield f"{where} has no address"
    elif location.address not in MADE_UP and not mapping.memory_start <= location.address < mapping.memory_limit:
        yield (
            f"{where} at 0x{location.address:x} is outside of its mapping "
            f"{profile.text(mapping.filename)} 0x{mapping.memory_start:x}-0x{mapping.memory_limit:x}"
        )
    if not location.line and mapping.has_functions:
        yield f"{where} has no line where its mapping has_functions: pprof merges all such"
    for line in location.line:
        if not 1 <= line.function_id <= len(profile.function):
            yield f"{where} names function {line.function_id} of {len(profile.function)}"
        if line.line < 0:
            yield f"{where} has line {line.line}"


def check_locations(profile):
    for location in profile.location:
        yield from check_location(profile, location)
    for address, n in collections.Counter(each.address for each in profile.location).items():
        if n > 1:
            yield f"{n} locations are at address 0x{address:x}: Alloy takes them for one"


def check_functions(profile):
    last = 0
    for function_id in (line.function_id for location in profile.location for line in location.line):
        if function_id > last + 1:
            yield f"function {function_id} is used before function {last + 1}"
        last = max(last, function_id)
    for each in profile.function:
        if not profile.text(each.name) or not profile.text(each.system_name):
            yield f"function {each.id} lacks a name or a system name"
        if each.start_line < 0:
            yield f"function {each.id} has start line {each.start_line}"


def check_valid(profile):
    """InvalidProfile with everything that a reader would refuse, misread or leave out."""
    problems = list(check_references(profile))
    if not problems:
        for check in (check_strings, check_header, check_samples, check_mappings, check_locations, check_functions):
            problems += check(profile)
    if problems:
        raise InvalidProfile(problems)


# ---- for people


def describe(profile):
    """Lines about a profile, stacks included."""
    yield "types: " + ", ".join(f"{each.type}/{each.unit}" for each in profile.sample_types) + f"; default {profile.default_type}"
    yield f"period: {profile.period_value_type} {profile.period}"
    yield f"time: {profile.time_nanos} ns, duration {profile.duration_nanos} ns"
    yield from (f"comment: {each}" for each in profile.comments)
    if profile.doc_url:
        yield f"documentation: {profile.documentation}"
    for each in profile.mappings:
        yield f"mapping {each.id}: 0x{each.start:x}-0x{each.limit:x}+0x{each.offset:x} {each.filename} {each.build_id}"
    for each in profile.samples:
        yield " ".join(str(value) for value in each.values) + " " + " ".join(f"{k}={v}" for k, v in sorted(each.labels.items()))
        for frame in each.stack:
            inlined = " (inlined)" if frame.inlined else ""
            yield f"    0x{frame.address:x} {frame.function or '?'} {frame.filename}:{frame.line}{inlined}"


def main(paths):
    failed = False
    for path in paths:
        try:
            profile = read(path)
            check_valid(profile)
            print(f"{path}:", *describe(profile), sep="\n")
        except (OSError, ProfileError, InvalidProfile) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
