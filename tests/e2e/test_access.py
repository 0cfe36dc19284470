"""Who may profile whom: the kernel's own rule for tracing, found out from the connection, on every endpoint."""

import os
import shutil
import subprocess

import pytest

from daemon import free_port, wait_for
from profiles import load
from target import make_public, public_copy

NOBODY = 65534
OTHER = 64999


class Asker:
    """curl under another user."""

    def __init__(self, uid, gid=None, groups=()):
        self.who = {"user": uid, "group": uid if gid is None else gid, "extra_groups": list(groups)}

    def get(self, url, *options):
        """(status, headers and body)"""
        done = subprocess.run(
            ["curl", "-s", "-i", "--noproxy", "*", "-w", "\n%{http_code}", *options, url],
            capture_output=True,
            check=False,
            timeout=60,
            **self.who,
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status), body


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return public_copy(tmp_path_factory, "ten_series")


@pytest.fixture
def owned_target(start_target, program):
    """A program that runs as some user."""

    def start(uid, gid=None, groups=()):
        return start_target(
            "ten_series", path=program, user=uid, group=uid if gid is None else gid, extra_groups=list(groups)
        )

    return start


PATHS = [
    "/pid/{}?seconds=0.1",
    "/pid/{}/debug/pprof/",
    "/pid/{}/debug/pprof/profile?seconds=0.1",
    "/pid/{}/debug/pprof/cmdline",
    "/pid/{}/debug/pprof/goroutine?debug=2",
    "/pid/{}/debug/pprof/threadcreate",
    "/pid/{}/debug/pprof/growth?seconds=0.1",
    "/pid/{}/debug/pprof/symbol?0x1",
    "/pid/{}/debug/quality?seconds=0.1",
    "/pid/{}/debug/pprof/?format=json",
]


@pytest.mark.parametrize("path", PATHS)
def test_own_process_and_a_strangers(daemon, owned_target, path):
    """One's own: yes. root's, and another user's: 403, which says why. root: all."""
    mine, strangers, roots = owned_target(NOBODY), owned_target(OTHER), owned_target(0)
    asker = Asker(NOBODY)
    status, body = asker.get(daemon.url(path.format(mine.pid)))
    assert status == 200, body
    for target in (strangers, roots):
        status, body = asker.get(daemon.url(path.format(target.pid)))
        assert status == 403 and b"X-Go-Pprof: 1" in body, body
        assert len(body.split(b"\r\n\r\n", 1)[1]) > 10
    for target in (mine, strangers, roots):
        assert daemon.get(path.format(target.pid)).status == 200


def test_what_is_watched_is_told_to_those_who_may_see_it(daemon, owned_target):
    target = owned_target(OTHER)
    assert daemon.request("PUT", f"/pid/{target.pid}/watch?kinds=mutex&fraction=2").status == 204
    path = f"/pid/{target.pid}/debug/pprof/mutex?fraction=3"
    status, body = Asker(NOBODY).get(daemon.url(path))
    assert status == 403 and b"watched" not in body, body
    reply = daemon.get(path)
    assert reply.status == 409 and "watched with other parameters" in reply.text, reply


def test_list_shows_what_the_asker_may_see(daemon, owned_target):
    mine, strangers = owned_target(NOBODY), owned_target(OTHER)
    status, body = Asker(NOBODY).get(daemon.url("/"), "-H", "Accept: application/json")
    assert status == 200
    assert f'"pid":{mine.pid},'.encode() in body.replace(b" ", b"")
    assert f'"pid":{strangers.pid},'.encode() not in body.replace(b" ", b"")
    assert b'"pid":1,' not in body.replace(b" ", b"")


def test_every_uid_and_gid_counts(daemon, owned_target):
    """A process of the same uid but another primary gid is not one's own: the kernel's rule."""
    target = owned_target(NOBODY, gid=OTHER)
    status, body = Asker(NOBODY).get(daemon.url(f"/pid/{target.pid}/debug/pprof/cmdline"))
    assert status == 403, body


def test_uid_without_a_user(daemon, owned_target):
    """Over TCP the gid comes from the user database; where that knows nobody of this uid, nothing is granted."""
    target = owned_target(OTHER)
    status, body = Asker(OTHER).get(daemon.url(f"/pid/{target.pid}/debug/pprof/cmdline"))
    assert status == 403, body


def test_undumpable_process(daemon, start_target, tmp_path_factory):
    """An executable that its user can't read makes a process that its user can't trace."""
    program = public_copy(tmp_path_factory, "ten_series")
    os.chmod(program, 0o711)
    target = start_target("ten_series", path=program, user=NOBODY, group=NOBODY, extra_groups=[])
    status, body = Asker(NOBODY).get(daemon.url(f"/pid/{target.pid}/debug/pprof/profile?seconds=0.1"))
    assert status == 403, body
    assert daemon.profile(target.pid, seconds=0.1).status == 200


def test_process_with_capabilities(daemon, start_target, tmp_path_factory):
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    program = public_copy(tmp_path_factory, "ten_series")
    argv = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=+net_admin",
        "--ambient-caps=+net_admin",
        program,
    ]
    target = start_target("ten_series", argv=argv)
    status, body = Asker(NOBODY).get(daemon.url(f"/pid/{target.pid}/debug/pprof/profile?seconds=0.1"))
    assert status == 403, body


def test_kernel_frames_ask_for_more(daemon, owned_target):
    """kernel=1 needs what perf_event_paranoid and kptr_restrict ask of the asker."""
    mine = owned_target(NOBODY)
    with open("/proc/sys/kernel/perf_event_paranoid", encoding="ascii") as file:
        paranoid = int(file.read())
    if paranoid < 2:
        pytest.skip("needs kernel.perf_event_paranoid >= 2")
    url = daemon.url(f"/pid/{mine.pid}/debug/pprof/profile?seconds=0.1")
    status, body = Asker(NOBODY).get(url + "&kernel=1")
    assert status == 403 and b"kernel" in body, body
    assert Asker(NOBODY).get(url)[0] == 200
    assert daemon.profile(mine.pid, seconds=0.1, kernel=1).status == 200
    # Events that only the kernel makes are no different.
    status, body = Asker(NOBODY).get(url + "&event=tracepoint:sched:sched_switch")
    assert status == 403, body


def test_unix_socket(new_daemon, owned_target, tmp_path_factory):
    """The peer's credentials are the kernel's word; its Host header doesn't matter."""
    directory = str(tmp_path_factory.mktemp("socket"))
    make_public(directory)
    path = os.path.join(directory, "cprofd.sock")
    daemon = new_daemon(listen=[f"unix:{path}"])
    os.chmod(path, 0o666)
    mine, strangers, other_gid = owned_target(NOBODY), owned_target(OTHER), owned_target(NOBODY, gid=OTHER)
    assert daemon.profile(mine.pid, seconds=0.1).status == 200
    asker = Asker(NOBODY)
    url = "http://any.name.at.all/pid/{}/debug/pprof/profile?seconds=0.1"
    assert asker.get(url.format(mine.pid), "--unix-socket", path)[0] == 200
    assert asker.get(url.format(strangers.pid), "--unix-socket", path)[0] == 403
    assert asker.get(url.format(other_gid.pid), "--unix-socket", path)[0] == 403
    # With the group of the socket's peer, it is the asker's own.
    assert Asker(NOBODY, gid=OTHER).get(url.format(other_gid.pid), "--unix-socket", path)[0] == 200


def grants(tmp_path, *lines):
    path = tmp_path / "cprofd.conf"
    path.write_text("[access]\n" + "".join(f"grant = {line}\n" for line in lines))
    path.chmod(0o644)
    return path


def test_grants_and_reload(new_daemon, owned_target, tmp_path):
    """A user is granted another's processes, by a reload and without ending what runs."""
    path = grants(tmp_path)
    daemon = new_daemon("--config", str(path))
    strangers = owned_target(OTHER)
    url = daemon.url(f"/pid/{strangers.pid}/debug/pprof/profile?seconds=0.1")
    assert Asker(NOBODY).get(url)[0] == 403
    long_one = subprocess.Popen(
        [
            "curl",
            "-s",
            "--noproxy",
            "*",
            "-o",
            "-",
            daemon.url(f"/pid/{strangers.pid}/debug/pprof/profile?seconds=3"),
        ],
        stdout=subprocess.PIPE,
    )
    daemon.wait_for_sessions(1)
    grants(tmp_path, f"user:{NOBODY} user:{OTHER}")
    daemon.reload()
    wait_for(lambda: Asker(NOBODY).get(url)[0] == 200, "the grant is in force")
    status, body = Asker(NOBODY).get(url + "&kernel=1")
    assert status == 403, body
    # A broken file changes nothing, and is told.
    path.write_text("[access]\ngrant = nonsense\n")
    daemon.reload()
    wait_for(lambda: ":2:" in daemon.log(), "the fault is logged with its line")
    assert Asker(NOBODY).get(url)[0] == 200
    body, _ = long_one.communicate(timeout=30)
    assert load(body).total("samples") > 0


def test_limits_of_one_asker_do_not_lock_out_root(new_daemon, owned_target):
    daemon = new_daemon("--max-sessions-asker", "2", "--max-sessions", "3", "--max-sessions-target", "3")
    mine = owned_target(NOBODY)
    url = daemon.url(f"/pid/{mine.pid}/debug/pprof/profile")
    running = [
        subprocess.Popen(
            ["curl", "-s", "--noproxy", "*", "-o", "/dev/null", url + "?seconds=20"],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        for _ in range(2)
    ]
    daemon.wait_for_sessions(2)
    status, body = Asker(NOBODY).get(url + "?seconds=0.1")
    assert status == 429 and b"Retry-After" in body, body
    assert daemon.profile(mine.pid, seconds=0.1).status == 200
    for each in running:
        each.terminate()
        each.wait()
    daemon.wait_for_sessions(0)


def test_rates_together(new_daemon, program_target):
    daemon = new_daemon("--max-rate-hz", "1000", "--max-rate-asker-hz", "1000")
    url = daemon.url(f"/pid/{program_target.pid}/debug/pprof/profile?seconds=20&hz=900")
    with subprocess.Popen(["curl", "-s", "--noproxy", "*", "-o", "/dev/null", url]) as running:
        daemon.wait_for_sessions(1)
        reply = daemon.profile(program_target.pid, seconds=0.1, hz=500)
        assert reply.status in (200, 429), reply
        if reply.status == 429:
            assert "1000" in reply.text and reply.headers["retry-after"]
        running.terminate()
    daemon.wait_for_sessions(0)


@pytest.fixture
def other_network():
    """A network namespace of its own with a cable to this one: (our address, how to run something in there)."""
    name = f"cprofd{os.getpid()}"
    here, there = f"10.213.{os.getpid() % 256}.1", f"10.213.{os.getpid() % 256}.2"
    commands = [
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b",
        f"ip link set {name}b netns {name}",
        f"ip addr add {here}/30 dev {name}a",
        f"ip link set {name}a up",
        f"ip netns exec {name} ip addr add {there}/30 dev {name}b",
        f"ip netns exec {name} ip link set {name}b up",
    ]
    try:
        for command in commands:
            if (
                not shutil.which("ip")
                or subprocess.run(command.split(), capture_output=True, check=False).returncode != 0
            ):
                pytest.skip(f"needs a network namespace: {command}")
        yield here, ["ip", "netns", "exec", name]
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_another_machine_gets_what_everyone_is_granted(new_daemon, owned_target, other_network, tmp_path):
    """A listener off loopback is allowed; who asks through it has no uid, be it root's curl."""
    here, run_there = other_network
    strangers, roots = owned_target(OTHER), owned_target(0)
    port = free_port()
    config = grants(tmp_path, f"everyone user:{OTHER}")
    daemon = new_daemon("--config", str(config), "--listen", f"{here}:{port}")

    def status(pid):
        url = f"http://{here}:{port}/pid/{pid}/debug/pprof/profile?seconds=0.1"
        done = subprocess.run(
            [*run_there, "curl", "-s", "-o", "/dev/null", "--noproxy", "*", "-w", "%{http_code}", url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout

    assert status(strangers.pid) == "200"
    assert status(roots.pid) == "403"
    assert daemon.profile(roots.pid, seconds=0.1).status == 200


def test_audit_log(daemon, program_target):
    """One line a session, with who, whom, what and how it ended."""
    daemon.profile(program_target.pid, seconds=0.2, hz=123)

    def line():
        return [
            each
            for each in daemon.log().splitlines()
            if str(program_target.pid) in each and "ten_series" in each
        ]

    found = wait_for(line, "the session is in the log")
    assert "uid" in found[-1], found[-1]
