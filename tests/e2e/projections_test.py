"""Stored projections through the life of a server: reads while a rush goes on, rebuilds beside it,
kill -9 at any moment, and the log as the judge of what is stored in the end."""

import json
import os
import random
import shutil
import subprocess
import threading
import time

from harness import PATIENCE, Case, ended, eventually, finish, main

PROJECTIONS = ("availability", "timeline", "orders", "outbox")


def status(server):
    reply = server.request("GET", "/v1/projections", server.operator)
    assert reply.status == 200, reply
    return {p["projection"]: p for p in reply.json["projections"]}


def live(server):
    return all(p["state"] == "live" and p["lag"] == 0 for p in status(server).values())


def rebuild(server, projection, body=None):
    return server.request("POST", f"/v1/projections/{projection}/rebuild", server.operator,
                          body if body is not None else {})


def all_orders(server, sku, limit=100):
    orders, after = [], 0
    while True:
        reply = server.request("GET", f"/v1/sales/{sku}/orders?after={after}&limit={limit}",
                               server.shop)
        assert reply.status == 200, reply
        orders += reply.json["orders"]
        after = reply.json["next"]
        if after is None:
            return orders


def judge(case, server):
    """With the server down: what is stored is what the log says, digest by digest."""
    out = json.loads(server.tool("rebuild", server.data, "--drop-old", "--json"))
    case.assertEqual({p["projection"] for p in out["projections"]}, set(PROJECTIONS))
    for p in out["projections"]:
        case.assertTrue(p["switched"], p)
        case.assertIsNone(p["mismatch"], p)
    return {p["projection"]: p for p in out["projections"]}


class Reader(threading.Thread):
    """Reads for as long as it is let, across restarts. Each answer must be good, and within one
    life of the server no position may be less than one before."""

    def __init__(self, server, sku):
        super().__init__()
        self.server, self.sku = server, sku
        self.reads, self.lives, self.faults = 0, 1, []
        self.stopping = threading.Event()

    def run(self):
        seen = {}
        life = self.server.starts
        while not self.stopping.is_set():
            for name in ("orders", "timeline"):
                before = self.server.starts
                try:
                    reply = self.server.request("GET", f"/v1/sales/{self.sku}/{name}?limit=100",
                                                self.server.shop)
                except (OSError, ValueError):
                    time.sleep(0.005)  # it is down
                    continue
                except Exception as e:  # the connection broke off in the middle of an answer
                    if type(e).__module__ != "http.client":
                        self.faults.append(repr(e))
                    continue
                if before != self.server.starts:
                    continue
                if before != life:
                    seen, life = {}, before
                    self.lives += 1
                self.reads += 1
                if reply.status != 200:
                    self.faults.append(repr(reply))
                    continue
                position = reply.json["position"]
                if position < seen.get(name, 0):
                    self.faults.append(f"{name} went from {seen[name]} back to {position}")
                seen[name] = position


class Projections(Case):
    def test_reads_and_rebuilds(self):
        with self.server() as server:
            server.open_sale("demo", stock=300)
            ids = [server.buy("demo", f"c{i}", "k").json["purchase"] for i in range(230)]
            last = 0
            for i, purchase in enumerate(ids):
                last = server.pay(purchase, f"pay-{i}").json["position"]
            refund = server.request("POST", f"/v1/purchases/{ids[0]}/refund", server.shop,
                                    {"restock": True, "actor": "olga", "reason": "returned"})
            last = refund.json["position"]
            # Read your writes.
            reply = server.request("GET", f"/v1/sales/demo/orders?min_seq={last}", server.shop)
            self.assertGreaterEqual(reply.json["position"], last)
            orders = all_orders(server, "demo")
            self.assertEqual([o["purchase"] for o in orders], ids)
            self.assertEqual(orders, all_orders(server, "demo", 7))
            self.assertEqual(orders[0]["refunded"]["position"], last)
            self.assertEqual([o["refunded"] for o in orders[1:]], [None] * 229)
            self.assertEqual(orders[5]["reference"], "pay-5")
            self.assertEqual(orders[5]["customer"], "c5")

            # Through the server, all and one.
            online = ("rebuild", "--server", server.url, "--operator-token-file",
                      server.path("operator-token"), "--json")
            out = json.loads(server.tool(*online))
            self.assertEqual([p["generation"] for p in out["projections"]], [2, 2, 2, 2])
            self.assertTrue(all(p["switched"] for p in out["projections"]))
            out = json.loads(server.tool(*online, "orders", "--force", "--drop-old"))
            self.assertEqual([p["generation"] for p in out["projections"]], [3])
            self.assertEqual([g["state"] for g in status(server)["orders"]["generations"]],
                             ["current"])
            self.assertEqual([g["state"] for g in status(server)["timeline"]["generations"]],
                             ["old", "current"])
            self.assertEqual(all_orders(server, "demo"), orders)
            metrics = server.request("GET", "/metrics", server.operator).body.decode()
            self.assertIn('fairsale_projection_lag_events{projection="orders"} 0', metrics)
            self.assertIn('fairsale_projection_progress{projection="orders"} 1', metrics)

            # A data directory that is in use is not touched.
            busy = subprocess.run([self.programs.fairsale, "rebuild", server.data],
                                  capture_output=True, text=True, timeout=PATIENCE, check=False)
            self.assertEqual(busy.returncode, 3)
            self.assertIn("--server", busy.stderr)

            self.assertEqual(server.stop(), 0)
            self.assertEqual(judge(self, server)["orders"]["rows"], 231)
            server.tool("rebuild", server.data, "line", code=2)
            server.tool("rebuild", code=2)
            server.start()
            self.assertEqual(all_orders(server, "demo"), orders)

    def test_the_store_may_be_deleted_or_damaged(self):
        with self.server() as server:
            server.open_sale("demo")
            for i in range(20):
                server.pay(server.buy("demo", f"c{i}", "k").json["purchase"], f"pay-{i}")
            eventually("all is stored", lambda: live(server))
            orders = all_orders(server, "demo")
            self.assertEqual(len(orders), 20)
            server.stop()
            store = os.path.join(server.data, "projections")
            shutil.rmtree(store)
            server.start()
            eventually("it is back", lambda: live(server))
            self.assertEqual(all_orders(server, "demo"), orders)
            server.kill()
            for name in os.listdir(store):
                if name.startswith("MANIFEST"):
                    with open(os.path.join(store, name), "r+b") as f:
                        f.write(b"\xff" * 100)
            server.start()
            self.assertIn("moved aside", server.log)
            eventually("it is back", lambda: live(server))
            self.assertEqual(all_orders(server, "demo"), orders)
            self.assertTrue(os.path.isdir(store + ".damaged-1"))
            # A store that a newer fairsale wrote is left alone; sales go on without it.
            server.stop()
            judge(self, server)

    def test_rebuilds_killed_in_a_rush(self):
        """At random moments; the seed is printed. FAIRSALE_KILLS and FAIRSALE_SECONDS make more
        of it."""
        kills = int(os.environ.get("FAIRSALE_KILLS", "5"))
        seconds = int(os.environ.get("FAIRSALE_SECONDS", "8"))
        seed = int(os.environ.get("FAIRSALE_SEED", str(random.randrange(1 << 32))))
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        rate = 1500
        with self.server() as server:
            rush = server.rush("--sku", "rush", "--create", "stock=3000,hold=2,line=100000",
                               "--attempts", str(rate * seconds), "--customers", str(rate),
                               "--connections", "32", "--rate", str(rate), "--pay", "0.5",
                               "--cancel", "0.1", "--patience", "60", "--no-check")
            with ended(rush):
                eventually("the sale is open", lambda: server.request(
                    "GET", "/v1/sales/rush").status == 200)
                reader = Reader(server, "rush")
                reader.start()
                try:
                    switched = 0
                    for _ in range(kills):
                        for projection in PROJECTIONS:
                            self.assertIn(rebuild(server, projection).status, (202, 409))
                        moment = time.monotonic() + chance.uniform(0, 2 * seconds / kills * 0.7)
                        while time.monotonic() < moment and rush.poll() is None:
                            time.sleep(min(0.02, max(0, moment - time.monotonic())))
                            if any(p["state"] == "rebuilding" for p in status(server).values()):
                                continue
                            # Done before the kill: let go of the old ones and begin again.
                            for name, p in status(server).items():
                                switched += 1
                                for g in p["generations"]:
                                    if g["state"] == "old":
                                        server.request(
                                            "DELETE", f"/v1/projections/{name}/generations/"
                                            f"{g['generation']}", server.operator)
                                rebuild(server, name)
                        server.kill()
                        server.start()
                    out, err = rush.communicate(timeout=15 * PATIENCE)
                    self.assertEqual(rush.returncode, 0, out + err)
                    eventually("the rebuilds are done", lambda: live(server))
                finally:
                    reader.stopping.set()
                    reader.join()
                for p in status(server).values():
                    self.assertIsNone(p["mismatch"], p)
                    self.assertGreater(p["generation"], 1)
                self.assertEqual(reader.faults, [])
                self.assertGreater(reader.reads, 10 * kills)
                self.assertGreater(reader.lives, 1)
                # Holds of the rush may still expire, so it is read until no event came between.
                def at_rest():
                    head = server.audit_head("rush")["position"]
                    reply = server.request("GET", f"/v1/sales/rush/orders?min_seq={head}",
                                           server.shop)
                    sold = server.request("GET", "/v1/sales/rush").json["sold"]
                    orders = all_orders(server, "rush")
                    if server.audit_head("rush")["position"] != head:
                        return None
                    return head, reply, sold, orders

                head, reply, sold, orders = eventually("no event comes", at_rest)
                self.assertEqual((reply.status, reply.json["position"]), (200, head))
                self.assertEqual(sum(o["quantity"] for o in orders), sold)
                self.assertEqual(len({o["purchase"] for o in orders}), len(orders))
                print(f"{kills} kills, {reader.reads} reads in {reader.lives} lives, {switched} "
                      f"switches seen, {len(orders)} orders, position {head}", flush=True)
                server.kill()
                judge(self, server)


if __name__ == "__main__":
    main()
