"""Replies are not late because of names: a program whose debug information takes longer to read than a profile may wait has what is
known, says so, and the rest the next time.
"""

import concurrent.futures
import os
import platform
import shutil
import subprocess
import time

import pytest

from daemon import wait_for
from profiles import load
from target import Target

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")
# Entries of debug information, a byte each: seconds of reading for half a second that there is.
ENTRIES = 100_000_000
LINE = 4242  # where they say that slow_burn begins


@pytest.fixture(scope="module")
def slow_program(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or platform.machine() != "x86_64":
        pytest.skip("needs a C compiler, for x86-64")
    path = str(tmp_path_factory.mktemp("due") / "slow_symbols")
    # Without debug information of the compiler's: what there is comes from the assembler file.
    command = [compiler, "-O2", "-g0", f"-DENTRIES={ENTRIES}", "-o", path]
    command += [os.path.join(SOURCES, name) for name in ("slow_symbols.S", "slow_symbols_main.c")]
    subprocess.run(command, check=True, timeout=300)
    yield path
    os.unlink(path)


@pytest.fixture
def slow_target(slow_program):
    target = Target("slow_symbols", path=slow_program)
    target.path = slow_program
    yield target
    target.stop()


def start_lines(profile):
    """What is said of where slow_burn begins."""
    return {
        frame.start_line for sample in profile.samples for frame in sample.stack if frame.function == "slow_burn"
    }


def profile_once(daemon, target, **parameters):
    return load(daemon.profile(target.pid, seconds=1, hz=199, **parameters))


def first_profile(daemon, target):
    profile = profile_once(daemon, target)
    if not profile.fact("symbols.pending"):
        pytest.skip("this machine reads the debug information in time")
    return profile


def wait_for_names(daemon, target):
    """Profiles until nothing is pending any more."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        profile = profile_once(daemon, target)
        if not profile.fact("symbols.pending"):
            return profile
    raise AssertionError(f"still pending: {profile.comments}")


def test_the_next_profile_has_what_the_first_could_not_wait_for(new_daemon, slow_target):
    daemon = new_daemon()
    first = first_profile(daemon, slow_target)
    # The symbol table's name, and the way to more.
    assert start_lines(first) == {0}, first.folded()
    assert any("slow_symbols: files, lines" in each for each in first.comments if "symbols.pending_in=" in each), first.comments
    assert "next profile" in first.facts["warning"], first.comments
    assert not any(mapping.has_line_numbers for mapping in first.mappings if mapping.filename == slow_target.path)
    last = wait_for_names(daemon, slow_target)
    assert start_lines(last) == {LINE}, last.folded()
    assert "symbols.pending_in" not in last.facts and "warning" not in last.facts, last.comments
    assert daemon.metric("cprofd_worker_restarts_total") == 0, daemon.log()


def test_bystanders_have_all_their_names_meanwhile(new_daemon, slow_target, program_target):
    daemon = new_daemon()
    wait_for_names(daemon, program_target)
    first_profile(daemon, slow_target)
    profile = profile_once(daemon, program_target)
    assert "part10" in profile.functions() and not profile.fact("symbols.pending"), profile.comments
    assert daemon.metric("cprofd_worker_restarts_total") == 0, daemon.log()


def test_many_clients_at_once_share_the_reading(new_daemon, slow_target):
    """Each has a reply with what there is by then; the debug information is read once, by one worker."""
    daemon = new_daemon()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda unused: profile_once(daemon, slow_target), range(8)))
    for reply in replies:
        said = any("slow_symbols: all names" in each for each in reply.comments)
        assert "slow_burn" in reply.functions() or said, (reply.folded(), reply.comments)
    wait_for_names(daemon, slow_target)
    assert daemon.metric("cprofd_worker_restarts_total") == 0, daemon.log()


def test_the_symbol_endpoint_has_what_is_known(new_daemon, slow_target):
    daemon = new_daemon()
    none = profile_once(daemon, slow_target, symbolize="none")
    addresses = {frame.address for sample in none.samples for frame in sample.stack if frame.mapping.filename == slow_target.path}
    body = "+".join(hex(address) for address in addresses)
    reply = daemon.request("POST", f"/pid/{slow_target.pid}/debug/pprof/symbol", body=body)
    assert reply.status == 200 and "slow_burn" in reply.text, reply


def test_the_cache_is_bounded_and_told(new_daemon, slow_target):
    """What was read is larger than the cache: what it answered is kept all the same, and no more is said to be held than may be."""
    bound = 64 << 20
    daemon = new_daemon("--worker-cache", "64M", "--workers", "1")
    wait_for_names(daemon, slow_target)
    wait_for(lambda: 0 < daemon.metric("cprofd_cache_bytes") <= bound, "the cache is at rest", 60)
    again = wait_for_names(daemon, slow_target)
    assert start_lines(again) == {LINE}, again.comments


def test_fast_reads_no_debug_information(new_daemon, slow_target):
    profile = profile_once(new_daemon(), slow_target, symbolize="fast")
    assert start_lines(profile) == {0} and not profile.fact("symbols.pending"), profile.comments
