"""Where the files of a process are: in a namespace of its own, replaced, deleted, in memory alone, on file systems that tell two numbers
of one file, under odd names. Wherever that is, names are those of what is mapped, and stacks are whole, which takes the tables of what is
mapped.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from daemon import DAEMON, PROGRAMS, descendants, wait_for
from profiles import fetch

LATE = ["late_inner", "late_middle", "late_outer", "main"]
PROGRAM = os.path.join(PROGRAMS, "late_library")
LIBRARY = os.path.join(PROGRAMS, "liblate_code.so")

# As the service runs: not as root, with few capabilities (systemd/cprofd.service.in).
SERVICE_USER = "65533"
SERVICE_CAPABILITIES = ",".join(
    "+" + name for name in ("bpf", "perfmon", "sys_ptrace", "checkpoint_restore", "dac_read_search", "syslog")
)
AS_SERVICE = [
    "setpriv",
    f"--reuid={SERVICE_USER}",
    f"--regid={SERVICE_USER}",
    "--clear-groups",
    f"--inh-caps=-all,{SERVICE_CAPABILITIES}",
    f"--ambient-caps=-all,{SERVICE_CAPABILITIES}",
    f"--bounding-set=-all,{SERVICE_CAPABILITIES}",
]


def build_id(path):
    """By readelf, for the comparison."""
    notes = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes).group(1)


@pytest.fixture(scope="module")
def service(new_daemon, tmp_path_factory):
    """A daemon with the service's rights. The copy is in a place that its user can reach."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    directory = tmp_path_factory.mktemp("service")
    for each in (directory, directory.parent):
        os.chmod(each, 0o755)
    program = shutil.copy(DAEMON, directory / "cprofd")
    return new_daemon(wrapper=AS_SERVICE, program=str(program))


@pytest.fixture(params=["root", "service"])
def either(request, daemon):
    return daemon if request.param == "root" else request.getfixturevalue("service")


@pytest.fixture
def files(tmp_path):
    """Copies of the program and its library, to be changed."""
    shutil.copy(PROGRAM, tmp_path / "late_library")
    shutil.copy(LIBRARY, tmp_path / "liblate_code.so")
    return tmp_path


def namespace_is_refused(*switches):
    done = subprocess.run(["unshare", *switches, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode != 0 else None


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


def name_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip("\n")
    return None


def check_names(daemon, target, program="/late_library", library="/liblate_code.so"):
    """All samples are in the library's innermost function, called from the program; both are known by the path that the target knows
    and by the build id of what is mapped.
    """

    def profile_in_time():
        profile = fetch(daemon, target.pid, seconds=0.5, hz=199)
        return None if "unwind.tables_late" in profile.facts else profile

    profile = wait_for(profile_in_time, "tables in time", 60)
    ids = {program: build_id(PROGRAM), library: build_id(LIBRARY)}
    stacks = [sample.stack for sample in profile.samples if "late_inner" in [frame.function for frame in sample.stack]]
    assert stacks, (profile.facts, profile.folded())
    for stack in stacks:
        stack = stack[[frame.function for frame in stack].index("late_inner") :]
        assert [frame.function for frame in stack[:4]] == LATE, profile.folded()
        assert stack[-1].function == "_start", profile.folded()
        assert [frame.mapping.filename for frame in stack[:4]] == [library] * 3 + [program]
        assert {frame.filename.rsplit("/", 1)[-1] for frame in stack[:4]} == {"late_code.c", "late_library.c"}
        assert all(frame.line > 0 for frame in stack[:4])
        for frame in stack[:4]:
            assert frame.mapping.build_id == ids[frame.mapping.filename]
    assert all(mapping.build_id for mapping in profile.mappings if mapping.filename == "[vdso]")
    assert "unwind.tables_missing" not in profile.facts, profile.facts
    assert "unavailable" not in profile.facts, profile.facts
    return profile


def test_where_they_are_expected(either, start_late, files):
    target = start_late(path=str(files / "late_library"))
    check_names(either, target, str(files / "late_library"), str(files / "liblate_code.so"))


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_files_after_an_upgrade(either, start_late, files, change):
    """What a package manager does: another file takes the name, or none. What runs is the old one."""
    target = start_late(path=str(files / "late_library"))
    for name, other in (("late_library", "ten_series"), ("liblate_code.so", "libsecond_reuse.so")):
        if change == "deleted":
            os.unlink(files / name)
        else:
            shutil.copy(os.path.join(PROGRAMS, other), files / "new")
            os.rename(files / "new", files / name)
    check_names(either, target, str(files / "late_library"), str(files / "liblate_code.so"))


MEMORY = """
import os, sys
program, library = sys.argv[1:]
def load(path, name):
    fd = os.memfd_create(name, 0)
    with open(path, "rb") as file:
        os.sendfile(fd, file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return fd
library = load(library, "lib with a space.so")
os.execve(load(program, "payload"), ["late_library", "now=1", f"library=/proc/self/fd/{library}"], os.environ)
"""


def test_run_from_memory(either, start_late):
    """fexecve of a memfd, and a library loaded from another."""
    target = start_late(argv=[sys.executable, "-c", MEMORY, PROGRAM, LIBRARY])
    check_names(either, target, "/memfd:payload", "/memfd:lib with a space.so")


def test_library_without_a_name(either, start_late, files):
    """Unlinked before it was loaded, by its descriptor."""
    with open(files / "liblate_code.so", "rb") as library:
        os.unlink(files / "liblate_code.so")
        target = start_late(
            f"library=/proc/self/fd/{library.fileno()}",
            path=str(files / "late_library"),
            pass_fds=[library.fileno()],
        )
    check_names(either, target, str(files / "late_library"), str(files / "liblate_code.so"))


@pytest.mark.parametrize(
    "name",
    [
        "with a space",
        "two\nlines",
        "was (deleted)",
        " (deleted)",
        "back\\012slash",
        "tab\tand\x7f",
        "\\",
        "ünïcode",
        "..x",
        "[vdso]",
    ],
)
def test_odd_names(either, start_late, files, name):
    directory = files / name
    directory.mkdir()
    for each in ("late_library", "liblate_code.so"):
        os.rename(files / each, directory / (each + name))
    os.symlink("liblate_code.so" + name, directory / "liblate_code.so")
    target = start_late(path=str(directory / ("late_library" + name)))
    check_names(either, target, str(directory / ("late_library" + name)), str(directory / ("liblate_code.so" + name)))


def test_names_that_look_deleted_and_are(either, start_late, files):
    for each in ("late_library", "liblate_code.so"):
        os.rename(files / each, files / (each + " (deleted)"))
    program, library = str(files / "late_library (deleted)"), str(files / "liblate_code.so (deleted)")
    target = start_late(f"library={library}", path=program)
    os.unlink(program)
    os.unlink(library)
    check_names(either, target, program, library)


def root_script(root):
    """Makes a root directory with the program, its library and the system's libraries."""
    return f"""
        mount -t tmpfs none {root}
        mkdir {root}/lib {root}/lib64 {root}/usr {root}/proc {root}/old
        for each in lib lib64 usr; do mount --rbind /$each {root}/$each; done
        cp {PROGRAM} {LIBRARY} {root}/
    """


def test_chroot(either, start_inside, tmp_path):
    target = start_inside(root_script(tmp_path) + f"exec chroot {tmp_path} /late_library now=1 library=/liblate_code.so")
    check_names(either, target)


def test_chroot_whose_files_are_gone(either, start_inside, tmp_path):
    target = start_inside(root_script(tmp_path) + f"exec chroot {tmp_path} /late_library now=1 library=/liblate_code.so")
    for name in ("late_library", "liblate_code.so"):
        os.unlink(f"/proc/{target.pid}/root/{name}")
    check_names(either, target)


CONTAINER = ("--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")


def container_script(root, before=""):
    return (
        root_script(root)
        + f"""
        mount -t proc none {root}/proc
        {before}
        cd {root}
        pivot_root . old
        umount -l /old
        exec /late_library now=1 library=/liblate_code.so
    """
    )


def test_container(either, start_inside, tmp_path):
    """A user, mount and PID namespace of its own, and a root that is no directory of the host's."""
    target = start_inside(container_script(tmp_path), *CONTAINER)
    assert not os.path.exists("/liblate_code.so")
    check_names(either, target)


def test_container_whose_files_are_replaced(either, start_inside, tmp_path):
    target = start_inside(container_script(tmp_path), *CONTAINER)
    root = f"/proc/{target.pid}/root"
    shutil.copy(os.path.join(PROGRAMS, "ten_series"), root + "/new")
    os.rename(root + "/new", root + "/late_library")
    os.unlink(root + "/liblate_code.so")
    check_names(either, target)


def overlay_script(root, layers=""):
    """The program and its library are in the lower layer."""
    return f"""
        mount -t tmpfs none {root}
        cd {root}
        mkdir lower upper work merged
        cp {PROGRAM} {LIBRARY} lower/
        mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work merged{layers}
        exec {root}/merged/late_library now=1
    """


@pytest.fixture
def overlay():
    with open("/proc/filesystems", encoding="ascii") as file:
        if "overlay" not in file.read():
            pytest.skip("needs overlayfs")


def test_overlay(either, overlay, start_inside, tmp_path):
    target = start_inside(overlay_script(tmp_path))
    check_names(either, target, f"{tmp_path}/merged/late_library", f"{tmp_path}/merged/liblate_code.so")


@pytest.mark.parametrize("change", ["deleted", "replaced", "copied up"])
def test_overlay_changed(either, overlay, start_inside, tmp_path, change):
    """Where only the lower layer has what is mapped still."""
    target = start_inside(overlay_script(tmp_path))
    merged = f"/proc/{target.pid}/root{tmp_path}/merged"
    for name in ("late_library", "liblate_code.so"):
        if change == "deleted":
            os.unlink(f"{merged}/{name}")
        elif change == "replaced":
            shutil.copy(os.path.join(PROGRAMS, "ten_series"), f"{merged}/new")
            os.rename(f"{merged}/new", f"{merged}/{name}")
        else:
            os.chmod(f"{merged}/{name}", 0o700)
    check_names(either, target, f"{tmp_path}/merged/late_library", f"{tmp_path}/merged/liblate_code.so")


def test_bind_mounts(either, start_inside, tmp_path):
    """The library is a bind mount of a file; later, something else is mounted over the program's directory."""
    target = start_inside(
        f"""
        mkdir {tmp_path}/bin {tmp_path}/lib
        touch {tmp_path}/lib/named.so
        cp {PROGRAM} {tmp_path}/bin/
        cp {LIBRARY} {tmp_path}/
        mount --bind {tmp_path}/liblate_code.so {tmp_path}/lib/named.so
        mkdir {tmp_path}/other
        cp {PROGRAMS}/ten_series {tmp_path}/other/late_library
        (sleep 0.3; mount --bind {tmp_path}/other {tmp_path}/bin) &
        exec {tmp_path}/bin/late_library now=1 library={tmp_path}/lib/named.so
    """
    )
    mounted = f"/proc/{target.pid}/root{tmp_path}/bin/late_library"
    wait_for(lambda: build_id(mounted) != build_id(PROGRAM), "the directory is mounted over")
    check_names(either, target, f"{tmp_path}/bin/late_library", f"{tmp_path}/lib/named.so")


def test_lazily_unmounted(either, start_inside, tmp_path):
    """Nobody has a path to the files any more: the one within their file system is left."""
    target = start_inside(
        f"""
        mount -t tmpfs none {tmp_path}
        mkdir {tmp_path}/here
        cp {PROGRAM} {LIBRARY} {tmp_path}/here
        (sleep 0.3; umount -l {tmp_path}) &
        exec {tmp_path}/here/late_library now=1
    """
    )
    wait_for(lambda: not os.path.exists(f"/proc/{target.pid}/root{tmp_path}/here"), "it is unmounted")
    check_names(either, target, "/here/late_library", "/here/liblate_code.so")


def test_overlay_rewritten_in_place(either, overlay, start_inside, tmp_path):
    """The upper layer has a copy with other contents under the same numbers: what runs is the lower layer's still."""
    target = start_inside(overlay_script(tmp_path))
    library = f"{tmp_path}/merged/liblate_code.so"
    shutil.copyfile(os.path.join(PROGRAMS, "libsecond_reuse.so"), f"/proc/{target.pid}/root{library}")
    profile = fetch(either, target.pid, seconds=0.5, hz=199)
    assert not [name for name in profile.functions() if "second_library" in name or "late_inner" in name], profile.folded()
    assert f"{library}: what is found there now has other contents than what is mapped" in profile.facts["unavailable"]
    assert library in profile.facts["unwind.no_table"]
    assert {mapping.build_id for mapping in profile.mappings if mapping.filename == library} == {build_id(LIBRARY)}
    assert any(name.startswith("liblate_code.so+0x") for name in profile.functions_in(library)), profile.folded()
