#!/usr/bin/python3
"""The manual pages are well-formed, and they and the example configuration name the same settings.

check_manuals.py CPROFD.8 CPROFD.CONF.5 CPROFD.CONF LIST_PARAMS
"""

import re
import shutil
import subprocess
import sys
import unittest

MANUAL, FILE_MANUAL, EXAMPLE, LIST_PARAMS = sys.argv[1:5] if len(sys.argv) > 4 else ("", "", "", "")
OWN_SWITCHES = {"config", "check-config", "version", "help"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def names(text, pattern):
    return [name.replace("\\-", "-") for name in re.findall(pattern, text, re.MULTILINE)]


class Manuals(unittest.TestCase):
    def test_switches_settings_and_example_agree(self):
        switches = names(read(MANUAL), r"^\.TP\n\.B[IR]? \\-\\-(\S+)")
        settings = names(read(FILE_MANUAL), r'^\.TP\n\.BI (\S+) " =')
        example = names(read(EXAMPLE), r"^#([a-z-]+) =")
        self.assertTrue(settings)
        self.assertEqual(len(settings), len(set(settings)))
        self.assertEqual([name for name in switches if name not in OWN_SWITCHES], settings)
        self.assertEqual(sorted(set(switches) - set(settings)), sorted(OWN_SWITCHES))
        self.assertEqual(sorted(set(example)), sorted(settings))

    def test_parameters_agree_with_their_table(self):
        listed = subprocess.run([LIST_PARAMS], capture_output=True, text=True, check=True).stdout
        table = [line.split("\t") for line in listed.splitlines()]
        section = read(MANUAL).split(".SH PARAMETERS")[1].split(".SH ")[0].replace("\\-", "-")
        described = dict(re.findall(r"^\.TP\n\.BI (\w+)= (.*?)(?=^\.TP|\Z)", section, re.MULTILINE | re.DOTALL))
        self.assertEqual(list(described), [name for name, _, _ in table])
        for name, bounds, fallback in table:
            for number in re.findall(r"\d+(?=[]])", bounds) if bounds.startswith("(") else []:
                self.assertIn(number, described[name], name)
            for number in re.findall(r"\b\d+\b", fallback) if name != "debug" else []:
                self.assertIn(number, described[name], name)
            for word in bounds.split("|") if "|" in bounds else []:
                self.assertIn(word, described[name], name)

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
