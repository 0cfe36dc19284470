"""A daemon of one's own for a test, and HTTP to it as its clients speak it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CPROFD_BUILD", os.path.join(ROOT, "build"))
DAEMON = os.path.join(BUILD, "daemon", "cprofd")
PROGRAMS = os.path.join(BUILD, "tests", "programs")


def free_port():
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition, what, seconds=10.0):
    """Polls until condition() is true, and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.02)


def descendants(pid):
    """The processes under pid, it included, as they are now."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="latin-1") as file:
                    parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                pass
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Response:
    """A reply: status, headers (names in lower case), body; seconds it took."""

    def __init__(self, status, headers, body, seconds):
        self.status, self.body, self.seconds = status, body, seconds
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def text(self):
        return self.body.decode("utf-8")

    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:300]!r}>"


def query(path, **parameters):
    """path with a query string; a None is left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return path + ("?" + urllib.parse.urlencode(given) if given else "")


class Daemon:
    """A running daemon. arguments are added to its command line; listen replaces the free port of 127.0.0.1; wrapper is a command that
    runs it.
    """

    def __init__(self, directory, *arguments, listen=None, wrapper=(), program=DAEMON):
        self.port = free_port()
        self.unix_path = None
        self.log_path = os.path.join(directory, f"cprofd.{self.port}.log")
        addresses = listen or [f"127.0.0.1:{self.port}"]
        command = [*wrapper, program]
        for address in addresses:
            command += ["--listen", address]
            if address.startswith("unix:"):
                self.unix_path = address[5:]
        self.has_tcp = any(not address.startswith("unix:") for address in addresses)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for(self.is_up, "the daemon answers", 180)  # the kernel checks its programs for seconds of CPU time
        except BaseException:
            self.process.kill()
            raise AssertionError("the daemon did not start: " + self.log())

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.log()}")
        try:
            return self.get("/healthz", timeout=5).status == 200
        except OSError:
            return False

    def connection(self, timeout):
        if self.has_tcp:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        return UnixConnection(self.unix_path, timeout)

    def request(self, method, path, headers=None, body=None, timeout=120):
        """One request on a connection of its own."""
        connection = self.connection(timeout)
        start = time.monotonic()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            reply = connection.getresponse()
            data = reply.read()
            return Response(reply.status, reply.getheaders(), data, time.monotonic() - start)
        finally:
            connection.close()

    def get(self, path, headers=None, timeout=120, **parameters):
        return self.request("GET", query(path, **parameters), headers=headers, timeout=timeout)

    def profile(self, pid, **parameters):
        """The reply of a CPU profile; the caller looks at its status."""
        return self.get(f"/pid/{pid}/debug/pprof/profile", **parameters)

    def url(self, path, **parameters):
        return f"http://127.0.0.1:{self.port}" + query(path, **parameters)

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = self.get("/metrics").text
        values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        assert values, f"no metric {name} in {text}"
        return sum(float(value) for value in values)

    def wait_for_sessions(self, count, seconds=30.0):
        wait_for(lambda: self.metric("cprofd_sessions") == count, f"{count} sessions", seconds)

    def wait_for_open(self, count=1, seconds=30.0):
        """Until so many windows have begun: what happens from now on is in them. A busy machine may take seconds to get there. A window that is
        still being closed counts: wait_for_sessions(0) comes before a new one.
        """
        wait_for(lambda: self.metric("cprofd_sessions_open") == count, f"{count} open windows", seconds)

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def n_fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        """Ends it, and checks that it ends well and takes its children along."""
        if self.process.poll() is not None:
            return
        family = descendants(self.pid)
        self.process.terminate()
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the daemon does not end on SIGTERM: " + self.log())
        assert code == 0, f"the daemon ended with {code}: {self.log()}"
        assert "ERROR: AddressSanitizer" not in self.log() and "runtime error:" not in self.log(), self.log()
        wait_for(lambda: not any(is_alive(pid) for pid in family), f"its children {family} end")


def is_alive(pid):
    """A process that is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
