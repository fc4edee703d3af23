"""The few bytes of protobuf that an echo takes: strings and messages in numbered fields, and gRPC's frame around."""

from __future__ import annotations

import struct
from typing import Iterable


def encode(fields: Iterable[tuple[int, str | bytes]]) -> bytes:
    out = b""
    for number, value in fields:
        data = value.encode() if isinstance(value, str) else value
        out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data: bytes) -> dict[int, list[bytes]]:
    """Fields of length-delimited types; others do not occur."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        found.setdefault(tag >> 3, []).append(data[at:at + size])
        at += size
    return found


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def unframed(data: bytes) -> bytes:
    return data[5:5 + struct.unpack(">I", data[1:5])[0]]
