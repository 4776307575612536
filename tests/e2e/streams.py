"""Event streams as curl brings them."""

import json
import subprocess
import threading

from harness import PATIENCE, Reply, eventually


class Event:
    def __init__(self, name, event_id, data):
        self.name = name
        self.id = event_id  # None: it is not resumed after
        self.data = data

    @property
    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"{self.name} {self.id} {self.data}"


class Reader:
    """Reads text/event-stream as the HTML standard has it, in pieces of any size."""

    def __init__(self, last=None):
        self.events = []
        self.last = last     # the id to resume after
        self.heartbeats = 0  # comments, and ids without data
        self.rest = b""
        self.fields = {}

    def feed(self, piece):
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            if line:
                name, _, value = line.decode().partition(":")
                assert name in ("", "retry", "event", "id", "data"), line
                assert name not in self.fields, "one line of each field"
                self.fields[name] = value.removeprefix(" ")
                continue
            fields, self.fields = self.fields, {}
            self.last = fields.get("id", self.last)
            if "data" in fields:
                self.events.append(Event(fields["event"], fields.get("id"), fields["data"]))
            elif "retry" not in fields:
                self.heartbeats += 1


class Curl:
    """A stream that a curl of its own reads."""

    def __init__(self, server, path, token=None, last=None, options=()):
        headers = [f"Authorization: Bearer {token}"] if token else []
        headers += [f"Last-Event-ID: {last}"] if last is not None else []
        self.process = subprocess.Popen(
            ["curl", "-N", "-s", "-i", *options, *(f"-H{h}" for h in headers), server.url + path],
            stdout=subprocess.PIPE)
        self.reader = Reader(last)
        self.head = b""
        self.body = b""  # of another answer than a stream
        self.status = None
        self.headers = []
        self.trouble = None
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        try:
            while piece := self.process.stdout.read1(65536):
                if self.status is None:
                    self.head += piece
                    head, found, piece = self.head.partition(b"\r\n\r\n")
                    if not found:
                        continue
                    first, *fields = head.decode().split("\r\n")
                    self.headers = [tuple(f.split(": ", 1)) for f in fields]
                    self.status = int(first.split()[1])
                if self.status == 200:
                    self.reader.feed(piece)
                else:
                    self.body += piece
        except Exception as e:
            self.trouble = e

    @property
    def events(self):
        return self.reader.events[:]

    @property
    def last(self):
        return self.reader.last

    @property
    def names(self):
        return [e.name for e in self.events]

    def of(self, *names):
        return [e for e in self.events if e.name in names]

    def until(self, what, condition):
        """Polls until condition(self) is true and returns its value."""
        def look():
            value = condition(self)
            if self.trouble:
                raise self.trouble
            if not value and not self.thread.is_alive():
                value = condition(self)
                assert value, f"the stream ended without it: {what}: {self}"
            return value
        try:
            return eventually(what, look)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self}") from e

    def begun(self):
        """Waits until it is known to be a stream."""
        self.until("an answer", lambda s: s.status is not None)
        assert self.status == 200, self
        return self

    def wait_for(self, name, count=1):
        """The `count`th event of that name."""
        return self.until(f"{count} of {name}", lambda s: s.of(name)[count - 1:])[0]

    def cut(self):
        """Cuts it off wherever it is; returns the id to resume after."""
        self.process.kill()
        self.end()
        return self.last

    def end(self):
        """Waits for the end; returns curl's exit code."""
        code = self.process.wait(PATIENCE)
        self.thread.join()
        self.process.stdout.close()
        if self.trouble:
            raise self.trouble
        return code

    def reply(self):
        """The whole answer, once it has ended; of a stream, what has come of it so far."""
        if self.status != 200:
            self.end()
        return Reply(self.status, self.headers, self.body)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:500]!r} … {self.events[-20:]}"
