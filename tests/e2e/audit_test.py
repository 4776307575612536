"""fairsale audit on a store that a real rush with a kill -9 in it has left: beside the running
server, on a copy, with saved heads, and with an operator's hand in the sale."""

import html.parser
import json
import os
import shutil
import subprocess
import unittest

from harness import PATIENCE, Case, ended, eventually, finish, main

EVIL = "</td><script>alert('1')</script>&amp;"


class Page(html.parser.HTMLParser):
    """Whether a page is well formed, and what is in it."""

    VOID = {"meta", "br", "path"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.words = [], set(), [], ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        self.words += data


class Audit(Case):
    def audit(self, data, *arguments, code=0):
        """The JSON that fairsale audit prints, which must end with this exit code."""
        done = subprocess.run([self.programs.fairsale, "audit", str(data), "--json", *arguments],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, code, f"{done.stdout[:3000]}\n{done.stderr}")
        return json.loads(done.stdout)

    def keep_head(self, server, path, sku="rush"):
        """Appends the answer as it came, as an auditor would with curl."""
        reply = server.request("GET", f"/v1/sales/{sku}/audit-head", server.operator)
        self.assertEqual(reply.status, 200)
        with open(path, "ab") as f:
            f.write(reply.body + b"\n")
        return reply.json

    def position(self, server):
        reply = server.request("GET", "/v1/sales/rush")
        return reply.json["position"] if reply.status == 200 else 0

    def operate(self, server, **what):
        reply = server.request("PATCH", "/v1/sales/rush", server.operator, what)
        self.assertEqual(reply.status, 200, reply)

    def test_rush_with_a_kill_and_an_operator(self):
        with self.server("--snapshot-every", "3000") as server:
            heads = server.path("heads.jsonl")
            rush = server.rush("--sku", "rush", "--create", "stock=150,hold=1,line=2000",
                               "--attempts", "15000", "--customers", "5000", "--connections", "32",
                               "--rate", "5000", "--until-settled", "--no-check")
            with ended(rush):
                eventually("the rush has begun", lambda: self.position(server) > 2000)
                self.keep_head(server, heads)
                # In the middle of it all, beside the server.
                during = self.audit(server.data, "--fairness", "--head", heads)
                self.assertEqual(during["sales"][0]["saved_heads_compared"], 1)
                self.operate(server, action="pause", actor="ops@shop", reason="a look at the log")
                self.operate(server, action="resume", actor="ops@shop", reason=EVIL)
                eventually("half of it is decided",
                           lambda: self.position(server) > 7000 or rush.poll() is not None)
                server.kill()
                server.start()
                self.keep_head(server, heads)
                rush.communicate(timeout=PATIENCE)  # its own checks know no operator
            self.operate(server, stock=160, actor="boss", reason="found ten more")
            server.open_sale("quiet", stock=1)
            last = self.keep_head(server, heads)

            page = server.path("report.html")
            live = self.audit(server.data, "--fairness", "--head", heads, "--report", page)
            self.assert_clean(live, last)
            self.assertEqual({s["sku"] for s in live["sales"]}, {"rush", "quiet"})
            self.assert_page(page, last)

            server.kill()
            copy = server.path("copy")
            shutil.copytree(server.data, copy)
            for data in (server.data, copy):
                self.assert_clean(self.audit(data, "--fairness", "--head", heads), last)
            text = server.tool("audit", copy, "--fairness", "--jobs", "1")
            self.assertIn("2 sales", text)
            self.assertIn("all sound, all fair", text)
            self.assertIn("stock 150 -> 160", text)
            self.assertIn('because "found ten more"', text)

    def assert_clean(self, report, head):
        self.assertEqual(report["outcome"], "ok", report)
        rush = next(s for s in report["sales"] if s["sku"] == "rush")
        self.assertEqual(rush["position"], head["position"])
        self.assertEqual(rush["head"], head["head"])
        self.assertEqual(rush["state_digest"], head["state_digest"])
        self.assertEqual(rush["saved_heads_compared"], 3)
        self.assertGreater(rush["snapshots_compared"], 0)
        self.assertEqual(rush["projections_compared"], 4)
        self.assertEqual(rush["available"] + rush["held"] + rush["sold"], rush["stock"])
        fairness = rush["fairness"]
        self.assertTrue(fairness["fair"])
        self.assertGreater(fairness["offered"], 0)
        self.assertGreater(fairness["repeated"], 0)
        self.assertLessEqual(len(fairness["timeline"]), 1000)
        did = [(v["what"], v["actor"], v["why"]) for v in fairness["interventions"]
               if v["what"] != "line released"]
        self.assertEqual(did, [("sale paused", "ops@shop", "a look at the log"),
                               ("sale resumed", "ops@shop", EVIL),
                               ("stock adjusted", "boss", "found ten more")])

    def assert_page(self, path, head):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        page = Page(text)
        self.assertNotIn("script", page.tags)
        self.assertEqual(page.addresses, [])
        self.assertNotIn("<script", text)
        self.assertIn("svg", page.tags)
        self.assertLess(len(text), 1_000_000)
        for words in (EVIL, head["head"], head["state_digest"], "Every sale below is sound"):
            self.assertIn(words, page.words)

    def test_a_stop_breaks_an_audit_off(self):
        with self.server("--customer-rate", "0", "--address-rate", "0") as server:
            def state():
                return server.request("GET", "/v1/audits", server.operator).json

            def begin():
                reply = server.request("POST", "/v1/audits", server.operator, {"fairness": True})
                self.assertEqual((reply.status, reply.json["state"]), (202, "running"), reply)

            def amid():
                """Whether an audit was caught at its work; they are quick."""
                begin()
                while (now := state())["state"] == "running":
                    if 0 < now["events"] < now["events_in_all"] / 2:
                        return True
                return False

            finish(server.rush("--sku", "rush", "--create", "stock=2000,hold=60,line=100000",
                               "--attempts", "60000", "--customers", "30000", "--connections", "32",
                               "--closed-loop", "--no-check"))
            eventually("one is under way", amid)
            self.assertEqual(server.stop(), 0)
            self.assertIn("The audit that was under way is broken off", server.log)
            server.start()
            self.assertEqual(state(), {"state": "none"})
            begin()
            eventually("it is done", lambda: state()["state"] == "done")
            done = state()
            self.assertTrue(done["sound"] and done["fair"], done)
            self.assertEqual((done["events"], done["findings"]), (done["events_in_all"], []))
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.log.count("broken off"), 1, "only what was under way")

    def test_history_that_a_saved_head_contradicts(self):
        """A copy of an hour ago in place of the store: sound in itself, and not what it was."""
        with self.server() as server, self.server() as other:
            server.open_sale("rush", stock=5)
            server.buy("rush", "anna", "k")
            heads = server.path("heads.jsonl")
            early = self.keep_head(server, heads)
            server.kill()
            old = server.path("old")
            shutil.copytree(server.data, old)
            server.start()
            server.buy("rush", "bob", "k")
            late = self.keep_head(server, heads)
            self.audit(server.data, "--head", heads)

            self.assertEqual(self.audit(old)["outcome"], "ok")
            report = self.audit(old, "--head", heads, code=1)
            self.assertEqual(report["outcome"], "diverges")
            found = report["sales"][0]["divergences"]
            self.assertEqual(len(found), 1)
            self.assertEqual((found[0]["check"], found[0]["seq"]),
                             ("saved_head", early["position"] + 1))
            self.assertIn(f"position {late['position']}", found[0]["expected"])
            self.assertIn(f"ends at position {early['position']}", found[0]["found"])

            # What is wrong is told by the exit code, even when the page cannot be written.
            report = self.audit(old, "--head", heads, "--fairness", "--report", "/nowhere/r.html",
                                code=1)
            self.assertEqual((report["outcome"], report["fair"]), ("diverges", True))

            # Another history of the same length.
            other.open_sale("rush", stock=5)
            other.buy("rush", "anna", "k")
            other.buy("rush", "carl", "k")
            report = self.audit(other.data, "--head", heads, code=1)
            self.assertEqual(report["sales"][0]["divergences"][0]["from"], 1)

            # A sale that is no longer there.
            nothing = self.server()
            with nothing:
                nothing.open_sale("something", stock=1)
                report = self.audit(nothing.data, "--head", heads, code=1)
                gone = next(s for s in report["sales"] if s["sku"] == "rush")
                self.assertEqual(gone["divergences"][0]["check"], "saved_head")

    def test_heads_of_a_backup_serve_as_saved_heads(self):
        with self.server() as server:
            server.open_sale("rush", stock=5)
            server.buy("rush", "anna", "k")
            heads = server.path("heads.jsonl")
            server.tool("backup", server.data, server.path("backup"), "--heads", heads)
            with open(heads, "a", encoding="utf-8") as f:
                print(json.dumps({"sku": "later", "position": 0, "head": "0" * 64}), file=f)
            server.buy("rush", "bob", "k")
            report = self.audit(server.data, "--head", heads)
            self.assertEqual(report["sales"][0]["saved_heads_compared"], 1)
            self.assertEqual(len(report["notes"]), 1)
            self.assertIn("line 2 ", report["notes"][0])

            with open(heads, encoding="utf-8") as f:
                head = json.loads(f.readline())
            head["head"] = head["head"][::-1]
            with open(heads, "w", encoding="utf-8") as f:
                print(json.dumps(head), file=f)
            report = self.audit(server.data, "--head", heads, code=1)
            self.assertEqual(report["sales"][0]["divergences"][0]["check"], "saved_head")

    def test_damage_that_opening_refuses_is_a_finding_too(self):
        with self.server() as server:
            server.open_sale("rush", stock=5)
            for i in range(20):
                server.buy("rush", f"c{i}", "k")
            self.assertEqual(server.stop(), 0)
            log = os.path.join(server.data, "log")
            path = max((os.path.join(log, f) for f in os.listdir(log) if f.endswith(".log")),
                       key=os.path.getsize)
            with open(path, "r+b") as f:
                content = f.read()
                at = content.index(b"c7")
                f.seek(at)
                f.write(b"c8")
            report = self.audit(server.data, code=1)
            self.assertEqual(report["outcome"], "refused")
            self.assertRegex(report["error"], "SKU .*position")

    def test_wrong_usage(self):
        with self.server() as server:
            server.open_sale("rush", stock=5)
            bad = server.path("bad")
            with open(bad, "w") as f:
                f.write('{"sku":"rush"}\n')
            for arguments, code in [
                    ([server.data, "--report", server.path("r.html")], 2),  # needs --fairness
                    ([server.data, "--jobs", "0"], 2),
                    ([server.data, "--head", bad], 2),
                    ([server.data, "--head", "/nowhere"], 3),
                    ([server.data, "--sku", "nothing"], 3),
                    ([server.data, "--fairness", "--report", "/nowhere/r.html"], 3),
                    (["/nowhere"], 3),
                    ([server.data, "--sku", "rush"], 0),
            ]:
                with self.subTest(arguments):
                    server.tool("audit", *arguments, code=code)


if __name__ == "__main__":
    main()
