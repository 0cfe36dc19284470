#!/usr/bin/python3
"""Installs the build into an empty folder, and looks whether everything is there, and points to what is there.

check_install.py BUILD_ROOT
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else "."


def options():
    done = subprocess.run(["meson", "introspect", "--buildoptions", BUILD], capture_output=True, text=True, check=True)
    return {option["name"]: option["value"] for option in json.loads(done.stdout)}


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        environment = dict(os.environ, DESTDIR=cls.folder.name)
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, env=environment)
        cls.prefix = options()["prefix"]
        cls.files = {}
        for directory, _, names in os.walk(cls.folder.name):
            for name in names:
                path = os.path.join(directory, name)
                cls.files["/" + os.path.relpath(path, cls.folder.name)] = path

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def find(self, ending):
        """The one installed file that ends so."""
        found = [path for path in self.files if path.endswith(ending)]
        self.assertEqual(len(found), 1, f"{ending}: {found} of {sorted(self.files)}")
        return found[0]

    def text(self, path):
        with open(self.files[path], encoding="utf-8") as file:
            return file.read()

    def test_everything_and_nothing_else(self):
        expected = ("/sbin/cprofd", "/system/cprofd.service", "/system/cprofd.socket", "/sysusers.d/cprofd.conf",
                    "/cprofd/cprofd.service.d/sys-admin.conf", "/cprofd/cprofd.service.d/debuginfod.conf", "etc/cprofd/cprofd.conf", "/man8/cprofd.8", "/man5/cprofd.conf.5",
                    "/licenses/cprofd/LICENSE", "/libcprofd-heap.so", "/libcprofd-heap-cxx.so", "/libcprofd-heap-static.a", "/pkgconfig/cprofd.pc",
                    "/pkgconfig/cprofd-heap.pc", "/pkgconfig/cprofd-heap-cxx.pc",
                    "/pkgconfig/cprofd-heap-static.pc", "/include/cprofd/profile.h", "/include/cprofd/labels.h")
        found = {self.find(ending) for ending in expected}
        self.assertEqual(set(self.files), found)

    def test_modes(self):
        for path, real in self.files.items():
            mode = os.stat(real).st_mode & 0o7777
            self.assertEqual(mode, 0o755 if path.endswith(("/sbin/cprofd", ".so")) else 0o644, path)

    def test_service_names_what_is_installed(self):
        service = self.text(self.find("/cprofd.service"))
        self.assertIn(f"ExecStart={self.find('/sbin/cprofd')} --config {self.find('etc/cprofd/cprofd.conf')}\n", service)
        for path in self.files:
            if not path.endswith(("/cprofd", ".so", ".a")):
                self.assertNotRegex(self.text(path), "@[A-Z]+@", path)

    def test_manuals_and_drop_in_name_the_drop_in(self):
        for name in ("/sys-admin.conf", "/debuginfod.conf"):
            drop_in = self.find(name)
            for path in (drop_in, self.find("/cprofd.8")):
                self.assertIn(drop_in, self.text(path).replace("\\-", "-"), path)
            self.assertNotIn("/system/", drop_in)  # installed, not enabled

    def test_drop_in_makes_the_folder_that_the_setting_names(self):
        example = self.text(self.find("etc/cprofd/cprofd.conf"))
        folder = re.search(r"^#debuginfod-cache = /var/cache/(\S+)$", example, re.MULTILINE).group(1)
        self.assertIn(f"\nCacheDirectory={folder}\n", self.text(self.find("/debuginfod.conf")))

    def check_config(self, text):
        """What the installed daemon says of a configuration: its exit status, and standard error."""
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([self.files[self.find("/sbin/cprofd")], "--config", file.name, "--check-config"],
                                  capture_output=True, text=True, check=False)
            return done.returncode, done.stderr.replace(file.name, "FILE")

    def test_example_is_right_as_it_is_and_with_every_line_in_force(self):
        example = self.text(self.find("etc/cprofd/cprofd.conf"))
        self.assertEqual(self.check_config(example), (0, ""))
        in_force = re.sub(r"^#(?=[a-z])", "", example, flags=re.MULTILINE)
        self.assertNotEqual(in_force, example)
        self.assertEqual(self.check_config(in_force), (0, ""))
        self.assertEqual(self.check_config(in_force + "nonsense\n")[0], 1)
        self.assertRegex(self.check_config(in_force + "nonsense\n")[1], r"^FILE:\d+: this is not a setting")

    def test_no_capability_beyond_the_documented_ones(self):
        service = self.text(self.find("/cprofd.service"))
        manual = self.text(self.find(".8"))
        sets = [line.split("=")[1].split() for line in service.splitlines() if line.startswith(("Ambient", "Capability"))]
        self.assertEqual(len(sets), 2)
        self.assertEqual(sets[0], sets[1])
        self.assertNotIn("CAP_SYS_ADMIN", sets[0])
        for capability in sets[0]:
            self.assertIn(capability, manual)


if __name__ == "__main__":
    unittest.main()
