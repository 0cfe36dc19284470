"""Wrong queries of each kind get the right code and a message that helps; right ones the headers that Go's
clients expect.
"""

import os
import socket

import pytest

from daemon import wait_for
from profiles import fetch

PROFILE = "/pid/{pid}/debug/pprof/profile"


def check_error(reply, status, *words):
    assert reply.status == status, reply
    assert reply.headers["x-content-type-options"] == "nosniff", reply
    assert reply.headers["x-go-pprof"] == "1", reply
    assert reply.headers["content-type"].startswith("text/plain"), reply
    assert "content-disposition" not in reply.headers
    assert reply.text.endswith("\n") and len(reply.text) > 4, reply
    for word in words:
        assert word in reply.text, (word, reply)


# Parameters, and what the message must name. A message says which parameter is wrong.
BAD_QUERIES = [
    ("seconds=abc", "seconds"),
    ("seconds=0", "seconds"),
    ("seconds=-1", "seconds"),
    ("seconds=nan", "seconds"),
    ("seconds=inf", "seconds"),
    ("seconds=3601", "seconds"),
    ("seconds=", "seconds"),
    ("seconds=1e99", "seconds"),
    ("seconds=1x", "seconds"),
    ("seconds=0x1", "seconds"),
    ("hz=0", "hz"),
    ("hz=abc", "hz"),
    ("hz=-5", "hz"),
    ("hz=", "hz"),
    ("hz=99999999999999999999", "hz"),
    ("hz=100&period=1000000", "period"),
    ("hz=100&event=page-faults", "hz"),
    ("period=0", "period"),
    ("period=abc", "period"),
    ("period=-1", "period"),
    ("period=99999999999999999999", "period"),
    ("kernel=2", "kernel"),
    ("kernel=yes", "kernel"),
    ("tid=abc", "tid"),
    ("tid=-1", "tid"),
    ("thread=(", "thread"),
    ("focus=(", "focus"),
    ("focus=" + "a" * 1000, "focus"),
    ("format=xml", "format"),
    ("symbolize=maybe", "symbolize"),
    ("unwind=guess", "unwind"),
    ("event=nonsense", "cpu-clock"),
    ("event=nonsense", "page-faults"),
    ("event=", "event"),
    ("event=raw:xyz", "raw"),
    ("event=raw:", "raw"),
    ("event=uprobe:/no/such/file:main", "/no/such/file"),
    ("event=uprobe:", "uprobe"),
    ("event=usdt:/no/such/file:a:b", "/no/such/file"),
    ("event=usdt:x", "usdt"),
    ("event=tracepoint:no:such_thing", "no:such_thing"),
    ("event=tracepoint:sched", "CATEGORY:NAME"),
    ("unknown=1", "unknown"),
    ("Seconds=1", "Seconds"),
]


@pytest.mark.parametrize("bad, word", BAD_QUERIES, ids=[bad[:40] for bad, _ in BAD_QUERIES])
def test_bad_parameter(daemon, program_target, bad, word):
    separator = "" if "seconds" in bad.lower() else "&seconds=0.1"
    reply = daemon.get(PROFILE.format(pid=program_target.pid) + "?" + bad + separator)
    check_error(reply, 400, word)


def test_absent_hardware_event_names_what_there_is(daemon, program_target):
    reply = daemon.profile(program_target.pid, seconds=0.1, event="cycles")
    if reply.status == 200:
        pytest.skip("needs a machine without a PMU")
    check_error(reply, 400, "cycles", "cpu-clock", "page-faults")


def test_symbol_that_the_file_lacks(daemon, program_target):
    reply = daemon.profile(
        program_target.pid,
        seconds=0.1,
        event=f"uprobe:{os.readlink(f'/proc/{program_target.pid}/exe')}:no_such_fn",
    )
    check_error(reply, 400, "no_such_fn")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/pid",
        "/pid/",
        "/pid/x",
        "/pid/0/debug/pprof/profile",
        "/pid/-1/debug/pprof/profile",
        "/pid/1x/debug/pprof/",
        "/pid/99999999999999999999/debug/pprof/profile",
        "/pid/4194304/debug/pprof/profile?seconds=0.1",
        "/pid/4194304/debug/pprof/cmdline",
        "/pid/4194304/debug/pprof/symbol?0x1",
        "/pid/4194304",
        "/pid/4194304/debug/quality",
        "/pid/{pid}/debug/pprof/nothing",
        "/pid/{pid}/nothing",
        "/pid/{pid}/debug/pprof/profile/x",
        "/debug/pprof/",
        "/pid/{pid}/debug/pprof/../../../../etc/passwd",
        "/%00",
        "/pid/{pid}%00/debug/pprof/profile",
    ],
)
def test_what_is_not_there(daemon, program_target, path):
    reply = daemon.get(path.format(pid=program_target.pid))
    assert reply.status in (400, 404) if "%00" in path else reply.status == 404, reply
    check_error(reply, reply.status)


def test_a_thread_of_another_process(daemon, program_target):
    check_error(daemon.profile(program_target.pid, seconds=0.1, tid=os.getpid()), 404)


def test_kernel_thread(daemon):
    """It has no user memory to profile; whatever the answer, it is an answer."""
    reply = daemon.profile(2, seconds=0.1)
    assert reply.status in (200, 400, 404), reply


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", PROFILE, "/healthz", "/pid/{pid}/debug/pprof/cmdline"])
def test_methods(daemon, program_target, method, path):
    check_error(daemon.request(method, path.format(pid=program_target.pid)), 405)


def test_post_is_for_symbol_alone(daemon, program_target):
    check_error(daemon.request("POST", PROFILE.format(pid=program_target.pid), body=b"x"), 405)


def raw(daemon, data):
    """What the daemon says to these bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        parts = []
        while True:
            part = client.recv(65536)
            if not part:
                return b"".join(parts).decode("latin-1")
            parts.append(part)


@pytest.mark.parametrize(
    "data, codes",
    [
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {"501"}),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\nConnection: close\r\n\r\n", {"400", "505", "200"}),
        (b"nonsense\r\n\r\n", {"400"}),
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 200_000 + b"\r\n\r\n", {"400", "413", "431"}),
        (
            b"POST /pid/1/debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
            {"400", "413"},
        ),
    ],
    ids=["unknown method", "unknown version", "nonsense", "too long a header", "too long a body"],
)
def test_what_evhttp_answers_itself(daemon, data, codes):
    """Its own error pages carry our headers too; a connection closed without a word is an answer as well, but
    not a page without them.
    """
    try:
        reply = raw(daemon, data)
    except OSError:
        return
    if not reply:
        return
    head = reply.split("\r\n\r\n")[0].lower()
    assert head.split(" ")[1] in codes, reply[:300]
    assert "x-content-type-options: nosniff" in head, reply[:500]
    if not head.split(" ")[1] == "200":
        assert "x-go-pprof: 1" in head, reply[:500]
    assert daemon.get("/healthz").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:6060"},
        {"Host": "localhost.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Forwarded": "for=10.0.0.1"},
        {"X-Forwarded-For": "10.0.0.1"},
        {"X-Forwarded-Host": "x"},
        {"Via": "1.1 proxy"},
    ],
)
def test_requests_that_a_browser_or_proxy_may_be_tricked_into(daemon, program_target, headers):
    for path in (PROFILE.format(pid=program_target.pid) + "?seconds=0.1", "/", f"/pid/{program_target.pid}"):
        check_error(daemon.get(path, headers=headers), 403)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "10.1.2.3:99", "LOCALHOST:6060", socket.gethostname()]
)
def test_hosts_that_are_right(daemon, host):
    assert daemon.get("/healthz", headers={"Host": host}).status == 200


def test_headers_of_a_profile(daemon, program_target):
    reply = daemon.profile(program_target.pid, seconds=0.2)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"] == 'attachment; filename="profile"'
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "cache-control" not in reply.headers
    assert reply.body[:2] == b"\x1f\x8b"


def test_head(daemon):
    reply = daemon.request("HEAD", "/healthz")
    assert reply.status == 200 and reply.body == b""


def test_debug_and_gc_are_ignored_as_in_go(daemon, program_target):
    assert fetch(daemon, program_target.pid, seconds=0.1, debug=1).samples is not None
    assert daemon.profile(program_target.pid, seconds=0.1, debug="x", gc=1).status == 200


def test_redirect_keeps_a_proxys_prefix(daemon, program_target):
    reply = daemon.get(f"/pid/{program_target.pid}/debug/pprof")
    assert reply.status == 301 and reply.headers["location"] == "pprof/"


def test_cmdline(daemon, start_target):
    target = start_target("counted", "a b", "", "x=1")
    reply = daemon.get(f"/pid/{target.pid}/debug/pprof/cmdline")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain")
    assert reply.body.split(b"\0")[1:] == [b"a b", b"", b"x=1"]


def test_symbol(daemon, program_target):
    """Addresses of a profile's own locations get the names that the profile gave them, by GET and by POST."""
    profile = fetch(daemon, program_target.pid, seconds=0.5, hz=499)
    frame = next(frame for sample in profile.samples for frame in sample.stack if frame.function == "part10")
    path = f"/pid/{program_target.pid}/debug/pprof/symbol"
    address = f"0x{frame.address:x}"
    expected = f"num_symbols: 1\n{address} part10\n"
    assert daemon.get(f"{path}?{address}").text == expected
    assert daemon.request("POST", path, body=address.encode()).text == expected
    two = daemon.request("POST", path, body=f"{address}+0x1".encode()).text
    assert two == expected, "an unknown address is left out"
    assert daemon.get(path).text.startswith("num_symbols:")
    assert daemon.request("POST", path, body=b"zz+0x+").status in (200, 400)


def test_quality(daemon, program_target):
    reply = daemon.get(f"/pid/{program_target.pid}/debug/quality", seconds=1, hz=199)
    assert reply.status == 200 and reply.headers["content-type"].startswith("application/json")
    facts = reply.json()
    for key in ("samples", "expected", "cpu_sampled_ns", "cpu_actual_ns", "window_ns"):
        assert facts[key] > 0, facts
    assert isinstance(facts["version"], str)
    check_error(daemon.get(f"/pid/{program_target.pid}/debug/quality", seconds="x"), 400, "seconds")


def test_metrics(daemon, program_target):
    fetch(daemon, program_target.pid, seconds=0.3)
    text = daemon.get("/metrics").text
    for name in (
        "cprofd_sessions",
        "cprofd_samples_total",
        "cprofd_requests_total",
        "cprofd_worker_restarts_total",
        "cprofd_cpu_seconds_total",
        "cprofd_build_info",
    ):
        assert f"\n{name}" in "\n" + text, name
    before = daemon.metric("cprofd_samples_total")
    profile = fetch(daemon, program_target.pid, seconds=0.5, hz=499)
    wait_for(
        lambda: daemon.metric("cprofd_samples_total") >= before + profile.total("samples"),
        "samples are counted",
    )
