#!/usr/bin/python3
"""The tests' own reader of profiles: it reads what the encoder wrote, and finds each fault that it is there to find."""

import gzip
import os
import subprocess
import tempfile
import unittest

import written

import pprofile


class Reads(written.WrittenProfiles):
    """What the encoder wrote, read by what shares nothing with it."""

    def load(self, name):
        profile = pprofile.read(self.path(name))
        pprofile.check_valid(profile)
        return profile

    def test_header(self):
        profile = self.load("full.pb.gz")
        self.assertEqual(profile.sample_types, [("samples", "count"), ("cpu", "nanoseconds")])
        self.assertEqual(profile.default_type, "cpu")
        self.assertEqual(profile.period_value_type, ("cpu", "nanoseconds"))
        self.assertEqual((profile.period, profile.time_nanos, profile.duration_nanos), (10**7, 18 * 10**17, 2 * 10**9))
        self.assertEqual(profile.comments, ["cprofd.version=1.2.3", "cprofd.lost.ring=0", "cprofd.path=/\ufffd"])
        self.assertEqual(profile.documentation, "https://example.org/cprofd")

    def test_mappings(self):
        first, library, kernel, unknown = self.load("full.pb.gz").mappings
        self.assertEqual(first, (1, 0x400000, 0x500000, 0x1000, "/usr/bin/demo", "00ab12cd", True, True, True, True))
        self.assertEqual((library.filename, library.has_functions), ("/usr/lib/lib\ufffd.so", True))
        self.assertEqual((library.has_filenames, library.has_line_numbers, library.has_inline_frames), (False,) * 3)
        self.assertEqual((kernel.filename, kernel.start), ("[kernel.kallsyms]", 0xFFFFFFFF81000000))
        self.assertEqual((unknown.filename, unknown.has_functions), ("//anon", False))

    def test_samples(self):
        samples = self.load("full.pb.gz").samples
        names = [[frame.function for frame in each.stack] for each in samples]
        spin = ["ns::tiny()", "ns::spin(int)", "main"]
        self.assertEqual(names, [spin, spin, ["do_syscall_64", "lib.so+0x40", "main"], ["main"], ["", "main"]])
        self.assertEqual([each.values[0] for each in samples], [65, 10, 15, 7, 3])
        self.assertTrue(all(each.values[1] == each.values[0] * 10**7 for each in samples))
        self.assertEqual(samples[0].labels, {"tid": 100, "pid": 4711, "thread": "worker"})
        self.assertEqual(samples[1].labels, {"tid": 101, "pid": 4711, "thread": "w\ufffdrker"})
        self.assertEqual(samples[2].labels, {"tid": 0, "pid": 4711})
        self.assertEqual(samples[2].units, {"tid": "tid", "pid": ""})

    def test_frames(self):
        samples = self.load("full.pb.gz").samples
        tiny, spin, root = samples[0].stack
        self.assertEqual(tiny[:5], ("ns::tiny()", "_ZN2ns4tinyEv", "/src/tiny.h", 1, 2))
        self.assertEqual(spin[:5], ("ns::spin(int)", "_ZN2ns4spinEi", "/src/spin.cc", 3, 7))
        self.assertEqual((tiny.address, spin.address, root.address), (0x400200, 0x400200, 0x400100))
        self.assertEqual((tiny.inlined, spin.inlined, root.inlined), (True, False, False))
        self.assertEqual(root.mapping.filename, "/usr/bin/demo")
        self.assertIn(samples[3].stack[0].address, pprofile.MADE_UP)

    def test_default_type_and_empty(self):
        self.assertEqual(self.load("by_samples.pb.gz").default_type, "samples")
        self.assertEqual(self.load("empty.pb.gz").samples, [])

    def test_folded(self):
        with open(self.path("full.folded"), encoding="utf-8") as file:
            lines = file.read().splitlines()
        wanted = [
            ("main;ns::spin(int);ns::tiny()", 75), ("main;lib.so+0x40;do_syscall_64", 15), ("main", 7),
            ("main;anon@0x10010", 3),
        ]  # fmt: skip
        self.assertEqual(lines, [f"{stack} {n * 10**7}" for stack, n in wanted])
        with open(self.path("by_samples.folded"), encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines(), [f"{stack} {n}" for stack, n in wanted])
        with open(self.path("empty.folded"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "")

    def test_same_bytes_from_another_process(self):
        """Scrapers compare profiles of a run with those of the next."""
        with tempfile.TemporaryDirectory() as other:
            subprocess.run([written.WRITE_PROFILE, other], check=True)
            for name in os.listdir(other):
                with open(self.path(name), "rb") as one, open(os.path.join(other, name), "rb") as two:
                    self.assertEqual(one.read(), two.read(), name)

    def test_describe(self):
        text = "\n".join(pprofile.describe(self.load("full.pb.gz")))
        self.assertIn("0x400200 ns::tiny() /src/tiny.h:2 (inlined)", text)


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*fields):
    return b"".join(field(number, value) for number, value in fields)


STRINGS = ["", "cpu", "nanoseconds", "/bin/a", "main", "tid", "text", "https://a", "Bad", "drop"]
MAPPING = ((1, 1), (2, 0x1000), (3, 0x9000), (5, 3), (7, 1))
LOCATION = ((1, 1), (2, 1), (3, 0x1500), (4, message((1, 1), (2, 5))))
FUNCTION = ((1, 1), (2, 4), (3, 4), (5, 3))
SAMPLE = ((1, b"\1"), (2, b"\5"), (3, message((1, 5), (3, 7))))


def build(*more, types=((1, 2),), sample=SAMPLE, mapping=MAPPING, location=LOCATION, function=FUNCTION, strings=tuple(STRINGS)):
    """A small good profile, in which a test breaks one thing."""
    fields = [(1, message((1, name), (2, unit))) for name, unit in types]
    fields += [(2, message(*sample)), (3, message(*mapping)), (4, message(*location)), (5, message(*function))]
    fields += [(6, each) for each in strings]
    return message(*fields, *more)


def with_field(fields, number, value):
    """Fields, one of them replaced or added; None removes it."""
    return tuple(each for each in fields if each[0] != number) + (((number, value),) if value is not None else ())


class Rules(unittest.TestCase):
    """Each rule, broken."""

    def problems(self, data):
        try:
            pprofile.check_valid(pprofile.parse(data))
        except pprofile.InvalidProfile as error:
            return error.problems
        return []

    def assert_problem(self, data, words):
        problems = self.problems(data)
        self.assertTrue(any(words in each for each in problems), f"{words!r} is not in {problems}")
        self.assertEqual(len(problems), 1, problems)

    def test_good(self):
        self.assertEqual(self.problems(build()), [])

    def test_strings(self):
        self.assert_problem(build(strings=STRINGS + ["main"]), "is there 2 times")
        self.assert_problem(build(strings=STRINGS + ["x" * 65536]), "longer than 65535")
        self.assertIn("string_table[0] is not empty", self.problems(build(strings=["nothing", *STRINGS[1:]])))
        self.assertIn("a value type names string 1 of 0", self.problems(build(strings=())))

    def test_references(self):
        self.assert_problem(build((15, 99)), "the header names string 99")
        self.assert_problem(build((13, -1)), "a comment names string -1")
        self.assert_problem(build(types=((1, 77),)), "a value type names string 77")
        self.assert_problem(build(sample=with_field(SAMPLE, 3, message((1, 5), (2, 70)))), "a label of sample 0")
        self.assert_problem(build(mapping=with_field(MAPPING, 6, 70)), "mapping 1 names string")
        self.assert_problem(build(function=with_field(FUNCTION, 4, 70)), "function 1 names string")

    def test_ids(self):
        self.assert_problem(build(mapping=with_field(MAPPING, 1, 2)), "mapping number 1 has id 2")
        self.assert_problem(build(location=with_field(LOCATION, 1, None)), "location number 1 has id 0")
        self.assert_problem(build((5, message(*FUNCTION))), "function number 2 has id 1")

    def test_header(self):
        self.assertIn("there is no sample type", self.problems(build(types=(), sample=with_field(SAMPLE, 2, None))))
        self.assert_problem(build(types=((1, 0),)), "lacks a name or a unit")
        self.assert_problem(build((11, message((1, 1)))), "lacks a name or a unit")
        self.assert_problem(build(types=((1, 2), (1, 2)), sample=with_field(SAMPLE, 2, b"\1\1")), "'cpu' is there 2 times")
        self.assert_problem(build((14, 4)), "default sample type 'main'")
        self.assert_problem(build((7, 9)), "drop_frames")
        self.assert_problem(build((8, 9)), "drop_frames")
        self.assert_problem(build((13, b"\4")), "comments are packed")
        self.assert_problem(build((15, 4)), "is no link")
        self.assert_problem(build((10, -1)), "is negative")
        self.assertEqual(self.problems(build((13, 4), (13, 0), (14, 1), (15, 7))), [])

    def test_samples(self):
        self.assert_problem(build(sample=with_field(SAMPLE, 2, b"\1\1")), "2 values for 1 types")
        self.assert_problem(build(sample=with_field(SAMPLE, 2, b"\0")), "no positive value")
        self.assert_problem(build(sample=with_field(SAMPLE, 2, varint(-1))), "a negative one")
        self.assert_problem(build(sample=with_field(SAMPLE, 1, b"\2")), "names location 2 of 1")
        self.assert_problem(build(sample=with_field(SAMPLE, 1, b"\0")), "names location 0 of 1")
        self.assert_problem(build((2, message(*SAMPLE))), "sample 1 is the same as sample 0")

    def test_labels(self):
        for label, words in (
            (((3, 7),), "without a key"),
            (((1, 5),), "reads as no label"),
            (((1, 5), (2, 6), (3, 7)), "both text and number"),
        ):
            self.assert_problem(build(sample=with_field(SAMPLE, 3, message(*label))), words)
        self.assert_problem(build(sample=(*SAMPLE, (3, message((1, 5), (2, 6))))), "has label tid 2 times")
        self.assertEqual(self.problems(build(sample=with_field(SAMPLE, 3, message((1, 5), (4, 5))))), [])

    def test_mappings(self):
        self.assert_problem(build(mapping=with_field(MAPPING, 5, None)), "has no name")
        self.assert_problem(build(mapping=with_field(MAPPING, 6, 8)), "not lower-case hex")
        self.assertIn("mapping 1 ends before it starts", self.problems(build(mapping=with_field(MAPPING, 3, 0x500))))

    def test_locations(self):
        self.assert_problem(build(location=with_field(LOCATION, 2, None)), "names mapping 0 of 1")
        self.assert_problem(build(location=with_field(LOCATION, 2, 2)), "names mapping 2 of 1")
        self.assert_problem(build(location=with_field(LOCATION, 3, None)), "has no address")
        self.assert_problem(build(location=with_field(LOCATION, 3, 0x9000)), "outside of its mapping")
        self.assertEqual(self.problems(build(location=with_field(LOCATION, 3, 1 << 60))), [])
        second = with_field(LOCATION, 1, 2)
        self.assert_problem(build((4, message(*second))), "2 locations are at address 0x1500")
        self.assertIn("has no line", "".join(self.problems(build(location=with_field(LOCATION, 4, None)))))
        self.assertEqual(
            self.problems(build(location=with_field(LOCATION, 4, None), mapping=with_field(MAPPING, 7, None))), []
        )

    def test_functions(self):
        self.assert_problem(build(location=with_field(LOCATION, 4, message((2, 5)))), "names function 0 of 1")
        self.assertIn(
            "location 1 names function 2 of 1",
            self.problems(build(location=with_field(LOCATION, 4, message((1, 2))))),
        )
        self.assert_problem(build(location=with_field(LOCATION, 4, message((1, 1), (2, -1)))), "has line -1")
        second = (5, message(*with_field(FUNCTION, 1, 2)))
        lines = with_field(LOCATION, 4, message((1, 2)))
        self.assert_problem(build(second, location=(*lines, (4, message((1, 1))))), "function 2 is used before")
        self.assert_problem(build(function=with_field(FUNCTION, 2, None)), "lacks a name")
        self.assert_problem(build(function=with_field(FUNCTION, 3, None)), "lacks a name")
        self.assert_problem(build(function=with_field(FUNCTION, 5, -2)), "has start line -2")


class Wire(unittest.TestCase):
    """Bytes that are no profile, and those that are one in another form."""

    def assert_bad(self, data, words):
        with self.assertRaisesRegex(pprofile.ProfileError, words):
            pprofile.parse(data)

    def test_forms(self):
        for data in (build(), gzip.compress(build())):
            profile = pprofile.parse(data)
            self.assertEqual(profile.samples[0].stack[0].function, "main")
        unpacked = build(sample=((1, 1), (1, 1), (2, 5)))
        self.assertEqual(len(pprofile.parse(unpacked).samples[0].stack), 2)
        self.assertEqual(pprofile.parse(build(sample=with_field(SAMPLE, 2, varint(-3)))).samples[0].values, (-3,))

    def test_gzip(self):
        good = gzip.compress(build())
        self.assert_bad(good[:-1], "cut short")
        self.assert_bad(good + b"x", "more data")
        self.assert_bad(good[:20] + b"\xff\xff\xff" + good[23:], "bad gzip")

    def test_fields(self):
        self.assert_bad(b"\x32\x05abc", "cut short in field 6")
        self.assert_bad(b"\x32", "cut short in a number")
        self.assert_bad(b"\x50" + b"\xff" * 9 + b"\x7f", "beyond 64 bits")
        self.assert_bad(b"\x50" + b"\xff" * 10, "more than ten bytes")
        self.assert_bad(b"\x33", "wire type 3")
        self.assert_bad(field(99, 1), "has no field 99")
        self.assert_bad(field(6, 1), "string_table has wire type 0")
        self.assert_bad(field(9, b""), "time_nanos has wire type 2")
        self.assert_bad(field(6, b"\xff"), "no UTF-8")

    def test_unresolvable(self):
        for data in (build(sample=with_field(SAMPLE, 1, b"\2")), build(location=with_field(LOCATION, 4, message((1, 9))))):
            with self.assertRaises(pprofile.InvalidProfile):
                pprofile.parse(data).samples  # noqa: B018
        with self.assertRaises(pprofile.InvalidProfile):
            pprofile.parse(build((13, 99))).comments  # noqa: B018


if __name__ == "__main__":
    unittest.main()
