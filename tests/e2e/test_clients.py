"""The clients that must work against the daemon unchanged: curl, the installed go tool pprof, and the newest
google/pprof.
"""

import os
import re
import subprocess
import urllib.request

import pprofile
import pytest

from daemon import free_port, wait_for
from profiles import load
from target import Target


@pytest.fixture(scope="module", params=["go tool pprof", "google/pprof"])
def pprof(request, tmp_path_factory):
    """Runs pprof with arguments, and returns what it says."""
    go = request.getfixturevalue("go")
    command = (
        [go, "tool", "pprof"]
        if request.param == "go tool pprof"
        else [request.getfixturevalue("upstream_pprof")]
    )
    home = str(tmp_path_factory.mktemp("pprof"))
    # The go command itself needs its caches where they are; pprof's own files go to a folder of ours.
    environment = {
        **os.environ,
        "PPROF_TMPDIR": home,
        "PPROF_BINARY_PATH": home,
        "PPROF_TOOLS": "",
        "NO_PROXY": "*",
        "no_proxy": "*",
    }

    def run(*arguments, background=False):
        if background:
            return subprocess.Popen(
                [*command, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        done = subprocess.run(
            [*command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "unrecognized" not in done.stderr and "error" not in done.stderr.lower(), done.stderr
        return done.stdout

    return run


@pytest.fixture
def url(daemon, program_target):
    return daemon.url(f"/pid/{program_target.pid}/debug/pprof/profile", seconds=1, hz=499)


@pytest.fixture(scope="module")
def saved(daemon, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "cpu.pb.gz"
    target = Target("ten_series")
    path.write_bytes(daemon.profile(target.pid, seconds=1, hz=499).body)
    target.stop()
    return str(path)


def test_curl(url, tmp_path):
    path = tmp_path / "cpu.pb.gz"
    subprocess.run(["curl", "-sf", "--noproxy", "*", "-o", str(path), url], check=True, timeout=60)
    profile = load(path.read_bytes())
    assert "part10" in profile.functions()


def test_top(pprof, url):
    text = pprof("-top", url)
    assert "Type: cpu" in text and "part10" in text and "Duration:" in text
    assert text.index("part10") < text.index("part3")


def test_url_of_the_process_itself(pprof, daemon, program_target):
    """A path that is not a profile's is fetched as it is, so /pid/N alone answers a profile to a tool."""
    text = pprof("-top", "-seconds=1", "-timeout=60", daemon.url(f"/pid/{program_target.pid}"))
    assert re.search(r"\bpart\d+\b", text), text


def test_peek(pprof, url):
    text = pprof("-peek=part10$", url)
    assert "main" in text and "part10" in text


def test_list(pprof, url):
    """Source lines: the file name is absolute, and the lines are those of the function."""
    text = pprof("-list=^part10$", url)
    assert "ten_series.c" in text and "ROUTINE" in text


def test_weblist(pprof, url):
    text = pprof("-weblist=^part10$", "-output=/dev/stdout", url)
    assert "part10" in text and "ten_series" in text


def test_traces(pprof, url):
    text = pprof("-traces", url)
    assert "part10" in text and "main" in text and "tid:" in text


def test_proto(pprof, url, tmp_path):
    """What pprof writes itself is read, but not held against every reader's rules."""
    path = tmp_path / "again.pb.gz"
    pprof("-proto", f"-output={path}", url)
    written = pprofile.parse(path.read_bytes())
    assert "part10" in {frame.function for sample in written.samples for frame in sample.stack}


def test_diff_base(pprof, url, saved):
    """A function of which both have as much is not in the difference, so any of them may be missing."""
    text = pprof("-top", f"-diff_base={saved}", url)
    assert "Type: cpu" in text and "Showing nodes accounting for" in text and "part" in text


def test_tagfocus(pprof, url, program_target):
    text = pprof("-top", f"-tagfocus=tid={program_target.pid}", url)
    assert "part10" in text
    assert "part10" not in pprof("-top", "-tagfocus=tid=1", url)


def test_comments(pprof, url):
    text = pprof("-comments", url)
    assert "cprofd.samples=" in text and "cprofd.cpu_actual_ns=" in text


def test_http(pprof, saved):
    """Its web pages, of a saved profile."""
    port = free_port()
    served = pprof(f"-http=127.0.0.1:{port}", "-no_browser", saved, background=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def page(path):
        try:
            with opener.open(f"http://127.0.0.1:{port}/ui/{path}", timeout=10) as reply:
                return reply.read().decode()
        except OSError:
            return None

    try:
        assert "part10" in wait_for(lambda: page("top"), "pprof serves", 30)
        assert "part10" in page("flamegraph")
        assert "part10" in page("peek?f=part10")
        assert "ten_series.c" in page("source?f=part10")
    finally:
        served.terminate()
        served.wait()


def test_http_of_a_url(pprof, url):
    port = free_port()
    served = pprof(f"-http=127.0.0.1:{port}", "-no_browser", url, background=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:

        def page():
            try:
                with opener.open(f"http://127.0.0.1:{port}/ui/top", timeout=10) as reply:
                    return reply.read().decode()
            except OSError:
                return None

        assert "part10" in wait_for(page, "pprof serves", 30)
    finally:
        served.terminate()
        served.wait()


def test_error_is_shown(daemon, go):
    """pprof prints what an error says, and fails."""
    done = subprocess.run(
        [go, "tool", "pprof", "-top", daemon.url("/pid/4194304/debug/pprof/profile")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "NO_PROXY": "*"},
        timeout=60,
        check=False,
    )
    assert done.returncode != 0 and "4194304" in done.stderr, done.stderr
