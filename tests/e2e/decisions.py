"""A server in front of fairsaled that streams its orders as GET /v1/sales/{sku}/decisions does, from
what a webhook brought; and that breaks streams off. The rest is passed on."""

import http.server
import json
import threading
import urllib.error
import urllib.request

from receiver import Receiver, once, order


class Decisions:
    def __init__(self, server, break_off_after=5):
        self.target = server.url
        self.receiver = Receiver()
        reply = server.request("POST", "/v1/webhooks", server.shop, {
            "url": self.receiver.url, "kinds": ["ordered", "refund_due", "reserved", "offered"],
            "past": True})
        assert reply.status == 201, reply
        self.opened = []  # Last-Event-ID of each stream
        self.ending = threading.Event()
        decisions = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                parts = self.path.split("/")
                if parts[-1] != "decisions":
                    return self.pass_on(None)
                last = self.headers["Last-Event-ID"]
                decisions.opened.append(last)
                at = [int(n) for n in last.split(".")]
                at = (at[0], at[1] if len(at) > 1 else 1 << 40)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"retry: 1000\n\n")
                sent = 0
                while not decisions.ending.wait(0.02):
                    due = [m for m in once(decisions.receiver.messages())
                           if m["sku"] == parts[3] and order(m["id"]) > at]
                    for m in sorted(due, key=lambda m: order(m["id"])):
                        at = order(m["id"])
                        self.wfile.write(f"id: {at[0]}.{at[1]}\nevent: {m['type']}\n"
                                         f"data: {json.dumps(m)}\n\n".encode())
                        sent += 1
                        if sent % break_off_after == 0:
                            # In the middle of an event.
                            return self.wfile.write(b"id: 999999\nevent: ordered\ndata: {")

            def do_POST(self):
                self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

            def pass_on(self, body):
                request = urllib.request.Request(decisions.target + self.path, body, {
                    k: v for k, v in self.headers.items()
                    if k in ("Authorization", "Content-Type")})
                try:
                    with urllib.request.urlopen(request, timeout=30) as reply:
                        status, answer = reply.status, reply.read()
                except urllib.error.HTTPError as e:
                    status, answer = e.code, e.read()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # who was killed closes no connection

        self.http = Server(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ending.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
        self.receiver.__exit__(*error)
