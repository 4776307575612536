"""kill -9 in the middle of a rush: whatever was acknowledged is there afterwards, and the log
still says what the server says."""

import json

from harness import Case, ended, eventually, finish, main


def same_state(case, server, sku):
    """The log, folded by another process, gives the server's own state."""
    head = server.audit_head(sku)
    replayed = server.replay(sku, "--until", str(head["position"]))
    case.assertEqual(replayed["position"], head["position"])
    case.assertEqual(replayed["state_digest"], head["state_digest"])
    case.assertTrue(replayed["head_is_of_position"])
    case.assertEqual(replayed["head"], head["head"])
    return head


class Crash(Case):
    def test_small_rush_with_a_kill_in_the_middle(self):
        with self.server() as server:
            record = server.path("record.jsonl")
            rush = server.rush("--sku", "rush", "--create", "stock=100,hold=1", "--attempts",
                               "20000", "--customers", "5000", "--connections", "64", "--rate",
                               "6000", "--until-settled", "--expect-sold", "100", "--record",
                               record)
            with ended(rush):
                eventually("a third of the attempts is decided",
                           lambda: self.position(server) > 7000 or rush.poll() is not None)
                server.kill()
                server.start()
                summary = finish(rush)
            self.assertEqual(summary["answered"], 20_000)
            self.assertGreater(summary["wire"]["resets"], 0, "the kill came too late")
            self.assertTrue(summary["settled"])
            self.assertEqual(summary["sale"]["sold"], 100)
            before = same_state(self, server, "rush")

            # Again, and now from the record.
            server.kill()
            server.start()
            self.assertEqual(server.audit_head("rush"), before)
            server.tool("check", server.url, "--record", record, "--token-file",
                        server.path("shop-token"), "--expect-sold", "100")
            same_state(self, server, "rush")
            server.kill()
            offline = server.replay("rush")
            self.assertEqual(offline["sold"], 100)
            self.assertEqual(offline["available"] + offline["held"] + offline["sold"], 100)

    @staticmethod
    def position(server):
        reply = server.request("GET", "/v1/sales/rush")
        return reply.json["position"] if reply.status == 200 else 0

    def test_check_finds_what_another_server_does_not_know(self):
        """The check itself can fail: a server without the purchases does not pass."""
        with self.server() as server, self.server() as other:
            record = server.path("record.jsonl")
            with ended(server.rush("--sku", "rush", "--create", "stock=10,hold=60", "--attempts",
                                   "200", "--customers", "100", "--connections", "4", "--rate",
                                   "2000", "--record", record)) as rush:
                finish(rush)
            def check():
                return json.loads(other.tool("check", other.url, "--record", record, "--json",
                                             "--token-file", other.path("shop-token"), code=1))
            kept = check()["checks"]["by_check"]["kept"]
            self.assertIn("no sale", kept["first"][0])
            other.open_sale("rush", stock=10)
            kept = check()["checks"]["by_check"]["kept"]
            self.assertIn("was acknowledged, but the sale is at 1", kept["first"][0])
            self.assertEqual(kept["count"], 201)
            # It did not buy anything in order to find that out.
            self.assertEqual(other.audit_head("rush")["position"], 1)


if __name__ == "__main__":
    main()
