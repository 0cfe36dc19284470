"""Real programs at work, as people run them: nothing of it is ours but the work they are given. Each workload is a context that gives the
PID to profile; what it needs and is not installed raises Missing.
"""

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")


class Missing(Exception):
    """The machine lacks the program."""


def find(name, *more):
    path = shutil.which(name) or next((each for pattern in more for each in sorted(glob.glob(pattern))), None)
    if not path:
        raise Missing(name)
    return path


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


@contextlib.contextmanager
def running(*command, **options):
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL, **options}
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


@contextlib.contextmanager
def plain(*command, **options):
    """A program that is its own work."""
    with running(*command, **options) as process:
        time.sleep(1)
        if process.poll() is not None:
            raise Missing(f"{command[0]} ended with {process.returncode}")
        yield process.pid


def cpu_of_children(pid):
    """{PID: nanoseconds of CPU time}."""
    found = {}
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            with contextlib.suppress(OSError):
                found[int(child)] = time.clock_gettime_ns((~int(child) << 3) | 2)
    return found


def child_of(pid, seconds=10, busy=False):
    """A child of a process; or the one that does most in a second, once one does anything worth that name."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = cpu_of_children(pid)
        if before and not busy:
            return min(before)
        time.sleep(1 if busy else 0.05)
        used = {child: ns - before[child] for child, ns in cpu_of_children(pid).items() if child in before}
        if busy and max(used.values(), default=0) > 10_000_000:
            return max(used, key=used.get)
    raise Missing(f"a child of {pid}")


def python3(directory):
    return plain(
        "/usr/bin/python3",
        "-c",
        "import json, re\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "while True:\n fib(18); json.loads(json.dumps(list(range(2000)))); re.sub('a+b', 'x', 'aaab' * 500)",
    )


def node(directory):
    return plain(
        find("node"),
        "-e",
        "const c = require('crypto'); function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2) }\n"
        "for (;;) { f(22); JSON.parse(JSON.stringify([...Array(2000).keys()])); c.createHash('sha256').update('x'.repeat(9999)).digest() }",
    )


def sqlite3(directory):
    """One query takes some ten seconds."""
    query = (
        "with recursive c(x, y) as (select 1, abs(random()) union all select x + 1, abs(random()) % 1000 from c limit 20000000) "
        "select y, count(*), group_concat(x) from c group by y order by 2;"
    )
    return plain(find("sqlite3"), ":memory:", 30 * query)


def gcc(directory):
    source = os.path.join(directory, "many.c")
    with open(source, "w", encoding="ascii") as file:
        for i in range(6000):
            file.write(f"int f{i}(int a, int *b) {{ int s = 0; for (int i = 0; i < a; i++) s += b[i] * {i} % (a + 1); return s; }}\n")
    compiler = subprocess.run([find("gcc"), "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()
    return plain("/bin/sh", "-c", f"exec {compiler} -quiet -O2 {source} -o /dev/null")


@contextlib.contextmanager
def postgres(directory, *pgbench):
    """Reads from one client, or what the further switches of pgbench say."""
    binaries = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"))), None)
    if not binaries:
        raise Missing("postgres")
    user = pwd.getpwnam("postgres")
    data = os.path.join(directory, "pg")
    os.chmod(directory, 0o755)
    os.mkdir(data)
    os.chown(data, user.pw_uid, user.pw_gid)
    port = free_port()

    def run(*command, **options):
        return subprocess.run(command, user="postgres", group=user.pw_gid, cwd="/", capture_output=True, check=True, **options)

    run(f"{binaries}/initdb", "-D", data, "-A", "trust")
    with running(f"{binaries}/postgres", "-D", data, "-p", port, "-k", data, user="postgres", group=user.pw_gid, cwd="/") as server:
        for _ in range(100):
            if subprocess.run([f"{binaries}/pg_isready", "-h", data, "-p", port], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        run(f"{binaries}/pgbench", "-h", data, "-p", port, "-i", "-s", "2", "postgres")
        with running(f"{binaries}/pgbench", "-h", data, "-p", port, *(pgbench or ("-S", "-c", "1")), "-T", "600", "postgres", user="postgres", cwd="/"):
            yield child_of(server.pid, busy=True)


@contextlib.contextmanager
def redis(directory):
    port = free_port()
    with plain(find("redis-server"), "--port", port, "--save", "", "--dir", directory) as pid:
        with running(find("redis-benchmark"), "-p", port, "-l", "-q", "-P", "16", "-t", "set,get,lpush,lrange_100"):
            time.sleep(1)
            yield pid


@contextlib.contextmanager
def nginx(directory):
    port = free_port()
    configuration = os.path.join(directory, "nginx.conf")
    with open(configuration, "w", encoding="ascii") as file:
        file.write(
            f"daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/log; user root; events {{}}\n"
            f"http {{ access_log off; gzip on; gzip_min_length 1; gzip_types text/plain; server {{ listen 127.0.0.1:{port}; root {directory}; }} }}"
        )
    with open(os.path.join(directory, "page.txt"), "w", encoding="ascii") as file:
        file.write("some text that compresses\n" * 500)
    with plain(find("nginx", "/usr/sbin/nginx"), "-c", configuration) as pid:
        url = f"http://127.0.0.1:{port}/page.txt"
        ab = ("-k", "-H", "Accept-Encoding: gzip", "-t", "600", "-n", "5000000", "-c", "4", url)
        wrk = shutil.which("wrk")
        with running(*([wrk, "-t1", "-c4", "-d600s", "-H", "Accept-Encoding: gzip", url] if wrk else [find("ab"), *ab])):
            time.sleep(1)
            yield child_of(pid)


def openssl_speed(*algorithm):
    def start(directory):
        return plain(find("openssl"), "speed", "-seconds", "100", *algorithm)

    return start


def ffmpeg(directory):
    return plain(
        find("ffmpeg"), "-f", "lavfi", "-i", "testsrc=size=1280x720:rate=30:duration=3600", "-c:v", "libx264", "-preset", "medium", "-threads", "1",
        "-f", "null", "-",
    )


def rust(directory):
    binary = os.path.join(directory, "rust_hot")
    subprocess.run([find("rustc"), "-O", "-g", "-o", binary, os.path.join(SOURCES, "rust_hot.rs")], check=True, capture_output=True)
    return plain(binary, stdin=subprocess.PIPE)


def build_go(directory, name, source, **more):
    binary = os.path.join(directory, name)
    environment = {**os.environ, "GOCACHE": os.path.join(directory, "cache"), "HOME": directory, **more}
    subprocess.run([find("go", "/usr/local/go/bin/go"), "build", "-o", binary, source], env=environment, check=True, capture_output=True)
    return plain(binary, stdin=subprocess.PIPE)


def go(directory):
    return build_go(directory, "go_hot", os.path.join(SOURCES, "go_hot.go"))


GO_CGO = """package main
/*
#include <stdint.h>
extern void goCallback(int);
static uint64_t spin(int n) { volatile uint64_t s = 0; for (int i = 0; i < n; i++) s += i * 3; return s; }
static void there_and_back(int n) { spin(n); goCallback(n); spin(n); }
*/
import "C"
import ("crypto/sha256"; "time")
var sink [32]byte
//export goCallback
func goCallback(n C.int) { for i := 0; i < int(n)/100; i++ { sink = sha256.Sum256(sink[:]) } }
func deeper(n int) { if n > 0 { deeper(n - 1); return }; C.there_and_back(20000) }
func main() { for { deeper(10); t := time.Now(); for i := 0; i < 100; i++ { _ = time.Since(t) } } }
"""


def go_cgo(directory):
    source = os.path.join(directory, "main.go")
    with open(source, "w", encoding="ascii") as file:
        file.write(GO_CGO)
    return build_go(directory, "cgo_program", source, CGO_ENABLED="1")


JAVA = """import java.util.*;
public class Main {
    static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
    public static void main(String[] a) { for (;;) { fib(25); List<String> l = new ArrayList<>(); for (int i = 0; i < 9999; i++) l.add("x" + i); Collections.sort(l); } }
}
"""


def java(directory):
    source = os.path.join(directory, "Main.java")
    with open(source, "w", encoding="ascii") as file:
        file.write(JAVA)
    return plain(find("java"), source)


def shell(command):
    def start(directory):
        find(command.split()[0])
        return plain("/bin/sh", "-c", f"exec {command}")

    return start


# name -> (workload, what most of its code is: "cfi" compiled natively with CFI, "assembly" partly by hand, "jit" made at run time)
WORKLOADS = {
    "sqlite3": (sqlite3, "cfi"),
    "python3": (python3, "cfi"),
    "gcc": (gcc, "cfi"),
    "postgres": (postgres, "cfi"),
    "redis": (redis, "cfi"),
    "nginx": (nginx, "cfi"),
    "xz": (shell("xz -9 -T1 -c /dev/urandom"), "cfi"),
    "gzip": (shell("gzip -9 -c /dev/urandom"), "cfi"),
    "perl": (shell("perl -e 'while(1){$h{int rand 9999}.=\"x\"; %h=() if keys %h>9000; my @a=sort {$a<=>$b} map {rand} 1..500}'"), "cfi"),
    "rust": (rust, "cfi"),
    "go": (go, "cfi"),
    "go_cgo": (go_cgo, "cfi"),
    "openssl_rsa": (openssl_speed("rsa2048"), "assembly"),
    "openssl_sha256": (openssl_speed("-evp", "sha256"), "assembly"),
    "openssl_gcm": (openssl_speed("-evp", "aes-128-gcm"), "assembly"),
    "openssl_chacha": (openssl_speed("-evp", "chacha20-poly1305"), "assembly"),
    "ffmpeg": (ffmpeg, "assembly"),
    "node": (node, "jit"),
    "java": (java, "jit"),
}


@contextlib.contextmanager
def start(name):
    with tempfile.TemporaryDirectory(prefix="cprofd-live-") as directory, WORKLOADS[name][0](directory) as pid:
        yield pid
