#!/usr/bin/python3
"""The manual pages are well-formed, and they and the example configuration name the same settings.

check_manuals.py CPROFD.8 CPROFD.CONF.5 CPROFD.CONF
"""

import re
import shutil
import subprocess
import sys
import unittest

MANUAL, FILE_MANUAL, EXAMPLE = sys.argv[1:4] if len(sys.argv) > 3 else ("", "", "")
OWN_SWITCHES = {"config", "check-config", "version", "help"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def names(text, pattern):
    return [name.replace("\\-", "-") for name in re.findall(pattern, text, re.MULTILINE)]


class Manuals(unittest.TestCase):
    def test_switches_settings_and_example_agree(self):
        switches = names(read(MANUAL), r"^\.TP\n\.BI? \\-\\-(\S+)")
        settings = names(read(FILE_MANUAL), r'^\.TP\n\.BI (\S+) " =')
        example = names(read(EXAMPLE), r"^#([a-z-]+) =")
        self.assertTrue(settings)
        self.assertEqual(len(settings), len(set(settings)))
        self.assertEqual([name for name in switches if name not in OWN_SWITCHES], settings)
        self.assertEqual(sorted(set(switches) - set(settings)), sorted(OWN_SWITCHES))
        self.assertEqual(sorted(set(example)), sorted(settings))

    def test_no_template_is_left(self):
        for page in (MANUAL, FILE_MANUAL):
            self.assertNotRegex(read(page), r'@[A-Z]+@|^\.\\" (SWITCHES|SETTINGS)$')

    def test_roff(self):
        if not shutil.which("groff"):
            self.skipTest("needs groff")
        for page in (MANUAL, FILE_MANUAL):
            done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, text=True,
                                  check=True)
            self.assertEqual(done.stderr, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
