#!/usr/bin/python3
"""A file system in user space (linux/fuse.h) that stops answering when it is told to: for tests of who waits for it then.

fuse_server.py DIRECTORY HANG FILE... -- COMMAND...

Mounts a file system with copies of the FILEs on DIRECTORY, and becomes COMMAND. Once the file HANG is there, requests whose names it
lists (lookup, open, read, getattr) are never answered. The server ends when COMMAND does.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
import time

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, ACCESS, INTERRUPT, BATCH_FORGET = (
    1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 34, 36, 42)
NAMES = {LOOKUP: "lookup", GETATTR: "getattr", OPEN: "open", READ: "read"}
KEEP_CACHE = 2
ROOT = 1
PR_SET_PDEATHSIG = 1


class Server:
    """Inode 1 is the directory, the files follow."""

    def __init__(self, directory, hang, paths):
        self.hang, self.time = hang, int(time.time())
        self.names = {os.path.basename(path).encode(): number for number, path in enumerate(paths, ROOT + 1)}
        self.contents = {ROOT: b""}
        for number, path in enumerate(paths, ROOT + 1):
            with open(path, "rb") as file:
                self.contents[number] = file.read()
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        if libc.mount(b"test", directory.encode(), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")

    def attributes(self, number):
        mode = stat.S_IFDIR | 0o755 if number == ROOT else stat.S_IFREG | 0o755
        size = len(self.contents[number])
        return struct.pack("<6Q10I", number, size, (size + 511) // 512, *[self.time] * 3, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, opcode, number, data):
        """The body of an answer; an error number; or None where there is to be none."""
        if opcode == INIT:
            return struct.pack("<4I2H2I2HI7I", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0, *[0] * 7)
        if opcode == LOOKUP:
            found = self.names.get(data.rstrip(b"\0"))
            if found is None:
                return errno.ENOENT
            # Names are asked for each time, what is known of a file is believed.
            return struct.pack("<4Q2I", found, 0, 0, 3600, 0, 0) + self.attributes(found)
        if opcode == GETATTR:
            return struct.pack("<Q2I", 3600, 0, 0) + self.attributes(number)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<Q2I", number, KEEP_CACHE, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<2QI", data)
            return self.contents[number][offset : offset + size]
        if opcode == STATFS:
            return struct.pack("<5Q4I6I", *[0] * 5, 4096, 255, 4096, 0, *[0] * 6)
        if opcode in (RELEASE, FLUSH, ACCESS):
            return b""
        return None if opcode in (FORGET, BATCH_FORGET, INTERRUPT) else errno.ENOSYS

    def hangs(self, opcode):
        try:
            with open(self.hang, encoding="ascii") as file:
                return NAMES.get(opcode) in file.read().split()
        except OSError:
            return False

    def serve(self):
        while True:
            request = os.read(self.fd, 1 << 17)
            _, opcode, unique, number = struct.unpack_from("<IIQQ", request)
            if self.hangs(opcode):
                continue
            body = self.answer(opcode, number, request[40:])
            if body is None:
                continue
            error, body = (-body, b"") if isinstance(body, int) else (0, body)
            os.write(self.fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def main(directory, hang, *rest):
    split = rest.index("--")
    server = Server(directory, hang, rest[:split])
    parent = os.getpid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            server.serve()
        os._exit(0)
    os.close(server.fd)
    os.execv(rest[split + 1], rest[split + 1 :])


if __name__ == "__main__":
    main(*sys.argv[1:])
