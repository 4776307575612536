"""The fairsale command: its exit codes, its tokens, and its replay beside a running server."""

import json
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


if __name__ == "__main__":
    main()
