"""The profiles that write_profile makes, for the tests of readers."""

import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

WRITE_PROFILE = os.environ["WRITE_PROFILE"]


class WrittenProfiles(unittest.TestCase):
    """Tests with a directory of written profiles."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = directory.name
        subprocess.run([WRITE_PROFILE, cls.directory], check=True)

    def path(self, name):
        return os.path.join(self.directory, name)
