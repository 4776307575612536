"""A bit flipped in a stopped store never goes unnoticed: the server refuses to open it, or
fairsale replay finds and names it, or it was in a byte that nobody reads and the state is the same
to the last bit."""

import json
import os
import random
import shutil
import subprocess
import unittest

from harness import PATIENCE, Case, ended, finish, main

FLIPS = 20


class Damage(Case):
    def make_store(self, server):
        server.start()
        with ended(server.rush("--sku", "rush", "--create", "stock=50,hold=600", "--attempts",
                               "3000", "--customers", "1000", "--connections", "16", "--rate",
                               "6000", "--pay-delay", "0:0.1", "--no-check")) as rush:
            finish(rush)
        self.assertEqual(server.stop(), 0)
        shutil.copytree(server.data, server.path("good"))
        return server.replay("rush")

    def restore(self, server):
        shutil.rmtree(server.data)
        shutil.copytree(server.path("good"), server.data)

    def files(self, server):
        found = []
        for directory, _, names in os.walk(server.data):
            found += [os.path.join(directory, name) for name in names]
        return sorted(f for f in found if os.path.getsize(f) > 0)

    def outcome(self, server, good, replay=True):
        """What becomes of the store as it is now: refused by the server, found by replay, or
        harmless. Neither may ever come to another state."""
        found = replay and not self.replays(server, good)
        said = server.try_start()
        if said is not None:
            self.assertRegex(said, r"fairsaled: .+")
            return "refused"
        head = server.audit_head("rush")
        server.kill()
        self.assertEqual(head["position"], good["position"])
        self.assertEqual(head["state_digest"], good["state_digest"])
        return "found" if found else "harmless"

    def replays(self, server, good):
        """Whether fairsale replay comes to the good state; else it must name what is wrong."""
        done = subprocess.run([self.programs.fairsale, "replay", server.data, "--json"],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode == 0:
            sale = json.loads(done.stdout)["sales"][0]
            self.assertEqual(sale["position"], good["position"])
            self.assertEqual(sale["state_digest"], good["state_digest"])
            self.assertEqual(sale["head"], good["head"])
            return True
        self.assertIn(done.returncode, (1, 3), done.stderr)
        self.assertRegex(done.stderr, r"fairsale: .+")
        self.said.add(done.stderr.strip()[:300])
        return False

    def setUp(self):
        self.said = set()

    def tearDown(self):
        for said in sorted(self.said):
            print("replay:", said)

    def test_flipped_bits(self):
        chance = random.Random(20261124)
        server = self.server("--snapshot-every", "0")
        try:
            good = self.make_store(server)
            outcomes = {"refused": 0, "found": 0, "harmless": 0}
            for n in range(FLIPS):
                self.restore(server)
                # Half of them in the files that hold the events, half anywhere.
                files = self.files(server)
                events = [f for f in self.log_files(files) if f.endswith((".log", ".sst"))]
                path = chance.choice(events if n % 2 == 0 else files)
                at = chance.randrange(os.path.getsize(path))
                with open(path, "r+b") as f:
                    f.seek(at)
                    byte = f.read(1)[0]
                    f.seek(at)
                    f.write(bytes([byte ^ (1 << chance.randrange(8))]))
                with self.subTest(file=os.path.relpath(path, server.data), at=at):
                    outcome = self.outcome(server, good)
                    outcomes[outcome] += 1
                    print(f"{os.path.relpath(path, server.data)} byte {at}: {outcome}")
            print(outcomes)
            self.assertGreater(outcomes["refused"] + outcomes["found"], 0)
        finally:
            server.__exit__(None, None, None)

    def test_event_changed_in_place(self):
        """A customer's name, where it is stored in the clear, is changed for another's."""
        server = self.server("--snapshot-every", "0")
        try:
            good = self.make_store(server)
            changed = 0
            for path in self.files(server):
                with open(path, "rb") as f:
                    content = f.read()
                at = content.find(b"c123")
                if at < 0:
                    continue
                changed += 1
                self.restore(server)
                with open(path, "r+b") as f:
                    f.seek(at)
                    f.write(b"c321")
                with self.subTest(file=os.path.relpath(path, server.data)):
                    # A snapshot that does not match its digest is as good as none, and what is
                    # stored beside the log is not the truth.
                    event = bool(self.log_files([path]))
                    self.assertIn(self.outcome(server, good),
                                  ("refused", "found") if event else ("harmless",))
                self.restore(server)
            print(f"changed in {changed} files")
        finally:
            server.__exit__(None, None, None)

    @staticmethod
    def log_files(files):
        return [f for f in files if os.path.basename(os.path.dirname(f)) == "log"]

    def cut_off_the_end(self, server):
        """Takes the last bytes of what was acknowledged; returns the good state."""
        good = self.make_store(server)
        newest = max(f for f in self.log_files(self.files(server)) if f.endswith(".log"))
        os.truncate(newest, os.path.getsize(newest) - 20)
        return good

    def test_end_of_what_was_acknowledged_is_gone(self):
        server = self.server("--snapshot-every", "0")
        try:
            good = self.cut_off_the_end(server)
            self.assertEqual(self.outcome(server, good, replay=False), "refused")
            self.assertIn("Acknowledged before, and now missing", server.log)
        finally:
            server.__exit__(None, None, None)

    def test_replay_misses_the_end_too(self):
        server = self.server("--snapshot-every", "0")
        try:
            good = self.cut_off_the_end(server)
            self.assertFalse(self.replays(server, good))
            self.assertRegex(" ".join(self.said), "Acknowledged before, and now missing: SKU")
        finally:
            server.__exit__(None, None, None)


if __name__ == "__main__":
    main()
