#!/usr/bin/python3
"""The installed `go tool pprof` reads what the encoder writes, and shows the very numbers, names and comments."""

import os
import shutil
import subprocess
import sys
import unittest

import written

GO = shutil.which("go") or shutil.which("/usr/local/go/bin/go")


class GoPprof(written.WrittenProfiles):
    """Each test looks at one of pprof's reports."""

    def pprof(self, *arguments, name="full.pb.gz"):
        environment = {**os.environ, "PPROF_TMPDIR": self.directory, "GOTOOLCHAIN": "local"}
        done = subprocess.run(
            [GO, "tool", "pprof", *arguments, self.path(name)], env=environment, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotRegex(done.stderr, "(?i)error|warn|fail|invalid")
        return done.stdout

    def rows(self, output):
        """(flat, cum, name) of a report by function."""
        lines = output.split("cum%\n", 1)[1].splitlines()
        return {(row[0], row[3], row[5]) for row in (each.split(None, 5) for each in lines)}

    def test_top(self):
        output = self.pprof("-top")
        self.assertIn("File: demo\nBuild ID: 00ab12cd\ncprofd.version=1.2.3\n", output)
        self.assertIn("\nType: cpu\nDoc: https://example.org/cprofd\n", output)
        self.assertIn("Duration: 2s, Total samples = 1000ms (50.00%)", output)
        self.assertEqual(
            self.rows(output),
            {
                ("750ms", "750ms", "ns::tiny() (inline)"), ("0", "750ms", "ns::spin(int)"), ("70ms", "1000ms", "main"),
                ("150ms", "150ms", "do_syscall_64"), ("0", "150ms", "lib.so+0x40"), ("30ms", "30ms", "[anon]"),
            },
        )  # fmt: skip

    def test_top_by_default_type(self):
        output = self.pprof("-top", name="by_samples.pb.gz")
        self.assertIn("Type: samples", output)
        self.assertIn(("75", "75", "ns::tiny() (inline)"), self.rows(output))

    def test_raw(self):
        output = self.pprof("-raw")
        self.assertIn("PeriodType: cpu nanoseconds\nPeriod: 10000000\n", output)
        self.assertIn("samples/count cpu/nanoseconds", output)
        self.assertRegex(output, r"65 +650000000: 2 1 *\n *thread:\[worker\]\n *pid:\[4711\] tid:\[100\]")
        self.assertRegex(output, r"15 +150000000: 5 4 1 *\n *pid:\[4711\] tid:\[0 tid\]")
        self.assertRegex(output, r"2: 0x400200 M=1 ns::tiny\(\) /src/tiny.h:2:0 s=1\(_ZN2ns4tinyEv\)\n +ns::spin\(int\) /src/spin.cc:7:0 s=3")
        self.assertRegex(output, r"1: 0x400000/0x500000/0x1000 /usr/bin/demo 00ab12cd \[FN\]\[FL\]\[LN\]\[IN\]")
        self.assertRegex(output, r"3: 0xffffffff81000000/0xffffffff82000000/0x0 \[kernel.kallsyms\] +\[FN\]")

    def test_comments(self):
        self.assertEqual(self.pprof("-comments"), "cprofd.version=1.2.3\ncprofd.lost.ring=0\ncprofd.path=/\ufffd\n")

    def test_tags(self):
        output = self.pprof("-tags")
        for words in ("thread: Total", "w\ufffdrker", "tid: Total", "pid: Total"):
            self.assertIn(words, output)

    def test_empty(self):
        self.assertIn("Type: cpu", self.pprof("-top", name="empty.pb.gz"))
        self.assertIn("Samples:\nsamples/count cpu/nanoseconds\nLocations\nMappings\n", self.pprof("-raw", name="empty.pb.gz"))

    def test_writes_it_again(self):
        """CheckValid runs before pprof writes; and what it wrote is the same profile."""
        self.pprof("-proto", "-output", self.path("again.pb.gz"))
        self.assertEqual(self.pprof("-traces", name="again.pb.gz"), self.pprof("-traces"))
        self.assertEqual(self.pprof("-comments", name="again.pb.gz"), self.pprof("-comments"))


if __name__ == "__main__":
    if not GO:
        print("skipped: there is no go command")
        sys.exit(77)
    unittest.main()
