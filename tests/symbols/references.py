"""What independent tools say of addresses, and what we say, as frames of one form."""

import collections
import json
import os
import re
import subprocess

# system: what the function is called in the linker's terms; shown: demangled, or None; start: the function's first line, or None.
Frame = collections.namedtuple("Frame", "system shown file line start")


def run(*command, stdin):
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, errors="replace").stdout


def clean_path(path):
    """Without . and .., which tools keep or resolve as they like."""
    parts = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def ours(resolve, program, addresses, *options):
    """address -> frames, the innermost first; none: unknown."""
    folders = [word for folder in program.folders for word in ("--debug-dir", folder)]
    text = run(resolve, "--table", *folders, *options, program.path, stdin="".join(f"{a:x}\n" for a in addresses))
    frames = {}
    for line in text.splitlines():
        address, *rest = line.split("\t")
        known = frames.setdefault(int(address, 16), [])
        if rest:
            name, system, file, number, start = rest
            known.append(Frame(system, name, clean_path(file) if file else None, int(number), int(start)))
    return frames


def demangled(names):
    """mangled -> as LLVM shows it; what it can't read is left out."""
    names = sorted(name for name in names if name.startswith("_"))
    shown = run("llvm-cxxfilt", stdin="".join(name + "\n" for name in names)).splitlines()
    return {name: text for name, text in zip(names, shown) if text != name}


def with_shown(frames):
    """The same frames with what their names demangle to."""
    shown = demangled({f.system for known in frames.values() for f in known if f.system})
    return {a: [f._replace(shown=shown.get(f.system)) for f in known] for a, known in frames.items()}


def llvm(path, addresses):
    """llvm-symbolizer: it also knows where functions begin."""
    command = ["llvm-symbolizer", "--output-style=JSON", "--functions=linkage", "--inlines", "--no-demangle", "-e", path]
    frames = {}
    for answer in run(*command, stdin="".join(f"0x{a:x}\n" for a in addresses)).splitlines():
        # Its JSON leaves bytes as they are that are none.
        answer = json.loads(answer, strict=False)
        frames[int(answer["Address"], 16)] = [
            Frame(
                s["FunctionName"] or None,
                None,
                clean_path(s["FileName"]) if s["FileName"] else None,
                s["Line"],
                s["StartLine"] or None,
            )
            for s in answer.get("Symbol", [])
        ]
    return with_shown(frames)


def parse_addr2line(text):
    frames, name, current = {}, None, None
    for line in text.splitlines():
        if re.fullmatch(r"0x[0-9a-f]+", line):
            current, name = int(line, 16), None
            frames[current] = []
        elif line and name is None:
            name = re.sub(r" inlined at .*", "", line)
        elif line:
            place = re.match(r"(.*?):(\d+|\?)", line)
            path = clean_path(place[1]) if place[1] != "??" else None
            frames[current].append((None if name == "??" else name, path, int(place[2].replace("?", "0"))))
            name = None
    return frames


def elfutils(path, addresses):
    """eu-addr2line."""
    raw = parse_addr2line(run("eu-addr2line", "-e", path, "-a", "-f", "-i", stdin="".join(f"0x{a:x}\n" for a in addresses)))
    return with_shown({a: [Frame(name, None, file, line, None) for name, file, line in known] for a, known in raw.items()})


def sections(path):
    """name -> (address, size)."""
    found = {}
    for line in subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True).stdout.splitlines():
        words = re.match(r"\s*\[\s*\d+\] (\S+)\s+\S+\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", line)
        if words:
            found[words[1]] = (int(words[2], 16), int(words[3], 16))
    return found


def names_by_address(path):
    """address -> all names of functions that begin there."""
    found = collections.defaultdict(set)
    for flags in ([], ["-D"]):
        result = subprocess.run(["nm", *flags, path], capture_output=True, text=True, check=False)
        for line in result.stdout.splitlines():
            words = line.split(None, 2)
            if len(words) == 3 and os.path.basename(words[1]) in "TtWwiIVvu":
                found[int(words[0], 16)].add(words[2].split("@")[0])
    return found
