"""A network that can be cut: TCP connections through proxies on loopback, each between two that are
named. While some are cut off, which still reach each other, nothing they send arrives elsewhere, or
nothing reaches them, or both; no connection is closed. What was cut is closed when it heals, as a host
does that has been away for too long. Connections can be slow, too, and break."""

import asyncio
import collections
import contextlib
import multiprocessing
import signal
import socket

from harness import PATIENCE


class Side(asyncio.Protocol):
    """One end of a connection, at `name`; `other` is the one that its bytes go to."""

    def __init__(self, link, name, other=None):
        self.link, self.name, self.other, self.transport = link, name, other, None
        self.early = []  # what came before the other end was there
        self.late = collections.deque()
        self.due = 0

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.sides.add(self)
        if self.other is None:
            self.other = Side(self.link, self.link.to, self)
            asyncio.ensure_future(self._connect())
        else:
            for data in self.other.early:
                transport.write(data)
            self.other.early.clear()

    async def _connect(self):
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self.other, "127.0.0.1", self.link.port)
        except OSError:
            self.transport.abort()

    def data_received(self, data):
        if self.link.loses_from(self.name):
            return
        if self.other.transport is None:
            self.early.append(data)
        elif self.late or self.link.delay():
            loop = asyncio.get_running_loop()
            self.late.append(data)
            self.due = max(self.due, loop.time() + self.link.delay())
            loop.call_at(self.due, self._pass_on)
        else:
            self.other.write(data)

    def _pass_on(self):
        data = self.late.popleft()
        if not self.link.loses_from(self.name) and self.other.transport is not None:
            self.other.write(data)

    def write(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self):
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self):
        if self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error):
        self.link.sides.discard(self)
        # Nor does the other end hear of an end.
        if not self.link.is_cut() and self.other.transport is not None:
            self.other.transport.close()


class Link:
    def __init__(self, network, of, to, port):
        self.network, self.of, self.to, self.port = network, of, to, port
        self.names = {of, to}
        self.sides = set()

    def delay(self):
        return self.network.delay if self.network.slow & self.names else 0

    def is_cut(self):
        return len(self.network.away & self.names) == 1

    def loses_from(self, name):
        way = self.network.sends if name in self.network.away else self.network.hears
        return self.is_cut() and not way


class Links:
    """All connections, in a process of their own: nothing else makes them wait."""

    def __init__(self):
        self.links = []
        self.away, self.sends, self.hears = set(), False, False
        self.slow, self.delay = set(), 0

    async def serve(self, pipe):
        loop = asyncio.get_running_loop()
        with contextlib.suppress(EOFError):  # whoever asks has gone
            while True:
                what, arguments, options = await loop.run_in_executor(None, pipe.recv)
                pipe.send(await getattr(self, what)(*arguments, **options))

    async def link(self, of, to, port):
        link = Link(self, of, to, port)
        link.server = await asyncio.get_running_loop().create_server(
            lambda: Side(link, of), "127.0.0.1", 0)
        self.links.append(link)
        return link.server.sockets[0].getsockname()[1]

    async def cut(self, *names, sends, hears):
        self.away, self.sends, self.hears = set(names), sends, hears

    async def slow_down(self, name, seconds):
        self.slow, self.delay = {name}, seconds

    async def break_off(self, name):
        for link in self.links:
            if name in link.names:
                for side in list(link.sides):
                    side.transport.abort()

    async def heal(self):
        cut = [link for link in self.links if link.is_cut()]
        self.away, self.slow = set(), set()
        for link in cut:
            for side in list(link.sides):
                side.transport.abort()


def serve(pipe):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(Links().serve(pipe))


class Network:
    def __enter__(self):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(
            target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.join(PATIENCE)
        self.pipe.close()

    def _do(self, what, *arguments, **options):
        self.pipe.send((what, arguments, options))
        assert self.pipe.poll(PATIENCE), f"the network does not answer to {what}"
        return self.pipe.recv()

    def link(self, of, to, port):
        """Where `of` reaches the port of `to`."""
        return self._do("link", of, to, port)

    def cut(self, *names, sends=False, hears=False):
        """These from all others, unless what they send still arrives, or they still hear."""
        self._do("cut", *names, sends=sends, hears=hears)

    def slow_down(self, name, seconds):
        """What this one sends and gets is so late from now on."""
        self._do("slow_down", name, seconds)

    def break_off(self, name):
        """All its connections end; others can be made at once."""
        self._do("break_off", name)

    def heal(self):
        self._do("heal")
