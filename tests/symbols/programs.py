"""The programs whose symbols are compared, each class in the ways that it is found on machines. A program that was built stays as long as its
sources and commands are the same."""

import collections
import hashlib
import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
DEBUG_DIR = "/usr/lib/debug"
SOURCES = os.path.join(HERE, "programs")

# path: what is asked about; reference: the same program with all that the tools need; folders: where separate debug files are.
Program = collections.namedtuple("Program", "cls name path reference folders")


class Missing(Exception):
    """What is not installed."""


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(program + " is not installed")


class Folder:
    """Where one class's programs are built."""

    def __init__(self, build, cls):
        self.cls = cls
        self.path = os.path.join(build, "tests/symbols/programs", cls)
        self.go_cache = os.path.join(build, "tests/unwind/programs/gocache")
        self.programs = []

    def run(self, *command):
        need(command[0])
        env = {**os.environ, "GOCACHE": self.go_cache, "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
        result = subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}: {result.stderr[-500:]}")
        return result.stdout

    def at(self, name):
        return os.path.join(self.path, name)

    def add(self, name, reference=None, folders=()):
        self.programs.append(Program(self.cls, name, self.at(name), self.at(reference or name), [self.at(f) for f in folders]))

    def compile(self, compiler, *flags, out, sources=("wide.cc", "wide_other.cc")):
        """Each source on its own, as projects are built, so that each .dwo has its name."""
        objects = []
        for source in sources:
            objects.append(f"{out}-{source.split('.')[0]}.o")
            self.run(compiler, "-w", "-O2", "-g", "-c", *flags, os.path.join(SOURCES, source), "-o", objects[-1])
        self.run(compiler, "-w", "-O2", "-g", *flags, *objects, "-Wl,--build-id", "-o", out)

    def stripped(self, name, separate="build-id"):
        """The program with symbol tables alone, and with nothing but a separate debug file."""
        self.run("strip", "-g", "-o", name + ".symbols", name)
        self.add(name + ".symbols")
        self.run("objcopy", "--only-keep-debug", name, name + ".debug")
        if separate == "build-id":
            build_id = re.search(r"Build ID: ([0-9a-f]+)", self.run("readelf", "-n", name))[1]
            folder = self.at(".build-id/" + build_id[:2])
            os.makedirs(folder, exist_ok=True)
            os.rename(self.at(name + ".debug"), os.path.join(folder, build_id[2:] + ".debug"))
            self.run("strip", "-o", name + ".build-id", name)
            self.add(name + ".build-id", name, ["."])
        else:
            self.run("strip", "-o", name + ".stripped", name)
            self.run("objcopy", "--add-gnu-debuglink=" + name + ".debug", name + ".stripped", name + ".debuglink")
            self.add(name + ".debuglink", name, ["."])

    def pack(self, name, packed):
        """A package of the .dwo files. binutils' dwp 2.40 crashes at DWARF 5, LLVM's 14 never ends with GCC's."""
        for packer in ("dwp", "llvm-dwp"):
            if shutil.which(packer):
                command = ["timeout", "10", packer, "-e", name, "-o", packed + ".dwp"]
                if subprocess.run(command, cwd=self.path, capture_output=True, check=False).returncode == 0:
                    return True
        return False


def build_libc(folder):
    """The machine's own, whose debug file its distribution ships, with what dwz made of it."""
    for path in ("/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"):
        if os.path.exists(path):
            break
    else:
        raise Missing("no glibc at a known place")
    build_id = re.search(r"Build ID: ([0-9a-f]+)", folder.run("readelf", "-n", path))[1]
    debug = f"{DEBUG_DIR}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    if not os.path.exists(debug):
        raise Missing("the C library's debug file is not installed (libc6-dbg)")
    folder.programs.append(Program("libc", "libc.so.6", path, debug, [DEBUG_DIR]))


def build_templates(folder):
    folder.compile("g++", out="templates")
    folder.add("templates")
    folder.stripped("templates")
    folder.compile("g++", "-gdwarf-4", "-gz", "-fPIE", "-ffunction-sections", "-Wl,--gc-sections", out="sections")
    folder.add("sections")


def build_lto(folder):
    folder.compile("g++", "-flto", out="lto")
    folder.add("lto")
    folder.stripped("lto", "debuglink")


def build_clang(folder):
    folder.compile("clang++", "-std=c++17", "-gdwarf-5", out="clang")
    folder.add("clang")
    folder.stripped("clang", "debuglink")


def build_c(folder):
    """C has hidden, local and versionless aliases, functions without a size, cold parts."""
    source = os.path.join(HERE, "../symbolize")
    for compiler in ("gcc", "clang"):
        need(compiler)
        files = [os.path.join(source, name) for name in ("sample.c", "sample_other.c")]
        folder.run(compiler, "-w", "-O2", "-g", *files, "-Wl,--build-id", "-o", compiler)
        folder.add(compiler)


def build_dwz(folder):
    """Alone, and with what two programs have in common in a third file."""
    need("dwz")
    for version in ("4", "5"):
        name = "dwarf-" + version
        folder.compile("g++", "-gdwarf-" + version, out=name)
        shutil.copy(folder.at(name), folder.at(name + ".other"))
        folder.run("dwz", "-o", name + ".alone", name)
        folder.add(name + ".alone", name)
        shutil.copy(folder.at(name), folder.at(name + ".common"))
        folder.run("dwz", "-m", name + ".dwz", "-M", name + ".dwz", name + ".common", name + ".other")
        build_id = re.search(r"Build ID: ([0-9a-f]+)", folder.run("readelf", "-n", name + ".dwz"))[1]
        where = folder.at(".build-id/" + build_id[:2])
        os.makedirs(where, exist_ok=True)
        shutil.copy(folder.at(name + ".dwz"), os.path.join(where, build_id[2:] + ".debug"))
        folder.add(name + ".common", name, ["."])


def build_split(folder):
    """Functions in .dwo files, and in a package of them; DWARF 4 with GNU's extensions and DWARF 5. A program of several sections, whose
    lists of ranges count from nothing; and lists that count from where the unit begins."""
    for compiler, version, name, *flags in (
        ("g++", "4", "gcc-4"),
        ("g++", "5", "gcc-5"),
        ("g++", "5", "gcc-5.sections", "-ffunction-sections", "-gz", "-fno-reorder-functions"),
        ("clang++", "4", "clang-4", "-std=c++17"),
        ("clang++", "5", "clang-5", "-std=c++17"),
        ("clang++", "5", "clang-5.inlining", "-std=c++17", "-fsplit-dwarf-inlining"),
        ("g++", "4", "gcc-4.one", "-std=c++17", "-fno-exceptions"),
        ("g++", "5", "gcc-5.one", "-std=c++17", "-fno-exceptions"),
        ("clang++", "4", "clang-4.one", "-std=c++17", "-fno-exceptions"),
        ("clang++", "5", "clang-5.one", "-std=c++17", "-fno-exceptions"),
    ):
        sources = ["one.cc", "one_main.cc"] if "one" in name else ["wide.cc", "wide_other.cc"]
        folder.compile(compiler, "-gsplit-dwarf", "-gdwarf-" + version, *flags, out=name, sources=sources)
        folder.add(name)
        if folder.pack(name, name + ".packed"):
            shutil.copy(folder.at(name), folder.at(name + ".packed"))
            folder.add(name + ".packed", name)
    folder.compile("g++", "-gsplit-dwarf", "-gdwarf-5", out="lost")
    for path in ("lost-wide.dwo", "lost-wide_other.dwo"):
        os.remove(folder.at(path))
    folder.add("lost")


def build_rust(folder):
    need("rustc")
    folder.run("rustc", "-g", "-O", "-C", "link-arg=-Wl,--build-id", os.path.join(SOURCES, "wide.rs"), "-o", "rust")
    folder.add("rust")
    folder.run("rustc", "-g", "-O", "-C", "symbol-mangling-version=v0", os.path.join(SOURCES, "wide.rs"), "-o", "v0")
    folder.add("v0")
    folder.stripped("rust")


def build_go(folder):
    need("go")
    folder.run("go", "build", "-o", "go", os.path.join(SOURCES, "wide.go"))
    folder.add("go")
    folder.stripped("go", "debuglink")
    folder.programs = [program._replace(reference=folder.at("go")) for program in folder.programs]  # each has Go's own table
    folder.run("strip", "-o", "go.stripped", "go")
    folder.add("go.stripped", "go")
    for name, flags in (("pie", ["-buildmode=pie"]), ("trimmed", ["-trimpath"])):
        folder.run("go", "build", *flags, "-o", name, os.path.join(SOURCES, "wide.go"))
        folder.run("strip", "-o", name + ".stripped", name)
        folder.add(name + ".stripped", name)


CLASSES = {
    "libc": build_libc,
    "c": build_c,
    "templates": build_templates,
    "lto": build_lto,
    "clang": build_clang,
    "dwz": build_dwz,
    "split": build_split,
    "rust": build_rust,
    "go": build_go,
}


def fingerprint(cls):
    """Of what the programs are made from."""
    digest = hashlib.sha256(cls.encode())
    paths = [os.path.abspath(__file__)]
    for folder in (SOURCES, os.path.join(HERE, "../symbolize")):
        paths += sorted(entry.path for entry in os.scandir(folder) if entry.is_file())
    for path in paths:
        with open(path, "rb") as file:
            digest.update(file.read())
    for compiler in ("gcc", "g++", "clang", "rustc", "go", "dwz"):
        found = shutil.which(compiler)
        digest.update(f"{compiler} {found} {os.stat(found).st_mtime if found else 0}".encode())
    return digest.hexdigest()


def build(root, cls):
    """The programs of a class. Missing: they can't be built here."""
    folder = Folder(os.path.abspath(root), cls)
    stamp, wanted = folder.at("stamp"), fingerprint(cls)
    try:
        with open(stamp, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    if lines[:1] == [wanted]:
        return [Program(*line.split("\t")[:4], line.split("\t")[4:]) for line in lines[1:]]
    shutil.rmtree(folder.path, ignore_errors=True)
    os.makedirs(folder.path)
    CLASSES[cls](folder)
    with open(stamp, "w", encoding="utf-8") as file:
        file.write("\n".join([wanted] + ["\t".join([*p[:4], *p.folders]) for p in folder.programs]))
    return folder.programs
