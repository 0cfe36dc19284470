"""Where the files of a process are: in a namespace of its own, replaced, deleted, in memory alone, on file systems that tell two numbers
of one file, under odd names. Wherever that is, names are those of what is mapped, and stacks are whole, which takes the tables of what is
mapped.
"""

import concurrent.futures
import os
import shutil
import sys

import pytest

from daemon import PROGRAMS, wait_for
from places import CONTAINER, LIBRARY, PROGRAM, build_id, check_names, container_script, root_script
from profiles import fetch, load

@pytest.fixture
def files(tmp_path):
    """Copies of the program and its library, to be changed."""
    shutil.copy(PROGRAM, tmp_path / "late_library")
    shutil.copy(LIBRARY, tmp_path / "liblate_code.so")
    return tmp_path


def in_background(function):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future


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


def test_chroot(either, start_inside, tmp_path):
    target = start_inside(root_script(tmp_path) + f"exec chroot {tmp_path} /late_library now=1 library=/liblate_code.so")
    check_names(either, target)


def test_chroot_whose_files_are_gone(either, start_inside, tmp_path):
    target = start_inside(root_script(tmp_path) + f"exec chroot {tmp_path} /late_library now=1 library=/liblate_code.so")
    for name in ("late_library", "liblate_code.so"):
        os.unlink(f"/proc/{target.pid}/root/{name}")
    check_names(either, target)


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


@pytest.mark.parametrize("where", ["container", "replaced", "deleted"])
def test_probes(either, start_late, start_inside, files, tmp_path, where):
    """A probe's path is as the target sees it, and the probe is put into what the target has mapped."""
    if where == "container":
        (tmp_path / "root").mkdir()
        target, library = start_inside(container_script(tmp_path / "root"), *CONTAINER), "/liblate_code.so"
    else:
        target, library = start_late(path=str(files / "late_library")), str(files / "liblate_code.so")
        os.unlink(library)
        if where == "replaced":
            shutil.copy(os.path.join(PROGRAMS, "libsecond_reuse.so"), library)
    reply = either.profile(target.pid, seconds=1, event=f"uprobe:{library}:late_outer")
    if reply.status == 503:
        pytest.skip(reply.text)
    profile = load(reply)
    assert profile.total(profile.sample_types[0][0]) > 10, (profile.facts, profile.folded())


@pytest.mark.parametrize("kept_time", [False, True])
def test_rewritten_in_place_in_the_window(daemon, start_late, files, kept_time):
    """The pages that are mapped are the file's: what ran before is not in it any more, and no name is taken from what is. Nor is it where
    the file's time was set back. (The target may not survive it.)
    """
    target = start_late(path=str(files / "late_library"))
    library = files / "liblate_code.so"
    times = os.stat(library)
    daemon.wait_for_sessions(0)
    pending = in_background(lambda: daemon.profile(target.pid, seconds=3, hz=199))
    daemon.wait_for_open()
    used_ns = target.cpu_ns() + 300_000_000
    wait_for(lambda: target.cpu_ns() > used_ns, "the target runs", 60)
    with open(os.path.join(PROGRAMS, "libsecond_reuse.so"), "rb") as other, open(library, "r+b") as file:
        file.write(other.read().ljust(times.st_size, b"\0")[: times.st_size])
    if kept_time:
        os.utime(library, ns=(times.st_atime_ns, times.st_mtime_ns))
    profile = load(pending.result(60))
    target.process.kill()  # what its code has become need not end on a polite request
    why = "what is found there now has other contents than what is mapped" if kept_time else "changed since it was mapped"
    assert f"cprofd.unavailable={library}: {why}" in profile.comments, (profile.comments, profile.folded())
    assert all(name.startswith("liblate_code.so+0x") for name in profile.functions_in(str(library))), profile.folded()
