"""Pages for people, lists for machines, and nothing that a target can name gets through unescaped."""

import html.parser
import json
import os
import shutil

from daemon import PROGRAMS
from profiles import fetch

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
JSON = {"Accept": "application/json"}


class Page(html.parser.HTMLParser):
    """What a page links to, and the elements that it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data):
        self.text += data


def page(daemon, path):
    reply = daemon.get(path, headers=BROWSER)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "content-security-policy" in reply.headers and reply.headers["x-content-type-options"] == "nosniff"
    return Page(reply.text)


def test_root(daemon, program_target):
    found = page(daemon, "/")
    assert any(link.rstrip("/").endswith(f"pid/{program_target.pid}") for link in found.links), found.links
    assert not any(link.startswith(("/", "http:")) for link in found.links), "links are relative, for proxies"
    assert "ten_series" in found.text


def test_root_as_json(daemon, program_target):
    reply = daemon.get("/", headers=JSON)
    assert reply.headers["content-type"].startswith("application/json")
    listed = {each["pid"]: each for each in reply.json()}
    assert listed[program_target.pid]["comm"] == "ten_series"
    assert listed[program_target.pid]["uid"] == 0
    assert listed[program_target.pid]["path"] == os.path.join(PROGRAMS, "ten_series")


def test_page_of_a_process(daemon, program_target):
    """A page to a browser, a profile to a tool."""
    found = page(daemon, f"/pid/{program_target.pid}")
    assert any("profile" in link for link in found.links)
    reply = daemon.get(f"/pid/{program_target.pid}", headers={"Accept": "*/*"}, seconds=0.2)
    assert reply.status == 200 and reply.headers["content-type"] == "application/octet-stream"


def test_index(daemon, program_target):
    found = page(daemon, f"/pid/{program_target.pid}/debug/pprof/")
    assert "table" in found.tags and "/debug/pprof/" in found.text
    assert any(link.split("?")[0] == "profile" for link in found.links), found.links
    assert not any(link.startswith("/") for link in found.links)


def test_index_as_json(daemon, program_target):
    reply = daemon.get(f"/pid/{program_target.pid}/debug/pprof/", format="json")
    assert reply.headers["content-type"].startswith("application/json")
    text = json.dumps(reply.json())
    for word in ("profile", "seconds", "hz", "event", "samples", "nanoseconds"):
        assert word in text
    assert "cpu-clock" in text


def test_hostile_names(daemon, start_target, tmp_path):
    """comm, paths, arguments and thread names are whatever a target likes."""
    directory = tmp_path / b"<script>alert(1)<\\script>\n\xff\"'&".decode("utf-8", "surrogateescape").replace(
        "/", "_"
    )
    os.mkdir(directory)
    program = os.path.join(directory, "<b>x\n\udcff")
    shutil.copy(os.path.join(PROGRAMS, "hostile_names"), program)
    target = start_target("hostile_names", "<i>&\n\x01", path=program)
    for path in ("/", f"/pid/{target.pid}", f"/pid/{target.pid}/debug/pprof/"):
        reply = daemon.get(path, headers=BROWSER)
        found = page(daemon, path)
        assert "b" not in found.tags and "i" not in found.tags, path
        assert "<script>a" not in reply.text and "<b>x" not in reply.text
        reply.body.decode("utf-8")
    listed = daemon.get("/", headers=JSON)
    assert target.pid in [each["pid"] for each in listed.json()]
    profile = fetch(daemon, target.pid, seconds=1, hz=199)
    threads = {sample.labels.get("thread", "") for sample in profile.samples}
    assert len(threads) >= 4, threads
    assert "named_work" in profile.functions()
    folded = daemon.profile(target.pid, seconds=0.3, hz=199, format="folded")
    for line in folded.text.split("\n")[:-1]:
        assert line.rsplit(" ", 1)[1].isdigit(), line
    for name in ("cprofd-samples", "cprofd-lost"):
        assert folded.headers[name].isdigit()
    assert daemon.get("/metrics").status == 200
    log = daemon.log()
    assert "\x1b[31m" not in log and "\n\udcff" not in log


def test_quality_of_a_hostile_one_is_json(daemon, start_target):
    target = start_target("hostile_names")
    assert daemon.get(f"/pid/{target.pid}/debug/quality", seconds=0.3).json()["samples"] > 0
