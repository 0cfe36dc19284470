#!/usr/bin/python3
"""What a machine can check of the project's rules: which folder may include which, and style.

    check.py SOURCE_ROOT

Prints FILE:LINE: what is wrong, one a line, and fails if there is any.
"""

import os
import re
import sys

# A folder may include from itself and from these; util includes nothing of ours. daemon/raw_profile.h
# describes the file between the loop and its workers, and daemon/ stands above all.
MAY_INCLUDE = {
    "util": set(),
    "config": {"util"},
    "bpf": {"util"},
    "symbolize": {"util"},
    "pprof": {"util"},
    "daemon": {"util", "config", "bpf", "symbolize", "pprof"},
    "shim": set(),
}

MAX_LINES = 600  # the aim is 400; beyond this, a file has more than one subject
MAX_COLUMNS = 150
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
TYPEDEF_STRUCT = re.compile(r"^\s*typedef\s+(struct|enum|union)\b")
# <bpf/...> are libbpf's own headers, in angle brackets; ours are quoted.


def source_files(root):
    """Every C file of ours, as (path, folder), sorted."""
    for top in (*MAY_INCLUDE, "tests", "include"):
        for directory, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "build")) and f != "corpus")
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    path = os.path.relpath(os.path.join(directory, name), root)
                    yield path, path.split(os.sep)[0]


def check_includes(path, folder, number, line, root):
    found = INCLUDE.match(line)
    if not found or folder not in MAY_INCLUDE:
        return
    name = found.group(1)
    other = name.split("/")[0]
    if other in MAY_INCLUDE:
        if other != folder and other not in MAY_INCLUDE[folder]:
            yield f"{folder}/ may not include from {other}/: dependencies point one way"
    elif os.path.exists(os.path.join(root, folder, name)):
        yield f'"{name}" must name its folder: "{folder}/{name}"'


def check_line(path, folder, number, line, root):
    yield from check_includes(path, folder, number, line, root)
    if UNFINISHED.search(line):
        yield "a mark of unfinished work"
    if "\t" in line:
        yield "a tab: indent by 4 spaces"
    if line != line.rstrip():
        yield "white space at the end of the line"
    if len(line) > MAX_COLUMNS:
        yield f"longer than {MAX_COLUMNS} columns"
    if TYPEDEF_STRUCT.match(line):
        yield "a typedef of a struct, enum or union"


def check_file(root, path, folder):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        lines = file.read().split("\n")
    if lines[-1] != "":
        yield len(lines), "no newline at the end of the file"
    if len(lines) > MAX_LINES:
        yield len(lines), f"more than {MAX_LINES} lines: one subject a file"
    opening = [line for line in lines[:4] if not line.startswith("// SPDX")]
    if not opening or not opening[0].startswith(("/*", "//")):
        yield 1, "does not open with a comment that says what it owns and why"
    if path.endswith(".h") and folder in MAY_INCLUDE and "#pragma once" not in lines:
        yield 1, "a header without #pragma once"
    for number, line in enumerate(lines, 1):
        for fault in check_line(path, folder, number, line, root):
            yield number, fault


def main(root):
    faults = 0
    files = list(source_files(root))
    if not files:
        print(f"{root}: no source files: wrong folder?")
        return 2
    for path, folder in files:
        for number, fault in check_file(root, path, folder):
            print(f"{path}:{number}: {fault}")
            faults += 1
    print(f"{len(files)} files, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "."))
