"""Programs in several languages, most of them nobody's here: their functions have their names, and their time
adds up.
"""

import lzma
import os
import shutil
import subprocess

import pytest

from daemon import DAEMON, PROGRAMS, ROOT
from profiles import fetch
from target import Recorder, total_error

SOURCES = os.path.join(ROOT, "tests", "programs")

pytestmark = pytest.mark.chance


def need(command):
    path = shutil.which(command)
    if not path:
        pytest.skip(f"needs {command}")
    return path


def has_lzma():
    """Whether the daemon was built with it; a part of libelf may use it, too."""
    with open(DAEMON, "rb") as file:
        return b"lzma_stream_decoder" in file.read()


def run(target, daemon, lanes=1, **parameters):
    """A profile whose total is right."""
    with Recorder(target, with_truth=False) as recorder:
        profile = fetch(daemon, target.pid, seconds=2, hz=499, **parameters)
    actual_ns = recorder.actual_ns(profile)
    busy = min(actual_ns / (profile.end_ns - profile.start_ns) / lanes, 1)
    allowed = max(0.02, total_error(actual_ns / profile.period, busy))
    assert abs(profile.total("cpu") / actual_ns - 1) <= allowed, (
        profile.total("cpu"),
        actual_ns,
        profile.facts,
    )
    return profile


def test_c_with_inlined_functions(daemon, start_target):
    """Debug information alone knows hot_inner and hot_middle: both are frames, and hot_outer calls them."""
    profile = run(start_target("inlined"), daemon)
    stacks = [[frame.function for frame in sample.stack] for sample in profile.samples]
    assert (
        sum(1 for stack in stacks if stack[:3] == ["hot_inner", "hot_middle", "hot_outer"]) > 0
    ), profile.folded()
    deepest = next(sample for sample in profile.samples if sample.stack[0].function == "hot_inner")
    assert [os.path.basename(frame.filename) for frame in deepest.stack[:3]] == ["inlined.c"] * 3
    assert all(frame.line > 0 and frame.start_line > 0 for frame in deepest.stack[:3])
    assert all(frame.filename.startswith("/") for frame in deepest.stack[:3])


def test_mini_debug_information(daemon, start_target, tmp_path):
    """A stripped program that has a symbol table in .gnu_debugdata, as some distributions make them."""
    program, table = str(tmp_path / "inlined"), str(tmp_path / "table")
    whole = os.path.join(PROGRAMS, "inlined")
    subprocess.run([need("objcopy"), "--only-keep-debug", whole, table], check=True)
    subprocess.run(["objcopy", "--strip-all", "--keep-symbol=hot_outer", table], check=True)
    with open(table, "rb") as plain, open(table + ".xz", "wb") as packed:
        packed.write(lzma.compress(plain.read()))
    subprocess.run([need("strip"), "-o", program, whole], check=True)
    assert "hot_outer" not in run(start_target("inlined", path=program), daemon).functions()
    subprocess.run(["objcopy", "--add-section", f".gnu_debugdata={table}.xz", program, program + ".mini"], check=True)
    profile = run(start_target("inlined", path=program + ".mini"), daemon)
    if "hot_outer" not in profile.functions() and not has_lzma():
        pytest.skip("built without liblzma")
    shares = profile.by_function(["hot_outer"], "samples")
    assert shares["hot_outer"] > 0.9 * profile.total("samples"), profile.folded()


def test_symbolize_fast_and_none(daemon, start_target):
    target = start_target("inlined")
    assert "hot_outer" in run(target, daemon, symbolize="fast").functions()
    bare = run(target, daemon, symbolize="none")
    assert "hot_outer" not in bare.functions()


def test_vdso(daemon, start_target):
    profile = run(start_target("vdso"), daemon)
    assert any("clock_gettime" in name for name in profile.functions_in("[vdso]")), profile.folded()
    assert profile.by_function(["ask_time"], "samples").get("ask_time", 0) > 0


def test_cxx(daemon, start_target):
    if not os.path.exists(os.path.join(PROGRAMS, "templates")):
        pytest.skip("needs a build with a C++ compiler")
    profile = run(start_target("templates"), daemon)
    names = profile.functions()
    for word in ("shapes::mix<unsigned int>", "shapes::mix<unsigned long>", "shapes::Matrix::fill"):
        assert any(word in name for name in names), names
    mangled = {frame.system_name for sample in profile.samples for frame in sample.stack}
    assert any(name.startswith("_ZN6shapes") for name in mangled), mangled


def test_rust(daemon, start_target, tmp_path):
    rustc = need("rustc")
    program = str(tmp_path / "rust_hot")
    subprocess.run(
        [
            rustc,
            "-O",
            "-g",
            "-C",
            "force-frame-pointers=yes",
            "-o",
            program,
            os.path.join(SOURCES, "rust_hot.rs"),
        ],
        check=True,
        timeout=120,
    )
    profile = run(start_target("rust_hot", path=program), daemon)
    names = profile.functions()
    assert any("rust_hot::Square" in name and "area" in name for name in names), names
    assert any("rust_hot::churn" in name for name in names), names
    assert not any(name.startswith(("_ZN8rust_hot", "_R")) for name in names), names


def test_go(daemon, start_target, go, tmp_path):
    program = str(tmp_path / "go_hot")
    subprocess.run(
        [go, "build", "-o", program, os.path.join(SOURCES, "go_hot.go")],
        check=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "GOFLAGS": "-buildvcs=false", "GO111MODULE": "off"},
    )
    profile = run(start_target("go_hot", path=program), daemon, lanes=2)
    names = profile.functions()
    assert "main.churn" in names and "main.(*counter).spin" in names, names
    leaf = next(sample for sample in profile.samples if sample.stack[0].function == "main.churn")
    assert leaf.stack[0].filename.endswith("go_hot.go") and leaf.stack[0].line > 0


def test_python(daemon, start_target):
    code = "print('ready', flush=True)\nwhile True: sum(i * i for i in range(1000))"
    profile = run(start_target("python3", argv=["/usr/bin/python3", "-c", code]), daemon)
    assert any("Eval" in name or "python3" in name for name in profile.functions()), profile.folded()


def test_sqlite(daemon, start_target, tmp_path):
    """Stripped, and without frame pointers: names of exported functions at least, and no made-up ones."""
    sqlite3 = need("sqlite3")
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
        " SELECT sum(i % 7 * length(hex(i))) FROM n;"
    )
    target = start_target("sqlite3", argv=[sqlite3, str(tmp_path / "db"), query], start=False)
    profile = run(target, daemon)
    assert any("sqlite3" in frame.mapping.filename for sample in profile.samples for frame in sample.stack)
    assert all(frame.function for sample in profile.samples for frame in sample.stack)


def test_compiler(daemon, start_target, tmp_path):
    """cc1 at work on a large source, a process that nobody told us of until it ran."""
    cc1 = subprocess.run(
        ["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not os.path.exists(cc1):
        pytest.skip("needs gcc's cc1")
    lines = [
        f"int f{i}(int x) {{ for (int j = 0; j < x; j++) x += j * {i} ^ (x >> {i % 31}); return x; }}"
        for i in range(60000)
    ]
    source = tmp_path / "large.c"
    source.write_text("\n".join(lines))
    target = start_target(
        "cc1",
        argv=[cc1, "-O2", "-quiet", str(source), "-o", "/dev/null"],
        start=False,
        stderr=subprocess.DEVNULL,
    )
    profile = run(target, daemon)
    assert any(
        os.path.basename(frame.mapping.filename) == "cc1" for sample in profile.samples for frame in sample.stack
    )
    assert target.is_alive()
