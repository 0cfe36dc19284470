"""A daemon that may not, or cannot, do what it must: its answers say what is missing, and blame no target."""

import shutil

import pytest

from places import namespace_is_refused


def answers(daemon, pid):
    return [daemon.get(f"/pid/{pid}/debug/pprof/{kind}") for kind in ("profile?seconds=0.1", "goroutine", "cmdline")]


def test_without_ptrace(new_daemon, start_target):
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    daemon = new_daemon(wrapper=["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"])
    for reply in answers(daemon, start_target("ten_series").pid):
        assert reply.status == 503 and "CAP_SYS_PTRACE" in reply.text, reply


def test_without_proc(new_daemon, start_target):
    refused = namespace_is_refused("--mount")
    if refused:
        pytest.skip(f"needs namespaces: {refused}")
    daemon = new_daemon(wrapper=["unshare", "--mount", "sh", "-e", "-c", 'umount -l /proc; exec "$0" "$@"'])
    for reply in answers(daemon, start_target("ten_series").pid):
        assert reply.status == 503 and "/proc is not mounted" in reply.text, reply


def test_few_files(new_daemon, start_target):
    """What could not be opened is no file without an allocator."""
    daemon = new_daemon(wrapper=["prlimit", "--nofile=64:64"])
    assert "raise LimitNOFILE" in daemon.log()
    reply = daemon.get(f"/pid/{start_target('ten_series').pid}/debug/pprof/heap", seconds=1)
    assert reply.status == 503, reply
