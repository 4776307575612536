"""Backups of a running server, restores, and the repair of a store that refuses to open."""

import fcntl
import glob
import json
import os
import shutil
import subprocess

from harness import PATIENCE, Case, ended, finish, main


class Backup(Case):
    def rush(self, server, attempts, *options):
        with ended(server.rush("--sku", "rush", "--attempts", str(attempts), "--customers",
                               str(attempts // 2), "--connections", "16", "--rate", "20000",
                               "--pay-delay", "0:0.1", "--no-check", *options)) as rush:
            yield rush
            finish(rush)

    def test_a_backup_of_a_running_server_is_restored_and_goes_on(self):
        with self.server() as server:
            backup = server.path("backup")
            # The first is taken while customers buy.
            for _ in self.rush(server, 10_000, "--create", "stock=500,hold=600"):
                first = None
                while first is None or first["verified_events"] < 100:
                    first = json.loads(server.tool("backup", server.data, backup, "--json"))
            heads = server.path("heads")
            second = json.loads(server.tool("backup", server.data, backup, "--json", "--heads",
                                            heads))
            there = server.audit_head("rush")
            self.assertEqual(second["verified_events"], there["position"])
            self.assertEqual(first["verified_events"] + second["copied_events"],
                             there["position"], "only what is new is copied")
            with open(heads) as f:
                self.assertEqual(json.loads(f.readline()),
                                 {k: there[k] for k in ("sku", "position", "head")})
            # What was written is what an audit takes, of the store as of its copy.
            for directory in (server.data, backup):
                report = json.loads(server.tool("audit", directory, "--head", heads, "--json"))
                self.assertTrue(report["sound"], report)
            server.kill()

            # The disk is lost; the backup takes its place.
            shutil.rmtree(server.data)
            # Completion puts a slash behind the name of a directory.
            server.tool("restore", backup + "/", server.data + "/")
            self.assertEqual(self.beside(server.data), [])
            server.start()
            self.assertEqual(server.audit_head("rush"), there)
            # And a target that holds anything is left alone.
            server.tool("restore", backup, server.data, code=2)

            # The backup is behind what is sold from now on: it is brought up to date, and is not
            # mixed with another history.
            self.assertIn(server.buy("rush", "late", "k").status, (201, 202, 409))
            third = json.loads(server.tool("backup", server.data, backup, "--json"))
            self.assertEqual(third["copied_events"], 1)
            with self.server() as other:
                other.open_sale("rush")
                other.tool("backup", other.data, backup, code=2)
            server.tool("backup", server.data, server.data, code=2)

    def test_a_store_that_refuses_to_open_is_repaired_when_told_so(self):
        with self.server("--snapshot-every", "0") as server:
            for _ in self.rush(server, 4_000, "--create", "stock=500,hold=600"):
                pass
            there = server.audit_head("rush")
            server.kill()
            self.assertIn("Nothing to repair", self.said(server, 0))

            wal = sorted(glob.glob(os.path.join(server.data, "log", "*.log")))[-1]
            with open(wal, "r+b") as f:
                content = f.read().rstrip(b"\0")
                f.seek(len(content) // 2)
                f.write(bytes([content[len(content) // 2] ^ 1]))
            refusal = server.try_start()
            self.assertIn("fairsale repair", refusal)

            before = self.tree(server.data)
            report = json.loads(server.tool("repair", server.data, "--json", code=1))
            self.assertEqual(self.tree(server.data), before, "nothing is changed without --yes")
            self.assertFalse(report["replaced"])
            sale, = report["sales"]
            self.assertEqual(sale["sku"], "rush")
            self.assertLess(sale["kept"], there["position"])
            self.assertEqual(sale["kept"] + sale["lost_events"], there["position"])
            self.assertEqual(sale["acknowledged"], there["position"])

            # What may be somebody's is left alone.
            theirs = [server.data + ".repaired", server.data + ".restoring"]
            for directory in theirs:
                os.mkdir(directory)
                with open(os.path.join(directory, "precious"), "w") as f:
                    f.write("theirs")
            done = json.loads(server.tool("repair", server.data + "/", "--json", "--yes"))
            self.assertTrue(done["replaced"])
            self.assertEqual(os.path.dirname(done["original"]), os.path.dirname(server.data))
            for directory in theirs:
                self.assertEqual(os.listdir(directory), ["precious"])
            self.assertEqual(self.beside(server.data),
                             sorted([*theirs, done["original"]]))
            self.assertEqual(self.tree(done["original"]), before, "the original is kept as it was")
            server.start()
            self.assertEqual(server.audit_head("rush")["position"], sale["kept"])
            self.assertIn(server.buy("rush", "late", "k").status, (201, 202, 409))
            self.assertIn("Nothing to repair", self.said(server, 0))  # beside the server
            server.stop()
            self.assertIn("Nothing to repair", self.said(server, 0))

            # Its VERSION gone; first while somebody has it open, then alone.
            os.remove(os.path.join(server.data, "VERSION"))
            self.assertIn("no VERSION file", server.try_start())
            with open(os.path.join(server.data, "LOCK"), "r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.assertIn("is open in another process", self.said(server, 3))
            self.assertEqual(self.beside(server.data), sorted([*theirs, done["original"]]))
            self.said(server, 0)
            server.start()
            self.assertGreater(server.audit_head("rush")["position"], sale["kept"])

    def test_what_the_source_may_still_lose_is_left_out(self):
        with self.server() as server:
            server.open_sale("demo", stock=5)
            acked = server.acked()
            server.buy("demo", "anna", "k")
            server.kill()
            server.set_acked(acked)
            backup = server.path("backup")
            done = json.loads(server.tool("backup", server.data, backup, "--json"))
            self.assertEqual((done["verified_events"], done["provisional_events"]), (1, 1))
            self.assertIn("1 events were left out", server.tool("backup", server.data, backup))
            server.start()  # takes it over
            done = json.loads(server.tool("backup", server.data, backup, "--json"))
            self.assertEqual((done["copied_events"], done["provisional_events"]), (1, 0))

    def beside(self, directory):
        return sorted(p for p in glob.glob(directory + ".*"))

    def said(self, server, code):
        done = subprocess.run([self.programs.fairsale, "repair", server.data, "--yes"],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def tree(self, directory):
        found = {}
        for at, _, names in os.walk(directory):
            for name in names:
                path = os.path.join(at, name)
                with open(path, "rb") as f:
                    found[os.path.relpath(path, directory)] = f.read()
        return found


if __name__ == "__main__":
    main()
