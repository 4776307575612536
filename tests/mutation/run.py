#!/usr/bin/env python3
"""Plants bugs, one at a time, and shows that the tests catch them.

  tests/mutation/run.py             plant each bug of `plants`, build, run what must then fail
  tests/mutation/run.py --only TEXT only those whose name contains TEXT (may be repeated)
  tests/mutation/run.py --list      say what there is to plant
  tests/mutation/run.py --check     only check that each fits into the sources as they are
  --jobs N                          trees side by side (as many as cores, at most 4)

The sources are copied to build/mutation/<n> and built there. First everything that is run
later must pass on the unchanged copies, else a failure would mean nothing. Exit code 1: less than
95 % were caught, or one survived that `plants` does not explain. 2: a plant fits nowhere, does not
compile or the unchanged copy fails. How plants are written stands at the head of that file.
"""

import argparse
import os
import pathlib
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "mutation"
ENOUGH = 0.95
LEAST_LIMIT = 20  # seconds; a command that takes ten times as long as it did unchanged hangs
E2E = ("fairsaled", "fairsale")


class Trouble(Exception):
    """The check itself cannot go on."""


class Plant:
    def __init__(self, name, what):
        self.name = name
        self.what = what
        self.file = None
        self.edits = []  # pairs of old and new lines
        self.commands = []
        self.explained = None

    def planted(self, source):
        """The source with the bug in it."""
        source = "\n" + source
        for old, new in self.edits:
            before = "\n" + "".join(line + "\n" for line in old)
            if (found := source.count(before)) != 1:
                raise Trouble(f"{self.name}: this stands {found} times in {self.file}, not once; "
                              f"mend tests/mutation/plants:{before}")
            source = source.replace(before, "\n" + "".join(line + "\n" for line in new))
        return source[1:]

    def targets(self):
        return {t for command in self.commands for t in targets_of(command)}


def split(command):
    """NAME=VALUE..., the program and its arguments."""
    at = next(i for i, word in enumerate(command) if "=" not in word)
    return command[:at], command[at], command[at + 1:]


def targets_of(command):
    program = split(command)[1]
    return E2E if program == "e2e" else (program,)


def read_plants(path):
    plants = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            name, _, what = line[1:].partition("] ")
            plants.append(Plant(name, what))
            continue
        kind, rest = line[0], line[1:]
        plant = plants[-1]
        if kind == "@":
            plant.file = rest.strip()
        elif kind == "-":
            if not plant.edits or plant.edits[-1][1]:
                plant.edits.append(([], []))
            plant.edits[-1][0].append(rest)
        elif kind == "+" and plant.edits:
            plant.edits[-1][1].append(rest)
        elif kind == "!":
            plant.commands.append(tuple(shlex.split(rest)))
        elif kind == "?":
            plant.explained = rest.strip()
        else:
            raise Trouble(f"{path}, line {number}: {line}")
    for p in plants:
        if not (p.file and p.edits and p.commands):
            raise Trouble(f"{p.name}: a plant needs a file, old text and a command")
    if len({p.name for p in plants}) != len(plants):
        raise Trouble("two plants have the same name")
    return plants


class Tree:
    """A copy of the sources with a build directory of its own."""

    def __init__(self, number, threads, scratch):
        self.root = WORK / str(number)
        self.build = self.root / "build"
        self.threads = threads
        # Trees are alike to ccache: paths are relative, and nothing debugs them. Tests that choose
        # at random choose the same each time.
        self.environment = dict(os.environ, CCACHE_BASEDIR=str(self.root), TMPDIR=scratch,
                                GTEST_FAIL_FAST="1", PYTHONDONTWRITEBYTECODE="1",
                                RC_PARAMS="noshrink=1 seed=1")
        for name in ("FAIRSALE_FIGURES", "CMAKE_BUILD_TYPE", "CXXFLAGS"):
            self.environment.pop(name, None)

    def copy_sources(self):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True,
                                stdout=subprocess.PIPE).stdout.decode().split("\0")
        names = {n for n in listed if n and (ROOT / n).is_file()}
        for name in names:
            source, target = ROOT / name, self.root / name
            content = source.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(source.stat().st_mode)
        for directory, inner, files in os.walk(self.root):
            if pathlib.Path(directory) == self.root and "build" in inner:
                inner.remove("build")
            for file in files:
                target = pathlib.Path(directory, file)
                if str(target.relative_to(self.root)) not in names:
                    target.unlink()

    def call(self, command, seconds):
        """Returns the exit code, None after so many seconds, and what was printed."""
        with subprocess.Popen(command, cwd=self.build, env=self.environment, text=True,
                              errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, start_new_session=True) as process:
            try:
                out, _ = process.communicate(timeout=seconds)
                return process.returncode, out
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return None, process.communicate()[0]

    def configure(self):
        self.build.mkdir(parents=True, exist_ok=True)
        # Cheap to compile and to link, quick enough to run.
        code, out = self.call(["cmake", "-G", "Ninja", "-S", str(self.root), "-B", str(self.build),
                               "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1",
                               "-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=gold"], 300)
        if code != 0:
            raise Trouble(f"cmake fails in {self.root}:\n{out[-3000:]}")

    def make(self, targets):
        code, out = self.call(["cmake", "--build", str(self.build), "-j", str(self.threads),
                               "--target", *sorted(targets)], 3600)
        return None if code == 0 else out[-3000:]

    def run(self, command, seconds):
        variables, program, rest = split(command)
        programs = self.build / "bin"
        line = [str(programs / program), *rest]
        if program == "e2e":
            line = [sys.executable, str(self.root / "tests/e2e" / f"{rest[0]}_test.py")]
            for name in E2E:
                line += [f"--{name}", str(programs / name)]
            line += rest[1:]
        return self.call(["env", *variables, *line], seconds)


def side_by_side(trees, work, do):
    """Has each tree take what is next until nothing is left. The first failure is raised."""
    left = queue.SimpleQueue()
    for item in work:
        left.put(item)
    failures = []

    def of(tree):
        while not failures:
            try:
                do(tree, left.get_nowait())
            except queue.Empty:
                return
            except BaseException as e:
                failures.append(e)

    threads = [threading.Thread(target=of, args=(t,)) for t in trees]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]


class Check:
    def __init__(self, plants, jobs, scratch):
        self.plants = plants
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self.trees = [Tree(n, threads, scratch) for n in range(1, jobs + 1)]
        self.limits = {}
        self.survivors = []
        self.caught = 0
        self.printing = threading.Lock()

    def say(self, text):
        with self.printing:
            print(text, flush=True)

    def prepare(self):
        began = time.monotonic()
        targets = set().union(*(p.targets() for p in self.plants))
        for tree in self.trees:  # one after the other: the second finds all in the cache
            tree.copy_sources()
            tree.configure()
            threads, tree.threads = tree.threads, os.cpu_count() or 1
            if trouble := tree.make(targets):
                raise Trouble(f"the unchanged sources do not build:\n{trouble}")
            tree.threads = threads
        self.say(f"the unchanged sources are built ({time.monotonic() - began:.0f} s)")
        began = time.monotonic()
        commands = dict.fromkeys(c for p in self.plants for c in p.commands)
        side_by_side(self.trees, commands, self.pass_unchanged)
        self.say(f"{len(commands)} commands pass on them ({time.monotonic() - began:.0f} s)")

    def pass_unchanged(self, tree, command):
        began = time.monotonic()
        code, out = tree.run(command, 300)
        if code != 0 or "tests from 0 test suites" in out or "Ran 0 tests" in out:
            raise Trouble(f"{shlex.join(command)} must pass on the unchanged sources:\n"
                          f"{out[-3000:]}")
        self.limits[command] = max(LEAST_LIMIT, 10 * (time.monotonic() - began))

    def plant(self, tree, plant):
        path = tree.root / plant.file
        source = path.read_text()
        began = time.monotonic()
        path.write_text(plant.planted(source))
        try:
            if trouble := tree.make(plant.targets()):
                raise Trouble(f"{plant.name} does not compile:\n{trouble}")
            built = time.monotonic()
            caught = None
            for command in plant.commands:
                code, _ = tree.run(command, self.limits[command])
                if code != 0:
                    caught = shlex.join(command)
                    if code is None:
                        caught += " (by its time limit)"
                    break
        finally:
            path.write_text(source)
        spent = f"{built - began:.0f} + {time.monotonic() - built:.0f} s"
        if caught:
            self.caught += 1
            self.say(f"caught    {plant.name:<36} {spent:>10}  {caught}")
        else:
            self.survivors.append(plant)
            self.say(f"SURVIVED  {plant.name:<36} {spent:>10}  "
                     f"{plant.explained or 'and is not explained'}")

    def run(self):
        began = time.monotonic()
        self.prepare()
        side_by_side(self.trees, self.plants, self.plant)
        planted = len(self.plants)
        self.say(f"{self.caught} of {planted} planted bugs were caught "
                 f"({time.monotonic() - began:.0f} s)")
        if figures := os.environ.get("FAIRSALE_FIGURES"):
            with open(figures, "a") as f:
                f.write(f"planted bugs\t{planted}\nplanted bugs caught\t{self.caught}\n")
        unexplained = [p for p in self.survivors if not p.explained]
        return 1 if unexplained or self.caught < ENOUGH * planted else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    given = parser.parse_args()
    try:
        plants = read_plants(HERE / "plants")
        for p in plants:
            p.planted((ROOT / p.file).read_text())
        if given.only:
            plants = [p for p in plants if any(o in p.name for o in given.only)]
        if not plants:
            raise Trouble("no plant has such a name")
        if given.list:
            for p in plants:
                print(f"{p.name:<36} {p.file}: {p.what}")
        if given.check:
            print(f"{len(plants)} plants fit into the sources")
        if given.list or given.check:
            return 0
        # In memory, where a sync takes no time.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="mutation-", dir=memory,
                                         ignore_cleanup_errors=True) as scratch:
            return Check(plants, max(1, min(given.jobs, len(plants))), scratch).run()
    except Trouble as e:
        print(e, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
