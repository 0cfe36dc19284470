"""A Debian or Ubuntu tree like this machine's, booted by systemd-nspawn with its own systemd, for tests of the service.

The tree is made by debootstrap from a mirror that this machine's apt uses, once, and kept in a folder.
"""

import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

BOOT_SECONDS = 60
PACKAGES = ["systemd", "systemd-sysv", "curl"]
# What the service needs from a container manager beyond its defaults; a machine gives all of it.
CAPABILITIES = "CAP_BPF,CAP_PERFMON,CAP_SYSLOG,CAP_CHECKPOINT_RESTORE"
SYSTEM_CALLS = "bpf perf_event_open"


class Missing(Exception):
    """This machine cannot run the test."""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def check_needs():
    if os.geteuid() != 0:
        raise Missing("needs root")
    for program in ("debootstrap", "systemd-nspawn", "nsenter", "ldd", "meson"):
        if not shutil.which(program):
            raise Missing(f"needs {program}")


def mirror():
    """(URI, codename) of this machine's distribution, as apt knows them."""
    with open("/etc/os-release", encoding="utf-8") as file:
        codename = re.search(r"^VERSION_CODENAME=(\w+)$", file.read(), re.MULTILINE).group(1)
    listed = run("apt-get", "indextargets", "--format", "$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI)")
    for line in listed.splitlines():
        created_by, release, component, uri = line.split(" ", 3)
        if (created_by, release, component) == ("Packages", codename, "main"):
            return uri, codename
    raise Missing(f"apt has no source for {codename} main")


def library_packages(program):
    """The packages of the libraries that a program is linked with."""
    packages = set()
    for path in re.findall(r"(/\S+)", run("ldd", program)):
        for name in (path, "/usr" + path, os.path.realpath(path)):
            done = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                packages.add(done.stdout.split(":")[0])
                break
        else:
            raise Missing(f"no package has {path}, which {program} is linked with")
    return sorted(packages)


def base_tree(cache, packages):
    """The tree in the cache; made where it is not there yet."""
    uri, codename = mirror()
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    tree = os.path.join(cache, f"nspawn-{codename}-{key}")
    if not os.path.isdir(tree):
        os.makedirs(cache, exist_ok=True)
        partial = tempfile.mkdtemp(prefix="nspawn-partial-", dir=cache)
        os.chmod(partial, 0o755)
        try:
            run("debootstrap", "--variant=minbase", "--include=" + ",".join(packages), codename, partial, uri)
            os.rename(partial, tree)
        except subprocess.CalledProcessError as error:
            raise Missing(f"debootstrap of {codename} from {uri}: {error.stdout[-2000:]}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return tree


class Container:
    """A booted copy of a tree. `with Container(...) as container`: it is gone afterwards."""

    def __init__(self, cache, program):
        base = base_tree(cache, PACKAGES + library_packages(program))
        self.tree = tempfile.mkdtemp(prefix="nspawn-run-", dir=cache)
        self.console = None
        self.nspawn = None
        self.leader = None
        run("cp", "-a", "--reflink=auto", base + "/.", self.tree)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.tree, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.tree, name.lstrip("/"))

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def boot(self):
        self.console = open(self.path("/console.log"), "w+b")
        # nspawn masks /proc/kallsyms, as no machine does; the variable leaves /proc as it is.
        environment = dict(os.environ, SYSTEMD_NSPAWN_API_VFS_WRITABLE="1")
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--boot", "--directory=" + self.tree, f"--machine=cprofd-{os.getpid()}",
             "--private-network", "--register=no", "--keep-unit", "--capability=" + CAPABILITIES,
             "--system-call-filter=" + SYSTEM_CALLS],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console, env=environment)
        deadline = time.monotonic() + BOOT_SECONDS
        while not self.is_running():
            if self.nspawn.poll() is not None or time.monotonic() > deadline:
                raise Missing("systemd does not boot in a container here: " + self.console_text()[-2000:])
            time.sleep(0.2)

    def console_text(self):
        with open(self.path("/console.log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def is_running(self):
        with open(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        if not children:
            return False
        self.leader = int(children[0])
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def run(self, *command, check=True, **options):
        """Runs a command inside, as root."""
        return subprocess.run(["nsenter", f"--target={self.leader}", "--all", "--", *command], check=check,
                              capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              **options)

    def start(self, *command):
        """Starts a command inside, as root, without waiting for it."""
        return subprocess.Popen(["nsenter", f"--target={self.leader}", "--all", "--", *command], text=True,
                                errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def output(self, *command):
        return self.run(*command).stdout.strip()

    def inner_pids(self, name):
        """PIDs, as the container counts them, of processes whose comm is name."""
        listed = self.output("sh", "-c", "grep -Hsx " + name + " /proc/[0-9]*/comm || true")
        return [line.split("/")[2] for line in listed.splitlines()]

    def stop(self):
        if self.nspawn and self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            try:
                self.nspawn.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        if self.console:
            self.console.close()


def remove_leftovers(cache):
    """Trees of runs that were killed."""
    for tree in glob.glob(os.path.join(cache, "nspawn-run-*")) + glob.glob(
            os.path.join(cache, "nspawn-partial-*")):
        if time.time() - os.stat(tree).st_mtime > 3600:
            shutil.rmtree(tree, ignore_errors=True)
