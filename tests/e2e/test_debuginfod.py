"""Debug files from debuginfod servers: a real one, and ones that misbehave. Whatever a server does, the profile has all its samples, comes
in time, and says what it did without.
"""

import contextlib
import http.server
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request

import pytest

from daemon import DAEMON, PROGRAMS, descendants, free_port, is_alive, wait_for
from places import AS_SERVICE, SERVICE_USER
from profiles import load

LIBRARY = "libdebuginfod.so.1"


@pytest.fixture(scope="module", autouse=True)
def no_proxy():
    """The servers are this machine's own."""
    names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="module", autouse=True)
def library():
    with open(DAEMON, "rb") as file:
        if LIBRARY.encode() not in file.read():
            pytest.skip("needs a build with libdebuginfod")
    libraries = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"{re.escape(LIBRARY)} .*=> (\S+)", libraries)
    if not found:
        pytest.skip(f"needs {LIBRARY}")
    return os.path.realpath(found.group(1))


@pytest.fixture
def folder():
    """A folder that users other than root can pass through."""
    path = tempfile.mkdtemp(prefix="cprofd-debuginfod-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


class Stripped:
    """A program without any symbols, and the file with what was taken away. Of a build ID of its own: what other tests did is cached."""

    count = 0

    def __init__(self, directory):
        Stripped.count += 1
        self.path = os.path.join(directory, f"program{Stripped.count}")
        self.debug = self.path + ".debug"
        shutil.copy(os.path.join(PROGRAMS, "ten_series"), self.path)
        notes = subprocess.run(["readelf", "-nW", self.path], capture_output=True, text=True, check=True).stdout
        old = bytes.fromhex(re.search(r"Build ID: ([0-9a-f]+)", notes).group(1))
        new = os.urandom(len(old))
        with open(self.path, "rb") as file:
            data = file.read()
        assert data.count(old) == 1
        with open(self.path, "wb") as file:
            file.write(data.replace(old, new))
        self.build_id = new.hex()
        subprocess.run(["objcopy", "--only-keep-debug", self.path, self.debug], check=True)
        subprocess.run(["strip", self.path], check=True)

    def debug_data(self):
        with open(self.debug, "rb") as file:
            return file.read()


@pytest.fixture
def program(folder):
    for tool in ("objcopy", "strip", "readelf"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    return Stripped(folder)


class Server:
    """A server of one's own. answer(handler) speaks with the client; asked holds the paths that were asked for. tls: a certificate and
    its key.
    """

    def __init__(self, answer, tls=None):
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                with contextlib.suppress(OSError):
                    answer(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            self.http.handle_error = lambda *_: None
            self.url = f"https://localhost:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def count(self, program):
        return sum(program.build_id in path for path in self.asked)

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def send(handler, data):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def own_daemon(new_daemon):
    """Starts daemons that end, and must end well, with the test: there are many."""
    started = []

    def start_daemon(*arguments, **options):
        started.append(new_daemon(*arguments, **options))
        return started[-1]

    yield start_daemon
    for daemon in started:
        daemon.stop()


@pytest.fixture
def start(own_daemon, folder):
    """Starts a daemon that asks these servers."""

    def start_daemon(*urls, options=(), cache=None, **more):
        arguments = [f"--debuginfod-cache={cache or folder + '/cache'}", *options]
        return own_daemon(*arguments, *(f"--debuginfod-urls={url}" for url in urls), **more)

    return start_daemon


def profile_of(daemon, target, **parameters):
    profile = load(daemon.profile(target.pid, **{"seconds": 0.5, "hz": 499, **parameters}))
    assert profile.total("samples") > 0
    return profile


def settled(daemon, target):
    """A profile that waits for no file any more: a busy machine may take longer than the daemon waits."""
    profiles = []

    def is_settled():
        profiles[:] = [profile_of(daemon, target)]
        return "later profile may have it" not in profiles[0].facts.get("debuginfod", "")

    wait_for(is_settled, "a profile that waits for no file", 60)
    return profiles[0]


def is_named(profile):
    return bool(profile.functions() & {"main", *(f"part{i}" for i in range(1, 11))})


def counted(daemon, result):
    return int(re.search(rf'cprofd_debuginfod_total{{result="{result}"}} (\d+)', daemon.get("/metrics").text).group(1))


def clients(daemon):
    """The processes that speak with servers."""
    found = []
    for pid in descendants(daemon.pid):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"--role=debuginfod" in file.read().split(b"\0"):
                    found.append(pid)
    return found


def test_off_by_default(own_daemon, program, start_target, serve, monkeypatch):
    """Whatever the environment says."""
    server = serve(lambda handler: send(handler, program.debug_data()))
    monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
    daemon = own_daemon()
    target = start_target("ten_series", path=program.path)
    profile = profile_of(daemon, target)
    assert not is_named(profile) and "debuginfod" not in profile.facts
    assert not server.asked and not clients(daemon)


@pytest.fixture
def real_server(program):
    """elfutils' own, over the program's debug file."""
    if not shutil.which("debuginfod"):
        pytest.skip("needs debuginfod, the server (package debuginfod)")
    files = program.path + ".files"
    os.mkdir(files)
    shutil.copy(program.debug, files)
    port = free_port()
    server = subprocess.Popen(
        ["debuginfod", "-F", files, "-d", ":memory:", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def has_it():
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/buildid/{program.build_id}/debuginfo", timeout=5) as reply:
                return reply.status == 200

    try:
        wait_for(has_it, "the server has the file", 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def test_names_and_lines(daemon, start, program, real_server, start_target):
    """What a server has is as good as what is here, and stays when the server is gone."""
    target = start_target("ten_series", path=program.path)
    assert not is_named(settled(daemon, target))
    own = start(real_server, options=["--debuginfod-wait=4"])
    profile = settled(own, target)
    assert is_named(profile) and "debuginfod" not in profile.facts, profile.facts
    assert any(frame.filename.endswith("ten_series.c") and frame.line > 0 for sample in profile.samples for frame in sample.stack)
    assert counted(own, "found") == 1
    text = own.get(f"/pid/{target.pid}/debug/quality", seconds=0.1).text
    assert "debuginfod" not in text
    own.process.send_signal(signal.SIGHUP)  # new workers: the file comes from the folder
    wait_for(lambda: "settings reloaded" in own.log(), "the reload")
    assert is_named(settled(own, target))


def test_confined(start, program, serve, start_target):
    """The process that speaks with servers has no rights, is not root, and holds nothing of the daemon."""
    server = serve(lambda handler: send(handler, program.debug_data()))
    daemon = start(server.url, options=["--debuginfod-wait=4"])
    assert is_named(settled(daemon, start_target("ten_series", path=program.path)))
    pids = clients(daemon)
    assert pids
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert "0" not in status["Uid"].split() and not status["Groups"].split()
        descriptors = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [each for each in descriptors if not each.startswith(("socket:", "/dev/null", "/memfd:cprofd-debuginfod"))], descriptors
        with open(f"/proc/{pid}/environ", "rb") as file:
            names = {each.split(b"=")[0] for each in file.read().split(b"\0") if each}
        assert names == {b"DEBUGINFOD_URLS"}


def test_as_the_service(start, program, folder, serve, start_target):
    """A daemon that is not root, and has capabilities, gives them up for what speaks with servers."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    copy = shutil.copy(DAEMON, folder + "/cprofd")
    os.mkdir(folder + "/cache", 0o700)
    os.chown(folder + "/cache", int(SERVICE_USER), int(SERVICE_USER))
    server = serve(lambda handler: send(handler, program.debug_data()))
    daemon = start(server.url, options=["--debuginfod-wait=4"], wrapper=AS_SERVICE, program=copy)
    assert is_named(settled(daemon, start_target("ten_series", path=program.path)))
    for pid in clients(daemon):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            text = file.read()
        assert re.search(r"^CapPrm:\t0+$", text, re.M) and re.search(r"^CapAmb:\t0+$", text, re.M), text


# How a server answers, and what the profile says of it; whether that is the server's fault.
BAD_SERVERS = {
    "absent": (lambda handler: handler.send_error(404), "no debuginfod server has its debug file", False),
    "broken": (lambda handler: handler.send_error(500), "servers could be asked", True),
    "closes": (lambda handler: handler.connection.close(), "servers could be asked", True),
    "no HTTP": (lambda handler: handler.wfile.write(b"\x7f\x00hello\n" * 100), "servers could be asked", True),
    "rubbish": (lambda handler: send(handler, b"<html>sign in</html>" * 100), "sent something else", True),
    "no ELF": (lambda handler: send(handler, b"\x7fELF" + bytes(5000)), "sent something else", True),
    "empty": (lambda handler: send(handler, b""), "servers could be asked", True),
}


@pytest.mark.parametrize("kind", BAD_SERVERS)
def test_bad_server(start, program, serve, start_target, kind):
    answer, comment, at_fault = BAD_SERVERS[kind]
    server = serve(answer)
    daemon = start(server.url, options=["--debuginfod-wait=4"])
    target = start_target("ten_series", path=program.path)
    # At once where the machine is not too busy; then the first profile would say that it is on its way, and a later one why not.
    profile = settled(daemon, target)
    said = [each for each in profile.comments if each.startswith("cprofd.debuginfod=") and program.path in each]
    late = counted(daemon, "late") > 0
    assert not is_named(profile) and (late or len(said) == 1), profile.comments
    assert late or comment in said[0], profile.comments
    for _ in range(2):
        assert not is_named(profile_of(daemon, target))
    assert server.count(program) == 1, server.asked  # the others came too soon
    assert counted(daemon, "failed" if at_fault else "absent") >= 1, daemon.get("/metrics").text
    assert ("not asked again for 30 s" in daemon.log()) == at_fault, daemon.log()


def test_file_of_another(start, program, folder, serve, start_target):
    other = Stripped(folder)
    server = serve(lambda handler: send(handler, other.debug_data()))
    daemon = start(server.url, options=["--debuginfod-wait=4"])
    profile = settled(daemon, start_target("ten_series", path=program.path))
    assert not is_named(profile) and "sent something else" in profile.facts["debuginfod"]
    assert not [files for _, _, files in os.walk(folder + "/cache") if "debuginfo" in files]  # it is not kept


def send_without_end(handler):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(65536))


def send_too_large(handler):
    send(handler, bytes(3 << 20))


@pytest.mark.parametrize("answer", [send_without_end, send_too_large])
def test_too_large(start, program, folder, serve, start_target, answer):
    """Neither the profile nor the disk waits for the end of it."""
    server = serve(answer)
    daemon = start(server.url, options=["--debuginfod-wait=4", "--debuginfod-file-size=2M"])
    target = start_target("ten_series", path=program.path)
    profile = settled(daemon, target)
    assert not is_named(profile) and "larger than what may be fetched" in profile.facts["debuginfod"], profile.facts
    size = sum(os.stat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder + "/cache") for name in names)
    assert size < 1 << 20


def test_unreachable(start, program, start_target):
    """Nobody listens there: said, counted, and not tried for each profile."""
    daemon = start(f"http://127.0.0.1:{free_port()}", options=["--debuginfod-wait=4"])
    target = start_target("ten_series", path=program.path)
    for _ in range(2):
        profile = settled(daemon, target)
        assert not is_named(profile) and "could be asked" in profile.facts["debuginfod"]
    assert daemon.log().count("not asked again") == 1
    assert counted(daemon, "failed") >= 2


def test_slow_server(start, program, serve, start_target):
    """The profile does not wait for it, the file comes all the same, and the next profile has it."""
    go_on = threading.Event()

    def answer(handler):
        go_on.wait(60)
        send(handler, program.debug_data())

    server = serve(answer)
    daemon = start(server.url, options=["--debuginfod-wait=0.1"])
    target = start_target("ten_series", path=program.path)
    for _ in range(2):
        profile = profile_of(daemon, target)
        assert not is_named(profile) and "later profile may have it" in profile.facts["debuginfod"]
    go_on.set()
    wait_for(lambda: is_named(profile_of(daemon, target)), "a profile with names", 60)
    assert server.count(program) == 1 and counted(daemon, "late") >= 2


def test_reply_that_is_due_before(start, program, serve, start_target):
    """A profile leaves in time whatever else it would have waited for, and what it waited for still comes."""
    go_on = threading.Event()

    def answer(handler):
        go_on.wait(60)
        send(handler, program.debug_data())

    server = serve(answer)
    daemon = start(server.url, options=["--debuginfod-wait=4"])
    target = start_target("ten_series", path=program.path)
    profile = profile_of(daemon, target, seconds=1)  # go tool pprof would not wait for more than half a second
    assert not is_named(profile)
    go_on.set()
    wait_for(lambda: is_named(profile_of(daemon, target)), "a profile with names", 60)
    assert server.count(program) == 1


def test_never_answers(start, program, serve, start_target):
    """The time limit of a download ends it, and the server is left alone."""
    server = serve(lambda handler: time.sleep(60))
    daemon = start(server.url, options=["--debuginfod-wait=0", "--debuginfod-timeout=1"])
    target = start_target("ten_series", path=program.path)
    assert "later profile may have it" in profile_of(daemon, target).facts["debuginfod"]
    wait_for(lambda: "not asked again" in daemon.log(), "the time limit", 30)
    assert "could be asked" in profile_of(daemon, target).facts["debuginfod"]


def test_second_server(start, program, serve, start_target):
    """What one server lacks or garbles, another may have."""
    lacks = serve(lambda handler: handler.send_error(404))
    garbles = serve(lambda handler: send(handler, b"nonsense"))
    has = serve(lambda handler: send(handler, program.debug_data()))
    dead = f"http://127.0.0.1:{free_port()}"
    daemon = start(dead, lacks.url, garbles.url, has.url, options=["--debuginfod-wait=4"])
    profile = settled(daemon, start_target("ten_series", path=program.path))
    assert is_named(profile) and "debuginfod" not in profile.facts
    assert lacks.count(program) == garbles.count(program) == has.count(program) == 1


@pytest.mark.parametrize("trusted", [True, False])
def test_tls(start, program, folder, start_target, trusted):
    """Names are resolved, and certificates checked, inside of the sandbox."""
    authorities = "/etc/ssl/certs/ca-certificates.crt"
    if not shutil.which("openssl") or not os.path.exists(authorities):
        pytest.skip(f"needs openssl and {authorities}")
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    key, certificate = folder + "/key.pem", folder + "/certificate.pem"
    subprocess.run(["openssl", *make.split(), "-keyout", key, "-out", certificate], capture_output=True, check=True)
    mine = ["unshare", "-m", "sh", "-c", f'mount --bind {certificate} {authorities} && exec "$0" "$@"']
    if subprocess.run([*mine, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    server = Server(lambda handler: send(handler, program.debug_data()), (certificate, key))
    try:
        daemon = start(server.url, options=["--debuginfod-wait=4"], wrapper=mine if trusted else ())
        profile = settled(daemon, start_target("ten_series", path=program.path))
    finally:
        server.stop()
    assert is_named(profile) == trusted, (profile.facts, daemon.log())
    assert ("could be asked" in profile.facts.get("debuginfod", "")) == (not trusted)


def test_symbol(start, program, serve, start_target):
    """/symbol answers from the same files."""
    daemon = start(serve(lambda handler: send(handler, program.debug_data())).url, options=["--debuginfod-wait=4"])
    target = start_target("ten_series", path=program.path)
    named = settled(daemon, target)
    address, name = next((frame.address, frame.function) for sample in named.samples for frame in sample.stack if frame.function[:4] == "part")
    assert f"{address:#x} {name}" in daemon.get(f"/pid/{target.pid}/debug/pprof/symbol?{address:#x}").text


def test_cache_is_bounded(start, folder, serve, start_target):
    """The files that were used least recently go when there is no room."""
    programs = [Stripped(folder) for _ in range(4)]
    data = {each.build_id: each.debug_data() + bytes(600 << 10) for each in programs}
    server = serve(lambda handler: send(handler, data[handler.path.split("/")[2]]))
    daemon = start(server.url, options=["--debuginfod-wait=4", "--debuginfod-cache-size=1500K"])
    for each in programs:
        assert is_named(settled(daemon, start_target("ten_series", path=each.path)))
    kept = {os.path.basename(at) for at, _, names in os.walk(folder + "/cache") if "debuginfo" in names}
    assert kept == {each.build_id for each in programs[-2:]}, kept


def test_killed_daemon_leaves_nothing(start, program, serve, start_target):
    server = serve(lambda handler: time.sleep(60))
    daemon = start(server.url, options=["--debuginfod-wait=0.1"])
    profile_of(daemon, start_target("ten_series", path=program.path))
    wait_for(lambda: len(clients(daemon)) == 2, "one that looks into the folder, and one that hangs", 30)
    pids = clients(daemon)
    daemon.process.kill()
    daemon.process.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "its clients end")


def test_killed_client(start, program, serve, start_target):
    """One that dies costs its file alone."""
    hang = threading.Event()

    def answer(handler):
        hang.set()
        time.sleep(60)

    daemon = start(serve(answer).url, options=["--debuginfod-wait=0"])
    target = start_target("ten_series", path=program.path)
    profile_of(daemon, target)
    assert hang.wait(20)
    for pid in clients(daemon):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "what asks it died" in daemon.log(), "the daemon notices", 30)
    assert "could be asked" in profile_of(daemon, target).facts["debuginfod"]


def test_missing_library(start, program, library, serve, start_target):
    """The daemon works without it, and says so."""
    server = serve(lambda handler: send(handler, program.debug_data()))
    hide = ["unshare", "-m", "sh", "-c", f'mount --bind /dev/null {library} && exec "$0" "$@"']
    if subprocess.run([*hide, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to hide the library by a mount")
    daemon = start(server.url, wrapper=hide)
    wait_for(lambda: "no debug files can be fetched: the library can't be loaded" in daemon.log(), "the message", 30)
    profile = settled(daemon, start_target("ten_series", path=program.path))
    assert "the daemon's log says why" in profile.facts["debuginfod"] and not server.asked


def test_folder_of_root(start, program, folder, serve, start_target):
    """What speaks with servers never runs as root."""
    server = serve(lambda handler: send(handler, program.debug_data()))
    os.mkdir(folder + "/mine")
    daemon = start(server.url, cache=folder + "/mine")
    wait_for(lambda: "belongs to root" in daemon.log(), "the message", 30)
    profile = settled(daemon, start_target("ten_series", path=program.path))
    assert "the daemon's log says why" in profile.facts["debuginfod"] and not server.asked
    assert not os.listdir(folder + "/mine")


def test_reload_switches_on_and_off(own_daemon, program, folder, serve, start_target):
    server = serve(lambda handler: send(handler, program.debug_data()))
    config = os.path.join(folder, "cprofd.conf")

    def configure(text):
        with open(config, "w", encoding="ascii") as file:
            file.write(text)

    configure("")
    daemon = own_daemon(f"--config={config}", "--debuginfod-wait=4", f"--debuginfod-cache={folder}/cache")
    target = start_target("ten_series", path=program.path)
    assert not is_named(settled(daemon, target)) and not clients(daemon)
    configure(f"[debuginfod]\ndebuginfod-urls = {server.url}\n")
    daemon.reload()
    wait_for(lambda: daemon.log().count("settings reloaded") == 1, "the reload")
    assert is_named(settled(daemon, target))
    configure("")
    daemon.reload()
    wait_for(lambda: daemon.log().count("settings reloaded") == 2, "the reload")
    assert not is_named(settled(daemon, target)) and not clients(daemon)


def test_a_port_that_drops_everything(start, program, start_target):
    """Connections that are accepted by the kernel and never read."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        daemon = start(f"http://127.0.0.1:{listener.getsockname()[1]}", options=["--debuginfod-wait=0.1"])
        profile = profile_of(daemon, start_target("ten_series", path=program.path))
        assert "later profile may have it" in profile.facts["debuginfod"]
