"""Stacks of programs built without frame pointers: whole, to a proven root; and where a file does not say how a function is left, the
verdict names the function.
"""

import re
import struct
import subprocess

import pytest

from profiles import fetch
from target import check_due

SOURCE = r"""
#include <stdint.h>
#include <stdio.h>
volatile uint64_t sink;
#define NOINLINE __attribute__((noinline, noclone))
NOINLINE void innermost(uint64_t n) { for (uint64_t i = 0; i < n; i++) sink += i * sink; }
NOINLINE uint64_t victim(uint64_t n) { volatile uint64_t local[5] = {n}; innermost(n); return local[0] + n; }
NOINLINE uint64_t outer(uint64_t n) { uint64_t v = victim(n); return v * 3; }
int main(void) { puts("ready"); fflush(stdout); for (;;) sink += outer(300000); }
"""


@pytest.fixture
def build(tmp_path):
    def compile_it(*options):
        source = tmp_path / "stacks.c"
        source.write_text(SOURCE)
        program = str(tmp_path / "stacks")
        result = subprocess.run(
            ["gcc", "-O2", "-fomit-frame-pointer", *options, "-o", program, str(source)], capture_output=True, check=False
        )
        if result.returncode != 0:
            pytest.skip(f"needs gcc: {result.stderr[-200:]}")
        return program

    return compile_it


def delete_fde(program, function):
    """Makes the function's FDE cover nothing."""
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    start = int(re.search(rf"^([0-9a-f]+) [tT] {function}$", symbols, re.MULTILINE).group(1), 16)
    frames = subprocess.run(["readelf", "-wf", program], capture_output=True, text=True, check=True).stdout
    fde = int(re.search(rf"^([0-9a-f]+) \S+ \S+ FDE .*pc={start:016x}\.\.", frames, re.MULTILINE).group(1), 16)
    sections = subprocess.run(["readelf", "-SW", program], capture_output=True, text=True, check=True).stdout
    section = int(re.search(r"\.eh_frame\s+PROGBITS\s+[0-9a-f]+ ([0-9a-f]+)", sections).group(1), 16)
    with open(program, "r+b") as file:
        file.seek(section + fde + 12)  # after the length, the CIE's pointer, and the start
        assert 0 < struct.unpack("<I", file.read(4))[0] < 4096
        file.seek(section + fde + 12)
        file.write(struct.pack("<I", 0))


def frames_of(profile):
    return [[frame.function for frame in sample.stack] for sample in profile.samples]


def test_without_frame_pointers(daemon, start_target, build):
    profile = fetch(daemon, start_target("stacks", path=build()).pid, seconds=1, hz=299)
    assert profile.facts["unwind"] == "eh"
    check_due(profile, profile.total("samples"))
    assert profile.fact("rooted") == profile.total("samples"), profile.facts
    assert profile.fact("guessed") == 0
    whole = [stack for stack in frames_of(profile) if stack[:4] == ["innermost", "victim", "outer", "main"]]
    assert len(whole) > 0 and all(stack[-1] == "_start" for stack in frames_of(profile)), profile.folded()


@pytest.mark.parametrize("options", [[], ["-static"]])
def test_deleted_fde_is_named(daemon, start_target, build, options):
    """What its code tells is a guess, and said to be one."""
    program = build(*options)
    delete_fde(program, "victim")
    target = start_target("stacks", path=program)
    profile = fetch(daemon, target.pid, seconds=1, hz=299)
    stacks = frames_of(profile)
    inside = sum(sample.values[0] for sample, stack in zip(profile.samples, stacks) if "victim" in stack)
    check_due(profile, profile.total("samples"))
    assert inside > 0.9 * profile.total("samples") - 3
    cut = sum(profile.fact(key) for key in profile.facts if key.startswith("truncated."))
    assert profile.fact("guessed") + cut >= inside, profile.facts
    quality = daemon.get(f"/pid/{target.pid}/debug/quality", seconds=0.5, hz=299).json()
    named = {place["function"] for place in quality["truncated_by"] + quality["guessed_by"]}
    assert named == {"victim"}, quality
    assert any(comment.startswith("cprofd.guessed_at=victim in ") for comment in profile.comments), profile.comments


def test_stripped(daemon, start_target, build):
    """No symbol names the entry point; it is one all the same."""
    program = build("-s")
    profile = fetch(daemon, start_target("stacks", path=program).pid, seconds=1, hz=299)
    check_due(profile, profile.total("samples"))
    assert profile.fact("rooted") == profile.total("samples"), profile.facts
