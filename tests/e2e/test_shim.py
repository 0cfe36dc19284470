"""What programs give of themselves: the sites of cprofd/profile.h, and those of the shim before their allocator. Both are probes as any other, with
stacks that lead through them.
"""

import concurrent.futures
import os

import pytest

from daemon import BUILD, PROGRAMS
from profiles import load

BLOBS = os.path.join(PROGRAMS, "blobs")
SHIM = os.path.join(os.path.abspath(BUILD), "shim", "libcprofd-heap.so")
OPENED, CLOSED = 1000, 200


def events_of_a_lot(daemon, target, event):
    """The profile of a window in which the program opens a lot of blobs, and closes some."""
    daemon.wait_for_sessions(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(daemon.profile, target.pid, seconds=3, event=event)
        daemon.wait_for_open()
        target.truth("go")
        return load(pending.result())


def leaves(profile, event):
    """How often each (leaf, caller) was there, with take_snapshots next."""
    found = {}
    for sample in profile.samples:
        names = [frame.function for frame in sample.stack]
        if "take_snapshots" in names:
            pair = tuple(names[:2])
            found[pair] = found.get(pair, 0) + sample.values[profile.index(event)]
    return found


@pytest.mark.parametrize("site, times", [("profile_add", 2 * OPENED), ("profile_remove", 2 * CLOSED)])
def test_sites_of_the_header(daemon, start_target, site, times):
    target = start_target("blobs")
    profile = events_of_a_lot(daemon, target, f"usdt:{BLOBS}:cprofd:{site}")
    function = "blob_open" if site == "profile_add" else "blob_close"
    assert leaves(profile, f"{site}_event") == {(function, "take_snapshots"): times}, profile.folded()


@pytest.mark.parametrize("site, leaf, times", [("alloc", "malloc_sampled", OPENED), ("free", "free_sampled", CLOSED)])
def test_sites_of_the_shim(daemon, start_target, site, leaf, times):
    target = start_target("blobs", "plain=1", env=dict(os.environ, LD_PRELOAD=SHIM, CPROFD_HEAP_RATE="1"))
    profile = events_of_a_lot(daemon, target, f"usdt:{SHIM}:otel_memory:{site}")
    assert leaves(profile, f"{site}_event") == {(leaf, "take_snapshots"): times}, profile.folded()
