"""kill -9 again and again, at random moments of a rush, of a start and of a stop. An outside record
of every acknowledged answer is held against what the server says afterwards, and in the end the
whole log is audited.

FAIRSALE_KILLS sets how many kills; FAIRSALE_SEED repeats the choices of a run."""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import time

from harness import Case, PATIENCE, Server, figure, main, seed_of_this_run
from shoppers import Crowd, Ledger

LIVES_AT_ONCE = 3
KILLS_OF_A_LIFE = 25


class Life:
    """One data directory from its first start to its audit, with `kills` ends by SIGKILL."""

    def __init__(self, programs, seed, kills):
        self.programs, self.seed, self.kills = programs, seed, kills
        self.chance = random.Random(seed)
        self.skus = []
        self.in_a_start = self.in_a_stop = 0

    def run(self):
        """What came of it, for the process that gathers the lives."""
        options = ["--customer-rate", "0", "--workers", self.chance.choice("112"),
                   "--snapshot-every", self.chance.choice(["300", "2000", "500000"])]
        self.server = Server(self.programs, *options)
        self.ledger = Ledger(self.chance, self.server)
        try:
            self.live()
            end = {}
        except Exception as e:  # whatever it is, with what led to it
            end = {"error": f"{type(e).__name__}: {e}\n{self.server.log[-3000:]}"}
        finally:
            self.server.__exit__(None, None, None)
        ledger = self.ledger
        return {"seed": self.seed, "options": options, "faults": ledger.faults[:20],
                "told": ledger.told, "checked": ledger.checked, "in_a_start": self.in_a_start,
                "in_a_stop": self.in_a_stop, "audited": getattr(self, "audited", 0), **end}

    def live(self):
        server, ledger, chance = self.server, self.ledger, self.chance
        server.start()
        left = self.kills
        while left > 0:
            self.rush()
            left -= 1
            # A free port every time: while the server was down, somebody may have taken its own.
            server.port = 0
            while left > 0 and chance.random() < 0.2:
                server.launch()
                time.sleep(chance.uniform(0, 0.25))
                server.kill()
                self.in_a_start += 1
                left -= 1
            server.start()
            with self.crowd(4) as crowd:
                ledger.check(crowd, sample=50)
            assert not ledger.faults
        with self.crowd(4) as crowd:
            ledger.check(crowd)
        heads = [server.request("GET", f"/v1/sales/{sku}/audit-head", server.operator)
                 for sku in ledger.stock]
        server.kill()
        self.audit([h for h in heads if h.status == 200])

    def crowd(self, connections):
        return Crowd(self.server.port, connections, self.ledger.heard, self.ledger.lost)

    def rush(self):
        """Load until a random moment, and then the kill."""
        server, ledger, chance = self.server, self.ledger, self.chance
        asks = []
        if len(self.skus) < 2 or chance.random() < 0.3:
            sku = f"sale-{len(ledger.stock) + 1}"
            self.skus = [*self.skus[-2:], sku]
            asks.append(ledger.open(sku, chance.randrange(20, 400)))
        elif chance.random() < 0.5:
            asks.append(ledger.restock(chance.choice(self.skus), chance.randrange(1, 100)))
        asks = [ask for ask in asks if ask is not None]

        def more():
            return asks.pop() if asks else ledger.something(self.skus)

        with self.crowd(chance.randrange(1, 9)) as crowd:
            depth = chance.choice([1, 4, 16, 60])
            end = time.monotonic() + chance.uniform(0.005, 0.2)
            while time.monotonic() < end:
                crowd.ask(more, depth)
                crowd.move(0.05)
            # Now with all hands full, so that the kill meets a commit and not a pause.
            crowd.ask(more, depth)
            if chance.random() < 0.15:
                server.process.send_signal(signal.SIGTERM)
                self.in_a_stop += 1
                time.sleep(chance.uniform(0, 0.03))
            else:
                time.sleep(chance.uniform(0, 0.003))
            server.kill()
            crowd.settle()

    def audit(self, heads):
        path = self.server.path("heads.jsonl")
        with open(path, "wb") as f:
            for head in heads:
                f.write(head.body + b"\n")
        done = subprocess.run([self.programs.fairsale, "audit", self.server.data, "--fairness",
                               "--head", path, "--json"], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"the audit: {done.stdout[:2000]}\n{done.stderr}"
        sales = json.loads(done.stdout)["sales"]
        self.audited = len(sales)
        for sale in sales:
            assert sale["available"] + sale["held"] + sale["sold"] == sale["stock"], sale
            assert sale["fairness"]["fair"] and sale["saved_heads_compared"] == 1, sale
        assert {s["sku"] for s in sales} == {h.json["sku"] for h in heads}


def live(programs, seed, kills):
    return Life(programs, seed, kills).run()


class Kills(Case):
    def test_nothing_acknowledged_is_lost_or_changed(self):
        kills = int(os.environ.get("FAIRSALE_KILLS", "30"))
        seed = seed_of_this_run()
        chance = random.Random(seed)
        per_life = min(KILLS_OF_A_LIFE, -(-kills // LIVES_AT_ONCE))
        shares = [min(per_life, kills - done) for done in range(0, kills, per_life)]
        with concurrent.futures.ProcessPoolExecutor(min(LIVES_AT_ONCE, len(shares))) as pool:
            lives = [pool.submit(live, self.programs, chance.randrange(1 << 32), share)
                     for share in shares]
            ends = [life.result() for life in concurrent.futures.as_completed(lives)]
        bad = [e for e in ends if e["faults"] or "error" in e]
        lost = sum(len(e["faults"]) for e in ends)
        figure("SIGKILLs of fairsaled under load", kills)
        figure("of these in a start", sum(e["in_a_start"] for e in ends))
        figure("of these in a stop", sum(e["in_a_stop"] for e in ends))
        figure("answers acknowledged before a SIGKILL", sum(e["told"] for e in ends))
        figure("acknowledged answers checked after a SIGKILL", sum(e["checked"] for e in ends))
        figure("acknowledged answers lost or changed by a SIGKILL", lost)
        figure("sales audited after SIGKILLs, all fair", sum(e["audited"] for e in ends))
        self.assertEqual(bad, [], f"repeat with FAIRSALE_SEED={seed} FAIRSALE_KILLS={kills}")
        self.assertGreater(sum(e["told"] for e in ends), 20 * kills)
        self.assertGreater(sum(e["checked"] for e in ends), 50 * kills)


if __name__ == "__main__":
    main()
