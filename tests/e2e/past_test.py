"""Looking back at a sale that a crowd bought out: its state at any moment, why a purchase went as it
did, and how it would have gone under other terms; beside the running server, which was killed in
between."""

import json

from harness import Case, ended, eventually, finish, main


class Past(Case):
    @classmethod
    def setUpClass(cls):
        cls.running = cls.server(cls)
        try:
            cls.running.start()
            cls.rush(cls.running)
        except BaseException:
            cls.running.__exit__(None, None, None)
            raise

    @classmethod
    def tearDownClass(cls):
        cls.running.__exit__(None, None, None)

    @staticmethod
    def rush(server):
        record = server.path("record.jsonl")
        crowd = server.rush("--sku", "rush", "--create", "stock=60,hold=1,line=40,limit=2,units=2",
                            "--attempts", "6000", "--customers", "2000", "--connections", "32",
                            "--units-per-attempt", "1,1,2", "--rate", "4000", "--seed", "7", "--abandon", "0.1", "--pay-delay",
                            "0.05:0.3", "--until-settled", "--record", record)
        with ended(crowd):
            def position():
                reply = server.request("GET", "/v1/sales/rush")
                return reply.json["position"] if reply.status == 200 else 0
            eventually("a third of the attempts is decided",
                       lambda: position() > 2000 or crowd.poll() is not None)
            server.kill()
            server.start()
            finish(crowd)

    def setUp(self):
        self.head = self.running.audit_head("rush")["position"]

    def tool(self, command, *arguments, code=0):
        out = self.running.tool(command, self.running.data, *arguments, "--json", code=code)
        return json.loads(out) if code == 0 else out

    def state(self, *arguments):
        sales = self.tool("state", "--sku", "rush", *arguments)["sales"]
        self.assertEqual(len(sales), 1)
        return sales[0]

    def test_state_now_is_what_the_server_says(self):
        now = self.state()
        sale = self.running.request("GET", "/v1/sales/rush").json
        self.assertEqual(now["position"], self.head)
        for name in ("stock", "available", "held", "sold", "waiting"):
            self.assertEqual(now[name], sale[name], name)
        self.assertEqual(now["phase"], sale["state"])
        self.assertIn("sku rush", self.running.tool("state", self.running.data))

    def test_state_goes_back_in_time(self):
        before, sold = None, 0
        for at in range(1, self.head + 1, max(1, self.head // 8)):
            then = self.state("--at", str(at))
            self.assertEqual(then["position"], at)
            self.assertEqual(then["available"] + then["held"] + then["sold"], then["stock"])
            self.assertGreaterEqual(then["sold"], sold)
            sold = then["sold"]
            replayed = self.running.replay("rush", "--until", str(at))
            for name in ("available", "held", "sold", "waiting", "purchases"):
                self.assertEqual(then[name], replayed[name], (at, name))
            # The time of that event leads to it, or to another of the same millisecond.
            by_time = self.state("--at", then["time"])
            self.assertEqual(by_time["time"], then["time"])
            self.assertGreaterEqual(by_time["position"], at)
            if before is not None:
                self.assertGreaterEqual(then["time"], before)
            before = then["time"]
        # Before the sale there was none, and after the end of the log nothing has happened yet.
        self.assertEqual(self.state("--at", "2020-01-01T00:00:00Z")["phase"], "none")
        later = self.state("--at", "2099-01-01T00:00:00+01:00")
        self.assertEqual(later["position"], self.head)
        self.tool("state", "--at", str(self.head + 1000), code=3)
        self.tool("state", "--at", "yesterday", code=2)

    def test_holds_whose_time_has_come_are_due_not_expired(self):
        """The log of a quiet sale ends before its hold does: a time after that is asked for."""
        self.running.open_sale("quiet", stock=1, hold_seconds=600)
        bought = self.running.buy("quiet", "anna", "k").json

        def at(time):
            sale = self.tool("state", "--at", time, "--purchase", bought["purchase"])["sales"][0]
            return sale["held"], sale["due"]["holds"], sale["standing"][0]["due"]
        self.assertEqual(at(bought["until"].replace("Z", "-00:01")), (1, 1, True))
        self.assertEqual(at(bought["until"]), (1, 1, True))
        self.assertEqual(at(bought["until"].replace("Z", "+00:01")), (1, 0, False))

    def test_explain_every_kind_of_story(self):
        seen = {}
        for at in range(2, self.head + 1):
            if len(seen) == 4 or at > 2000:
                break
            out = self.running.request("GET", f"/v1/purchases/rush:{at}", self.running.shop)
            if out.status == 200 and out.json["status"] not in seen:
                seen[out.json["status"]] = f"rush:{at}"
        self.assertIn("ordered", seen)
        self.assertTrue({"released", "refused"} & set(seen), seen)
        for status, purchase in seen.items():
            with self.subTest(status):
                told = self.tool("explain", purchase)
                story = told["purchases"][0]
                self.assertEqual(story["status"], status)
                self.assertEqual(story["purchase"], purchase)
                self.assertEqual(story["steps"][0]["event"], "PurchaseAttempted")
                self.assertTrue(all(s["rule"].endswith(".") for s in story["steps"]))
                self.assertEqual(story["outcome"].startswith("It got its units"),
                                 status == "ordered")
                self.assertEqual("afterwards" in story, status not in ("ordered", "refunded"))
                if "ahead" in story:
                    ahead = story["ahead"]
                    self.assertEqual(
                        sum(ahead[k]["purchases"] for k in ("waiting", "holding", "ordered")),
                        sum(t["purchases"] for t in ahead["became"].values()))
                # The server tells the same of the same position, and only of what is durable.
                self.assertFalse(told.pop("provisional"))
                reply = self.running.request("GET", f"/v1/purchases/{purchase}/explanation",
                                             self.running.operator)
                self.assertEqual(reply.status, 200, reply)
                self.assertEqual(reply.json, told)
                # Nobody is named unless asked for.
                customer = self.running.request("GET", f"/v1/purchases/{purchase}",
                                                self.running.shop).json["customer"]
                text = self.running.tool("explain", self.running.data, purchase)
                self.assertNotIn(f" {customer} ", text)
                named = self.running.tool("explain", self.running.data, purchase, "--names")
                self.assertIn(f" {customer} ", named)
                everything = self.tool("explain", "--sku", "rush", "--customer", customer)
                self.assertIn(purchase, [p["purchase"] for p in everything["purchases"]])
        self.tool("explain", "rush:1", code=3)
        self.tool("explain", f"rush:{self.head + 1000}", code=3)
        self.tool("explain", "--sku", "rush", "--customer", "nobody-like-that", code=3)
        self.tool("explain", "rush", code=2)

    def test_what_if(self):
        same = self.tool("what-if", "--sku", "rush")
        self.assertEqual(same["as_it_was"], same["what_if"])
        for part in ("held_differently", "ordered_differently"):
            self.assertEqual(same[part]["gained"]["purchases"], 0)
            self.assertEqual(same[part]["lost"]["purchases"], 0)
        sale = self.running.request("GET", "/v1/sales/rush").json
        self.assertEqual(same["as_it_was"]["sold"], sale["sold"])
        self.assertEqual(same["as_it_was"]["revenue"]["amount"],
                         sale["sold"] * sale["price"]["amount"])

        more = self.tool("what-if", "--sku", "rush", "--stock", "600", "--list", "5")
        self.assertGreater(more["held_differently"]["gained"]["units"], 100)
        self.assertEqual(len(more["held_differently"]["first_gained"]), 5)
        less = self.tool("what-if", "--sku", "rush", "--stock", "30")
        self.assertLessEqual(less["what_if"]["sold"], 30)
        self.assertGreater(less["ordered_differently"]["lost"]["units"], 0)
        self.assertGreater(less["what_if"]["refunds_due"], same["what_if"]["refunds_due"])
        single = self.tool("what-if", "--sku", "rush", "--units-per-purchase", "1", "--limit", "1",
                           "--hold", "0.5", "--line-limit", "0", "--line-policy", "skip_if_unfit")
        self.assertGreater(single["what_if"]["refused"]["quantity_invalid"], 500)
        self.assertEqual(single["what_if"]["waited"]["purchases"], 0)
        text = self.running.tool("what-if", self.running.data, "--sku", "rush", "--stock", "600")
        self.assertIn("units held only in the other", text)
        self.tool("what-if", "--sku", "rush", "--hold", "0", code=2)
        self.tool("what-if", "--sku", "nothing", code=3)
        # The store is as it was.
        self.assertEqual(self.running.replay("rush")["position"], self.head)


if __name__ == "__main__":
    main()
