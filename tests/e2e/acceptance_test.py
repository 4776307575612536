"""The whole promise at its full size: 200,000 attempts by 50,000 customers at a sale of 1,000
units, with a spike of a hundred times the usual rate, expiries, payments, repeats, and a kill -9 in
the middle. Exactly 1,000 are sold, none too many, to those who came first in the log."""

from crash_test import same_state
from harness import Case, ended, eventually, finish, main


class Acceptance(Case):
    def test_opening_of_a_large_sale(self):
        with self.server() as server:
            record = server.path("record.jsonl")
            rush = server.rush("--sku", "rush", "--create", "stock=1000,hold=3", "--attempts",
                               "200000", "--customers", "50000", "--connections", "256",
                               "--until-settled", "--settle-seconds", "300", "--expect-sold",
                               "1000", "--record", record)
            with ended(rush):
                eventually("the spike is on", lambda: self.position(server) > 60_000)
                self.assertIsNone(rush.poll())
                server.kill()
                server.start()
                summary = finish(rush)
            print({k: v for k, v in summary.items() if k != "checks"})
            self.assertEqual(summary["answered"], 200_000)
            self.assertGreater(summary["wire"]["resets"], 0)
            self.assertGreater(summary["left"], 0)
            self.assertGreater(summary["offered"], 100)
            self.assertEqual(summary["sale"]["sold"], 1000)
            self.assertEqual(summary["sale"]["held"], 0)
            self.assertEqual(summary["sale"]["available"], 0)
            for check in ("counters", "kept", "limits", "tally", "first_come", "no_passing",
                          "line_order", "places", "repeats"):
                self.assertIn(check, summary["checks"]["by_check"])
            before = same_state(self, server, "rush")

            server.kill()
            server.start()
            self.assertEqual(server.audit_head("rush"), before)
            server.tool("check", server.url, "--record", record, "--token-file",
                        server.path("shop-token"), "--expect-sold", "1000")
            same_state(self, server, "rush")

    @staticmethod
    def position(server):
        reply = server.request("GET", "/v1/sales/rush")
        return reply.json["position"] if reply.status == 200 else 0


if __name__ == "__main__":
    main()
