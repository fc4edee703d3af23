"""A server of gRPC, over HTTP/2 with prior knowledge: answers as it is told, and keeps what it was asked. By PyPI's `h2`."""

import dataclasses
import pathlib
import sys

from oracle import proxies, wire

#: Beside the answer's own.
HEAD = [(":status", "200"), ("content-type", "application/grpc"), ("trailer", "grpc-status")]


@dataclasses.dataclass
class Grpc:
    """Messages, then a status."""

    status: int = 0
    messages: list = dataclasses.field(default_factory=lambda: [b""])
    said: str = ""


def library():
    """Found where Envoy is: in the environment of what comes from PyPI."""
    found = proxies.common.python_package("h2", "lib/python3*/site-packages/h2/__init__.py")
    path = str(pathlib.Path(found).parents[1])
    if path not in sys.path:
        sys.path.append(path)
    import h2.config
    import h2.connection
    import h2.events

    return h2


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


class Server(wire.Server):
    """The same by gRPC."""

    def __init__(self, port, answer):
        self.h2 = library()
        super().__init__(port, answer)

    def serve(self, connection):
        config = self.h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        state = self.h2.connection.H2Connection(config=config)
        state.initiate_connection()
        requests = {}
        while True:
            connection.sendall(state.data_to_send())
            data = connection.recv(1 << 16)
            if not data:
                return
            for event in state.receive_data(data):
                self.happened(state, event, requests)

    def happened(self, state, event, requests):
        events = self.h2.events
        if isinstance(event, events.RequestReceived):
            fields = dict(event.headers)
            start = (fields[":method"], fields[":path"], fields.get(":authority"))
            requests[event.stream_id] = wire.Message(start, [f for f in event.headers if f[0][0] != ":"])
        elif isinstance(event, events.DataReceived):
            requests[event.stream_id].body += event.data
            state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self.asked.append(requests.pop(event.stream_id))
            self.reply(state, event.stream_id)

    def reply(self, state, stream):
        state.send_headers(stream, HEAD)
        for message in self.answer.messages:
            state.send_data(stream, framed(message))
        told = [("grpc-status", str(self.answer.status))]
        told += [("grpc-message", self.answer.said)] if self.answer.said else []
        state.send_headers(stream, told, end_stream=True)
