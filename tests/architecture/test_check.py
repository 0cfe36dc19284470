#!/usr/bin/python3
"""The checker finds what it is there to find: each kind of fault, planted in a tree of its own."""

import os
import subprocess
import sys
import tempfile
import unittest

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check.py")
GOOD = "/* Owns nothing. */\n#pragma once\n"


class Checker(unittest.TestCase):
    def run_on(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def assert_fault(self, files, words):
        code, output = self.run_on(files)
        self.assertEqual(code, 1, output)
        self.assertIn(words, output)

    def test_good(self):
        code, output = self.run_on({"util/a.h": GOOD, "daemon/b.c": '/* Uses a. */\n#include "util/a.h"\n'})
        self.assertEqual(code, 0, output)

    def test_upward(self):
        self.assert_fault({"util/a.c": '/* A. */\n#include "daemon/b.h"\n'}, "may not include from daemon/")

    def test_sideways(self):
        self.assert_fault(
            {"pprof/a.c": '/* A. */\n#include "symbolize/b.h"\n'}, "may not include from symbolize/"
        )

    def test_without_folder(self):
        self.assert_fault(
            {"util/a.h": GOOD, "util/a.c": '/* A. */\n#include "a.h"\n'}, "must name its folder"
        )

    def test_style(self):
        mark = "TO" + "DO"
        self.assert_fault({"util/a.c": f"/* A. */\n/* {mark} */\n"}, "unfinished")
        self.assert_fault({"util/a.c": "int a;\n"}, "does not open with a comment")
        self.assert_fault({"util/a.h": "/* A. */\n"}, "#pragma once")
        self.assert_fault({"util/a.c": "/* A. */\n\tint a;\n"}, "tab")
        self.assert_fault({"util/a.c": "/* A. */\nint a; \n"}, "white space")
        self.assert_fault({"util/a.c": "/* A. */\n" + "int a;\n" * 700}, "one subject")
        self.assert_fault({"util/a.c": "/* A. */\ntypedef struct a a;\n"}, "typedef")
        self.assert_fault({"util/a.c": "/* A. */"}, "no newline")
        self.assert_fault({"util/a.c": "/* A. */\n/* " + "x" * 200 + " */\n"}, "columns")

    def test_empty_tree(self):
        self.assertEqual(self.run_on({"README": "x\n"})[0], 2)


if __name__ == "__main__":
    unittest.main()
