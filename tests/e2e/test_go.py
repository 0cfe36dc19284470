"""Go programs without DWARF: what Go's runtime says of its own code in its profile of itself is what we say, address by address."""

import os
import shutil
import subprocess
import threading
import urllib.request

import pytest

import pprofile
from daemon import ROOT
from profiles import fetch, load

SOURCE = os.path.join(ROOT, "tests", "programs", "go_server.go")

BUILDS = {
    "whole": [],
    "stripped": ["-ldflags=-s -w"],
    "position-independent": ["-buildmode=pie", "-ldflags=-s -w"],
    "trimmed": ["-trimpath", "-ldflags=-s -w"],
}


@pytest.fixture(params=BUILDS)
def server(request, go, tmp_path, start_target):
    """(target, address of its own profiles, how it was built)."""
    program = str(tmp_path / "go_server")
    subprocess.run(
        [go, "build", *BUILDS[request.param], "-o", program, SOURCE],
        check=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "GOFLAGS": "-buildvcs=false", "GO111MODULE": "off"},
    )
    if request.param != "whole":
        if not shutil.which("strip"):
            pytest.skip("needs strip")
        subprocess.run(["strip", program], check=True)
    target = start_target("go_server", path=program)
    return target, target.truth()["address"], request.param


def by_address(samples):
    """address -> frames (name, line, first line, file), the innermost first."""
    places, frames = {}, []
    for sample in samples:
        for f in sample.stack:
            frames.append((f.function, f.line, f.start_line, f.filename))
            if not f.inlined:
                places[f.address], frames = frames, []
    return places


def profile_both(daemon, target, address):
    """Ours, and Go's own of the same seconds."""
    own = []

    def ask():
        with urllib.request.urlopen(f"http://{address}/debug/pprof/profile?seconds=4", timeout=60) as reply:
            own.append(reply.read())

    asking = threading.Thread(target=ask)
    asking.start()
    ours = fetch(daemon, target.pid, seconds=4, hz=499)
    asking.join()
    return ours, pprofile.parse(own[0])


@pytest.mark.chance  # which addresses are met
def test_agrees_with_go(daemon, server):
    target, address, how = server
    ours, own = profile_both(daemon, target, address)
    mine, its = by_address(ours.samples), by_address(own.samples)
    both = [a for a in mine if a in its]
    assert len(both) > 30, (len(mine), len(its))
    said, wanted = ({a: [f[:3] for f in places[a]] for a in both} for places in (mine, its))
    assert {hex(a): (mine[a], its[a]) for a in both if said[a] != wanted[a]} == {}
    # Go's encoder has one file for each name, but a function that ends an inlined call may have a place in the other's file.
    files = {hex(a): (mine[a], its[a]) for a in both if mine[a] != its[a]}
    assert len(files) <= 0.02 * len(both), files
    sums = [mine[a] for a in both if mine[a][-1][0] == "main.(*list[go.shape.int]).sum"]
    assert any(frames[0][0] == "main.bounded[go.shape.int]" for frames in sums), (sums, ours.folded())
    assert "main.work" in ours.functions(), ours.folded()
    paths = {frame.filename for sample in ours.samples for frame in sample.stack if frame.function == "main.work"}
    assert paths == {"./go_server.go" if how == "trimmed" else SOURCE}
    main = next(m for m in ours.mappings if m.filename.endswith("/go_server"))
    assert main.has_functions and main.has_filenames and main.has_line_numbers and main.has_inline_frames


def test_fast(daemon, server):
    """Names alone, of functions as they were compiled."""
    target, _, _ = server
    profile = load(daemon.profile(target.pid, seconds=1, hz=499, symbolize="fast"))
    frames = [f for sample in profile.samples for f in sample.stack if f.function.startswith("main.")]
    assert "main.work" in {f.function for f in frames}, profile.folded()
    assert all(f.line == 0 and not f.inlined for f in frames)
