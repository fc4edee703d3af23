"""A connection that is carried as a whole: both of its ends, and what each of them heard at which step."""

import contextlib
import dataclasses
import select
import socket
import time

#: Of a client whom nobody answers, and of a server that is never called.
CONNECTED = 3


@dataclasses.dataclass
class Talk:
    """What the two say, one after the other: ("client" or "server", bytes), where no bytes are the end of a half, and
    `RESET` its abrupt one."""

    name: str
    steps: list

    def __str__(self):
        return self.name


RESET = None


@dataclasses.dataclass
class Talked:
    request: Talk
    #: What has come to an end by each step, and how things stand there: open, closed, reset.
    client: list
    server: list
    log: list
    called: dict = dataclasses.field(default_factory=dict)

    def sides(self):
        return {"client": self.client, "server": self.server}


class End:
    """One end, which only listens unless it is told what to say."""

    def __init__(self):
        self.socket, self.heard, self.state, self.ended = None, b"", "nobody", False

    def take(self, connection):
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.state = connection, "open"

    def listen(self):
        with contextlib.suppress(BlockingIOError):
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data, self.state = b"", "reset"
            self.heard += data
            if not data:
                self.state = self.state if self.state == "reset" else "closed"

    def say(self, words):
        """Where it cannot be said any more, that is seen by what comes of it."""
        with contextlib.suppress(OSError, AttributeError):
            if words is RESET:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.socket.close()
                self.state = "gone"
            elif words:
                self.socket.setblocking(True)
                self.socket.sendall(words)
                self.socket.setblocking(False)
            else:
                self.socket.shutdown(socket.SHUT_WR)

    def told(self):
        heard, self.heard = self.heard, b""
        return heard, self.state


class Server:
    """Takes one connection at a time."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))

    def close(self):
        self.listener.close()


def play(port, server, talk, quiet):
    """Has both ends say their part. Returns what each has heard after the beginning and after each step."""
    client, far = End(), End()
    with contextlib.ExitStack() as stack:
        client.take(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=CONNECTED)))
        said = [until_quiet(client, far, server, quiet)]
        for who, words in talk.steps:
            (client if who == "client" else far).say(words)
            said.append(until_quiet(client, far, server, quiet))
        if far.socket:
            far.socket.close()
    return [one for one, _ in said], [other for _, other in said]


def until_quiet(client, far, server, quiet):
    last = time.monotonic()
    while time.monotonic() - last < quiet:
        ends = [end for end in (client, far) if end.state == "open"]
        waiting = [end.socket for end in ends] + ([server.listener] if far.state == "nobody" else [])
        ready = select.select(waiting, [], [], quiet / 5)[0] if waiting else time.sleep(quiet) or []
        if server.listener in ready:
            far.take(server.listener.accept()[0])
        for end in ends:
            if end.socket in ready:
                end.listen()
        last = time.monotonic() if ready else last
    return client.told(), far.told()
