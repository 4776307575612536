"""A network that can be cut: TCP connections through proxies on loopback, each between two that are
named. While some are cut off, which still reach each other, nothing they send arrives elsewhere, or
nothing reaches them, or both; no connection is closed. What was cut is closed when it heals, as a host
does that has been away for too long. Connections can be slow, too, and break."""

import asyncio
import collections
import socket
import threading

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


class Network:
    def __init__(self):
        self.links = []
        self.away, self.sends, self.hears = set(), False, False
        self.slow, self.delay = set(), 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self._do(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    async def _close(self):
        for link in self.links:
            link.server.close()
            for side in list(link.sides):
                side.transport.abort()

    def link(self, of, to, port):
        """Where `of` reaches the port of `to`."""
        async def listen():
            link = Link(self, of, to, port)
            link.server = await self.loop.create_server(
                lambda: Side(link, of), "127.0.0.1", 0)
            self.links.append(link)
            return link.server.sockets[0].getsockname()[1]
        return self._do(listen())

    def cut(self, *names, sends=False, hears=False):
        """These from all others, unless what they send still arrives, or they still hear."""
        async def cut():
            self.away, self.sends, self.hears = set(names), sends, hears
        self._do(cut())

    def slow_down(self, name, seconds):
        """What this one sends and gets is so late from now on."""
        async def slow_down():
            self.slow, self.delay = {name}, seconds
        self._do(slow_down())

    def break_off(self, name):
        """All its connections end; others can be made at once."""
        async def break_off():
            for link in self.links:
                if name in link.names:
                    for side in list(link.sides):
                        side.transport.abort()
        self._do(break_off())

    def heal(self):
        async def heal():
            cut = [link for link in self.links if link.is_cut()]
            self.away = set()
            self.slow = set()
            for link in cut:
                for side in list(link.sides):
                    side.transport.abort()
        self._do(heal())
