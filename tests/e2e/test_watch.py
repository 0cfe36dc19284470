"""Watching: recordings that go on without a request, who may begin, read and end them, and what becomes of them with their targets, the
processes that serve them, and the daemon.
"""

import concurrent.futures
import datetime
import http.client
import json
import os
import re
import shutil
import signal
import sys
import time

import pytest

from daemon import PROGRAMS, descendants, query, wait_for
from profiles import load
from target import public_copy
from test_access import NOBODY, OTHER, Asker

KIND = "threadcreate"
SOON = 30


def watch_path(pid, **parameters):
    return query(f"/pid/{pid}/watch", **parameters)


def put(daemon, pid, kinds=KIND, **parameters):
    return daemon.request("PUT", watch_path(pid, kinds=kinds, **parameters))


def delete(daemon, pid, **parameters):
    return daemon.request("DELETE", watch_path(pid, **parameters))


def shown(daemon, pid):
    reply = daemon.get(watch_path(pid))
    assert reply.status == 200 and reply.headers.get("content-type") == "application/json", reply
    return json.loads(reply.body)


def watched(daemon, pid):
    return {each["kind"]: each for each in shown(daemon, pid)["watched"]}


def read(daemon, pid, kind=KIND, **parameters):
    return daemon.get(f"/pid/{pid}/debug/pprof/{kind}", **parameters)


def total(daemon, pid, kind=KIND):
    return load(read(daemon, pid, kind)).total(kind)


def index(daemon, pid):
    return {each["name"]: each for each in json.loads(daemon.get(f"/pid/{pid}/debug/pprof/", format="json").body)}


def cumulative(daemon, pid):
    return [name for name, each in index(daemon, pid).items() if each["cumulative"] and name != "custom"]  # which asks for functions


def check_error(reply, status):
    assert reply.status == status, (reply.status, reply.text)
    assert reply.headers.get("x-go-pprof") == "1" and reply.headers.get("x-content-type-options") == "nosniff"
    assert reply.text.endswith("\n") and len(reply.text) > 10
    return reply.text


@pytest.fixture
def target(start_target):
    """Makes threads all the time."""
    return start_target("short_threads", "lanes=1", "work_us=2000")


@pytest.fixture
def watching(daemon, target):
    assert put(daemon, target.pid).status == 204
    yield target
    delete(daemon, target.pid)


# ---- the life of a watch


def test_from_put_to_delete(daemon, target):
    assert watched(daemon, target.pid) == {}
    assert not index(daemon, target.pid)[KIND]["watched"]
    began = time.time()
    assert put(daemon, target.pid, max_overhead=20).status == 204
    watch = watched(daemon, target.pid)[KIND]
    assert watch["by"] == {"uid": 0} and watch["parameters"]["max_overhead"] == "20" and watch["running"]
    since = datetime.datetime.fromisoformat(watch["since"][:26] + "+00:00").timestamp()
    assert began - 1 < since < time.time() + 1
    assert index(daemon, target.pid)[KIND]["watched"]
    page = daemon.get(f"/pid/{target.pid}/debug/pprof/").text
    assert re.search(rf"<td><a href='{KIND}[^']*'>{KIND}</a> \(watched\)</td>", page)

    wait_for(lambda: total(daemon, target.pid) > 3, "threads are made", SOON)
    reply = read(daemon, target.pid)
    profile = load(reply)
    assert reply.headers.get("content-disposition") == f'attachment; filename="{KIND}"'
    assert profile.facts["since"] == watch["since"]
    # as Go dates totals: by now, without a duration, so that nobody takes them for differences
    assert profile.start_ns == profile.end_ns and abs(profile.end_ns / 1e9 - time.time()) < 60
    assert profile.facts["lost.table"] == "0"
    assert all("tid" not in sample.labels and "thread" not in sample.labels for sample in profile.samples)
    count = re.search(rf"<td>(\d+)</td><td><a href='{KIND}", daemon.get(f"/pid/{target.pid}/debug/pprof/").text)
    assert int(count.group(1)) > 0

    before = daemon.metric("cprofd_watches")
    assert delete(daemon, target.pid).status == 204
    assert watched(daemon, target.pid) == {} and daemon.metric("cprofd_watches") == before - 1
    check_error(delete(daemon, target.pid), 409)
    wait_for(lambda: "watch uid=0 address=127.0.0.1" in daemon.log() and 'ended="ended by DELETE"' in daemon.log(), "an audit line", SOON)
    line = [each for each in daemon.log().splitlines() if f"pid={target.pid} " in each and " watch uid" in each][-1]
    assert f"kind={KIND}" in line and 'comm="short_threads"' in line and "status=200" in line


def test_totals_only_grow_and_count_all(daemon, watching):
    """Between two readings as many were made as the program says it made meanwhile."""
    first = total(daemon, watching.pid)
    made = watching.truth()["functions"]["short_work"]["calls"]
    wait_for(lambda: watching.truth()["functions"]["short_work"]["calls"] > made + 50, "threads live", SOON)
    between = total(daemon, watching.pid)
    # whose window lies within that of the truth: before the first reading, and after the last
    after = watching.truth()["functions"]["short_work"]["calls"]
    last = total(daemon, watching.pid)
    assert first <= between <= last
    assert last - first >= after - made > 50


def test_same_again_changes_nothing(daemon, watching):
    before = watched(daemon, watching.pid)[KIND]
    assert put(daemon, watching.pid).status == 204
    after = watched(daemon, watching.pid)[KIND]
    assert after["since"] == before["since"] and "anew" not in after


def test_other_values_begin_anew(daemon, watching):
    wait_for(lambda: total(daemon, watching.pid) > 30, "threads are made", SOON)
    before = watched(daemon, watching.pid)[KIND]
    assert put(daemon, watching.pid, max_overhead=33).status == 204
    after = watched(daemon, watching.pid)[KIND]
    assert after["since"] > before["since"] and "other parameters" in after["anew"] and after["parameters"]["max_overhead"] == "33"
    assert load(read(daemon, watching.pid)).facts["anew"] == after["anew"]
    check_error(read(daemon, watching.pid, max_overhead=5), 409)
    assert read(daemon, watching.pid, max_overhead=33).status == 200


def test_several_kinds(daemon, target):
    kinds = [kind for kind in cumulative(daemon, target.pid) if kind != "allocs"]  # which is read of heap's watch
    if not {"block", "mutex"} <= set(kinds):
        pytest.skip("needs block and mutex")
    assert put(daemon, target.pid, ",".join(kinds), block_rate=7, fraction=3).status == 204
    found = watched(daemon, target.pid)
    assert set(found) == set(kinds)
    assert found["block"]["parameters"]["block_rate"] == "7" and found["mutex"]["parameters"]["fraction"] == "3"
    assert "rate" not in found["block"]["parameters"] and "fraction" not in found[KIND]["parameters"]
    for kind in kinds:
        assert load(read(daemon, target.pid, kind)).facts["since"] == found[kind]["since"]
    check_error(read(daemon, target.pid, "block", rate=8), 409)
    assert read(daemon, target.pid, "block", rate=7).status == 200
    assert "mutex" in check_error(put(daemon, target.pid, "block", fraction=3), 400)
    check_error(put(daemon, target.pid, "block", rate=3), 400)
    assert delete(daemon, target.pid, kinds="block").status == 204
    assert set(watched(daemon, target.pid)) == set(kinds) - {"block"}
    check_error(delete(daemon, target.pid, kinds="block"), 409)
    assert put(daemon, target.pid, "mutex", fraction=4).status == 204  # of one, which leaves the others alone
    assert watched(daemon, target.pid)[KIND]["since"] == found[KIND]["since"]
    assert delete(daemon, target.pid).status == 204


def test_two_at_once_are_one_watch(daemon, target):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: put(daemon, target.pid), range(4)))
    assert [reply.status for reply in replies] == [204] * 4
    assert len(shown(daemon, target.pid)["watched"]) == 1
    wait_for(lambda: daemon.metric("cprofd_watches") == 1, "one watch is left", SOON)
    daemon.wait_for_sessions(1)
    assert delete(daemon, target.pid).status == 204
    daemon.wait_for_sessions(0)


def test_client_that_leaves_begins_nothing(daemon, target):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
    connection.request("PUT", watch_path(target.pid, kinds=KIND))
    connection.close()
    daemon.wait_for_sessions(0)
    # it may have been faster than we
    assert delete(daemon, target.pid).status in (204, 409)


# ---- readers


def test_many_readers_and_a_window_at_once(daemon, watching):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        window = pool.submit(lambda: read(daemon, watching.pid, seconds=2))
        cpu = pool.submit(lambda: daemon.profile(watching.pid, seconds=1))
        replies = [pool.submit(lambda: read(daemon, watching.pid)) for _ in range(12)]
        totals = [load(each.result()).total(KIND) for each in replies]
        delta = load(window.result())
        assert load(cpu.result()).samples
    assert 0 < delta.total(KIND)
    assert max(totals) <= total(daemon, watching.pid)


@pytest.mark.parametrize("is_watched", [True, False])
def test_window(daemon, target, is_watched):
    if is_watched:
        assert put(daemon, target.pid).status == 204
    reply = read(daemon, target.pid, seconds=1)
    profile = load(reply)
    assert reply.headers.get("content-disposition") == f'attachment; filename="{KIND}-delta"'
    assert 0.9e9 < profile.end_ns - profile.start_ns < 5e9
    assert abs(profile.start_ns / 1e9 - time.time()) < 60  # time_nanos is the end
    assert profile.total(KIND) > 0 and "since" not in profile.facts
    if is_watched:
        assert delete(daemon, target.pid).status == 204
    else:
        assert watched(daemon, target.pid) == {}


def test_folded_and_head(daemon, watching):
    wait_for(lambda: total(daemon, watching.pid) > 3, "threads are made", SOON)
    reply = read(daemon, watching.pid, format="folded")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain")
    assert re.search(r"^\S.* \d+$", reply.text, re.MULTILINE)
    head = daemon.request("HEAD", f"/pid/{watching.pid}/debug/pprof/{KIND}")
    assert head.status == 200 and head.body == b""


def test_text(daemon, watching):
    """As go tool pprof reads it, too."""
    wait_for(lambda: total(daemon, watching.pid) > 3, "threads are made", SOON)
    reply = read(daemon, watching.pid, debug=1)
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain")
    assert re.match(rf"{KIND} profile: total \d+\n", reply.text) and "\n#\t0x" in reply.text, reply.text


# ---- bounds

MANY_STACKS = """
import mmap, sys, threading

def make(path, depth):
    if depth == 0:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    elif path & 1:
        sorted([0], key=lambda _: make(path >> 1, depth - 1))
    else:
        max([0], key=lambda _: make(path >> 1, depth - 1))

print("ready", flush=True)
code = []
for line in sys.stdin:
    if line == "code\\n":
        code.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))
        print("done", flush=True)
        continue
    first, last, times = map(int, line.split())
    for _ in range(times):
        for path in range(first, last):
            make(path, 15)
    print("done", flush=True)
"""


@pytest.fixture
def make_many(daemon, start_target):
    """Makes threads with as many different stacks; answers how many there are in the watch then, and how many were lost."""
    target = start_target("python", argv=[sys.executable, "-c", MANY_STACKS])
    assert put(daemon, target.pid, max_overhead=100000).status == 204

    def tell(line):
        target.process.stdin.write(line + "\n")
        target.process.stdin.flush()
        assert target.read_line(300).startswith("done")

    def make(first, last, times=1):
        tell(f"{first} {last} {times}")
        profile = load(read(daemon, target.pid))
        return profile.total(KIND), sum(profile.fact(f"lost.{each}") for each in ("table", "stack", "ring"))

    make.new_code = lambda: tell("code")
    yield make
    assert delete(daemon, target.pid).status == 204


def test_more_stacks_than_there_is_room_for(make_many):
    """What finds no room is counted as lost, and what was known before counts on."""
    known, lost = make_many(0, 50)
    assert known == 50 and lost == 0
    most, lost = make_many(50, 20000)
    assert most + lost == 20000 and most > 10000 and lost > 1000

    def counts_on():
        before, lost_before = make_many(0, 0)
        after, lost_after = make_many(0, 50, 4)
        assert after + lost_after == before + lost_before + 200
        return lost_after == lost_before

    wait_for(counts_on, "what was known counts on", SOON)  # at once, unless something was just mapped


def test_what_changes_its_code_for_days_has_room(make_many):
    """A stack has another place in the table after each change of what is mapped as code: places of before are given back."""
    assert make_many(0, 9000) == (9000, 0)
    for times in (2, 3):
        make_many.new_code()
        time.sleep(13)  # longer than from one look for places to give back to the next
        assert make_many(0, 9000) == (times * 9000, 0)


# ---- refusals


@pytest.mark.parametrize(
    "method, parameters, text",
    [
        ("PUT", {}, "kinds"),
        ("PUT", {"kinds": ""}, KIND),
        ("PUT", {"kinds": "profile"}, KIND),
        ("PUT", {"kinds": KIND + ",nonsense"}, "nonsense"),
        ("PUT", {"kinds": KIND + "," + KIND}, "twice"),
        ("PUT", {"kinds": KIND, "seconds": 3}, "seconds"),
        ("PUT", {"kinds": KIND, "nonsense": 3}, "nonsense"),
        ("PUT", {"kinds": KIND, "max_overhead": "x"}, "max_overhead"),
        ("PUT", {"kinds": KIND, "max_overhead": 0}, "max_overhead"),
        ("GET", {"max_overhead": 3}, "max_overhead"),
        ("DELETE", {"kinds": "nonsense"}, "nonsense"),
    ],
)
def test_wrong_queries(daemon, target, method, parameters, text):
    assert text in check_error(daemon.request(method, watch_path(target.pid, **parameters)), 400)
    assert watched(daemon, target.pid) == {}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_bodies_mean_nothing(daemon, target, method):
    check_error(daemon.request(method, watch_path(target.pid, kinds=KIND), body=b"kinds=" + KIND.encode()), 400)


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "1.5", "1s"])
def test_seconds_as_go_has_them(daemon, target, seconds):
    text = check_error(read(daemon, target.pid, seconds=seconds), 400)
    assert text == 'invalid value for "seconds" - must be a positive integer\n'


def test_more_seconds_than_there_may_be(daemon, target):
    check_error(read(daemon, target.pid, seconds=3601), 400)


def test_seconds_and_debug(daemon, target):
    assert check_error(read(daemon, target.pid, seconds=1, debug=1), 400) == "seconds and debug params are incompatible\n"


@pytest.mark.parametrize("parameters", [{"tid": 1}, {"thread": "x"}, {"kernel": 1}, {"unwind": "fp"}])
def test_what_a_watch_can_not_tell(daemon, watching, parameters):
    assert "seconds" in check_error(read(daemon, watching.pid, **parameters), 400)


def test_not_watched(daemon, target):
    """Both ways are named. threadcreate alone has an answer for any process."""
    others = [kind for kind in cumulative(daemon, target.pid) if kind != KIND]
    if not others:
        pytest.skip("needs another kind that accrues")
    for kind in others:
        text = check_error(read(daemon, target.pid, kind), 409)
        assert f"{kind}?seconds=" in text and f"PUT /pid/{target.pid}/watch?kinds={kind}" in text
    assert read(daemon, target.pid).status == 200


def test_no_such_process(daemon, start_target):
    gone = start_target("short_threads")
    gone.stop()
    for kind in cumulative(daemon, daemon.pid):
        check_error(read(daemon, gone.pid, kind), 404)
    check_error(put(daemon, gone.pid), 404)
    check_error(daemon.get(watch_path(gone.pid)), 404)
    check_error(delete(daemon, gone.pid), 404)
    check_error(daemon.request("PUT", "/pid/0/watch?kinds=" + KIND), 404)
    check_error(daemon.get(f"/pid/{daemon.pid}/watch/"), 404)


def test_methods(daemon, target):
    reply = daemon.request("POST", watch_path(target.pid, kinds=KIND))
    check_error(reply, 405)
    assert reply.headers.get("allow") == "GET, HEAD, PUT, DELETE"
    for path in (f"/pid/{target.pid}/debug/pprof/{KIND}", "/", f"/pid/{target.pid}"):
        for method in ("PUT", "DELETE"):
            reply = daemon.request(method, path)
            check_error(reply, 405)
            assert reply.headers.get("allow") == "GET, HEAD"
    reply = daemon.request("PUT", f"/pid/{target.pid}/debug/pprof/symbol")
    check_error(reply, 405)
    assert reply.headers.get("allow") == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}, {"Via": "1.1 proxy"}]
)
def test_pages_of_others_can_not_watch(daemon, watching, headers):
    for method in ("PUT", "DELETE"):
        check_error(daemon.request(method, watch_path(watching.pid, kinds=KIND), headers=headers), 403)
    assert KIND in watched(daemon, watching.pid)


# ---- whose it is


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return public_copy(tmp_path_factory, "short_threads")


@pytest.fixture
def owned(start_target, program):
    def start(uid):
        return start_target("short_threads", "work_us=2000", path=program, user=uid, group=uid, extra_groups=[])

    return start


@pytest.fixture(scope="module")
def granting(new_daemon):
    """OTHER may profile all."""
    return new_daemon("--grant", f"user:{OTHER} any", "--max-sessions-asker", "2")


def ask(daemon, uid, method, pid, **parameters):
    status, body = Asker(uid).get(daemon.url(watch_path(pid, **parameters)), "-X", method)
    return status, body


def test_strangers_processes(daemon, owned):
    roots = owned(0)
    for method in ("PUT", "GET", "DELETE"):
        status, body = ask(daemon, NOBODY, method, roots.pid, kinds=KIND)
        assert status == 403 and b"X-Go-Pprof: 1" in body, body
    assert put(daemon, roots.pid).status == 204
    for method in ("PUT", "GET", "DELETE"):
        assert ask(daemon, NOBODY, method, roots.pid, kinds=KIND)[0] == 403
    status, _ = Asker(NOBODY).get(daemon.url(f"/pid/{roots.pid}/debug/pprof/{KIND}"))
    assert status == 403
    assert delete(daemon, roots.pid).status == 204


def test_first_asker_and_root_alone_may_change_it(granting, owned):
    mine = owned(NOBODY)
    assert ask(granting, NOBODY, "PUT", mine.pid, kinds=KIND, max_overhead=20)[0] == 204
    assert watched(granting, mine.pid)[KIND]["by"] == {"uid": NOBODY}
    assert ask(granting, OTHER, "PUT", mine.pid, kinds=KIND, max_overhead=20)[0] == 204  # the same
    for method, parameters in (("PUT", {"max_overhead": 30}), ("DELETE", {})):
        status, body = ask(granting, OTHER, method, mine.pid, kinds=KIND, **parameters)
        assert status == 409 and b"another user" in body, body
    assert Asker(OTHER).get(granting.url(f"/pid/{mine.pid}/debug/pprof/{KIND}"))[0] == 200
    assert ask(granting, NOBODY, "PUT", mine.pid, kinds=KIND, max_overhead=25)[0] == 204
    assert put(granting, mine.pid, max_overhead=30).status == 204  # root's from now on
    assert watched(granting, mine.pid)[KIND]["by"] == {"uid": 0}
    assert ask(granting, NOBODY, "DELETE", mine.pid)[0] == 409
    assert delete(granting, mine.pid).status == 204


def test_watches_count_as_sessions(granting, owned):
    targets = [owned(NOBODY) for _ in range(3)]
    for target in targets[:2]:
        assert ask(granting, NOBODY, "PUT", target.pid, kinds=KIND)[0] == 204
    status, body = ask(granting, NOBODY, "PUT", targets[2].pid, kinds=KIND)
    assert status == 429 and b"Retry-After: " in body and b"the limit is 2" in body, body
    status, body = Asker(NOBODY).get(granting.url(f"/pid/{targets[2].pid}/debug/pprof/profile?seconds=0.1"))
    assert status == 429
    # reading what is watched takes no place
    assert Asker(NOBODY).get(granting.url(f"/pid/{targets[0].pid}/debug/pprof/{KIND}"))[0] == 200
    for target in targets[:2]:
        assert ask(granting, NOBODY, "DELETE", target.pid)[0] == 204


def test_all_or_nothing(granting, owned):
    target = owned(NOBODY)
    kinds = cumulative(granting, target.pid)
    if len(kinds) < 3:
        pytest.skip("needs three kinds")
    status, body = ask(granting, NOBODY, "PUT", target.pid, kinds=",".join(kinds))
    assert status == 429, body
    assert watched(granting, target.pid) == {}
    granting.wait_for_sessions(0)


def test_reader_sees_the_image_that_he_may_trace(daemon, start_target, program):
    """What root's program did before it became another user's is root's to see."""
    script = (
        "import os, sys, threading, time\n"
        "for _ in range(20):\n"
        "    t = threading.Thread(target=time.sleep, args=(0.001,)); t.start(); t.join()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for _ in range(20):\n"
        "    t = threading.Thread(target=time.sleep, args=(0.001,)); t.start(); t.join()\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"os.execv({program!r}, [{program!r}, 'work_us=2000'])\n"
    )
    target = start_target("python", argv=[sys.executable, "-c", script])
    assert put(daemon, target.pid).status == 204
    target.process.stdin.write("\n")
    target.process.stdin.flush()
    target.read_ready()
    path = f"/pid/{target.pid}/debug/pprof/{KIND}?format=folded"
    wait_for(lambda: b"lane" in Asker(NOBODY).get(daemon.url(path))[1], "the second image makes threads", SOON)
    status, body = Asker(NOBODY).get(daemon.url(path))
    assert status == 200 and b"lane" in body and b"Py" not in body and b"python" not in body, body
    whole = daemon.get(path).text
    assert "lane" in whole and "Py" in whole
    assert load(read(daemon, target.pid)).facts["target"] == "execed"
    assert delete(daemon, target.pid).status == 204


# ---- what becomes of the target


def test_target_ends(daemon, target):
    assert put(daemon, target.pid).status == 204
    target.process.kill()
    target.process.wait()
    wait_for(lambda: daemon.metric("cprofd_watches") == 0, "the watch ends", SOON)
    check_error(read(daemon, target.pid), 404)
    daemon.wait_for_sessions(0)
    assert f"pid={target.pid} " in daemon.log() and 'ended="the process ended"' in daemon.log()


def test_target_execs(daemon, start_target):
    """It is watched on, and the counts of both images stand side by side."""
    target = start_target("exec_itself", "after_ms=1500")
    assert put(daemon, target.pid).status == 204
    while not target.read_line().startswith("ready"):
        pass
    assert load(read(daemon, target.pid)).facts["target"] == "execed"
    assert watched(daemon, target.pid)[KIND]["running"]
    assert delete(daemon, target.pid).status == 204


def test_target_forks(daemon, start_target):
    """A child's doings are its own."""
    script = (
        "import os, sys, threading\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(50):\n"
        "            t = threading.Thread(target=int); t.start(); t.join()\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    t = threading.Thread(target=int); t.start(); t.join()\n"
        "    print('done', flush=True)\n"
    )
    target = start_target("python", argv=[sys.executable, "-c", script])
    assert put(daemon, target.pid).status == 204
    before = total(daemon, target.pid)
    target.process.stdin.write("\n")
    target.process.stdin.flush()
    assert target.read_line().startswith("done")
    assert total(daemon, target.pid) == before + 1
    assert delete(daemon, target.pid).status == 204


# ---- what becomes of the processes that serve it


def own_children(daemon):
    """Those that were forked for a target: not its workers."""
    found = []
    for pid in descendants(daemon.pid)[1:]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"--role" not in file.read():
                    found.append(pid)
        except OSError:
            continue
    return sorted(found)


@pytest.mark.parametrize("which", [0, -1])
def test_lost_helpers_begin_it_anew(new_daemon, target, which):
    """Whichever of the two dies, who keeps the mappings or who keeps the events: the watch goes on, with new totals, and says so."""
    daemon = new_daemon()
    assert put(daemon, target.pid).status == 204
    since = watched(daemon, target.pid)[KIND]["since"]
    wait_for(lambda: len(own_children(daemon)) == 2, "two processes serve the watch", SOON)
    os.kill(own_children(daemon)[which], signal.SIGKILL)
    wait_for(lambda: watched(daemon, target.pid)[KIND]["since"] != since, "the watch is begun anew", SOON)
    watch = watched(daemon, target.pid)[KIND]
    assert watch["running"] and watch["anew"]
    assert load(read(daemon, target.pid)).facts["anew"] == watch["anew"]
    assert "is watched anew" in daemon.log()
    assert delete(daemon, target.pid).status == 204
    daemon.wait_for_sessions(0)
    daemon.stop()


def test_without_bpf(new_daemon, target):
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    daemon = new_daemon("--watch", f"name:short_threads {KIND}", wrapper=("setpriv", "--bounding-set=-bpf,-sys_admin"))
    for kind in cumulative(daemon, target.pid):
        assert "BPF" in check_error(put(daemon, target.pid, kind), 503)
    assert watched(daemon, target.pid) == {}
    daemon.stop()


def test_without_the_schedulers_programs(new_daemon, target):
    """A kernel that takes all programs but these: what needs them says so, and nothing else is gone with it."""
    library = os.path.join(PROGRAMS, "libno_sched.so")
    daemon = new_daemon(wrapper=("env", "LD_PRELOAD=" + library, "ASAN_OPTIONS=verify_asan_link_order=0"))
    for kind in ("wall", "offcpu", "block", "mutex", "trace"):
        reply = daemon.get(f"/pid/{target.pid}/debug/pprof/{kind}", seconds=1)
        assert "what threads wait for can't be seen here" in check_error(reply, 503)
    for kind in ("block", "mutex"):
        assert "what threads wait for can't be seen here" in check_error(put(daemon, target.pid, kind), 503)
    for kind in ("profile", "threadcreate", "goroutine"):
        assert daemon.get(f"/pid/{target.pid}/debug/pprof/{kind}", seconds=1 if kind != "goroutine" else None).status == 200, kind
    daemon.stop()


def test_daemon_stops(new_daemon, target):
    daemon = new_daemon()
    assert put(daemon, target.pid).status == 204
    daemon.stop()
    assert 'ended="the daemon is stopping"' in daemon.log()
    assert target.is_alive()


# ---- by configuration


@pytest.fixture
def configured(new_daemon, tmp_path):
    """A daemon with a configuration that can be changed."""
    path = tmp_path / "cprofd.conf"

    def write(*rules):
        path.write_text("[watch]\n" + "".join(f"watch = {rule}\n" for rule in rules))

    write()
    daemon = new_daemon("--config", str(path))

    def change(*rules):
        write(*rules)
        daemon.reload()

    daemon.change = change
    yield daemon
    daemon.stop()


def test_rules(configured, start_target):
    daemon = configured
    old = start_target("short_threads", "work_us=2000")
    daemon.change(f"name:short_threads {KIND} max_overhead=20", f"name:short_threads {KIND} max_overhead=30")
    wait_for(lambda: KIND in watched(daemon, old.pid), "what runs is watched", SOON)
    watch = watched(daemon, old.pid)[KIND]
    assert watch["by"] == {"rule": f"name:short_threads {KIND} max_overhead=20"} and watch["parameters"]["max_overhead"] == "20"
    new = start_target("short_threads", "work_us=2000")
    wait_for(lambda: KIND in watched(daemon, new.pid), "what is started later is watched", SOON)
    assert watched(daemon, old.pid)[KIND]["since"] == watch["since"]
    assert total(daemon, old.pid) > 0
    # a reload that changes nothing, then one with another rule
    daemon.change(f"name:short_threads {KIND} max_overhead=20")
    time.sleep(1)
    assert watched(daemon, old.pid)[KIND]["since"] == watch["since"]
    daemon.change(f"cgroup:/ {KIND} max_overhead=40")
    daemon.change(f"name:short_threads {KIND} max_overhead=40")
    wait_for(lambda: watched(daemon, old.pid).get(KIND, {}).get("parameters", {}).get("max_overhead") == "40", "the new rule holds", SOON)
    daemon.change()
    wait_for(lambda: not watched(daemon, old.pid) and not watched(daemon, new.pid), "no rule is left", SOON)
    wait_for(lambda: daemon.metric("cprofd_watches") == 0, "nothing is watched", SOON)
    assert "the configuration has no rule for it any longer" in daemon.log()


def test_root_ends_what_a_rule_watches(configured, start_target):
    daemon = configured
    target = start_target("short_threads", "work_us=2000")
    daemon.change(f"name:short_threads {KIND}")
    wait_for(lambda: KIND in watched(daemon, target.pid), "it is watched", SOON)
    assert delete(daemon, target.pid).status == 204
    time.sleep(6)  # longer than from one look for processes to the next
    assert not watched(daemon, target.pid)
    assert put(daemon, target.pid, max_overhead=33).status == 204
    time.sleep(6)
    assert watched(daemon, target.pid)[KIND]["by"] == {"uid": 0}


def test_users_can_not_change_what_a_rule_watches(configured, owned):
    target = owned(NOBODY)
    configured.change(f"name:short_threads {KIND} max_overhead=20")
    wait_for(lambda: KIND in watched(configured, target.pid), "it is watched", SOON)
    status, body = ask(configured, NOBODY, "PUT", target.pid, kinds=KIND, max_overhead=30)
    assert status == 409 and b"configuration" in body
    assert ask(configured, NOBODY, "PUT", target.pid, kinds=KIND, max_overhead=20)[0] == 204
    assert ask(configured, NOBODY, "DELETE", target.pid)[0] == 409
    assert Asker(NOBODY).get(configured.url(f"/pid/{target.pid}/debug/pprof/{KIND}"))[0] == 200


def test_renamed_process_is_let_go(configured, start_target):
    script = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.prctl(15, b'first-name'); print('ready', flush=True)\n"
        "sys.stdin.readline(); libc.prctl(15, b'second-name'); print('done', flush=True); sys.stdin.readline()\n"
    )
    target = start_target("python", argv=[sys.executable, "-c", script])
    configured.change(f"name:first-name {KIND}")
    wait_for(lambda: KIND in watched(configured, target.pid), "it is watched", SOON)
    target.process.stdin.write("\n")
    target.process.stdin.flush()
    assert target.read_line().startswith("done")
    wait_for(lambda: not watched(configured, target.pid), "it is let go", SOON)


def test_lost_scanner_is_replaced(configured, start_target):
    daemon = configured
    daemon.change(f"name:short_threads {KIND}")
    first = start_target("short_threads", "work_us=2000")
    wait_for(lambda: KIND in watched(daemon, first.pid), "it is watched", SOON)
    for pid in own_children(daemon):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "the process that looks for processes to watch died" in daemon.log(), "it is missed", SOON)
    second = start_target("short_threads", "work_us=2000")
    wait_for(lambda: KIND in watched(daemon, second.pid), "another one looks", 60)


def test_wrong_rules_stay_out(configured):
    configured.change(f"name:short_threads {KIND}", "name:short_threads wall")
    wait_for(lambda: "the settings are wrong" in configured.log(), "the settings are refused", SOON)
    assert ":3: watch: " in configured.log() and "wall" in configured.log()
