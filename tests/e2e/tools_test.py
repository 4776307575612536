"""The fairsale command: its exit codes, its tokens, and its replay beside a running server."""

import json
import os
import subprocess

from harness import PATIENCE, Case, main


class Tools(Case):
    def run_tool(self, *arguments):
        return subprocess.run([self.programs.fairsale, *arguments], capture_output=True, text=True,
                              timeout=PATIENCE, check=False,
                              env={"FAIRSALE_SHOP_TOKEN": "shop-token-0123456789"})

    def test_exit_codes(self):
        nobody = "http://127.0.0.1:1"
        for arguments, code in [
                (["--help"], 0),
                (["--version"], 0),
                (["rush", "--help"], 0),
                ([], 2),
                (["dance"], 2),
                (["rush"], 2),
                (["rush", "https://127.0.0.1"], 2),
                (["rush", nobody, "--pay", "2"], 2),
                (["rush", nobody, "--pay", "0.9"], 2),
                (["rush", nobody, "--units-per-attempt", "0"], 2),
                (["rush", nobody, "--rate", "5", "--closed-loop"], 2),
                (["rush", nobody, "--create", "stock=1"], 2),  # no operator's token
                (["rush", nobody, "--patience", "0.3"], 3),
                (["check", nobody, "--record", "/nowhere"], 3),
                (["replay", "/nowhere"], 3),
                (["state", "/nowhere"], 3),
                (["state", "/nowhere", "--at", "noon"], 2),
                (["state", "/nowhere", "--purchase", "demo:01"], 2),
                (["explain", "/nowhere", "demo:2"], 3),
                (["explain", "/nowhere"], 2),
                (["explain", "/nowhere", "demo:2", "--customer", "anna"], 2),
                (["what-if", "/nowhere", "--sku", "demo"], 3),
                (["what-if", "/nowhere"], 2),
                (["what-if", "/nowhere", "--sku", "demo", "--line-policy", "kind"], 2),
                (["token", "--customer", "a b", "--key-file", "/nowhere"], 2),
                (["token", "--customer", "alice", "--ttl", "0", "--key-file", "/nowhere"], 2),
        ]:
            with self.subTest(arguments):
                done = self.run_tool(*arguments)
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                if code == 0:
                    self.assertTrue(done.stdout)
                else:
                    self.assertTrue(done.stderr)
                    self.assertEqual(done.stdout, "")

    def test_minted_token_is_taken(self):
        with self.server() as server:
            server.open_sale("demo")
            mint = ["token", "--customer", "alice", "--key-file", server.path("customer-key")]
            alice = server.tool(*mint, "--ttl", "60").strip()
            reply = server.request("POST", "/v1/sales/demo/purchases", alice, {},
                                   {"Idempotency-Key": "k"})
            self.assertEqual(reply.status, 201, reply)
            self.assertEqual(reply.json["customer"], "alice")
            self.assertEqual(json.loads(server.tool(*mint, "--json"))["customer"], "alice")

    def test_replay_beside_the_running_server_and_back_in_time(self):
        with self.server() as server:
            server.open_sale("demo", stock=5)
            heads = [server.audit_head("demo")]
            for i in range(8):
                server.buy("demo", f"c{i}", "k")
                heads.append(server.audit_head("demo"))
            server.open_sale("other", stock=1)
            for head in heads:
                then = server.replay("demo", "--until", str(head["position"]))
                self.assertEqual(then["state_digest"], head["state_digest"])
                self.assertEqual(then["head"], head["head"])
            now = server.replay("demo")
            self.assertEqual((now["available"], now["held"], now["waiting"]), (0, 5, 3))
            text = server.tool("replay", server.data)
            self.assertIn("sku demo", text)
            self.assertIn("sku other", text)
            self.assertIn(heads[-1]["state_digest"], text)
            server.tool("replay", server.data, "--sku", "nothing", code=3)


    def test_a_full_disk_is_no_success(self):
        """Data that did not reach stdout is a failure of the command, whatever it did."""
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with self.server() as server:
            server.open_sale("demo", stock=5)
            purchase = server.buy("demo", "anna", "k").json["purchase"]
            data, sale = server.data, ["--sku", "demo"]
            record = server.path("record")
            rush = ["rush", server.url, *sale, "--attempts", "1", "--customers", "1", "--quiet",
                    "--token-file", server.path("shop-token"),
                    "--operator-token-file", server.path("operator-token")]
            for arguments in [
                    ["--help"], ["--version"], ["replay", "--help"],
                    ["replay", data], ["replay", data, "--json"], ["replay", data, "--scan-only"],
                    ["state", data], ["state", data, "--json"],
                    ["explain", data, purchase], ["explain", data, purchase, "--json"],
                    ["what-if", data, *sale, "--stock", "0"],
                    ["what-if", data, *sale, "--stock", "0", "--json"],
                    ["backup", data, server.path("backup")],
                    ["backup", data, server.path("backup"), "--json"],
                    ["restore", server.path("backup"), server.path("restored")],
                    ["restore", server.path("backup"), server.path("again"), "--json"],
                    ["repair", data, "--json"],
                    ["audit", data], ["audit", data, "--json"],
                    ["log", "show", data], ["log", "tail", data], ["log", "export", data],
                    ["log", "show", data, "--json"], ["log", "tail", data, "--json"],
                    ["diff", data, data], ["diff", data, data, "--json"],
                    ["token", "--customer", "anna", "--key-file", server.path("customer-key")],
                    ["completions", "bash"], ["man"],
                    [*rush, "--record", record], [*rush, "--json"],
                    ["check", server.url, "--record", record,
                     "--token-file", server.path("shop-token")]]:
                with self.subTest(arguments):
                    with open("/dev/full", "w") as full:
                        done = subprocess.run([self.programs.fairsale, *arguments], stdout=full,
                                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE,
                                              check=False)
                    self.assertEqual(done.returncode, 3, done.stderr)
                    self.assertIn("No space left", done.stderr)

    def test_what_is_provisional_is_marked(self):
        with self.server() as server:
            server.open_sale("demo", stock=5)
            acked = server.acked()
            purchase = server.buy("demo", "anna", "k").json["purchase"]
            server.kill()

            def marks():
                """Whether each command marks the end of the log, as text and as JSON."""
                found = []
                for command, path in [
                        (["state", server.data], ["sales", 0]),
                        (["replay", server.data], ["sales", 0]),
                        (["replay", server.data, "--scan-only"], ["sales", 0]),
                        (["explain", server.data, purchase], []),
                        (["what-if", server.data, "--sku", "demo"], [])]:
                    found.append("(provisional)" in server.tool(*command))
                    out = json.loads(server.tool(*command, "--json"))
                    for step in path:
                        out = out[step]
                    found.append(out["provisional"])
                return set(found)
            self.assertEqual(marks(), {False})
            server.set_acked(acked)
            self.assertEqual(marks(), {True})
            for command, position in [("state", "--at"), ("replay", "--until")]:
                before = server.tool(command, server.data, position, "1")
                self.assertNotIn("provisional", before)

    def test_state_of_several_sales_at_a_position_that_not_all_have(self):
        with self.server() as server:
            server.open_sale("long", stock=5)
            server.buy("long", "anna", "k")
            server.open_sale("short", stock=5)
            text = server.tool("state", server.data, "--at", "2")
            self.assertIn("sku long  position 2 of 2", text)
            self.assertIn("sku short  its log ends at position 1", text)
            sales = json.loads(server.tool("state", server.data, "--at", "2", "--json"))["sales"]
            self.assertEqual({s["sku"]: s["position"] for s in sales}, {"long": 2, "short": None})
            server.tool("state", server.data, "--at", "2", "--sku", "short", code=3)
            server.tool("state", server.data, "--at", "3", code=3)
            self.assertIn("folded_from",
                          server.tool("state", server.data, "--from-start", "--json"))


if __name__ == "__main__":
    main()
