#!/usr/bin/python3
"""Frames agree with those of elfutils', binutils' or LLVM's tool, address by address: in programs built here in
all the ways that debug information is stored, and in this machine's C library where its debug file is there.

usage: test_references.py RESOLVE_PROGRAM [unittest arguments]"""

import collections
import lzma
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "symbols"))

from references import parse_addr2line  # noqa: E402

RESOLVE = ""
DEBUG_DIR = "/usr/lib/debug"


def run(*command, stdin=None):
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def parse_frames(text):
    """address -> [(name, file, line)], innermost first, of addr2line's output with -a -f -i."""
    return {
        address: [(name or "??", path or "??", line) for name, path, line in frames]
        for address, frames in parse_addr2line(text).items()
    }


def text_section(path):
    with open(path, "rb") as file:
        image = file.read()
    start, = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", image, start + i * size) for i in range(count)]
    for name, _, _, address, _, length in headers:
        at = headers[names][4] + name
        if image[at:image.index(b"\0", at)] == b".text":
            return address, length
    raise ValueError("no .text in " + path)


def bare_name(name):
    """The last part of a name, without parameters: what a function without a linkage name is called."""
    name = re.sub(r"\[clone .*|\[abi:\w+\]| const$", "", name).replace("(anonymous namespace)::", "")
    shorter = None
    while shorter != name:
        shorter, name = name, re.sub(r"(?<!operator)(<[^<>]*>|\([^()]*\))", "", name)
    return name.split("::")[-1].split(" ")[-1]


def symbol_addresses(path):
    """name -> addresses: two names of one address are aliases."""
    found = collections.defaultdict(set)
    for line in run("nm", path).splitlines():
        words = line.split()
        if len(words) == 3:
            found[words[2].split("@")[0]].add(words[0])
    return found


def same_name(ours, theirs, addresses):
    if theirs == "inner_label":
        return ours == "no_size"  # a label within a function of assembly: the others show it
    if ours == theirs or addresses.get(ours, set()) & addresses.get(theirs.split("@")[0], set()):
        return True
    # Theirs come with return types, and are bare where there is no linkage name.
    return theirs.replace(" ", "").endswith(ours.replace(" ", "")) or bare_name(ours) == bare_name(theirs)


class References(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def need(self, *programs):
        for program in programs:
            if not shutil.which(program):
                self.skipTest(program + " is not installed")

    def build(self, compiler, source, *flags, name="sample"):
        self.need(compiler)
        out = os.path.join(self.dir, name)
        try:
            run(compiler, "-g", "-O2", "-Wno-attributes", *flags, os.path.join(HERE, source), "-o", out)
        except subprocess.CalledProcessError as error:
            self.skipTest(f"{compiler} {flags}: {error.stderr[:200]}")
        return out

    def resolve(self, path, addresses, *options):
        return parse_frames(run(RESOLVE, "--debug-dir", self.dir, "--debug-dir", DEBUG_DIR, *options, path,
                                stdin="".join(f"{a:x}\n" for a in addresses)))

    def references(self, path, addresses):
        """What the other tools say: each has its gaps (DWARF 5 of clang, LTO, code without DWARF)."""
        tools = (("eu-addr2line", "-e"), ("addr2line", "-e"), ("llvm-symbolizer", "--output-style=GNU", "-e"))
        self.need(*(tool[0] for tool in tools))
        stdin = "".join(f"0x{a:x}\n" for a in addresses)
        # eu-addr2line ends with 1 after an address that it has nothing for.
        return [parse_frames(subprocess.run([*tool, path, "-a", "-f", "-i", "-C"], input=stdin, text=True,
                                            capture_output=True, check=False).stdout) for tool in tools]

    def difference(self, frames, wanted, aliases):
        if frames == [("??", "??", 0)] and wanted[0][0] == "??":
            return None  # padding between functions is nobody's, though a line table may cover it
        if len(frames) != len(wanted):
            return "depth"
        for mine, his in zip(frames, wanted):
            if not same_name(mine[0], his[0], aliases):
                return "name"
            # A file without a line is a guess from the symbol table.
            if mine[1:] != his[1:] and not (mine[1:] == ("??", 0) and his[2] == 0):
                return "line"
        return None

    def check(self, path, reference_path=None, allowed=0.0, at_most=2000):
        """allowed: the share of addresses where both other tools may differ."""
        start, length = text_section(path)
        addresses = range(start, start + length)
        if length > at_most:
            addresses = random.Random(1).sample(addresses, at_most)
        ours = self.resolve(path, addresses)
        references = self.references(reference_path or path, addresses)
        aliases = symbol_addresses(reference_path or path)
        wrong = collections.defaultdict(list)
        for address, frames in ours.items():
            found = [self.difference(frames, r.get(address, [("??", "??", 0)]), aliases) for r in references]
            if all(found):
                wrong[found[0]].append((hex(address), frames, [r.get(address) for r in references]))
        self.assertLessEqual(sum(map(len, wrong.values())), allowed * len(ours),
                             {kind: (len(examples), examples[:3]) for kind, examples in wrong.items()})
        self.assertGreater(sum(frames[0][0] != "??" for frames in ours.values()), 0.8 * len(ours))
        return ours

    def check_inlined(self, ours):
        chains = {tuple(name for name, _, _ in frames) for frames in ours.values()}
        self.assertIn(("innermost", "middle", "outermost"), chains)

    def test_dwarf_versions(self):
        for compiler in ("gcc", "clang"):
            for version in ("-gdwarf-4", "-gdwarf-5"):
                with self.subTest(compiler=compiler, version=version):
                    self.check_inlined(self.check(self.build(compiler, "sample.c", version), allowed=0.001))

    def test_compressed(self):
        for how in ("zlib", "zlib-gnu"):
            with self.subTest(how=how):
                self.check_inlined(self.check(self.build("gcc", "sample.c", "-gz=" + how)))

    def test_compressed_zstd(self):
        path = self.build("gcc", "sample.c")
        packed = path + ".zstd"
        if subprocess.run(["objcopy", "--compress-debug-sections=zstd", path, packed], capture_output=True, check=False).returncode != 0:
            self.skipTest("objcopy has no zstd")
        addresses = range(*self.bounds(path))
        ours = self.resolve(packed, addresses)
        if not any(frame[1] != "??" for frames in ours.values() for frame in frames):
            self.skipTest("built without zstd")
        self.assertEqual(ours, self.resolve(path, addresses))

    def test_cxx(self):
        for compiler in ("g++", "clang++"):
            for version in ("-gdwarf-4", "-gdwarf-5"):
                with self.subTest(compiler=compiler, version=version):
                    self.check(self.build(compiler, "sample.cc", version), allowed=0.01)

    def test_cxx_names(self):
        ours = self.check(self.build("g++", "sample.cc"), allowed=0.01)
        names = {name for frames in ours.values() for name, _, _ in frames}
        for wanted in ("(anonymous namespace)::unnamed(int)", "(anonymous namespace)::Scale::apply",
                       "main::{lambda}::operator()", "outer::doubled", "Derived::run(int)",
                       "outer::inner::Box<long>::get(long)"):
            self.assertIn(wanted, names)
        thunks = [frames for frames in ours.values() if frames[0][0] == "non-virtual thunk to Both::right(int)"]
        self.assertTrue(thunks)
        self.assertTrue(all(line > 0 for frames in thunks for _, _, line in frames), thunks)

    def test_link_time_optimization(self):
        self.check(self.build("gcc", "sample.c", "-flto"), allowed=0.001)

    def test_dropped_sections(self):
        path = self.build("gcc", "sample.c", "-ffunction-sections", "-Wl,--gc-sections", "-static")
        self.check(path, allowed=0.001)

    def test_static_addresses(self):
        self.check_inlined(self.check(self.build("gcc", "sample.c", "-no-pie")))

    def split_debug(self, path, *objcopy):
        debug = os.path.join(self.dir, "sample.debug")
        run("objcopy", "--only-keep-debug", path, debug)
        whole = path + ".whole"
        shutil.copy(path, whole)
        run("objcopy", "--strip-all", *objcopy, path)
        return debug, whole

    def test_separate_by_debuglink(self):
        path = self.build("gcc", "sample.c", "-Wl,--build-id=none")
        debug, whole = self.split_debug(path)
        run("objcopy", "--add-gnu-debuglink=" + debug, path)
        self.check_inlined(self.check(path, whole))
        with open(debug, "ab") as file:
            file.write(b"changed")
        names = {frames[0][0] for frames in self.resolve(path, range(*self.bounds(path))).values()}
        self.assertNotIn("outermost", names, "a debug file of another build was used")

    def bounds(self, path):
        start, length = text_section(path)
        return start, start + length

    def test_separate_by_build_id(self):
        path = self.build("gcc", "sample.c", "-Wl,--build-id=0xabcdef0123456789")
        debug, whole = self.split_debug(path)
        os.makedirs(os.path.join(self.dir, ".build-id/ab"))
        shutil.move(debug, os.path.join(self.dir, ".build-id/ab/cdef0123456789.debug"))
        self.check_inlined(self.check(path, whole))
        other = self.build("gcc", "sample.c", "-Wl,--build-id=0x1111111111111111", name="other")
        run("objcopy", "--only-keep-debug", other, self.dir + "/.build-id/ab/cdef0123456789.debug")
        names = {frames[0][0] for frames in self.resolve(path, range(*self.bounds(path))).values()}
        self.assertNotIn("outermost", names, "a debug file of another build was used")

    def test_common_file(self):
        self.need("dwz")
        one = self.build("g++", "sample.cc", "-gdwarf-4")
        two = self.build("g++", "sample.cc", "-gdwarf-4", "-DOTHER", name="other")
        whole = one + ".whole"
        shutil.copy(one, whole)
        common = os.path.join(self.dir, "common")
        run("dwz", "-m", common, one, two)
        note = run("readelf", "-n", common)
        build_id = re.search(r"Build ID: ([0-9a-f]+)", note)[1]
        names = {frames[0][0] for frames in self.resolve(one, range(*self.bounds(one))).values()}
        self.assertNotIn("std::map", "".join(names).split("(")[0])
        folder = os.path.join(self.dir, ".build-id", build_id[:2])
        os.makedirs(folder)
        shutil.move(common, os.path.join(folder, build_id[2:] + ".debug"))
        addresses = range(*self.bounds(one))
        ours, wanted = self.resolve(one, addresses), self.resolve(whole, addresses)
        wrong = [(hex(a), ours[a], wanted[a]) for a in ours if ours[a] != wanted[a]]
        self.assertFalse(wrong[:2])

    def mini_debug(self, program, image, name):
        """A stripped program with that in .gnu_debugdata."""
        packed, out = os.path.join(self.dir, "packed"), os.path.join(self.dir, name)
        with open(packed, "wb") as file:
            file.write(image)
        run("strip", "-o", out, program)
        run("objcopy", "--add-section", ".gnu_debugdata=" + packed, out)
        return out

    def test_mini_debug(self):
        """As distributions make it: a symbol table of what .dynsym has not, compressed by xz."""
        path = self.build("gcc", "sample.c", "-Wl,--build-id=0xabcdef0123456789")
        other = self.build("gcc", "sample.c", "-Wl,--build-id=0x1111111111111111", "-DOTHER", "-O1", name="other")
        images = {}
        for program in (path, other):
            debug = program + ".debug"
            run("objcopy", "--only-keep-debug", program, debug)
            run("objcopy", "-S", "--keep-symbol=outermost", "--keep-symbol=recursive", "-R", ".comment", debug)
            with open(debug, "rb") as file:
                images[program] = file.read()
        addresses = range(*self.bounds(path))

        def names(image, *options):
            ours = self.resolve(self.mini_debug(path, image, "mini"), addresses, *options)
            return {frames[0][0] for frames in ours.values()}

        packed = lzma.compress(images[path])
        found = names(packed, "--fast")
        if "outermost" not in found and b"lzma_stream_decoder" not in subprocess.run(["nm", "-D", RESOLVE], capture_output=True, check=True).stdout:
            self.skipTest("built without liblzma")
        for wanted in (found, names(packed), names(lzma.compress(images[path], check=lzma.CHECK_CRC32))):
            self.assertLessEqual({"outermost", "recursive", "_start"}, wanted)
        for what, image in {
            "another program's": lzma.compress(images[other]),
            "cut short": packed[:-40],
            "damaged": packed[:60] + bytes([packed[60] ^ 1]) + packed[61:],
            "not compressed": images[path],
            "no ELF file": lzma.compress(b"x" * 1000),
            "empty": b"",
            "a bomb": lzma.compress(bytes(80 << 20), preset=0),
        }.items():
            with self.subTest(what=what):
                self.assertEqual(names(image) & {"outermost", "recursive"}, set())
                self.assertIn("_start", names(image))

    def test_stripped_entry(self):
        path = self.build("gcc", "sample.c", "-Wl,--build-id=none")
        whole = path + ".whole"
        shutil.copy(path, whole)
        run("strip", path)
        start, end = self.bounds(path)
        ours, wanted = self.resolve(path, range(start, end)), self.resolve(whole, range(start, end))
        is_start = [a for a in ours if ours[a][0][0] == "_start"]
        self.assertEqual(is_start, [a for a in wanted if wanted[a][0][0] == "_start"])

    def test_symbols_alone(self):
        path = self.build("gcc", "sample.c")
        addresses = range(*self.bounds(path))
        fast = {frames[0] for frames in self.resolve(path, addresses, "--fast").values() if len(frames) == 1}
        for wanted in ("outermost", "original", "recursive", "split", "no_size", "after_no_size", "_start"):
            self.assertIn((wanted, "??", 0), fast)
        for unwanted in ("weak_alias_of_it", "local_alias_of_it", "inner_label", ".Llabel", ".text"):
            self.assertNotIn((unwanted, "??", 0), fast)

    def test_stubs(self):
        self.need("objdump")
        for flags in ((), ("-Wl,-z,ibtplt", "-fcf-protection"), ("-Wl,-z,now",), ("-no-pie", "-Wl,-z,lazy"),
                      ("-fno-plt",)):
            with self.subTest(flags=flags):
                path = self.build("gcc", "sample.c", *flags)
                run("strip", path)
                if not os.uname().machine == "x86_64":
                    self.skipTest("stubs are known on x86-64 alone")
                text = run("objdump", "-d", path)
                found = re.findall(r"^([0-9a-f]+) <(\w+@plt)>:", text, re.MULTILINE)
                wanted = {int(address, 16): name for address, name in found}
                ours = self.resolve(path, list(wanted), "--fast")
                self.assertEqual({a: ours[a][0][0] for a in wanted}, wanted)
                self.assertEqual("-fno-plt" in flags, "printf@plt" not in wanted.values())

    def test_chosen_stubs(self):
        """Of functions that are chosen when the program starts (IFUNC): by their names where a symbol has them, else as objdump does."""
        if not os.uname().machine == "x86_64":
            self.skipTest("stubs are known on x86-64 alone")
        for flags in (("-static",), ("-static-pie",)):
            with self.subTest(flags=flags):
                path = self.build("gcc", "sample.c", *flags)
                choosers = collections.defaultdict(set)
                for line in run("nm", path).splitlines():
                    address, kind, name = line.rsplit(None, 2) if len(line.split()) == 3 else (None, None, None)
                    if kind == "i":
                        choosers[int(address, 16)].add(name + "@plt")
                sections = re.findall(r" (\.i?plt\S*) +PROGBITS +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", run("readelf", "-SW", path))
                addresses = [a for _, start, size in sections for a in range(int(start, 16), int(start, 16) + int(size, 16), 8)]
                ours = {a: frames[0][0] for a, frames in self.resolve(path, addresses, "--fast").items()}
                run("strip", path)
                bare = {a: frames[0][0] for a, frames in self.resolve(path, addresses, "--fast").items()}
                stubs = [a for a, name in ours.items() if name.endswith("@plt")]
                self.assertGreater(len(stubs), 10)
                for a in stubs:
                    chooser = re.fullmatch(r"\*ABS\*\+0x([0-9a-f]+)@plt", bare[a])
                    self.assertTrue(chooser and ours[a] in choosers[int(chooser[1], 16)], (ours[a], bare[a]))

    def test_malformed_symtab(self):
        """Its names can't be read, or it is none: .dynsym has some yet."""
        path = self.build("gcc", "sample.c", "-rdynamic")
        addresses = range(*self.bounds(path))
        with open(path, "rb") as file:
            whole = bytearray(file.read())
        start, = struct.unpack_from("<Q", whole, 0x28)
        size, count = struct.unpack_from("<HH", whole, 0x3A)
        table = next(at for at in range(start, start + size * count, size) if struct.unpack_from("<I", whole, at + 4)[0] == 2)
        offset, length = struct.unpack_from("<QQ", whole, table + 24)
        for what, at, value in (("type", table + 4, struct.pack("<I", 1)), ("link to no strings", table + 40, struct.pack("<I", 1)),
                                ("link beyond all", table + 40, struct.pack("<I", 0xffff)), ("place", table + 24, b"\xff" * 8),
                                ("length", table + 32, b"\xff" * 8), ("entry size", table + 56, struct.pack("<Q", 1)),
                                ("names", 0, b"")):
            with self.subTest(what=what):
                image = bytearray(whole)
                if what == "names":
                    for entry in range(offset, offset + length, 24):
                        image[entry:entry + 4] = b"\xfe\xff\xff\x7f"
                else:
                    image[at:at + len(value)] = value
                changed = path + ".changed"
                with open(changed, "wb") as file:
                    file.write(image)
                names = {frames[0][0] for frames in self.resolve(changed, addresses, "--fast").values()}
                self.assertLessEqual({"outermost", "recursive"}, names)

    def test_c_library(self):
        places = [f"/lib/{machine}-linux-gnu/libc.so.6" for machine in ("x86_64", "aarch64")]
        libraries = [path for path in places if os.path.exists(path)]
        if not libraries:
            self.skipTest("no glibc at a known place")
        build_id = re.search(r"Build ID: ([0-9a-f]+)", run("readelf", "-n", libraries[0]))[1]
        if not os.path.exists(f"{DEBUG_DIR}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"):
            self.skipTest("the C library's debug file is not installed (libc6-dbg)")
        self.check(libraries[0], f"{DEBUG_DIR}/.build-id/{build_id[:2]}/{build_id[2:]}.debug", allowed=0.001,
                   at_most=8000)


if __name__ == "__main__":
    RESOLVE = sys.argv[1]
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
