"""A program and its library wherever a test wants them, and whether a profile has their names."""

import contextlib
import os
import re
import shutil
import subprocess

from daemon import PROGRAMS, wait_for
from profiles import fetch

LATE = ["late_inner", "late_middle", "late_outer", "main"]
PROGRAM = os.path.join(PROGRAMS, "late_library")
UMOUNT = shutil.which("umount") or "/bin/umount"
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


def namespace_is_refused(*switches):
    done = subprocess.run(["unshare", *switches, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode != 0 else None


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


def linked_with(*programs):
    linked = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"(/\S+) \(", linked)))


def root_script(root, files=(PROGRAM, LIBRARY)):
    """Makes a root directory with the program, its library and what these are linked with."""
    return f"""
        mount -t tmpfs -o mode=755 none {root}
        mkdir {root}/proc {root}/old
        for each in {" ".join(linked_with(PROGRAM, UMOUNT))}; do mkdir -p {root}$(dirname $each); cp $each {root}$each; done
        cp {UMOUNT} {" ".join(map(str, files))} {root}/
    """


CONTAINER = ("--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")


def container_script(root, before="", files=(PROGRAM, LIBRARY)):
    return (
        root_script(root, files)
        + f"""
        mount -t proc none {root}/proc
        {before}
        cd {root}
        pivot_root . old
        /umount -l /old
        exec /late_library now=1 library=/liblate_code.so
    """
    )
