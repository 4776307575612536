"""Event streams of a real server, read by curl: what they tell, that nobody who was cut off misses
anything or is told it twice, and that those who do not read are nobody's trouble.

FAIRSALE_SEED repeats the moments at which clients are cut off."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import threading
import time

from harness import PATIENCE, Case, ended, eventually, figure, finish, main, seed_of_this_run
from receiver import order
from streams import Curl, Reader


def of_sale(sku):
    return f"/v1/sales/{sku}/events"


def of_decisions(sku):
    return f"/v1/sales/{sku}/decisions"


def of_purchase(purchase):
    return f"/v1/purchases/{purchase}/events"


def position(event_id):
    return int(event_id.split(".")[0])


class Follower(threading.Thread):
    """A client that follows a stream from the beginning, is cut off again and again, and resumes
    after the last id that it has seen; until it has seen the message `until`."""

    def __init__(self, server, path, seed):
        super().__init__()
        self.server, self.path, self.chance = server, path, random.Random(seed)
        self.told = []
        self.cuts = 0          # of streams that had told something
        self.until = None      # a (position, number); set once it is known
        self.given_up = False
        self.end = time.monotonic() + PATIENCE
        self.trouble = None

    def run(self):
        try:
            last = "0"
            while not self.done():
                assert time.monotonic() < self.end, f"{self.path} from {last}: {self.until}"
                with Curl(self.server, self.path, self.server.shop, last) as stream:
                    stream.thread.join(self.chance.uniform(0.02, 0.4))
                    last = stream.cut()
                    # A server that has just been killed answers nothing; the id stays.
                    assert stream.status in (None, 200, 503), stream
                    messages = [e for e in stream.events if e.id is not None]
                    self.told += messages
                    self.cuts += bool(messages)
        except Exception as e:
            self.trouble = e

    def done(self):
        seen = self.told and order(self.told[-1].json["id"])
        return self.given_up or (self.until is not None and seen and seen >= self.until)

    def messages(self):
        self.join()
        if self.trouble:
            raise self.trouble
        return [m.json for m in self.told]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.given_up = True
        self.join()


class Streams(Case):
    def streams_server(self, *options):
        return self.server("--customer-rate", "0", "--address-rate", "0", *options)

    def bought(self, s, customer, status, sku="demo", key="k"):
        reply = s.buy(sku, customer, key)
        self.assertEqual(reply.status, status, reply)
        return reply.json["purchase"]

    def give_up(self, s, purchase):
        reply = s.request("DELETE", f"/v1/purchases/{purchase}", s.shop)
        self.assertEqual(reply.status, 200, reply)

    def decided(self, s, sku):
        """What the log says is to be told: (id, type, purchase), in order."""
        events = json.loads(s.tool("log", "show", s.data, "--sku", sku, "--decisions",
                                   "--json"))["events"]
        silent = ("refused", "payment_failure_noted", "noted")
        return [(f"{sku}:{e['seq']}:{number}", d["kind"], d.get("purchase"))
                for e in events
                for number, d in enumerate(d for d in e["decisions"]
                                           if d["kind"] not in silent and not d["repeated"])]

    def test_a_purchase_is_followed_from_its_place_in_line_to_its_end(self):
        with self.streams_server() as s:
            s.open_sale("demo", stock=1, hold_seconds=3, grace_seconds=0.1)
            anna = self.bought(s, "anna", 201)
            ben, cid, dan = (self.bought(s, c, 202) for c in ("ben", "cid", "dan"))
            with Curl(s, of_purchase(anna), s.customer_token("anna")) as annas, \
                    Curl(s, of_purchase(cid), s.customer_token("cid")) as cids, \
                    Curl(s, of_purchase(dan), s.customer_token("dan")) as dans:
                first = annas.wait_for("purchase").json
                self.assertEqual((first["status"], first["customer"]), ("reserved", "anna"))
                waits = cids.wait_for("purchase")
                read = s.request("GET", f"/v1/purchases/{cid}", s.shop).json
                self.assertEqual(waits.json, read)
                self.assertEqual(waits.id, str(read["position"]))
                self.assertEqual((read["status"], read["line"]["place"]), ("waiting", 2))
                self.assertEqual(cids.wait_for("place").json, {
                    "place": 2, "units_ahead": 1, "units_may_return": 1, "eta_seconds": None})
                self.assertEqual(dans.wait_for("place").json["place"], 3)

                self.give_up(s, ben)
                self.assertEqual(cids.wait_for("place", 2).json["place"], 1)
                self.assertEqual(dans.wait_for("place", 2).json["place"], 2)
                self.give_up(s, anna)
                self.assertEqual(annas.wait_for("cancelled").json["purchase"], anna)
                offered = cids.wait_for("offered").json
                read = s.request("GET", f"/v1/purchases/{cid}", s.shop).json
                self.assertEqual((offered["until"], offered["purchase"]), (read["until"], cid))

                # Cid lets it pass and pays when it is too late; Dan is next, and pays twice.
                about = cids.wait_for("about_to_expire").json
                self.assertEqual(about["until"], offered["until"])
                self.assertEqual(about["seconds"], 1)
                expired = cids.wait_for("expired").json
                self.assertGreater(expired["time"], offered["until"])
                dans.wait_for("offered")
                self.assertEqual(s.pay(cid, "late").json["status"], "refund_due")
                due = cids.wait_for("refund_due").json
                self.assertEqual(due["reason"], "hold_expired")
                self.assertEqual(due["payment"],
                                 {"reference": "late", "amount": 4900, "currency": "EUR"})
                self.assertEqual(s.pay(dan, "first").json["status"], "ordered")
                self.assertEqual(s.pay(dan, "second").json["status"], "refund_due")
                self.assertEqual(dans.wait_for("ordered").json["payment"]["reference"], "first")
                self.assertEqual(dans.wait_for("refund_due").json["payment"]["reference"], "second")
                self.assertEqual(s.request("POST", f"/v1/purchases/{dan}/refund", s.shop, {
                    "restock": True, "actor": "olga", "reason": "returned"}).status, 200)
                dans.wait_for("refunded")
                # Each of these once and in this order, and nothing about anybody else.
                self.assertEqual([n for n in annas.names if n != "about_to_expire"],
                                 ["purchase", "cancelled"])
                self.assertEqual(cids.names, ["purchase", "place", "place", "offered",
                                              "about_to_expire", "expired", "refund_due"])
                self.assertEqual([n for n in dans.names if n != "place"],
                                 ["purchase", "offered", "ordered", "refund_due", "refunded"])
                for stream, purchase in ((annas, anna), (cids, cid), (dans, dan)):
                    self.assertEqual({e.json.get("purchase", purchase) for e in stream.events},
                                     {purchase})

    def test_sold_out_is_told_to_the_whole_line_at_once(self):
        with self.streams_server() as s:
            s.open_sale("demo", stock=2, line_limit=100)
            holders = [self.bought(s, f"h{i}", 201) for i in range(2)]
            line = [self.bought(s, f"w{i}", 202) for i in range(30)]
            streams = [Curl(s, of_purchase(p), s.shop).begun() for p in line]
            try:
                for stream in streams:
                    stream.wait_for("place")
                for purchase in holders:
                    self.assertEqual(s.pay(purchase, f"pay {purchase}").json["status"], "ordered")
                sold_out = time.monotonic()
                released = [stream.wait_for("released").json for stream in streams]
                took = time.monotonic() - sold_out
                figure("a line of 30 was told that all is sold, seconds", f"{took:.3f}")
                # No hold was waited for: they last two minutes.
                self.assertLess(took, 10)
                self.assertEqual([m["purchase"] for m in released], line)
                self.assertEqual({m["reason"] for m in released}, {"sold_out"})
                self.assertEqual(len({order(m["id"])[0] for m in released}), 1)
            finally:
                for stream in streams:
                    stream.__exit__()

    def check_a_rush(self, kills):
        seed = seed_of_this_run()
        chance = random.Random(seed)
        with self.streams_server() as s:
            s.open_sale("rush", stock=300, hold_seconds=1, grace_seconds=0.1, line_limit=2000,
                        limit_per_customer=20)
            own = [self.bought(s, f"own{i}", 201, sku="rush") for i in range(2)]
            self.assertEqual(s.pay(own[0], "own").status, 200)
            paths = [of_decisions("rush")] * 3 + [of_purchase(p) for p in own]
            followers = [Follower(s, path, chance.random()) for path in paths]
            rush = s.rush("--sku", "rush", "--attempts", "3000", "--customers", "2500", "--rate",
                          "700", "--until-settled", "--seed", str(seed))
            with contextlib.ExitStack() as stack:
                stack.enter_context(ended(rush))
                whole = stack.enter_context(Curl(s, of_decisions("rush"), s.shop, "0"))
                for f in followers:
                    stack.enter_context(f)
                for _ in range(kills):
                    # At a random moment of a busy server.
                    seen = len(followers[0].told)
                    eventually("it is busy", lambda n=seen: len(followers[0].told) > n)
                    time.sleep(chance.uniform(0.1, 0.5))
                    s.kill()
                    s.start()
                finish(rush)
                log = self.decided(s, "rush")
                for f, path in zip(followers, paths):
                    f.until = max(order(m[0]) for m in log
                                  if "decisions" in path or f"rush:{m[2]}" == path.split("/")[3])
                told = [f.messages() for f in followers]
                if kills == 0:
                    whole.until("all has come", lambda w: len(w.events) >= len(log))
                    told.append([e.json for e in whole.events])
                    self.assertEqual([e.data for e in whole.events],
                                     [e.data for e in followers[0].told])
                for path, messages in zip(paths + paths[:1], told):
                    wanted = [m for m in log if "decisions" in path
                              or f"rush:{m[2]}" == path.split("/")[3]]
                    got = [(m["id"], m["type"], int(m["purchase"].split(":")[1])
                            if "purchase" in m else None) for m in messages]
                    self.assertEqual(got, wanted, path)
                ordered = [m["purchase"] for m in told[0] if m["type"] == "ordered"]
                self.assertEqual(ordered, self.orders(s, "rush"))
                self.assertEqual(len(ordered), 300)
                cuts = sum(f.cuts for f in followers[:3])
                figure("messages told to each of three who were cut off", len(log))
                figure("times that they were cut off while something came", cuts)
                self.assertGreater(cuts, 10)

    def orders(self, s, sku):
        after, purchases = 0, []
        while after is not None:
            page = s.request("GET", f"/v1/sales/{sku}/orders?after={after}", s.shop).json
            purchases += [o["purchase"] for o in page["orders"]]
            after = page["next"]
        return purchases

    def test_who_is_cut_off_in_a_rush_gets_every_message_once(self):
        self.check_a_rush(kills=0)

    def test_who_is_cut_off_by_kills_of_the_server_gets_every_message_once(self):
        self.check_a_rush(kills=3)

    def test_the_stream_of_a_sale_goes_on_where_it_was(self):
        with self.streams_server() as s:
            s.open_sale("demo", stock=5)
            with Curl(s, of_sale("demo")) as stream:
                first = stream.wait_for("sale")
                self.assertEqual(first.json, s.request("GET", "/v1/sales/demo").json)
                self.bought(s, "anna", 201)
                second = stream.wait_for("sale", 2)
                self.assertEqual(second.json["held"], 1)
                self.assertGreater(position(second.id), position(first.id))
                seen = stream.cut()
            self.assertEqual(seen, second.id)
            with Curl(s, of_sale("demo"), last=seen) as same, \
                    Curl(s, of_sale("demo") + f"?last_event_id={seen}") as by_query, \
                    Curl(s, of_sale("demo"), last=first.id) as older:
                same.begun()
                by_query.begun()
                self.assertEqual(older.wait_for("sale").data, second.data)
                self.bought(s, "ben", 201)
                self.assertEqual(same.wait_for("sale").json["held"], 2)
                self.assertEqual(by_query.wait_for("sale").json["held"], 2)

    def test_ids_from_ahead_of_an_older_copy_of_the_log(self):
        with self.streams_server() as s:
            s.open_sale("demo", stock=5)
            anna = self.bought(s, "anna", 201)
            s.stop()
            copy = s.path("copy")
            shutil.copytree(s.data, copy)
            s.start()
            ben = self.bought(s, "ben", 201)
            for i in range(3):
                self.bought(s, f"c{i}", 201)
            self.give_up(s, anna)
            with Curl(s, of_decisions("demo"), s.shop, "0") as decisions, \
                    Curl(s, of_purchase(anna), s.shop, "0") as annas, \
                    Curl(s, of_sale("demo")) as sale:
                cancelled = decisions.wait_for("cancelled").id
                self.assertEqual(annas.wait_for("cancelled").id, cancelled)
                sale.until("it is up to date", lambda x: position(x.last or "0")
                           == position(cancelled))
                seen = decisions.cut(), annas.cut(), sale.cut()
            s.stop()
            shutil.rmtree(s.data)
            os.rename(copy, s.data)
            s.start()
            head = s.audit_head("demo")["position"]
            with Curl(s, of_decisions("demo"), s.shop, seen[0]) as decisions, \
                    Curl(s, of_purchase(anna), s.shop, seen[1]) as annas, \
                    Curl(s, of_sale("demo"), last=seen[2]) as sale:
                # They begin anew, and their ids are of this log.
                decisions.until("where it begins", lambda d: d.last == str(head))
                self.assertEqual(decisions.events, [])
                document = annas.wait_for("purchase")
                self.assertEqual((document.json["status"], document.id), ("reserved", str(head)))
                self.assertEqual(sale.wait_for("sale").id, str(head))
                self.give_up(s, anna)
                told = decisions.wait_for("cancelled")
                self.assertEqual(annas.wait_for("cancelled").data, told.data)
                self.assertEqual(told.id, f"{head + 1}.0")
                self.assertEqual(sale.wait_for("sale", 2).id, str(head + 1))
            with Curl(s, of_purchase(ben), s.shop, seen[1]) as bens:
                self.assertEqual(bens.reply().problem, "unknown_purchase")

    def test_who_may_follow_what(self):
        with self.streams_server() as s:
            s.open_sale("demo")
            anna = self.bought(s, "anna", 201)
            annas, bens = s.customer_token("anna"), s.customer_token("ben")
            for path, token, status, problem in (
                    (of_purchase(anna), bens, 404, "unknown_purchase"),
                    (of_purchase("demo:999"), annas, 404, "unknown_purchase"),
                    (of_purchase("nothing:2"), annas, 404, "unknown_purchase"),
                    (of_purchase(anna), None, 401, "unauthorized"),
                    (of_purchase(anna), "wrong", 401, "unauthorized"),
                    (of_decisions("demo"), None, 401, "unauthorized"),
                    (of_decisions("demo"), annas, 403, "forbidden"),
                    (of_decisions("nothing"), s.shop, 404, "unknown_sale"),
                    (of_sale("nothing"), None, 404, "unknown_sale")):
                with self.subTest(path, token=token), Curl(s, path, token, "0") as stream:
                    reply = stream.reply()
                    self.assertEqual((reply.status, reply.problem), (status, problem))
            for path, token in ((of_purchase(anna), annas), (of_purchase(anna), s.shop),
                                (of_purchase(anna), s.operator), (of_decisions("demo"), s.shop),
                                (of_decisions("demo"), s.operator), (of_sale("demo"), None)):
                with self.subTest(path, token=token), Curl(s, path, token) as stream:
                    stream.begun()
            for path in (of_purchase(anna), of_decisions("demo"), of_sale("demo")):
                for wrong in ("x", "1.", ".1", "1.2.3", "-1", "+1", "1e3", "0x1", "1 2", "1,2",
                              "9" * 30, "1.4294967296", "demo:2:0"):
                    with self.subTest(path, last=wrong), Curl(s, path, s.shop, wrong) as stream:
                        reply = stream.reply()
                        self.assertEqual((reply.status, reply.problem), (400, "bad_request"))
                        self.assertIn("Last-Event-ID", reply.json["detail"])

    def test_streams_above_the_limit_are_refused_until_one_is_closed(self):
        with self.streams_server("--max-streams", "3", "--workers", "2") as s:
            s.open_sale("demo")
            anna = self.bought(s, "anna", 201)
            paths = [of_sale("demo"), of_purchase(anna), of_decisions("demo")]
            streams = [Curl(s, p, s.shop).begun() for p in paths]
            try:
                for path in paths:
                    with Curl(s, path, s.shop) as refused:
                        reply = refused.reply()
                        self.assertEqual((reply.status, reply.problem), (503, "too_many_streams"))
                        self.assertEqual(reply.headers["retry-after"], "5")
                # HEAD takes no room, and gives none back either.
                streams.pop().cut()
                for path in paths * 3:
                    self.again(s, path)
                streams.append(eventually("there is room", lambda: self.one_more(s, paths[2])))
                self.assertIsNone(self.one_more(s, paths[0]))
                # Many that begin and end, some before they have been answered.
                streams.pop().cut()
                for i in range(200):
                    with socket.create_connection(("127.0.0.1", s.port)) as one:
                        one.sendall(f"GET {paths[i % 3]} HTTP/1.1\r\nHost: x\r\n"
                                    f"Authorization: Bearer {s.shop}\r\n\r\n".encode())
                        if i % 2:
                            one.recv(100)
                streams.append(eventually("there is room", lambda: self.one_more(s, paths[2])))
                self.assertIsNone(self.one_more(s, paths[1]))
            finally:
                for stream in streams:
                    stream.__exit__()

    def again(self, s, path):
        self.assertEqual(s.request("HEAD", path, s.shop).status, 200)

    def one_more(self, s, path):
        stream = Curl(s, path, s.shop)
        stream.until("an answer", lambda x: x.status is not None)
        if stream.status == 200:
            return stream
        stream.end()
        return None

    def test_a_stop_ends_streams(self):
        with self.streams_server() as s:
            s.open_sale("demo", stock=5)
            anna = self.bought(s, "anna", 201)
            with Curl(s, of_sale("demo")) as sale, Curl(s, of_purchase(anna), s.shop) as purchase, \
                    Curl(s, of_decisions("demo"), s.shop) as decisions, \
                    Curl(s, of_sale("demo"), options=("--http1.0",)) as old:
                streams = (sale, purchase, decisions, old)
                for stream in streams:
                    stream.begun()
                self.bought(s, "ben", 201)
                decisions.wait_for("reserved")
                begun = time.monotonic()
                self.assertEqual(s.stop(), 0)
                self.assertEqual([stream.end() for stream in streams], [0, 0, 0, 0])
                self.assertLess(time.monotonic() - begun, 10)
                seen = decisions.last
            s.start()
            with Curl(s, of_decisions("demo"), s.shop, seen) as decisions:
                cid = self.bought(s, "cid", 201)
                self.assertEqual(decisions.wait_for("reserved").json["purchase"], cid)

    def memory(self, s):
        with open(f"/proc/{s.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024

    def test_who_never_reads_holds_up_nobody_and_takes_little_memory(self):
        with self.streams_server() as s:
            # More messages than fit into the kernel's buffers, the last of the log among them.
            s.open_sale("demo", stock=10, line_limit=0)
            s.open_sale("rush", stock=50_000, line_limit=0, limit_per_customer=1000)
            finish(s.rush("--sku", "rush", "--attempts", "40000", "--customers", "100",
                          "--customer-prefix", "c" * 40, "--closed-loop", "--connections", "64",
                          "--no-check", "--pay", "0", "--abandon", "1", "--cancel", "0",
                          "--retry", "0", "--duplicate", "0"))
            last = s.audit_head("rush")["position"]
            everything = self.read_all(s, of_decisions("rush"), last)
            size = sum(len(e.data) for e in everything) / 1e6
            self.assertGreater(size, 6)
            before = self.memory(s)
            begun = time.monotonic()
            deaf = []
            for _ in range(20):
                one = socket.socket()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.connect(("127.0.0.1", s.port))
                one.sendall(f"GET {of_decisions('rush')} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n"
                            f"Authorization: Bearer {s.shop}\r\n\r\n".encode())
                deaf.append(one)
            peak = before
            with Curl(s, of_decisions("demo"), s.shop) as other:
                other.begun()
                for i in range(5):
                    asked = time.monotonic()
                    self.bought(s, f"c{i}", 201)
                    other.wait_for("reserved", i + 1)
                    self.assertLess(time.monotonic() - asked, 10)
                    peak = max(peak, self.memory(s))
                events = self.read_all(s, of_decisions("rush"), last)
                took = time.monotonic() - begun
                self.assertEqual([e.data for e in events], [e.data for e in everything])
                peak = max(peak, self.memory(s))
            # While a hold is running, too: each turn of the desk brings a part of it.
            figure("seconds until one of them who reads had all", f"{took:.2f}")
            self.assertLess(took, 15)
            figure("megabytes of messages for each of 20 streams that nobody reads",
                   f"{size:.1f}")
            figure("megabytes that the server took for them", f"{peak - before:.1f}")
            if not self.sanitized():
                self.assertLess(peak - before, 20 * 2)
            # They were cut off, and what they got is whole up to there.
            for one in deaf:
                with one:
                    one.settimeout(PATIENCE)
                    raw = b""
                    try:
                        while piece := one.recv(1 << 16):
                            raw += piece
                    except ConnectionResetError:
                        pass
                    head, _, body = raw.partition(b"\r\n\r\n")
                    self.assertTrue(head.startswith(b"HTTP/1.1 200"), head)
                    self.assertFalse(raw.endswith(b"\r\n0\r\n\r\n"), "it was not at its end")
                    reader = Reader("0")
                    reader.feed(unchunked(body))
                    self.assertLess(len(reader.events), len(everything))
                    self.assertEqual([e.data for e in reader.events],
                                     [e.data for e in everything[:len(reader.events)]])

    def read_all(self, s, path, last):
        """All events up to that position, by resuming where it was cut off."""
        events, seen = [], "0"
        while position(seen) < last:
            with Curl(s, path, s.shop, seen) as stream:
                stream.until("all, or an end", lambda x: not x.thread.is_alive()
                             or position(x.last) >= last)
                seen = stream.last
                events += stream.events
        return events

    def test_silence_and_how_long_a_line_takes(self):
        with self.streams_server() as s:
            s.open_sale("quiet", stock=1)
            quiet = self.bought(s, "anna", 201, sku="quiet")
            # Ten units come back each second, and nobody pays.
            s.open_sale("busy", stock=10, hold_seconds=1, grace_seconds=0, line_limit=500)
            for i in range(10):
                self.bought(s, f"h{i}", 201, sku="busy")
            line = [self.bought(s, f"w{i}", 202, sku="busy") for i in range(400)]
            begun = time.monotonic()
            with Curl(s, of_sale("quiet")) as sale, Curl(s, of_purchase(quiet), s.shop) as anna, \
                    Curl(s, of_decisions("quiet"), s.shop) as decisions, \
                    Curl(s, of_purchase(line[-1]), s.shop) as last:
                for stream in (sale, anna, decisions):
                    stream.begun()
                first = last.wait_for("place").json
                self.assertIsNone(first["eta_seconds"])
                self.assertEqual(first["units_may_return"], 10)
                told = last.until("an estimate", lambda x: [
                    e.json for e in x.of("place") if e.json["eta_seconds"] is not None])[0]
                should = (told["units_ahead"] + 1) / 10
                figure("estimate of the time in line, seconds", told["eta_seconds"])
                figure("what it should be", f"{should:.1f}")
                self.assertGreater(told["eta_seconds"], should / 2)
                self.assertLess(told["eta_seconds"], should * 2)
                read = s.request("GET", f"/v1/purchases/{line[-1]}", s.shop).json["line"]
                self.assertIsNotNone(read["eta_seconds"])
                # Those of a purchase and of decisions say how far they have come.
                for stream in (sale, anna, decisions):
                    stream.until("a heartbeat", lambda x: x.reader.heartbeats >=
                                 (2 if x is decisions else 1))
                self.assertGreater(time.monotonic() - begun, 5)
                head = str(s.audit_head("quiet")["position"])
                self.assertEqual([x.last for x in (sale, anna, decisions)], [head] * 3)


def unchunked(body):
    """The whole pieces of a body in chunks, which may be cut off anywhere."""
    pieces, at = [], 0
    while (line := body.find(b"\r\n", at)) > 0:
        begin = line + 2
        end = begin + int(body[at:line], 16)
        if end + 2 > len(body):
            break
        pieces.append(body[begin:end])
        at = end + 2
    return b"".join(pieces)


if __name__ == "__main__":
    main()
