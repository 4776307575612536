"""Shoppers who buy, pay, give up and ask again over raw keep-alive connections, with many requests
under way on each, and a record of their own of everything that they were told.

What was told must stay true for ever: Ledger knows what that means for each answer, and asks again.
"""

import collections
import datetime
import email.utils
import json
import select
import socket
import time

from harness import PATIENCE, problem_name

# Answers that promise that nothing was recorded.
NOT_RECORDED = (429, 503)
LATE = 2.0  # seconds after its deadline at which a hold must have ended


class Answer:
    __slots__ = ("status", "head", "body")

    def __init__(self, status, head, body):
        self.status, self.head, self.body = status, head, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def date(self):
        """When it was given, in seconds, whenever it is read."""
        text = self.head.split(b"\r\nDate: ", 1)[1].split(b"\r\n", 1)[0].decode()
        return email.utils.parsedate_to_datetime(text).timestamp()

    @property
    def replayed(self):
        return b"Idempotent-Replayed: true" in self.head

    @property
    def closes(self):
        return b"Connection: close" in self.head

    @property
    def problem(self):
        """The name of the problem's type; fails when the answer is none as it should be."""
        assert b"Content-Type: application/problem+json\r\n" in self.head + b"\r\n", self
        return problem_name(self)

    def __repr__(self):
        return f"{self.head.decode('latin-1')} {self.body[:500]!r}"


class Wire:
    """One connection, never blocking. Answers come in the order of the requests."""

    def __init__(self, port, source=None):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE,
                                               source and (source, 0))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.under_way = collections.deque()  # what was asked and is not answered yet
        self.asked = self.sent = 0            # bytes
        self.unsent = bytearray()
        self.received = bytearray()
        self.over = False                     # closed by the server

    def ask(self, request, what=None):
        self.unsent += request
        self.asked += len(request)
        self.under_way.append((what, self.asked))
        self.flush()

    def flush(self):
        while self.unsent:
            try:
                n = self.socket.send(self.unsent)
            except BlockingIOError:
                return
            except ConnectionError:
                self.unsent.clear()
                return
            self.sent += n
            del self.unsent[:n]

    def listen(self):
        """What has come: pairs of what was asked and its answer."""
        while not self.over:
            try:
                chunk = self.socket.recv(1 << 18)
            except BlockingIOError:
                break
            except ConnectionError:
                chunk = b""
            if not chunk:
                self.over = True
            self.received += chunk
        out = []
        at = 0
        while True:
            answer, at = take_answer(self.received, at)
            if answer is None:
                break
            if answer.status != 100:
                out.append((self.under_way.popleft()[0] if self.under_way else None, answer))
        del self.received[:at]
        return out

    def left(self):
        """After the end: what had no answer, and whether all of it had been sent."""
        assert self.over
        left = [(what, end <= self.sent) for what, end in self.under_way]
        self.under_way.clear()
        return left

    def close(self):
        self.socket.close()


def take_answer(received, at):
    """The whole answer that begins at `at`, if it is there, and where the next begins."""
    end = received.find(b"\r\n\r\n", at)
    if end < 0:
        return None, at
    head = bytes(received[at:end])
    status = int(head[9:12])
    length = 0
    found = head.find(b"\r\nContent-Length: ")
    if found >= 0 and status != 304:
        stop = head.find(b"\r\n", found + 2)
        length = int(head[found + 18:stop if stop >= 0 else len(head)])
    if len(received) < end + 4 + length:
        return None, at
    return Answer(status, head, bytes(received[end + 4:end + 4 + length])), end + 4 + length


def request(method, path, token=None, body=None, fields=""):
    """The bytes of a request; `body` is text."""
    lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}"
    if token:
        lines += f"Authorization: Bearer {token}\r\n"
    if body is not None:
        lines += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (lines + "\r\n" + (body or "")).encode()


class Crowd:
    """Some connections to one server, driven from one thread. `heard(what, answer)` is called with
    each answer, `lost(what, sent)` with each request that its connection's end left without one."""

    def __init__(self, port, connections, heard, lost):
        self.heard, self.lost = heard, lost
        self.wires = [Wire(port) for _ in range(connections)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for wire in self.wires:
            wire.close()

    @property
    def under_way(self):
        return sum(len(w.under_way) for w in self.wires)

    def move(self, patience):
        """Sends and receives what can be, after waiting at most `patience` seconds for anything."""
        poll = select.poll()
        for wire in self.wires:
            if not wire.over:
                poll.register(wire.socket, select.POLLIN | (select.POLLOUT if wire.unsent else 0))
        ready = {fd for fd, _ in poll.poll(patience * 1000)}
        for wire in self.wires:
            if wire.over or wire.socket.fileno() not in ready:
                continue
            wire.flush()
            for what, answer in wire.listen():
                self.heard(what, answer)
            if wire.over:
                for what, sent in wire.left():
                    self.lost(what, sent)

    def ask(self, make, depth):
        """Fills every open connection up to `depth` requests under way. `make()` gives what to ask,
        with its bytes as `.request`, or None. Returns whether it gave anything."""
        any_asked = False
        for wire in self.wires:
            while not wire.over and len(wire.under_way) < depth:
                what = make()
                if what is None:
                    return any_asked
                wire.ask(what.request, what)
                any_asked = True
        return any_asked

    def settle(self):
        """Returns when everything is answered or every connection has ended."""
        end = time.monotonic() + PATIENCE
        while self.under_way:
            self.move(1)
            assert time.monotonic() < end, f"{self.under_way} requests stay without an answer"


class Purchase:
    __slots__ = ("sku", "customer", "key", "quantity", "first", "id", "until", "doubtful", "busy",
                 "payments", "leaving", "refund", "seen")

    def __init__(self, sku, customer, key, quantity):
        self.sku, self.customer, self.key, self.quantity = sku, customer, key, quantity
        self.first = None        # status and body of the first answer
        self.id = None
        self.until = 0.0         # of a reservation, as it was told
        self.doubtful = False    # sent and not answered: it may have been recorded
        self.busy = 0            # requests under way
        self.payments = {}       # reference: (status, reason) as told, or None: in doubt
        self.leaving = None      # the status that giving it up was answered with, or "in doubt"
        self.refund = None       # the same of a refund
        self.seen = None         # the status that was read last

    @property
    def ordered(self):
        return any(told and told[0] == "ordered" for told in self.payments.values())

    def units_sold(self):
        """The least and the most that it can be in what is sold."""
        paid = self.quantity if self.ordered else 0
        at_most = self.quantity if paid or None in self.payments.values() else 0
        if self.refund == "refunded":
            return 0, 0
        return (0 if self.refund == "in doubt" else paid), at_most

    def possible(self):
        """The statuses that it can have by what was told."""
        if self.refund == "refunded":
            return {"refunded"}
        refunded = {"refunded"} if self.refund == "in doubt" else set()
        if self.ordered:
            return {"ordered"} | refunded
        if self.leaving in ("cancelled", "declined"):
            return {self.leaving}
        if self.first[0] not in (201, 202):
            return {"refused"}
        out = {"reserved", "expired"} if self.first[0] == 201 else {"waiting", "offered", "expired",
                                                                   "released"}
        if None in self.payments.values():
            out |= {"ordered"} | refunded
        if self.leaving == "in doubt":
            out |= {"cancelled", "declined"}
        return out


class Ask:
    """A request, and what it is about. `opened`: the sale was there when it was made."""
    __slots__ = ("kind", "about", "reference", "request", "opened")

    def __init__(self, kind, about, asked, reference=None, opened=True):
        self.kind, self.about, self.reference, self.request = kind, about, reference, asked
        self.opened = opened


class Ledger:
    """The outside record of some sales on one server. `server` gives the tokens."""

    PRICE = 4900

    def __init__(self, chance, server, customers=400):
        self.chance, self.server, self.customers = chance, server, customers
        self.stock = {}       # by SKU: as told, or a set of what it may be
        self.position = collections.Counter()  # by SKU: the newest that was told
        self.purchases = collections.defaultdict(list)  # by SKU: all that were asked for
        self.known = []       # those that were answered
        self.recent = []      # of these, who was told something since the latest check
        self.doubtful = []    # bought without an answer since the latest check
        self.faults = []
        self.told = 0     # answers that acknowledge something
        self.checked = 0  # times that one of them was held against what is said now
        self.clock = time.time  # the server's; gives None when nobody knows
        self.keys = 0
        self.not_recorded = 0
        self.terms = {"hold_seconds": 1.0, "limit_per_customer": 6, "units_per_purchase": 2,
                      "line_limit": 300, "price": {"amount": self.PRICE, "currency": "EUR"}}

    def fault(self, why, ask, answer=None):
        about = ask.about
        if isinstance(about, Purchase):
            about = {name: getattr(about, name) for name in Purchase.__slots__}
        self.faults.append(f"{why}: {ask.kind} of {about}: {answer}")

    # ---- what to ask

    def open(self, sku, stock):
        self.stock[sku] = {None, stock}
        body = json.dumps({"stock": stock, **self.terms})
        return Ask("open", (sku, stock),
                   request("PUT", f"/v1/sales/{sku}", self.server.operator, body))

    def restock(self, sku, more):
        old = self.stock[sku]
        if not isinstance(old, int):
            return None
        self.stock[sku] = {old, old + more}
        body = json.dumps({"stock": old + more, "actor": "olga", "reason": "more were found"})
        return Ask("open", (sku, old + more),
                   request("PATCH", f"/v1/sales/{sku}", self.server.operator, body))

    def opened(self, sku):
        known = self.stock[sku]
        return isinstance(known, int) or None not in known

    def look(self, sku):
        return Ask("look", sku, request("GET", f"/v1/sales/{sku}"), opened=self.opened(sku))

    def buy(self, p, quantity=None):
        p.busy += 1
        body = json.dumps({"customer": p.customer, "quantity": quantity or p.quantity})
        return Ask("buy" if quantity is None else "misuse", p,
                   request("POST", f"/v1/sales/{p.sku}/purchases", self.server.shop, body,
                           f"Idempotency-Key: {p.key}\r\n"), opened=self.opened(p.sku))

    def read(self, p):
        p.busy += 1
        return Ask("read", p, request("GET", f"/v1/purchases/{p.id}", self.server.shop))

    def pay(self, p, reference, amount=None):
        p.busy += 1
        due = self.PRICE * p.quantity
        # A reference stands for one amount: a wrong one has another name.
        if amount is None:
            amount = due + 1 if reference.startswith("wrong") else due
        p.payments.setdefault(reference, None)
        body = json.dumps({"reference": reference, "amount": amount, "currency": "EUR"})
        return Ask("pay", p, request("POST", f"/v1/purchases/{p.id}/payment", self.server.shop,
                                     body), reference)

    def leave(self, p):
        p.busy += 1
        if p.leaving is None:
            p.leaving = "in doubt"
        return Ask("leave", p, request("DELETE", f"/v1/purchases/{p.id}", self.server.shop))

    def give_back(self, p):
        p.busy += 1
        if p.refund is None:
            p.refund = "in doubt"
        body = '{"restock":true,"actor":"olga","reason":"returned"}'
        return Ask("refund", p, request("POST", f"/v1/purchases/{p.id}/refund", self.server.shop,
                                        body))

    def fresh(self, sku):
        self.keys += 1
        p = Purchase(sku, f"c{self.chance.randrange(self.customers)}", f"k{self.keys}",
                     1 + (self.chance.random() < 0.2))
        self.purchases[sku].append(p)
        return p

    def something(self, skus):
        """What a crowd asks at these sales."""
        dice = self.chance.random()
        if dice < 0.5 or not self.known:
            return self.buy(self.fresh(self.chance.choice(skus)))
        if dice < 0.58:
            return self.look(self.chance.choice(skus))
        # Rather somebody who has just bought.
        back = int(self.chance.expovariate(1 / 200))
        p = self.known[max(0, len(self.known) - 1 - back)]
        if dice < 0.63:
            return self.buy(p)
        if dice < 0.64:
            return self.buy(p, quantity=3)
        if p.busy or not p.id:
            return self.buy(self.fresh(self.chance.choice(skus)))
        if dice < 0.67 or p.first[0] not in (201, 202):
            return self.read(p)
        if dice < 0.87:
            # Nobody pays for what it gave up, and nobody twice, but some in vain.
            if p.leaving is None and not p.payments:
                return self.pay(p, ("wrong" if dice < 0.68 else "pay") + p.key)
            return self.read(p)
        if dice < 0.97 and not p.payments and p.leaving is None:
            return self.leave(p)
        if p.ordered and p.refund is None:
            return self.give_back(p)
        return self.read(p)

    def again(self, p):
        """Everything that was told of a purchase, asked once more; and what is in doubt."""
        if p.first is None:
            return [self.buy(p)]
        out = [self.buy(p)]
        if p.id:
            out += [self.pay(p, reference) for reference in p.payments]
            if p.leaving in ("cancelled", "declined", "in doubt"):
                out.append(self.leave(p))
            if p.refund in ("refunded", "in doubt"):
                out.append(self.give_back(p))
        return out

    # ---- what was answered

    def heard(self, ask, answer):
        about = ask.about
        purchase = about if isinstance(about, Purchase) else None
        if purchase:
            purchase.busy -= 1
        # As if it had not been asked. Whether it had been recorded before is no clearer for it.
        if answer.status in NOT_RECORDED:
            self.not_recorded += 1
            return
        try:
            document = answer.json
            getattr(self, "heard_" + ask.kind)(ask, about, answer, document)
        except (ValueError, KeyError, TypeError) as e:
            return self.fault(f"not understood ({e!r})", ask, answer)
        if "position" in document:
            sku = purchase.sku if purchase else about if isinstance(about, str) else about[0]
            self.position[sku] = max(self.position[sku], document["position"])

    def lost(self, ask, sent):
        if isinstance(ask.about, Purchase):
            ask.about.busy -= 1
            if ask.kind == "buy":
                ask.about.doubtful = True
                self.doubtful.append(ask.about)
            else:
                self.recent.append(ask.about)

    def heard_open(self, ask, about, answer, document):
        sku, stock = about
        if answer.status not in (200, 201) or document["stock"] != stock:
            return self.fault("not as asked", ask, answer)
        self.told += 1
        self.stock[sku] = stock

    def heard_look(self, ask, sku, answer, document):
        if answer.status == 404 and not ask.opened:
            return
        if answer.status != 200:
            return self.fault("the sale is gone", ask, answer)
        if document["available"] + document["held"] + document["sold"] != document["stock"]:
            self.fault("units do not add up", ask, answer)
        if min(document[n] for n in ("available", "held", "sold", "waiting")) < 0:
            self.fault("a negative count", ask, answer)

    def heard_buy(self, ask, p, answer, document):
        told = (answer.status, answer.body)
        if p.first is not None:
            self.checked += 1
            if told != p.first:
                self.fault(f"another answer than {p.first}", ask, answer)
            if not answer.replayed:
                self.fault("done again", ask, answer)
            return
        if answer.status not in (201, 202, 403, 404, 409):
            return self.fault("unexpected", ask, answer)
        if answer.status == 404:
            if ask.opened:
                self.fault("the sale is gone", ask, answer)
            return
        if answer.replayed and not p.doubtful:
            self.fault("asked for the first time and said to be a repetition", ask, answer)
        self.told += 1
        p.first = told
        p.id = document.get("purchase")
        if answer.status == 201:
            p.until = seconds(document["until"])
        if answer.status in (201, 202) and (
                document["customer"] != p.customer or document["quantity"] != p.quantity):
            self.fault("somebody else's answer", ask, answer)
        self.known.append(p)
        self.recent.append(p)

    def heard_misuse(self, ask, p, answer, document):
        if answer.status != 422 or not document["type"].endswith(":key_reused"):
            self.fault("another quantity for the same key", ask, answer)

    def heard_read(self, ask, p, answer, document):
        if answer.status != 200:
            return self.fault("the purchase is gone", ask, answer)
        status = p.seen = document["status"]
        # With more under way, it may be later than what was told.
        if p.busy:
            return
        self.checked += 1
        if status not in p.possible():
            self.fault(f"not one of {sorted(p.possible())}", ask, answer)
        if document["customer"] != p.customer or document["quantity"] != p.quantity:
            self.fault("somebody else's purchase", ask, answer)
        now = self.clock()
        if now is None:
            return
        if status == "expired" and p.until and now < p.until - 0.001:
            self.fault("expired too early", ask, answer)
        if "until" in document and answer.date > seconds(document["until"]) + LATE:
            self.fault("the hold did not end", ask, answer)

    def heard_pay(self, ask, p, answer, document):
        if answer.status != 200 or document["reference"] != ask.reference:
            return self.fault("the payment was not taken", ask, answer)
        told = (document["status"], document.get("reason"))
        before = p.payments[ask.reference]
        if before is not None:
            self.checked += 1
            if told != before or not answer.replayed:
                self.fault(f"another answer than {before}", ask, answer)
            return
        self.told += 1
        p.payments[ask.reference] = told
        self.recent.append(p)
        if told[0] == "ordered" and ask.reference.startswith("wrong"):
            self.fault("sold for another price", ask, answer)
        if sum(t is not None and t[0] == "ordered" for t in p.payments.values()) > 1:
            self.fault("sold twice", ask, answer)

    def heard_leave(self, ask, p, answer, document):
        if answer.status == 409:
            if p.leaving in ("cancelled", "declined"):
                self.fault(f"it had been {p.leaving}", ask, answer)
            p.leaving = "refused"
            return
        if answer.status != 200 or document["status"] not in ("cancelled", "declined"):
            return self.fault("unexpected", ask, answer)
        if p.leaving in ("cancelled", "declined"):
            self.checked += 1
            if document["status"] != p.leaving:
                self.fault(f"it had been {p.leaving}", ask, answer)
            return
        self.told += 1
        p.leaving = document["status"]
        self.recent.append(p)

    def heard_refund(self, ask, p, answer, document):
        if answer.status != 200 or document["status"] != "refunded":
            return self.fault("the refund was not taken", ask, answer)
        if p.refund == "refunded":
            self.checked += 1
            if not answer.replayed:
                self.fault("done again", ask, answer)
            return
        self.told += 1
        p.refund = "refunded"
        self.recent.append(p)

    # ---- holding the server to it

    def check(self, crowd, sample=None):
        """With nothing else under way, asks again: about everything that was told since the latest
        check, what is in doubt, and a sample of what was told before (None: all of it)."""
        lately = {p.sku for p in self.recent}
        for sku in self.stock if sample is None else [s for s in self.stock if s in lately or
                                                      not isinstance(self.stock[s], int)]:
            self.check_sale(sku)
        people = dict.fromkeys(self.recent)
        self.recent = []
        people.update(dict.fromkeys(
            self.known if sample is None else
            self.chance.sample(self.known, min(sample, len(self.known)))))
        people.update(dict.fromkeys(p for p in self.doubtful if p.first is None))
        self.doubtful = []
        self.ask_all(crowd, [ask for p in people for ask in self.again(p)])
        # Apart, since a purchase with more under way may be read before or after it.
        self.ask_all(crowd, [self.read(p) for p in people if p.id])

    def ask_all(self, crowd, asks):
        left = iter(asks)
        while crowd.ask(lambda: next(left, None), 32):
            crowd.move(PATIENCE)
        crowd.settle()

    def check_sale(self, sku):
        reply = self.server.request("GET", f"/v1/sales/{sku}")
        expected = self.stock[sku]
        allowed = expected if isinstance(expected, set) else {expected}
        if reply.status == 404:
            if None not in allowed:
                self.faults.append(f"the sale {sku} is gone")
            return
        sale = reply.json
        self.checked += 1
        if sale["stock"] not in allowed:
            self.faults.append(f"stock {sale['stock']} of {sku} instead of {allowed}")
        self.stock[sku] = sale["stock"]
        if sale["available"] + sale["held"] + sale["sold"] != sale["stock"]:
            self.faults.append(f"units do not add up: {sale}")
        if sale["position"] < self.position[sku]:
            self.faults.append(f"{sku} is at {sale['position']}, and was told to be at "
                               f"{self.position[sku]}")
        bounds = [p.units_sold() for p in self.purchases[sku]]
        least, most = sum(b[0] for b in bounds), sum(b[1] for b in bounds)
        if not least <= sale["sold"] <= most or sale["sold"] > sale["stock"]:
            self.faults.append(f"{sku} has sold {sale['sold']}; by what was told {least} to {most}")


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
