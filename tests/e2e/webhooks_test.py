"""Webhooks of a real server: to receivers that take, fail, hang, redirect and are gone; signed so
that an independent verifier accepts it; through a kill, and beside a rush."""

import collections
import datetime
import json
import os
import socket
import subprocess
import threading
import time

from harness import PATIENCE, Case, ended, eventually, figure, finish, main
from receiver import Receiver, once, order

HERE = os.path.dirname(os.path.abspath(__file__))


class Webhooks(Case):
    def hooks_server(self, *options):
        return self.server("--webhook-private-addresses", "--customer-rate", "0", *options)

    def register(self, s, url, status=201, token=None, **more):
        reply = s.request("POST", "/v1/webhooks", token or s.shop, {"url": url, **more})
        self.assertEqual(reply.status, status, reply)
        return reply.json

    def change(self, s, hook, action):
        reply = s.request("PATCH", f"/v1/webhooks/{hook['id']}", s.shop, {"action": action})
        self.assertEqual(reply.status, 200, reply)
        return reply.json

    def attempts(self, s, hook):
        reply = s.request("GET", f"/v1/webhooks/{hook['id']}/attempts", s.shop)
        self.assertEqual(reply.status, 200, reply)
        return reply.json["attempts"]

    def state(self, s, hook):
        reply = s.request("GET", f"/v1/webhooks/{hook['id']}", s.operator)
        self.assertEqual(reply.status, 200, reply)
        return reply.json

    def consumer(self, s, hook):
        reply = s.request("GET", "/v1/outbox", s.operator)
        self.assertEqual(reply.status, 200, reply)
        return next(c for c in reply.json["consumers"] if c["name"] == f"webhook/{hook['id']}")

    def in_order(self, messages):
        """In the order of the sale for each purchase; what is about the sale as a whole overtakes
        nothing."""
        last = collections.defaultdict(lambda: (0, 0))
        barrier = latest = (0, 0)
        for m in messages:
            at = order(m["id"])
            of = m.get("purchase")
            self.assertGreater(at, barrier, m)
            if of is None:
                self.assertGreater(at, latest, m)
                barrier = at
            else:
                self.assertGreater(at, last[of], m)
                last[of] = at
            latest = max(latest, at)

    def test_an_independent_verifier_accepts_the_signatures_also_while_secrets_rotate(self):
        with self.hooks_server() as s, Receiver() as r:
            hook = self.register(s, r.url, kinds=["reserved", "ordered"])
            s.open_sale("demo")
            bought = [s.buy("demo", "ann", "k1").json]
            eventually("the first is there", lambda: len(r.got) == 1)
            rotated = self.change(s, hook, "rotate_secret")
            self.assertEqual(rotated["secrets"], 2)
            bought.append(s.buy("demo", "bob", "k2").json)
            eventually("the second is there", lambda: len(r.got) == 2)
            dropped = self.change(s, hook, "drop_old_secret")
            self.assertEqual(dropped["secrets"], 1)
            self.assertNotIn("secret", dropped)
            bought.append(s.buy("demo", "cid", "k3").json)
            eventually("the third is there", lambda: len(r.got) == 3)
            old, new = hook["secret"], rotated["secret"]
            expected = [(old, 0, True), (new, 0, False), (old, 1, True), (new, 1, True),
                        (old, 2, False), (new, 2, True)]
            cases = [{"secret": secret, "body": r.got[i][1].decode(),
                      "headers": {k.lower(): v for k, v in r.got[i][0].items()}}
                     for secret, i, _ in expected]
            forged = dict(cases[0], body=cases[0]["body"].replace("ann", "eve"))
            done = subprocess.run(["node", os.path.join(HERE, "verify_webhooks.js")],
                                  input=json.dumps([*cases, forged]), capture_output=True,
                                  text=True, timeout=PATIENCE, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout), [ok for _, _, ok in expected] + [False])
            for (headers, body, _), b in zip(r.got, bought):
                event = json.loads(body)
                self.assertEqual(event["specversion"], "1.0")
                self.assertEqual(event["type"], "fairsale.purchase.reserved")
                self.assertEqual(event["subject"], b["purchase"])
                self.assertEqual(headers["webhook-id"], event["id"])
                self.assertRegex(headers["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")
                self.assertEqual(headers["Content-Type"],
                                 "application/cloudevents+json; charset=utf-8")

    def test_kinds_and_sku_choose_and_the_past_is_sent_to_who_wants_it(self):
        with self.hooks_server() as s, Receiver() as r, Receiver() as of_one, Receiver() as past:
            s.open_sale("old", stock=1)
            self.register(s, r.url)
            self.register(s, of_one.url, sku="b.c", kinds=["scheduled"])
            self.register(s, past.url, past=True, token=s.operator)
            s.open_sale("b.c")
            s.open_sale("d")
            bought = s.buy("d", "ann", "k").json["purchase"]
            s.pay(bought, "pay-1")
            eventually("the order is told", lambda: [m["type"] for m in past.messages()][-1:]
                       == ["ordered"])
            eventually("the order is told", lambda: "ordered" in [m["type"] for m in r.messages()])
            eventually("the sale is told", of_one.messages)
            self.assertEqual([m["id"] for m in of_one.messages()], ["b.c:1:0"])
            self.assertNotIn("old", {m["sku"] for m in r.messages()})
            self.assertIn("old", {m["sku"] for m in past.messages()})
            # Who buys knows that it has reserved: not among the kinds unless asked for.
            self.assertNotIn("reserved", {m["type"] for m in r.messages()})

    def test_a_receiver_in_trouble_is_tried_again_until_it_takes(self):
        sick = {"status": 503}
        with self.hooks_server() as s, Receiver(lambda n, m: sick["status"]) as r, \
                Receiver() as well:
            hook = self.register(s, r.url, kinds=["reserved"])
            self.register(s, well.url, kinds=["reserved"])
            s.open_sale("demo")
            for i in range(20):
                s.buy("demo", f"c{i}", f"k{i}")
            eventually("others get all", lambda: len(well.messages()) == 20)
            eventually("it is tried again", lambda: self.consumer(s, hook)["failures"] >= 2)
            self.assertEqual(self.consumer(s, hook)["trouble"], "answered 503")
            self.assertIsNotNone(self.state(s, hook)["failing_since"])
            sick["status"] = 302
            eventually("redirects are not followed", lambda: any(
                a["status"] == 302 and "redirects" in a["error"] for a in self.attempts(s, hook)))
            sick["status"] = 204
            eventually("all are taken", lambda: len(once(r.messages(204))) == 20)
            self.in_order(once(r.messages(204)))
            eventually("it is well", lambda: self.consumer(s, hook)["failures"] == 0)
            self.assertIsNone(self.state(s, hook)["failing_since"])
            metrics = s.request("GET", "/metrics", s.operator).body.decode()
            self.assertIn(f'fairsale_outbox_taken_total{{consumer="webhook/{hook["id"]}"}}',
                          metrics)

    def test_who_is_gone_is_sent_nothing_more_until_enabled(self):
        gone = {"status": 410}
        with self.hooks_server() as s, Receiver(lambda n, m: gone["status"]) as r:
            hook = self.register(s, r.url, kinds=["reserved"])
            s.open_sale("demo")
            for i in range(30):
                s.buy("demo", f"c{i}", f"k{i}")
            eventually("it is disabled", lambda: not self.state(s, hook)["enabled"])
            self.assertIn("410", self.state(s, hook)["disabled_because"])
            eventually("the outbox knows", lambda: "disabled" in
                       (self.consumer(s, hook)["trouble"] or ""))
            got = len(r.got)
            s.kill()
            s.start()
            self.assertFalse(self.state(s, hook)["enabled"])
            self.assertEqual(len(r.got), got)
            gone["status"] = 200
            self.assertTrue(self.change(s, hook, "enable")["enabled"])
            eventually("it goes on where it stopped", lambda: len(once(r.messages(200))) == 30)

    def test_who_fails_for_too_long_is_disabled(self):
        with self.hooks_server("--webhook-give-up-after", "0.00001") as s, \
                Receiver(lambda n, m: 500) as r:
            hook = self.register(s, r.url, kinds=["scheduled"])
            s.open_sale("demo")
            eventually("it is disabled", lambda: not self.state(s, hook)["enabled"])
            self.assertIn("answered 500", self.state(s, hook)["disabled_because"])

    def test_a_log_of_attempts_is_kept_and_messages_are_sent_again_on_request(self):
        with self.hooks_server() as s, Receiver() as r:
            hook = self.register(s, r.url, kinds=["reserved"])
            s.open_sale("demo")
            for i in range(230):
                s.buy("demo", f"c{i}", f"k{i}")
            eventually("all are taken", lambda: len(r.messages()) == 230)
            s.kill()
            s.start()
            log = self.attempts(s, hook)
            self.assertLessEqual(len(log), 200)
            self.assertEqual((log[0]["status"], log[0]["error"]), (204, None))
            again = f"/v1/webhooks/{hook['id']}/redeliver"
            seen = len(r.messages())
            reply = s.request("POST", again, s.shop, {"message": r.messages()[4]["id"]})
            self.assertEqual((reply.status, reply.json["status"]), (200, 204), reply)
            self.assertEqual(r.messages()[seen], r.messages()[4])
            last = r.messages()[229]
            reply = s.request("POST", again, s.shop,
                              {"sku": "demo", "from": order(last["id"])[0] - 9})
            self.assertEqual(reply.status, 202, reply)
            eventually("ten are sent again", lambda: len(r.messages()) >= seen + 11)
            self.assertEqual(len(once(r.messages())), 230)
            reply = s.request("POST", again, s.shop, {"message": "demo:9999:0"})
            self.assertEqual((reply.status, reply.problem), (400, "bad_request"))

    def test_who_has_not_paid_is_reminded_before_the_hold_ends_also_after_a_kill(self):
        with self.hooks_server() as s, Receiver() as r, Receiver() as all_else, \
                Receiver() as of_other:
            self.register(s, r.url, kinds=["about_to_expire"])
            self.register(s, all_else.url)
            self.register(s, of_other.url, kinds=["about_to_expire"], sku="other")
            s.open_sale("demo", stock=3, hold_seconds=9, grace_seconds=0)
            held, paid, given_up = (s.buy("demo", c, "k").json for c in ("ann", "ben", "cid"))
            s.pay(paid["purchase"], "pay-1")
            s.request("DELETE", f"/v1/purchases/{given_up['purchase']}", s.shop)
            s.kill()
            s.start()
            eventually("ann is reminded", r.messages)
            now = time.time()
            event = json.loads(r.got[0][1])
            self.assertEqual(event["type"], "fairsale.purchase.about_to_expire")
            self.assertEqual(event["subject"], held["purchase"])
            self.assertEqual(event["id"], f"{held['purchase']}:about_to_expire")
            self.assertEqual(r.got[0][0]["webhook-id"], event["id"])
            told = event["data"]
            self.assertEqual((told["customer"], told["until"]), ("ann", held["until"]))
            moment, until = (datetime.datetime.fromisoformat(t.replace("Z", "+00:00")).timestamp()
                             for t in (told["time"], told["until"]))
            self.assertAlmostEqual(until - moment, 3, places=2)
            self.assertTrue(moment <= now < until, (moment, now, until))
            figure("a reminder came after its moment, ms", round((now - moment) * 1000))
            eventually("the hold ends", lambda: "expired" in
                       {m["type"] for m in all_else.messages()})
            self.assertEqual(r.messages(), [told], "once, and nobody else")
            self.assertIn(told, all_else.messages(), "it is among what is sent by default")
            self.assertEqual(of_other.messages(), [])

    def test_a_redelivery_that_hangs_keeps_nobody_from_looking(self):
        with self.hooks_server() as s, Receiver(lambda n, m: None) as hangs, Receiver() as well:
            self.register(s, well.url, kinds=["scheduled"])
            hook = self.register(s, hangs.url, kinds=["ordered"])
            s.open_sale("demo")
            eventually("the message is there", well.messages)
            again = threading.Thread(target=s.request, args=(
                "POST", f"/v1/webhooks/{hook['id']}/redeliver", s.shop,
                {"message": well.messages()[0]["id"]}))
            again.start()
            eventually("it is under way", lambda: hangs.got)
            self.assertEqual(self.consumer(s, hook)["failures"], 0)
            self.assertEqual(self.attempts(s, hook), [])
            self.change(s, hook, "disable")
            path = f"/v1/webhooks/{hook['id']}"
            self.assertEqual(s.request("DELETE", path, s.shop).status, 204)
            self.assertTrue(again.is_alive(), "none of these waited for it")
            hangs.release.set()
            again.join()
            s.kill()
            s.start()
            self.assertEqual(s.request("GET", path, s.shop).status, 404, "what is gone stays gone")

    def test_private_addresses_are_refused_unless_allowed(self):
        with self.server() as s, Receiver() as r:
            port = r.server.server_address[1]
            hooks = [self.register(s, f"http://{host}:{port}/", kinds=["scheduled"])
                     for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]",
                                  "2130706433", "0x7f.1", "169.254.169.254")]
            s.open_sale("demo")
            for hook in hooks:
                eventually("it is refused", lambda h=hook: "not an address of the public Internet"
                           in (self.consumer(s, h)["trouble"] or ""))
            self.assertEqual(r.got, [])

    def test_what_cannot_be_registered_is_told_why(self):
        with self.hooks_server() as s:
            for url in ("shop.example/hook", "ftp://shop.example/", "https://u:p@shop.example/",
                        "https://shop.example/#x", "file:///etc/passwd", "https://"):
                self.register(s, url, status=400)
            self.register(s, "https://shop.example/", status=400, kinds=["refused"])
            self.register(s, "https://shop.example/", status=400, kinds=[])
            self.register(s, "https://shop.example/", status=403, token=s.customer_token("ann"))
            hooks = [self.register(s, "https://shop.example/") for _ in range(16)]
            reply = s.request("POST", "/v1/webhooks", s.shop, {"url": "https://shop.example/"})
            self.assertEqual((reply.status, reply.problem), (409, "too_many_webhooks"))
            listed = s.request("GET", "/v1/webhooks", s.shop)
            self.assertEqual(len(listed.json["webhooks"]), 16)
            for secret in (h["secret"] for h in hooks):
                self.assertNotIn(secret.encode(), listed.body)
                self.assertNotIn(secret, s.log)
            for hook in hooks:
                path = f"/v1/webhooks/{hook['id']}"
                self.assertEqual(s.request("DELETE", path, s.shop).status, 204)
                self.assertEqual(s.request("GET", path, s.shop).status, 404)
            self.assertEqual(os.stat(os.path.join(s.data, "webhooks")).st_mode & 0o777, 0o700)
        with self.server("--in-memory") as s:
            reply = s.request("GET", "/v1/webhooks", s.shop)
            self.assertEqual((reply.status, reply.problem), (503, "outbox_unavailable"))

    def test_a_rush_does_not_notice_receivers_that_are_dead_or_hang(self):
        dead = socket.socket()
        dead.bind(("127.0.0.1", 0))  # and does not listen
        with self.hooks_server("--address-rate", "0") as s, \
                Receiver(lambda n, m: None) as hangs, Receiver() as well:
            kinds = ["reserved", "waiting"]
            self.register(s, f"http://127.0.0.1:{dead.getsockname()[1]}/", kinds=kinds)
            self.register(s, hangs.url, kinds=kinds)
            self.register(s, well.url, kinds=kinds, sku="none")
            rush = s.rush("--sku", "rush", "--create", "stock=500,hold=2", "--attempts", "5000",
                          "--customers", "2000", "--closed-loop", "--until-settled",
                          "--expect-sold", "500")
            with ended(rush):
                finish(rush)
            end = time.monotonic()
            s.stop()
            self.assertLess(time.monotonic() - end, 8, "a stop does not wait for them")
        dead.close()

    def test_kill_in_mid_delivery_loses_nothing_and_keeps_the_order(self):
        with self.hooks_server() as s, Receiver() as r:
            self.register(s, r.url, kinds=["reserved", "ordered", "cancelled", "scheduled"])
            s.open_sale("demo", stock=1000)
            said = 1
            for round_ in range(3):
                for i in range(60):
                    bought = s.buy("demo", f"c{round_}-{i}", f"k{round_}-{i}").json["purchase"]
                    said += 1
                    if i % 2 == 0:
                        s.pay(bought, f"p{round_}-{i}")
                    else:
                        s.request("DELETE", f"/v1/purchases/{bought}", s.shop)
                    said += 1
                s.kill()
                s.start()
            eventually("all are there", lambda: len(once(r.messages())) == said)
            self.in_order(once(r.messages()))
            self.assertEqual(len({m["id"] for m in r.messages()}), said)


if __name__ == "__main__":
    main()
