"""symbolize=none: whoever has the binaries names the addresses himself, and comes to what the daemon would have said. And the symbol
endpoint: the same names for the same addresses, in the numbers that pprof asks for.
"""

import os
import re
import shutil
import subprocess

import pprofile
import pytest

from profiles import load
from target import Target


@pytest.fixture(scope="module")
def go_program(go, tmp_path_factory):
    """Builds programs of Go's own kinds."""
    directory = str(tmp_path_factory.mktemp("go"))
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs", "go_hot.go")

    def build(*options):
        path = os.path.join(directory, "go_hot" + "".join(options).replace("=", "_"))
        if not os.path.exists(path):
            done = subprocess.run([go, "build", *options, "-o", path, source], capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0:
                pytest.skip("needs a Go that builds without a network: " + done.stderr[-200:])
        return path

    return build


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    """Builds a C program in several ways: a loop of its own, an inlined one, and calls of the C library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    directory = str(tmp_path_factory.mktemp("c"))
    source = os.path.join(directory, "busy.c")
    with open(source, "w", encoding="ascii") as file:
        file.write(
            """
#include <stdio.h>
#include <stdlib.h>
static inline __attribute__((always_inline)) unsigned mixed(unsigned x) { for (int i = 0; i < 20000; i++) x = x * 7 + i; return x; }
__attribute__((noinline)) unsigned own_loop(unsigned x) { for (int i = 0; i < 20000; i++) x = x * 1664525 + 1013904223; return x; }
__attribute__((noinline)) unsigned with_inlined(unsigned x) { return mixed(x) + 1; }
static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void)
{
    static int numbers[500];
    volatile unsigned x = 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        x = with_inlined(own_loop(x));
        for (int i = 0; i < 500; i++)
            numbers[i] = rand();
        qsort(numbers, 500, sizeof(int), order);
    }
}
"""
        )

    def build(*options):
        path = os.path.join(directory, "busy" + "".join(options).replace(",", "_").replace("=", "_"))
        done = subprocess.run([compiler, "-g", "-O2", *options, "-o", path, source], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.skip(f"needs a linker that knows {options}: {done.stderr[-200:]}")
        return path

    return build


def named_by(pprof, profile, directory):
    """The profile, with the names that pprof finds in the local binaries."""
    before, after = os.path.join(directory, "none.pb.gz"), os.path.join(directory, "local.pb.gz")
    with open(before, "wb") as file:
        file.write(profile)
    environment = {**os.environ, "PPROF_TMPDIR": str(directory), "PPROF_BINARY_PATH": str(directory), "PPROF_TOOLS": ""}
    done = subprocess.run(
        [*pprof, "-symbolize=local", "-proto", f"-output={after}", before],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return pprofile.parse(open(after, "rb").read())


def symbols(daemon, pid, addresses):
    """What the symbol endpoint says of them."""
    body = "+".join(hex(address) for address in addresses)
    reply = daemon.request("POST", f"/pid/{pid}/debug/pprof/symbol", body=body)
    assert reply.status == 200, reply
    lines = reply.text.splitlines()
    assert lines[0] == "num_symbols: 1"
    return {int(address, 16): name for address, name in (line.split(" ", 1) for line in lines[1:])}


def innermost(profile, filename=None):
    """The innermost function of each address of a file, or of all."""
    names = {}
    for sample in profile.samples:
        for frame in sample.stack:
            if filename in (None, frame.mapping.filename):
                names.setdefault(frame.address, frame.function)
    return names


def plain(name):
    """Without what readers of symbol tables add to a name."""
    return re.sub(r"\.abi0$|@.*$", "", name)


def flat(profile, names):
    """Samples by the innermost function that names gives for their leaf."""
    sums = {}
    for sample in profile.samples:
        name = plain(names.get(sample.stack[0].address) or sample.stack[0].function)
        sums[name] = sums.get(name, 0) + sample.values[0]
    return sums


def check_agreement(theirs, ours, total_least):
    """The same functions at the same addresses. What several symbols name is called by one of them."""
    differ = {hex(at): (name, ours[at]) for at, name in theirs.items() if name and at in ours and plain(name) != plain(ours[at])}
    assert len(theirs) >= total_least and len(differ) <= 0.05 * len(theirs), differ


@pytest.mark.parametrize("options", [(), ("-ldflags=-s",), ("-buildmode=pie",)])
def test_go_tool_pprof_names_go_programs_itself(daemon, go, go_program, options, tmp_path):
    target = Target("go_hot", path=go_program(*options))
    try:
        path = os.path.realpath(f"/proc/{target.pid}/exe")
        full = load(daemon.profile(target.pid, seconds=1, hz=997))
        reply = daemon.profile(target.pid, seconds=1, hz=997, symbolize="none")
        none = load(reply)
        assert not any(mapping.has_functions for mapping in none.mappings if mapping.filename == path)
        local = named_by([go, "tool", "pprof"], reply.body, tmp_path)
        said = symbols(daemon, target.pid, sorted(innermost(none)))
    finally:
        target.stop()
    hot = {"main.churn", "main.(*counter).spin"}
    assert hot <= set(innermost(local, path).values()) and hot <= full.functions(), local.samples
    # It knows of no inlined calls: addresses in the hot functions, where there are none, agree one by one.
    theirs = innermost(local, path)
    check_agreement({at: name for at, name in theirs.items() if {name, said.get(at)} & hot}, said, 2)
    top = flat(local, innermost(local, path))
    assert {name for name, n in top.items() if n > 0.1 * sum(top.values())} == {
        name for name, n in flat(none, said).items() if n > 0.1 * sum(top.values())
    }


@pytest.mark.parametrize("options", [("-pie", "-fPIE"), ("-no-pie",), ("-pie", "-fPIE", "-Wl,-z,separate-code"), ("-static",)])
def test_pprof_names_c_programs_itself(daemon, upstream_pprof, c_program, options, tmp_path):
    """By addr2line or llvm-symbolizer, so with inlined calls, in executables and libraries."""
    target = Target("busy", path=c_program(*options))
    try:
        path = os.path.realpath(f"/proc/{target.pid}/exe")
        reply = daemon.profile(target.pid, seconds=1, hz=997, symbolize="none")
        local = named_by([upstream_pprof], reply.body, tmp_path)
        said = symbols(daemon, target.pid, sorted(innermost(load(reply))))
    finally:
        target.stop()
    own = innermost(local, path)
    assert {"own_loop", "mixed", "order"} <= set(own.values()), own
    check_agreement({at: name for at, name in own.items() if name in ("own_loop", "mixed", "with_inlined", "order", "main", "_start")}, said, 3)
    calls = {frame.function for sample in local.samples for frame in sample.stack if frame.mapping.filename == path}
    assert {"with_inlined", "main"} <= calls, calls


def test_what_is_in_no_file_is_named_in_any_case(daemon, start_target):
    """No reader could do it: the kernel's functions, the vdso's, and what a profile says of itself."""
    target = start_target("vdso")
    profile = load(daemon.profile(target.pid, seconds=1, hz=499, symbolize="none", kernel=1))
    special = [mapping for mapping in profile.mappings if mapping.filename.startswith("[")]
    assert "[vdso]" in {mapping.filename for mapping in special} and all(mapping.has_functions for mapping in special)
    assert all(frame.function for sample in profile.samples for frame in sample.stack if frame.mapping.filename.startswith("["))


def test_symbol_names_are_a_profiles(daemon, program_target):
    """Every address of a profile, the kernel's and the vdso's too, and some thousand at once."""
    profile = load(daemon.profile(program_target.pid, seconds=1, hz=997, kernel=1))
    names = {
        at: name for at, name in innermost(profile).items() if not name.startswith("[truncated")
    }
    mapping = next(mapping for mapping in profile.mappings if mapping.filename.endswith("ten_series"))
    many = list(range(mapping.start, min(mapping.limit, mapping.start + 5000)))
    said = symbols(daemon, program_target.pid, [*names, *many])
    differ = {hex(at): (name, said.get(at)) for at, name in names.items() if said.get(at) != name}
    assert not differ, differ
    assert set(many) <= set(said)
    assert any(name.startswith("part") for at, name in said.items() if mapping.start <= at < mapping.limit)


def test_symbol_leaves_out_what_is_in_no_mapping(daemon, program_target):
    assert symbols(daemon, program_target.pid, [0x10, 0x7FFFFFFFF000]) == {}
