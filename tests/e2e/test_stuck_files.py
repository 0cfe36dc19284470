"""A process whose files are on a file system that has stopped answering: its profile comes in time and says what it lacks, and nobody
else waits for it.
"""

import os
import sys

import pytest

from daemon import ROOT, descendants, wait_for
from places import LATE, LIBRARY, PROGRAM, check_names
from profiles import load

SERVER = os.path.join(ROOT, "tests", "e2e", "fuse_server.py")


@pytest.fixture
def mounted(start_late, tmp_path):
    """(target, the directory it runs from, the file that makes the file system hang)"""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    directory, hang = tmp_path / "mount", tmp_path / "hang"
    directory.mkdir()
    server = [sys.executable, SERVER, str(directory), str(hang), PROGRAM, LIBRARY, "--"]
    return start_late(argv=["unshare", "--mount", *server, str(directory / "late_library"), "now=1"]), directory, hang



def n_unreaped(daemon):
    """Processes of the daemon that hang in the kernel, or wait to be told that they are to go."""
    return len(descendants(daemon.pid))


@pytest.mark.parametrize("what", ["lookup", "open"])
def test_files_that_cannot_be_opened(either, mounted, what):
    target, directory, hang = mounted
    hang.write_text(what)
    profile = load(either.profile(target.pid, seconds=1, hz=199))
    for name in ("late_library", "liblate_code.so"):
        assert f"cprofd.unavailable={directory}/{name}: could not be opened in time" in profile.comments
        assert any(each.startswith(name + "+0x") for each in profile.functions_in(f"{directory}/{name}")), profile.folded()
    assert not set(LATE) & profile.functions()
    assert "__libc_start_main" in profile.functions(), profile.folded()  # of files elsewhere, all is known


def test_what_is_known_already(either, mounted):
    """What is in memory is not asked for again."""
    target, directory, hang = mounted
    check_names(either, target, f"{directory}/late_library", f"{directory}/liblate_code.so")
    hang.write_text("read getattr")
    check_names(either, target, f"{directory}/late_library", f"{directory}/liblate_code.so")


def test_it_answers_again(daemon, mounted):
    """Whoever hung ends, and the next profile has the names."""
    target, directory, hang = mounted
    before = n_unreaped(daemon)
    hang.write_text("open")
    load(daemon.profile(target.pid, seconds=0.2))
    hang.unlink()
    check_names(daemon, target, f"{directory}/late_library", f"{directory}/liblate_code.so")
    target.stop()  # and its file system with it, which never answered some
    wait_for(lambda: n_unreaped(daemon) <= before + 2, "its children end")  # workers may have been started
    daemon.wait_for_sessions(0)


def test_other_requests(daemon, mounted, program_target):
    """The command line is in no file; another process has nothing to do with it."""
    target, _, hang = mounted
    hang.write_text("lookup open read getattr")
    assert b"late_library" in daemon.get(f"/pid/{target.pid}/debug/pprof/cmdline").body
    assert "part10" in load(daemon.profile(program_target.pid, seconds=0.3, hz=199)).functions()
