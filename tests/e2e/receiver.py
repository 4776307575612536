"""Who gets messages of the outbox in tests."""

import http.server
import json
import threading

from harness import PATIENCE


class Receiver:
    """An HTTP server that keeps what it gets. `answer(number, message)` gives a status, or None to
    never answer; numbers count from 1."""

    def __init__(self, answer=lambda number, message: 204):
        self.got = []  # (headers, body, status)
        self.lock = threading.Lock()
        self.answer = answer
        self.release = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.lock:
                    number = len(receiver.got) + 1
                    status = receiver.answer(number, json.loads(body))
                    receiver.got.append((dict(self.headers), body, status))
                if status is None:
                    receiver.release.wait(PATIENCE)
                    self.close_connection = True
                    return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # who was killed closes no connection

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def messages(self, taken=None):
        """The data of what came, in the order in which it came; only what was answered so."""
        with self.lock:
            return [json.loads(b)["data"] for _, b, status in self.got if taken in (None, status)]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def once(messages):
    """Without repeats, in the order in which each came first."""
    seen = {}
    for m in messages:
        seen.setdefault(m["id"], m)
    return list(seen.values())


def order(message_id):
    _, position, number = message_id.rsplit(":", 2)
    return int(position), int(number)
