"""Debug information that was split off: of a process in a container, the container's own is found, and where it has none, the host's."""

import os
import shutil
import subprocess

import pytest

from daemon import DAEMON
from places import CONTAINER, LIBRARY, PROGRAM, build_id, check_names, container_script, namespace_is_refused
from profiles import fetch

DEBUG_DIRECTORY = "/usr/lib/debug"


def by_id(path):
    identity = build_id(path)
    return f"{DEBUG_DIRECTORY}/.build-id/{identity[:2]}/{identity[2:]}.debug"


@pytest.fixture
def split(tmp_path):
    """The program and its library, stripped, with links to their debug files: {name: (stripped, debug file)}."""
    found = {}
    for path in (PROGRAM, LIBRARY):
        name = os.path.basename(path)
        stripped, debug = tmp_path / name, tmp_path / (name + ".debug")
        subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
        subprocess.run(["strip", "-o", stripped, path], check=True)
        subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", stripped], check=True)
        found[name] = (stripped, debug)
    (tmp_path / "root").mkdir()
    return found


def start_split(start_inside, tmp_path, split, places):
    """Runs the stripped program in a container that has files in places: {path: what is copied there}."""
    root = tmp_path / "root"
    before = "".join(f"mkdir -p {root}{os.path.dirname(to)}; cp {what} {root}{to}\n" for to, what in places.items())
    return start_inside(container_script(root, before, [stripped for stripped, _ in split.values()]), *CONTAINER)


def by_link(place, split):
    return {place.format(name=debug.name): debug for _, debug in split.values()}


@pytest.mark.parametrize("place", ["/{name}", "/.debug/{name}", DEBUG_DIRECTORY + "/{name}"])
def test_by_link_in_the_container(either, start_inside, tmp_path, split, place):
    check_names(either, start_split(start_inside, tmp_path, split, by_link(place, split)))


def test_by_build_id_in_the_container(either, start_inside, tmp_path, split):
    places = {by_id(path): split[os.path.basename(path)][1] for path in (PROGRAM, LIBRARY)}
    check_names(either, start_split(start_inside, tmp_path, split, places))


def test_another_builds_debug_files(either, start_inside, tmp_path, split):
    """The program's in the place of the library's, and the other way round: by build id and by link."""
    (_, program_debug), (_, library_debug) = split.values()
    places = {
        by_id(PROGRAM): library_debug,
        by_id(LIBRARY): program_debug,
        f"/{program_debug.name}": library_debug,
        f"/{library_debug.name}": program_debug,
    }
    target = start_split(start_inside, tmp_path, split, places)
    profile = fetch(either, target.pid, seconds=0.5, hz=199)
    names = profile.functions()
    assert "late_outer" in names, profile.folded()  # the library's own table has it
    assert not {"late_inner", "late_middle", "before_load"} & names, profile.folded()
    assert not [frame for sample in profile.samples for frame in sample.stack if frame.filename.endswith(("late_code.c", "late_library.c"))]


@pytest.fixture
def daemon_with_debug_files(new_daemon, tmp_path):
    """A daemon that finds files below /usr/lib/debug: {path: what is copied there}."""
    if not os.path.isdir(DEBUG_DIRECTORY):
        pytest.skip(f"needs {DEBUG_DIRECTORY}")
    refused = namespace_is_refused("--mount")
    if refused:
        pytest.skip(f"needs namespaces: {refused}")

    def start(places):
        tree = tmp_path / "debug"
        for to, what in places.items():
            path = tree / os.path.relpath(to, DEBUG_DIRECTORY)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(what, path)
        script = f'mount --bind {tree} {DEBUG_DIRECTORY}; exec "$0" "$@"'
        return new_daemon(wrapper=["unshare", "--mount", "sh", "-e", "-c", script], program=DAEMON)

    return start


def renamed(debug, old, new, to):
    """A debug file of the same build that knows less, by another name."""
    subprocess.run(["objcopy", "--strip-debug", f"--redefine-sym={old}={new}", debug, to], check=True)
    return to


def test_those_of_the_host(daemon_with_debug_files, start_inside, tmp_path, split):
    """By build id; by link, too, for what the container has in the same directory."""
    daemon = daemon_with_debug_files(
        {by_id(LIBRARY): split["liblate_code.so"][1], DEBUG_DIRECTORY + "/late_library.debug": split["late_library"][1]}
    )
    check_names(daemon, start_split(start_inside, tmp_path, split, {}))


def test_the_containers_come_first(daemon_with_debug_files, start_inside, tmp_path, split):
    debug = split["liblate_code.so"][1]
    host = renamed(debug, "late_inner", "from_the_host", tmp_path / "host.debug")
    daemon = daemon_with_debug_files({by_id(LIBRARY): host})
    both = {by_id(LIBRARY): debug, by_id(PROGRAM): split["late_library"][1]}
    check_names(daemon, start_split(start_inside, tmp_path, split, both))
    only = {by_id(PROGRAM): split["late_library"][1]}
    target = start_split(start_inside, tmp_path, split, only)
    assert "from_the_host" in fetch(daemon, target.pid, seconds=0.5, hz=199).functions()


def test_a_wrong_one_in_the_container_hides_none(daemon_with_debug_files, start_inside, tmp_path, split):
    """Whatever a container has under that name, the host's is of the right build."""
    (_, program_debug), (_, library_debug) = split.values()
    daemon = daemon_with_debug_files({by_id(LIBRARY): library_debug, by_id(PROGRAM): program_debug})
    wrong = {by_id(LIBRARY): program_debug, by_id(PROGRAM): library_debug}
    check_names(daemon, start_split(start_inside, tmp_path, split, wrong))
