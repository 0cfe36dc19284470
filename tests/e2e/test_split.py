"""Split DWARF in profiles: names, files, lines and inlined calls from .dwo files and from a package of them, and what is said where
they are gone.
"""

import os
import shutil
import subprocess

import pytest

from daemon import ROOT
from profiles import fetch

SOURCES = os.path.join(ROOT, "tests", "programs")


def build(folder, compiler, version):
    """The program whose hot code is inlined two deep, its DIEs in .dwo files."""
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    for name in ("inlined", "program"):
        subprocess.run(
            [compiler, "-O2", "-g", "-gsplit-dwarf", f"-gdwarf-{version}", "-fno-omit-frame-pointer", "-pthread", "-D_GNU_SOURCE",
             "-w", "-c", os.path.join(SOURCES, name + ".c"), "-o", name + ".o"],
            cwd=folder, check=True, timeout=60,
        )
    subprocess.run([compiler, "inlined.o", "program.o", "-pthread", "-o", "split"], cwd=folder, check=True, timeout=60)
    return str(folder / "split")


def pack(folder, program, packer):
    """All .dwo files in one, and none of them left."""
    if not shutil.which(packer):
        pytest.skip(f"needs {packer}")
    subprocess.run([packer, "-e", program, "-o", program + ".dwp"], cwd=folder, check=True, timeout=60)
    for name in ("inlined.dwo", "program.dwo"):
        os.remove(folder / name)


def check_whole(profile):
    stacks = [[frame.function for frame in sample.stack] for sample in profile.samples]
    assert any(stack[:3] == ["hot_inner", "hot_middle", "hot_outer"] for stack in stacks), profile.folded()
    deepest = next(sample for sample in profile.samples if sample.stack[0].function == "hot_inner")
    for frame in deepest.stack[:3]:
        assert frame.filename == os.path.join(SOURCES, "inlined.c")
        assert frame.line > 0 and frame.start_line > 0
    assert "split_missing" not in profile.facts, profile.facts


@pytest.mark.parametrize("compiler,version", [("gcc", 4), ("gcc", 5), ("clang", 4), ("clang", 5)])
def test_dwo_files(daemon, start_target, tmp_path, compiler, version):
    program = build(tmp_path, compiler, version)
    check_whole(fetch(daemon, start_target("split", path=program).pid, seconds=1, hz=199))


# binutils' packer knows no DWARF 5, and LLVM's 14 never ends with GCC's.
@pytest.mark.parametrize("compiler,version,packer", [("gcc", 4, "dwp"), ("clang", 4, "llvm-dwp"), ("clang", 5, "llvm-dwp")])
def test_package(daemon, start_target, tmp_path, compiler, version, packer):
    program = build(tmp_path, compiler, version)
    pack(tmp_path, program, packer)
    check_whole(fetch(daemon, start_target("split", path=program).pid, seconds=1, hz=199))


def test_moved(daemon, start_target, tmp_path):
    """.dwo files are found beside a program that was moved with them."""
    (tmp_path / "built").mkdir()
    build(tmp_path / "built", "gcc", 5)
    os.rename(tmp_path / "built", tmp_path / "moved")
    check_whole(fetch(daemon, start_target("split", path=str(tmp_path / "moved/split")).pid, seconds=1, hz=199))


@pytest.mark.parametrize("gone", ["removed", "of another build"])
def test_missing(daemon, start_target, tmp_path, gone):
    """The symbol table's names with the skeleton's lines; said once, with the first file's name."""
    program = build(tmp_path, "gcc", 5)
    target = start_target("split", path=program)
    os.remove(tmp_path / "inlined.dwo")
    if gone != "removed":
        shutil.copy(tmp_path / "program.dwo", tmp_path / "inlined.dwo")
    profile = fetch(daemon, target.pid, seconds=1, hz=199)
    assert "hot_outer" in profile.functions() and "hot_inner" not in profile.functions(), profile.folded()
    hot = next(sample for sample in profile.samples if sample.stack[0].function == "hot_outer")
    assert hot.stack[0].filename == os.path.join(SOURCES, "inlined.c") and hot.stack[0].line > 0
    said = [comment for comment in profile.comments if comment.startswith("cprofd.split_missing=")]
    assert len(said) == 1 and "1 .dwo files" in said[0] and "inlined.dwo" in said[0], profile.comments
