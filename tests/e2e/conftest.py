"""What the end-to-end tests share: a daemon, programs to profile, and what the machine must have."""

import os
import shutil
import subprocess
import sys

import pytest
from _pytest.runner import runtestprotocol

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from daemon import BUILD, DAEMON, Daemon, descendants, wait_for  # noqa: E402
from places import AS_SERVICE, name_of, namespace_is_refused  # noqa: E402
from target import Target, make_public  # noqa: E402


def missing():
    """Why nothing can be tested here; None if all is there."""
    if os.geteuid() != 0:
        return "needs root, to sample other processes"
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "needs a kernel with BTF (/sys/kernel/btf/vmlinux)"
    if (
        shutil.which("bpftool")
        and subprocess.run(["bpftool", "prog", "list"], capture_output=True, check=False).returncode != 0
    ):
        return "needs the bpf() system call, which is refused here"
    return None


# Begun first, since they take longest: else one of several processes still runs one of them when the others have nothing left.
LONG_FILES = ("test_watch.py", "test_truth.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG_FILES)
    reason = missing()
    if reason:
        for item in items:
            if "alone" not in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: needs no daemon and no rights")
    config.addinivalue_line("markers", "quiet: compares with clocks what a busy machine delays, or changes the machine: never beside other tests")
    config.addinivalue_line("markers", "chance: compares samples with the truth: made once more where it fails")


repeated = []


def pytest_runtest_logreport(report):
    """Where several processes share the tests, this one alone has the terminal."""
    repeated.extend((report.nodeid, text) for name, text in report.user_properties if name == "repeated" and report.when == "call")


def pytest_runtest_protocol(item, nextitem):
    """What is by chance fails by chance, too, and where the host takes the CPU away. So such a comparison is made once more, with new
    samples, before it counts: what is wrong is wrong twice. What was repeated is listed at the end.
    """
    if "chance" not in item.keywords:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.when == "call" and report.failed]
    if failed:
        item.user_properties.append(("repeated", failed[0].longrepr.reprcrash.message))
        item._initrequest()  # pylint: disable=protected-access
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter):
    for nodeid, text in repeated:
        terminalreporter.write_line(f"repeated: {nodeid}: {text.splitlines()[0]}")


@pytest.fixture(scope="session")
def new_daemon(tmp_path_factory):
    """Starts daemons with options; all are ended, and must end well, when the run is over."""
    assert os.path.exists(DAEMON), f"no {DAEMON}: build first"
    directory = str(tmp_path_factory.mktemp("daemons"))
    started = []

    def start(*arguments, **options):
        daemon = Daemon(directory, *arguments, **options)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture(scope="session")
def daemon(new_daemon):
    """The daemon that most tests share, as it is without any configuration."""
    return new_daemon()


@pytest.fixture
def start_target():
    """Starts programs; all are ended with the test."""
    started = []

    def start(name, *options, **more):
        started.append(Target(name, *options, **more))
        return started[-1]

    yield start
    for target in started:
        target.stop()


@pytest.fixture(scope="session")
def service(new_daemon, tmp_path_factory):
    """A daemon with the service's rights. The copy is in a place that its user can reach."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    directory = str(tmp_path_factory.mktemp("service"))
    make_public(directory)
    program = shutil.copy(DAEMON, os.path.join(directory, "cprofd"))
    return new_daemon(wrapper=AS_SERVICE, program=program)


@pytest.fixture(params=["root", "service"])
def either(request, daemon):
    return daemon if request.param == "root" else request.getfixturevalue("service")


@pytest.fixture
def start_late(start_target):
    """Starts the program; its library is loaded when this returns."""

    def start(*options, **more):
        target = start_target("late_library", "now=1", *options, **more)
        wait_for(lambda: target.truth()["functions"]["late_inner"]["cpu_ns"] > 0, "the library is loaded")
        return target

    return start


@pytest.fixture
def start_inside(start_late):
    """Runs a shell script in a mount namespace of its own (switches: unshare's), which ends by becoming the program; .pid is the
    program's.
    """

    def start(script, *switches):
        switches = switches or ("--mount",)
        refused = namespace_is_refused(*switches)
        if refused:
            pytest.skip(f"needs namespaces: {refused}")
        argv = ["unshare", *switches, "sh", "-e", "-c", script]
        target = start_late(argv=argv)
        found = [pid for pid in descendants(target.pid) if name_of(pid) == "late_library"]
        assert len(found) == 1, found
        target.pid = found[0]
        return target

    return start


@pytest.fixture
def program_target(start_target):
    """A busy program for tests that need just any process: busy no longer than the test takes."""
    return start_target("ten_series")


@pytest.fixture(scope="session")
def go():
    """Path of the installed go command."""
    path = shutil.which("go") or ("/usr/local/go/bin/go" if os.path.exists("/usr/local/go/bin/go") else None)
    if not path:
        pytest.skip("needs go")
    return path


@pytest.fixture(scope="session")
def upstream_pprof(go):
    """The newest google/pprof, from Go's module proxy."""
    tools = os.path.join(BUILD, "go-tools")
    path = os.path.join(tools, "pprof")
    if not os.path.exists(path):
        done = subprocess.run(
            [go, "install", "github.com/google/pprof@latest"],
            env={**os.environ, "GOBIN": tools},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(
                "needs Go's module proxy and a Go that builds the newest pprof: " + done.stderr.strip()[-200:]
            )
    return path
