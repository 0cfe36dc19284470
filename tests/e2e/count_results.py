#!/usr/bin/python3
"""Prints "PASSED FAILED SKIPPED" of a JUnit file, as setup.sh sums them. A file that is missing or broken, or
tells of no test at all, is one failure: a run that died must not look like one without faults.
"""

import sys
import xml.etree.ElementTree


def count(path):
    try:
        suites = list(xml.etree.ElementTree.parse(path).getroot().iter("testsuite"))
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 1, 0
    total, failed, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return (total - failed - skipped, failed, skipped) if total else (0, 1, 0)


if __name__ == "__main__":
    print(*count(sys.argv[1]))
