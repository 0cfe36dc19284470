#!/usr/bin/python3
"""Readers of execution traces take what the encoders write, whatever was lost: the installed `go tool trace` (whose check of the order
of events is the strictest), a JSON parser, and a walk over the protobuf."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import pprofile  # noqa: E402

WRITE_TRACE = os.environ["WRITE_TRACE"]
RANDOM_TRACES = 30
WINDOW_US = 1_000_000
STATES = {1: "created", 2: "runnable", 3: "running", 4: "sleeps", 5: "device", 7: "dead", 8: "destroyed"}


def go_command():
    """A go that reads format 1.23, or None."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not go:
        return None
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.removeprefix("go")
    return go if version.split(".")[:2] and tuple(int(part) for part in version.strip().split(".")[:2]) >= (1, 23) else None


GO = go_command()


class ExecTrace(unittest.TestCase):
    """Each test reads all traces in one format."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = directory.name
        subprocess.run([WRITE_TRACE, cls.directory, str(RANDOM_TRACES)], check=True)

    def paths(self, suffix):
        paths = sorted(os.path.join(self.directory, name) for name in os.listdir(self.directory) if name.endswith(suffix))
        self.assertEqual(len(paths), 2 + 2 * RANDOM_TRACES)
        return paths

    def parsed(self, path):
        environment = {**os.environ, "GOTOOLCHAIN": "local"}
        command = [GO, "tool", "trace", "-d=parsed", path]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        self.assertEqual(done.returncode, 0, f"{path}: {done.stderr}")
        self.assertEqual(done.stderr, "", path)
        return done.stdout

    @unittest.skipUnless(GO, "there is no go command that reads format 1.23")
    def test_go(self):
        for path in self.paths(".go"):
            output = self.parsed(path)
            self.assertIn("Time=1000000001", output)  # the window's end
            if path.endswith("whole.go"):
                for words in (
                    'Label="main" Resource=Goroutine(1000)', 'Category="cprofd.version" Message="1"', "worker_main @ 0x402000",
                    'Running->Waiting Reason="sync (futex)"', 'Running->Runnable Reason="preempted"', "Running->NotExist",
                    "NotExist->Runnable", "StackSample", "frames left out]", 'Name="/sched/gomaxprocs:threads"',
                ):  # fmt: skip
                    self.assertIn(words, output)

    def test_chrome(self):
        for path in self.paths(".json"):
            with open(path, encoding="utf-8") as file:
                trace = json.load(file)
            ends = {}
            slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
            for event in sorted(slices, key=lambda event: (event["ts"], event["ts"] + event["dur"])):
                track = event["pid"], event["tid"]
                self.assertGreaterEqual(event["ts"], ends.get(track, 0) - 0.0015, path)
                ends[track] = event["ts"] + event["dur"]
                self.assertLessEqual(ends[track], WINDOW_US + 0.0015)
            arrows = {"s": set(), "f": set()}
            for event in trace["traceEvents"]:
                if "sf" in event:
                    self.assertIn(str(event["sf"]), trace["stackFrames"])
                if event["ph"] in arrows:
                    arrows[event["ph"]].add(event["id"])
            self.assertLessEqual(arrows["f"], arrows["s"])
            self.assertEqual(trace["otherData"]["cprofd.version"], "1")

    def test_perfetto(self):
        for path in self.paths(".perfetto"):
            with open(path, "rb") as file:
                packets = [dict_of(packet) for field, _, packet in pprofile.read_fields(file.read()) if field == 1]
            states = {}
            open_slices = {}
            for packet in packets:
                self.assertGreaterEqual(packet[8], 5_000_000_000_000_000)
                if 117 in packet:
                    event = dict_of(packet[117])
                    before = states.get(event[3])
                    self.assertIn(event[4], STATES)
                    self.assertFalse(event[4] == before == 3, path)
                    self.assertTrue(before != 7 or event[4] == 8, path)
                    self.assertTrue(event[4] != 1 or before in (None, 8), path)
                    states[event[3]] = event[4]
                if 11 in packet:
                    event = dict_of(packet[11])
                    change = {1: 1, 2: -1}.get(event[9], 0)
                    open_slices[event[11]] = open_slices.get(event[11], 0) + change
                    self.assertIn(open_slices[event[11]], (0, 1), path)


def dict_of(message):
    """The last value of each field."""
    return {field: value for field, _, value in pprofile.read_fields(message)}


if __name__ == "__main__":
    unittest.main()
