#!/usr/bin/python3
"""The installed service under a real systemd: started, asked, reloaded, watched, socket-activated and stopped, as its own user.

nspawn.py BUILD_ROOT

Needs root, debootstrap and systemd-nspawn, and in CPROFD_TREES a folder where trees are kept (some 300 MB); without them
it is skipped (exit status 77).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import unittest

import container as containers

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else "."
TREES = os.environ.get("CPROFD_TREES", "")
EXPOSURE_MAX = 2.5
# By their numbers in linux/capability.h: DAC_READ_SEARCH, SYS_PTRACE, SYSLOG, PERFMON, BPF, CHECKPOINT_RESTORE.
CAPABILITIES = sum(1 << number for number in (2, 19, 34, 38, 39, 40))
CAP_SYS_ADMIN = 1 << 21
ADDRESS = "127.0.0.1:6060"
DROP_IN_FOLDER = "/etc/systemd/system/cprofd.service.d"
PROGRAMS = ("ten_series", "system_calls")
SKIPPED = 77


def build_options():
    listed = json.loads(containers.run("meson", "introspect", "--buildoptions", BUILD))
    return {option["name"]: option["value"] for option in listed}


def check_needs():
    containers.check_needs()
    if not TREES:
        raise containers.Missing("needs CPROFD_TREES, a folder where trees are kept")
    if build_options()["b_sanitize"] != "none":
        raise containers.Missing("needs a build without sanitizers, which the service's hardening stops")


def as_user(user):
    """The beginning of a command that runs as that user."""
    return ("setpriv", f"--reuid={user}", f"--regid={'root' if user == 'root' else 'nogroup'}", "--clear-groups")


def wait_for(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


class Service(unittest.TestCase):
    container = None  # booted by main
    config = drop_in = ""  # where they are installed

    def setUp(self):
        self.systemctl("start", "cprofd")

    def tearDown(self):
        self.container.run("systemctl", "stop", "cprofd.socket", "cprofd.service", check=False)
        self.container.run("systemctl", "reset-failed", check=False)

    # ---- helpers

    def systemctl(self, *words):
        done = self.container.run("systemctl", *words, check=False)
        if done.returncode != 0:
            self.fail(f"systemctl {' '.join(words)}: {done.stderr}\n{self.journal()}")
        return done.stdout.strip()

    def journal(self):
        return self.container.output("journalctl", "--no-pager", "-o", "cat", "-u", "cprofd")

    def show(self, name):
        return self.systemctl("show", "--value", "-p", name, "cprofd")

    def kill(self, name, pid):
        self.container.run("sh", "-c", f"kill -{name} {pid}")

    def status(self, pid):
        text = self.container.output("cat", f"/proc/{pid}/status")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def curl(self, path, *switches, user="root"):
        """(status code, body)"""
        done = self.container.run(*as_user(user), "curl", "-s", "--max-time", "60", "-w", "\n%{http_code}", *switches,
                                  f"http://{ADDRESS}{path}", check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code), body

    def start_program(self, name, user="nobody", environment=""):
        """Its PID inside; it ends with the test."""
        unit = f"program-{os.path.basename(name)}-{user}"
        self.container.run("systemctl", "reset-failed", unit, check=False)
        self.container.run("systemd-run", "--quiet", f"--unit={unit}", f"--uid={user}", f"--setenv={environment or 'A=B'}",
                           name)
        self.addCleanup(self.container.run, "systemctl", "stop", unit, check=False)
        return self.systemctl("show", "--value", "-p", "MainPID", unit)

    # ---- tests

    def test_runs_as_its_own_user_with_few_capabilities(self):
        self.assertEqual(self.systemctl("is-active", "cprofd"), "active")
        status = self.status(self.show("MainPID"))
        user = self.container.output("id", "-u", "cprofd")
        self.assertEqual(set(status["Uid"].split()), {user})
        self.assertNotEqual(user, "0")
        for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), CAPABILITIES, name)

    def test_answers(self):
        self.assertEqual(self.curl("/healthz")[0], 200)
        self.assertIn("cprofd_build_info", self.curl("/metrics")[1])

    def test_profile_of_another_user(self):
        pid = self.start_program("ten_series")
        code, body = self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=2&format=folded")
        self.assertEqual(code, 200, body)
        shares = {n: 0 for n in range(1, 11)}
        for line in body.splitlines():
            found = re.search(r"\bpart(\d+)\b.* (\d+)$", line)
            if found:
                shares[int(found.group(1))] += int(found.group(2))
        self.assertGreater(shares[10], shares[5], body)
        self.assertGreater(shares[5], shares[1], body)

    def install_private(self, source, name):
        """A copy that nobody but its owner may read."""
        os.makedirs(os.path.dirname(self.container.path(name)), exist_ok=True)
        shutil.copy(source, self.container.path(name))
        self.container.run("chown", "nobody", name)
        self.container.run("chmod", "0500", name)

    def test_private_binary(self):
        self.install_private(self.container.path("/usr/bin/ten_series"), "/opt/private")
        pid = self.start_program("/opt/private")
        self.assertIn("part10", self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=1&format=folded")[1])

    def test_deleted_binary_and_library(self):
        """What map_files is for, and CAP_CHECKPOINT_RESTORE: a library that no path leads to."""
        library = self.container.output("sh", "-c", "ldd /usr/bin/system_calls | grep -o '/.*libc.so.6'")
        self.install_private(self.container.path(os.path.realpath(library)), "/opt/gone/libc.so.6")
        self.install_private(self.container.path("/usr/bin/system_calls"), "/opt/gone/program")
        pid = self.start_program("/opt/gone/program", environment="LD_LIBRARY_PATH=/opt/gone")
        wait_for(lambda: "/opt/gone/libc.so.6" in self.container.output("cat", f"/proc/{pid}/maps"), "the program runs")
        shutil.rmtree(self.container.path("/opt/gone"))
        body = self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=1&format=folded")[1]
        # in_kernel is the program's, the first clock_gettime the library's, the second the vDSO's.
        self.assertRegex(body, r"main;in_kernel;program_clock_ns;\w*clock_gettime;\w*clock_gettime ")

    def test_tracepoint(self):
        if self.container.run("mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing", check=False).returncode != 0:
            self.skipTest("no tracefs in a container here")
        self.addCleanup(self.container.run, "umount", "/sys/kernel/tracing")
        self.systemctl("restart", "cprofd")
        pid = self.start_program("ten_series")
        code, body = self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=1&format=folded&event=tracepoint:sched:sched_switch")
        self.assertEqual(code, 200, body)
        self.assertIn("part", body)

    def test_kernel_frames_have_names(self):
        pid = self.start_program("system_calls")
        code, body = self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=1&format=folded&kernel=1")
        self.assertEqual(code, 200, body)
        self.assertRegex(body, r"do_syscall_64|el0_svc|entry_SYSCALL")

    def test_probes_without_sys_admin(self):
        pid = self.start_program("ten_series")
        code, body = self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=1&format=folded&event=uprobe::part1")
        if code == 503:
            self.assertIn("sys-admin.conf", body)
            self.assertTrue(os.path.exists(self.container.path(self.drop_in)))
            return
        self.assertEqual(code, 200, body)
        self.assertIn("part1", body)

    def test_others_are_refused_what_the_kernel_refuses(self):
        own = self.start_program("ten_series", "nobody")
        foreign = self.start_program("ten_series", "daemon")
        self.assertEqual(self.curl(f"/pid/{own}/debug/pprof/profile?seconds=0.2", "-o", "/dev/null", user="nobody")[0], 200)
        self.assertEqual(self.curl(f"/pid/{foreign}/debug/pprof/profile?seconds=0.2", user="nobody")[0], 403)
        self.assertEqual(self.curl("/pid/1/debug/pprof/cmdline", user="nobody")[0], 403)

    def configure(self, text):
        """Another configuration for the time of the test."""
        kept = self.container.output("cat", self.config)
        self.addCleanup(self.container.write, self.config, kept + "\n")
        self.container.write(self.config, text)

    def test_reload(self):
        before = self.show("MainPID")
        pid = self.start_program("ten_series", "nobody")
        self.assertEqual(self.curl(f"/pid/{pid}/debug/pprof/cmdline", user="daemon")[0], 403)
        self.configure("[access]\ngrant = user:daemon user:nobody\n")
        self.systemctl("reload", "cprofd")
        wait_for(lambda: self.curl(f"/pid/{pid}/debug/pprof/cmdline", "-o", "/dev/null", user="daemon")[0] == 200,
                 "the grant takes effect")
        self.container.write(self.config, "[access]\ngrant = user:daemon\nnonsense\n")
        self.systemctl("reload", "cprofd")
        wait_for(lambda: f"{self.config}:3:" in self.journal(), "both faults are logged")
        self.assertIn(f"{self.config}:2:", self.journal())
        self.assertEqual(self.curl(f"/pid/{pid}/debug/pprof/cmdline", "-o", "/dev/null", user="daemon")[0], 200)
        self.assertEqual(self.show("MainPID"), before)
        wait_for(lambda: self.systemctl("is-active", "cprofd") == "active", "the reload ends")

    def test_reload_leaves_sessions_alone(self):
        pid = self.start_program("ten_series")
        url = f"http://{ADDRESS}/pid/{pid}/debug/pprof/profile?seconds=5&format=folded"
        with self.container.start(*as_user("nobody"), "curl", "-s", url) as session:
            wait_for(lambda: "cprofd_sessions 1" in self.curl("/metrics")[1], "the session runs")
            self.configure("[limits]\nmax-sessions = 1\n")
            self.systemctl("reload", "cprofd")
            wait_for(lambda: self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=0.1", user="nobody")[0] == 429,
                     "the limit takes effect")
            self.assertIn("part10", session.communicate()[0])

    def test_unix_socket(self):
        self.configure("[http]\nlisten = unix:/run/cprofd/cprofd.sock\n")
        self.systemctl("restart", "cprofd")
        switches = ("--unix-socket", "/run/cprofd/cprofd.sock")
        self.assertEqual(self.curl("/healthz", *switches, user="nobody")[0], 200)
        self.assertEqual(self.curl("/pid/1/debug/pprof/cmdline", *switches, user="nobody")[0], 403)
        self.assertEqual(self.curl("/pid/1/debug/pprof/cmdline", *switches)[0], 200)

    def test_wrong_configuration_does_not_start(self):
        self.systemctl("stop", "cprofd")
        self.configure("[limits]\nmax-hz = many\n")
        self.assertNotEqual(self.container.run("systemctl", "start", "cprofd", check=False).returncode, 0)
        self.assertIn(f"{self.config}:2: max-hz: \"many\"", self.journal())

    def test_units_are_well_formed(self):
        done = self.container.run("systemd-analyze", "verify", "--man=no", "cprofd.service", "cprofd.socket", check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_exposure(self):
        text = self.container.output("systemd-analyze", "security", "--no-pager", "cprofd.service")
        self.assertLessEqual(float(re.search(r"exposure level for cprofd.service: ([\d.]+)", text).group(1)), EXPOSURE_MAX,
                             text)

    def test_watchdog_restarts_a_daemon_that_hangs(self):
        self.container.write(DROP_IN_FOLDER + "/watchdog.conf", "[Service]\nWatchdogSec=2\n")
        self.addCleanup(self.forget_drop_ins)
        self.systemctl("daemon-reload")
        self.systemctl("restart", "cprofd")
        hung = self.show("MainPID")
        self.kill("STOP", hung)
        wait_for(lambda: self.show("MainPID") not in ("0", hung) and self.show("ActiveState") == "active",
                 "a new daemon runs", 60)
        self.assertEqual(self.curl("/healthz")[0], 200)

    def forget_drop_ins(self):
        shutil.rmtree(self.container.path(DROP_IN_FOLDER), ignore_errors=True)
        self.systemctl("daemon-reload")

    def test_drop_in_adds_sys_admin(self):
        os.makedirs(self.container.path(DROP_IN_FOLDER))
        os.symlink(self.drop_in, self.container.path(DROP_IN_FOLDER + "/sys-admin.conf"))
        self.addCleanup(self.forget_drop_ins)
        self.systemctl("daemon-reload")
        self.systemctl("restart", "cprofd")
        status = self.status(self.show("MainPID"))
        self.assertEqual(int(status["CapEff"], 16), CAPABILITIES | CAP_SYS_ADMIN)

    def test_socket_activation(self):
        self.systemctl("stop", "cprofd")
        self.systemctl("start", "cprofd.socket")
        self.assertEqual(self.container.run("systemctl", "is-active", "cprofd", check=False).stdout.strip(), "inactive")
        self.assertEqual(self.curl("/healthz")[0], 200)
        self.assertEqual(self.systemctl("is-active", "cprofd"), "active")
        self.assertEqual(self.curl("/healthz", "--unix-socket", "/run/cprofd.sock", user="nobody")[0], 200)

    def test_killed_daemon_leaves_nothing_and_is_started_again(self):
        self.curl("/")
        before = self.show("MainPID")
        self.kill("KILL", before)
        wait_for(lambda: self.show("MainPID") not in ("0", before) and self.show("ActiveState") == "active", "it is restarted")
        left = self.container.inner_pids("cprofd")
        self.assertNotIn(before, left)
        self.assertEqual(self.curl("/healthz")[0], 200)

    def test_stop_leaves_nothing(self):
        pid = self.start_program("ten_series")
        self.assertEqual(self.curl(f"/pid/{pid}/debug/pprof/profile?seconds=0.2", "-o", "/dev/null")[0], 200)
        self.systemctl("stop", "cprofd")
        self.assertEqual(self.show("Result"), "success")
        self.assertEqual(self.container.inner_pids("cprofd"), [])
        self.assertFalse(os.path.exists(self.container.path("/run/cprofd")))
        self.kill("0", pid)


def install(container):
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True,
                   env=dict(os.environ, DESTDIR=container.tree))
    for program in PROGRAMS:
        shutil.copy(os.path.join(BUILD, "tests", "programs", program), container.path("/usr/bin/"))
    options = build_options()
    prefix = options["prefix"]
    Service.config = os.path.join(prefix, options["sysconfdir"], "cprofd/cprofd.conf")
    Service.drop_in = os.path.join(prefix, options["datadir"], "cprofd/cprofd.service.d/sys-admin.conf")


def main():
    try:
        check_needs()
        containers.remove_leftovers(TREES)
        with containers.Container(TREES, os.path.join(BUILD, "daemon", "cprofd")) as container:
            install(container)
            container.boot()
            Service.container = container
            result = unittest.main(verbosity=2, exit=False).result
            return 0 if result.wasSuccessful() else 1
    except containers.Missing as missing:
        print(f"skipped: {missing}")
        return SKIPPED


if __name__ == "__main__":
    sys.exit(main())
