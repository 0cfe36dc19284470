"""Python's ways to wait, each in a thread: noted and told as in wait_log.h. Ends with its standard input."""

import json
import os
import queue
import sys
import threading
import time

spans = []


def noted(what):
    def wrap(function):
        def run(*arguments):
            start = time.monotonic_ns()
            function(*arguments)
            spans.append((function.__name__, what, "", threading.get_native_id(), start, time.monotonic_ns()))

        return run

    return wrap


@noted("sleep")
def in_python_sleep():
    time.sleep(0.005)


@noted("lock")
def in_python_lock(lock):
    lock.acquire()


@noted("lock")
def in_python_queue(items):
    items.get()


@noted("io")
def in_python_read(fd):
    os.read(fd, 1)


def repeat(function, *arguments):
    def run():
        while True:
            function(*arguments)

    threading.Thread(target=run, daemon=True).start()


def every(seconds, function, *arguments):
    def run():
        time.sleep(seconds)
        function(*arguments)

    repeat(run)


def release(lock):
    if lock.locked():
        lock.release()


held, items, ends = threading.Lock(), queue.SimpleQueue(), os.pipe()
held.acquire()
repeat(in_python_sleep)
repeat(in_python_lock, held)
every(0.006, release, held)
repeat(in_python_queue, items)
every(0.007, items.put, 1)
repeat(in_python_read, ends[0])
every(0.008, os.write, ends[1], b"x")
print("ready", os.getpid(), flush=True)
for _ in sys.stdin:
    told = {"pid": os.getpid(), "monotonic_ns": time.monotonic_ns(), "functions": {}, "waits": list(spans)}
    print(json.dumps(told), flush=True)
