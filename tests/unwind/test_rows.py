#!/usr/bin/python3
"""Unwinding rows agree with libdw's at every row, at every change of libdw's rule and at random places, in this machine's libraries and
programs; and with the ranges and rules that readelf lists.

usage: test_rows.py COMPARE_ROWS_PROGRAM [unittest arguments]"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

COMPARE_ROWS = ""
GO_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../programs/go_hot.go")

# Files with CFI of all kinds; those that a machine lacks are left out.
FILES = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libm.so.6",
    "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/x86_64-linux-gnu/libgcrypt.so.20",
    "/usr/bin/python3",
    "/usr/bin/openssl",
    "/usr/bin/git",
    "/usr/bin/perl",
    "/usr/bin/sqlite3",
    "/usr/bin/node",
    "/usr/lib/jvm/default-java/lib/server/libjvm.so",
]

C_PROGRAM = r"""
#include <alloca.h>
#include <string.h>
#ifndef N
#define N 300
#endif
volatile int sink;
__attribute__((noinline)) int large(int n) { volatile char room[70000]; memset((char *)room, n, sizeof(room)); return room[n]; }
__attribute__((noinline)) int grows(int n) { char *p = alloca((size_t)n); memset(p, n, (size_t)n); return p[n / 2]; }
__attribute__((noinline)) int aligned(int n) { _Alignas(64) volatile char room[256]; char *p = alloca((size_t)n); p[0] = 1; room[n % 256] = p[0]; return room[1]; }
__attribute__((noinline)) int many(int a, int b, int c, int d, int e, int f, int g, int h) { return sink ? large(a + b) * grows(c + d) + aligned(e + f) + g * h : a; }
__attribute__((noreturn, noinline)) void ends(void) { for (;;) __builtin_trap(); }
#ifdef BARE
void *memset(void *to, int c, size_t n) { for (volatile char *p = to; n > 0; n--) *p++ = (char)c; return to; }
void begin(void) { sink = many(1, 2, 3, 4, 5, 6, 7, 8); for (;;) ; }
#else
int main(int argc, char **argv) { (void)argv; sink = many(argc, N, 3, 4, 5, 6, 7, 8); if (argc > 9) ends(); return 0; }
#endif
"""

START = r"""
.globl _start
.text
_start: xor %ebp,%ebp
        mov %rsp,%rdi
        and $-16,%rsp
        call begin@PLT
        hlt
.section .note.GNU-stack,"",@progbits
"""


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Row(collections.namedtuple("Row", "start end rule")):
    pass


def our_rows(path):
    """Ascending, as (start, end, rule), NONE rows left out."""
    rows = []
    for line in run(COMPARE_ROWS, "--print", path).stdout.splitlines():
        start, size, rule = line.split(" ", 2)
        if rule != "none":
            rows.append(Row(int(start, 16), int(start, 16) + int(size), rule))
    return rows


REGISTERS = {"rsp": "r7", "rbp": "r6", "rdx": "r1", "rcx": "r2", "rax": "r0", "rbx": "r3", "rsi": "r4", "rdi": "r5"}


def readelf_rule(cells):
    """A line of readelf's tables in the vocabulary of compare_rows; None where it hides the rule ("exp")."""
    cfa, fp, ra = cells["CFA"], cells.get("rbp", "u"), cells["ra"]
    if ra == "u" and "ra" in cells:
        return "root"
    if "exp" in (cfa, fp, ra) or "exp" in cells.get("rsp", ""):
        return None
    base = re.fullmatch(r"(\w+)([+-]\d+)", cfa)
    if not base or not re.fullmatch(r"c[+-]\d+", ra) or not re.fullmatch(r"u|s|c[+-]\d+", fp) or cells.get("rsp", "u") != "u":
        return None
    register = REGISTERS.get(base[1], base[1])
    return f"{register}{base[2]} {'same' if fp in 'us' else fp} {ra}"


def readelf_rows(path):
    """As our_rows, of what readelf shows. Rules that it hides are None."""
    rows, end, start, rule, columns, in_eh = [], None, None, None, [], False
    text = run("readelf", "-wF", path).stdout.splitlines()
    for line in [*text, ""]:
        head = re.search(r" FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)$", line)
        cells = re.sub(r" \(\w+\)", "", line).split()
        if line.startswith("Contents of the"):
            in_eh = ".eh_frame" in line
        elif head:
            start, end, rule = None, int(head[2], 16), None
        elif cells[:2] == ["LOC", "CFA"]:
            columns = cells[1:]
        elif end and in_eh and cells and re.fullmatch(r"[0-9a-f]{16}", cells[0]):
            if start is not None and int(cells[0], 16) > start:
                rows.append(Row(start, int(cells[0], 16), rule))
            start, rule = int(cells[0], 16), readelf_rule(dict(zip(columns, cells[1:])))
        elif not cells:
            if start is not None and start < end:
                rows.append(Row(start, end, rule))
            start = end = None
    return sorted(rows)


def rule_at(rows, address, hint):
    """The rule at an address; hint: an index at or before it. Returns (index, rule or "none")."""
    while hint + 1 < len(rows) and rows[hint].end <= address:
        hint += 1
    inside = hint < len(rows) and rows[hint].start <= address < rows[hint].end
    return hint, rows[hint].rule if inside else "none"


class Rows(unittest.TestCase):
    def compare(self, path):
        result = run(COMPARE_ROWS, path)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"same [1-9]\d\d+ .* WRONG 0")

    def test_libdw(self):
        found = [path for path in FILES if os.path.exists(path)]
        self.assertGreater(len(found), 3)
        for path in found:
            with self.subTest(path):
                self.compare(path)

    @unittest.skipUnless(shutil.which("readelf"), "needs readelf")
    def test_readelf(self):
        for path in FILES[:4]:
            if not os.path.exists(path):
                continue
            with self.subTest(path):
                ours, theirs, hint, seen, hidden = our_rows(path), readelf_rows(path), 0, 0, 0
                self.assertGreater(len(theirs), 1000)
                for row in theirs:
                    for address in (row.start, row.end - 1):
                        hint, rule = rule_at(ours, address, hint)
                        hidden += row.rule is None
                        if row.rule is not None and rule != "root":
                            self.assertEqual(rule, row.rule, f"at {address:x}")
                            seen += 1
                self.assertGreater(seen, 100 * hidden)


    def build(self, directory, name, *options, compiler="cc", sources=()):
        """A program in C; the path of it."""
        source, path = os.path.join(directory, "program.c"), os.path.join(directory, name)
        with open(source, "w", encoding="utf-8") as file:
            file.write(C_PROGRAM)
        built = run(compiler, "-w", source, *sources, "-o", path, *options)
        self.assertEqual(built.returncode, 0, built.stderr)
        return path

    def test_built(self):
        """Compilers, levels of optimization, and where they put their CFI."""
        no_eh = ["-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions"]
        ways = [[level] for level in ("-O0", "-O1", "-O2", "-O3", "-Os")]
        ways += [["-O2", "-flto"], ["-O2", "-fomit-frame-pointer", "-static"], ["-O2", "-mno-red-zone", "-static-pie"]]
        ways += [["-O2", "-Wl,-z,lazy", "-fcf-protection"], ["-O2", "-Wl,-z,lazy", "-fcf-protection=none"]]
        ways += [["-O2", *no_eh, *compressed] for compressed in ([], ["-gz=zlib"], ["-gz=zlib-gnu"])]
        with tempfile.TemporaryDirectory() as directory:
            for compiler in filter(shutil.which, ("gcc", "clang")):
                for way in ways:
                    if compiler == "clang" and "-flto" in way or run(compiler, *way, "-xc", "-c", "/dev/null", "-o", "/dev/null").returncode:
                        continue
                    with self.subTest(compiler=compiler, way=way):
                        path = self.build(directory, "program", *way, compiler=compiler)
                        self.compare(path)
                        found = {row.rule for row in our_rows(path)}
                        self.assertGreater(len(found), 5)
                        self.assertIn("root", found)

    def test_debug_frame_fills_gaps(self):
        """Functions of which .eh_frame says nothing, between those of which it does."""
        with tempfile.TemporaryDirectory() as directory:
            path = self.build(directory, "program", "-O1", "-g", "-gz", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
            stripped = os.path.join(directory, "stripped")
            self.assertEqual(run("strip", "-o", stripped, path).returncode, 0)
            places = {line.split()[2]: int(line.split()[0], 16) for line in run("nm", path).stdout.splitlines() if len(line.split()) == 3}
            for name in ("large", "grows", "many"):
                self.assertEqual(rule_at(our_rows(path), places[name], 0)[1], "r7+8 same c-8")
                self.assertRegex(rule_at(our_rows(stripped), places[name], 0)[1], "^(none|guess .*)$")

    def test_without_sections(self):
        with tempfile.TemporaryDirectory() as directory:
            path = self.build(directory, "program", "-O2")
            whole = [row for row in our_rows(path) if not row.rule.startswith("guess")]
            with open(path, "r+b") as file:
                file.seek(0x28)
                file.write(bytes(8))
                file.seek(0x3C)
                file.write(bytes(4))
            self.assertEqual([row for row in our_rows(path) if not row.rule.startswith("guess")], whole)

    @unittest.skipUnless(os.uname().machine == "x86_64", "its assembly is x86-64's")
    def test_entry(self):
        """What the kernel starts has no caller, with CFI or without; a library that names an entry point has."""
        with tempfile.TemporaryDirectory() as directory:
            start = os.path.join(directory, "start.s")
            with open(start, "w", encoding="utf-8") as file:
                file.write(START)
            for options in (["-static"], ["-static-pie"], ["-pie", "-Wl,--dynamic-linker=/lib/ld.so"], ["-shared", "-fPIC"]):
                bare = ["-O2", "-DBARE", "-nostdlib", "-s", "-fno-stack-protector", "-fno-builtin", *options]
                path = self.build(directory, "program", *bare, sources=[start])
                with open(path, "rb") as file:
                    entry = int.from_bytes(file.read(32)[24:], "little")
                with self.subTest(options):
                    self.assertEqual(rule_at(our_rows(path), entry, 0)[1], "root")
                    self.assertEqual(rule_at(our_rows(path), entry + 14, 0)[1], "root")
            path = self.build(directory, "library.so", "-O2", "-shared", "-fPIC", "-Wl,-e,many")
            with open(path, "rb") as file:
                entry = int.from_bytes(file.read(32)[24:], "little")
            self.assertEqual(rule_at(our_rows(path), entry, 0)[1], "r7+8 same c-8")

    @unittest.skipUnless(shutil.which("go"), "needs Go")
    def test_go(self):
        """Stripped Go binaries have no CFI: their own tables say the same."""
        with tempfile.TemporaryDirectory() as directory:
            for name, mode in (("static", "exe"), ("pie", "pie")):
                whole, stripped = (os.path.join(directory, name + kind) for kind in ("", ".stripped"))
                for path, flags in ((whole, ""), (stripped, "-s -w")):
                    command = ["go", "build", f"-buildmode={mode}", f"-ldflags={flags}", "-o", path, GO_PROGRAM]
                    environment = dict(os.environ, CGO_ENABLED="0", GOFLAGS="")
                    built = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
                    self.assertEqual(built.returncode, 0, built.stderr)
                for arguments in ([whole], ["--reference", whole, stripped]):
                    result = run(COMPARE_ROWS, *arguments)
                    self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                    self.assertRegex(result.stdout, r"same [1-9]\d{3} .* go [1-9]\d{4} .* WRONG 0")
                self.assertEqual([row.rule for row in our_rows(whole)], [row.rule for row in our_rows(stripped)])
                self.assert_known_functions(whole, stripped)

    def assert_known_functions(self, whole, stripped):
        """Rules of functions that change stacks, or that nothing calls."""
        places = {line.split()[2]: int(line.split()[0], 16) for line in run("nm", whole).stdout.splitlines() if len(line.split()) == 3}
        rows = our_rows(stripped)
        for name, first, second in (
            ("runtime.goexit.abi0", "root", "root"),
            ("runtime.mstart.abi0", "root", "root"),
            ("runtime.sigreturn__sigaction.abi0", "signal+0", "signal+0"),
            ("runtime.systemstack.abi0", "r7+8 same c-8", "~r6+16 c-16 c-8"),
            ("runtime.mcall", "r7+8 same c-8", "root"),
            ("main.main", "r7+8 same c-8", "r7+16 c-16 c-8"),
        ):
            if name in places:
                found = [rule_at(rows, places[name] + offset, 0)[1] for offset in range(80)]
                self.assertEqual(found[0], first, name)
                self.assertIn(second, found, name)


if __name__ == "__main__":
    COMPARE_ROWS = os.path.abspath(sys.argv.pop(1))
    unittest.main()
