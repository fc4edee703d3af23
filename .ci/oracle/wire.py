"""HTTP/1.1 as bytes: a client and a server that keep every header, its order, and trailers, as no library does."""

import dataclasses
import socket
import socketserver
import threading

NO_BODY = (204, 304)


@dataclasses.dataclass
class Message:
    """A request or an answer; names in lower case."""

    start: tuple
    headers: list
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)

    def header(self, name):
        return next((value for key, value in self.headers if key == name), None)


def lines(file):
    """Fields until the empty line."""
    found = []
    while True:
        line = file.readline()
        if not line:
            raise ConnectionError("closed within a head")
        line = line.rstrip(b"\r\n").decode("latin-1")
        if not line:
            return found
        name, _, value = line.partition(":")
        found.append((name.lower(), value.strip()))


def read(file, bodiless=False):
    """The next message, or None where the other side is done."""
    start = file.readline()
    if not start:
        return None
    found = Message(tuple(start.rstrip(b"\r\n").decode("latin-1").split(" ", 2)), lines(file))
    answer = found.start[0].startswith("HTTP/")
    if answer and found.start[1].startswith("1"):
        return read(file, bodiless)
    length = found.header("content-length")
    if bodiless or (answer and int(found.start[1]) in NO_BODY):
        return found
    if found.header("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            found.body += exactly(file, size)
            file.readline()
        found.trailers = lines(file)
    elif length is not None:
        found.body = exactly(file, int(length))
    elif answer:
        found.body = file.read()
    return found


def exactly(file, size):
    data = file.read(size)
    if len(data) < size:
        raise ConnectionError(f"{len(data)} of {size} bytes, then closed")
    return data


def write(start, headers, body, trailers, told=True):
    """`trailers` is None where the length is said up front; `told`: whether the body is sent at all."""
    headers = list(headers)
    if trailers is not None:
        headers.append(("transfer-encoding", "chunked"))
    elif body and not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("content-length", str(len(body))))
    head = start + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    data = head.encode("latin-1")
    if not told:
        return data
    if trailers is None:
        return data + body
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b""
    return data + chunk + b"0\r\n" + "".join(f"{n}: {v}\r\n" for n, v in trailers).encode() + b"\r\n"


def ask(port, request, seconds=10):
    """The answer of who listens there, on a connection of its own; what went wrong, if anything did."""
    head = f"{request.method} {request.path} HTTP/1.1"
    data = write(head, [("host", request.host), *request.headers], request.body, request.trailers)
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    except OSError:
        return "nobody listens"
    with connection:
        try:
            connection.sendall(data)
            found = read(connection.makefile("rb"), bodiless=request.method == "HEAD")
        except TimeoutError:
            return "no answer"
        except (OSError, ValueError) as error:
            return f"broken off: {error}"
    return found or "closed without an answer"


class Server:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, port, answer):
        self.answer, self.asked = answer, []
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    server.serve(self.request)
                except (OSError, ValueError):
                    pass  # Who asked is gone.

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 64

        self.listener = Listener(("127.0.0.1", port), Handler)
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def serve(self, connection):
        with connection.makefile("rb") as asked:
            while message := read(asked):
                self.asked.append(message)
                connection.sendall(self.bytes(message))

    def bytes(self, request):
        answer = self.answer
        bodiless = request.start[0] == "HEAD" or answer.status in NO_BODY
        headers = list(answer.headers)
        told = answer.trailers is not None or any(name == "content-length" for name, _ in headers)
        if not answer.body and not told and answer.status not in NO_BODY:
            headers.append(("content-length", "0"))
        return write(f"HTTP/1.1 {answer.status} Told", headers, answer.body, answer.trailers, not bodiless)

    def take(self):
        asked, self.asked = self.asked, []
        return asked

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()
