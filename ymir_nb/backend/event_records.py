"""TensorBoard's records: the scalars in one, and its checksum; bytes in, values out.

Source: the protocol buffers ``Event``, ``Summary``, ``Summary.Value`` and ``TensorProto``; CRC-32C.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

MAX_TAG = 300

_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")
_NUMBERS = {1: "f", 2: "d", 3: "i", 9: "q"}  # DataType of TensorProto: float, double, int32, int64


def scalars(record: bytes) -> Iterator[tuple[str, int, float, float]]:
    """Give the scalars of a record.

    Parameters
    ----------
    record : bytes
        An ``Event``; empty is one without anything.

    Yields
    ------
    tag : str
    step : int
    wall_time : float
        Seconds since 1970, finite.
    value : float
        As it was logged, NaN and infinities included.

    Raises
    ------
    ValueError
        It is no event.

    Examples
    --------
    >>> list(scalars(bytes.fromhex("1007" "2a0a" "0a08" "0a0161" "150000803f")))
    [('a', 7, 0.0, 1.0)]
    """
    wall_time, step, summaries = 0.0, 0, []
    for number, value in _fields(record):
        if number == 1 and isinstance(value, bytes):
            wall_time = _unpack(_DOUBLE, value)
        elif number == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    if not math.isfinite(wall_time):
        raise ValueError("its time is no number")
    for summary in summaries:
        for number, value in _fields(summary):
            scalar = _scalar(value) if number == 1 and isinstance(value, bytes) else None
            if scalar is not None:
                yield scalar[0], step, wall_time, scalar[1]


def _scalar(entry: bytes) -> tuple[str, float] | None:
    """Read a ``Summary.Value``; None where it is a picture, a histogram or a text."""
    tag, found = b"", None
    for number, value in _fields(entry):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            tag = value
        elif number == 2:
            found = _unpack(_FLOAT, value)
        elif number == 8 and len(value) <= MAX_TAG:
            found = _tensor(value)
    name = tag.decode("utf-8")
    if len(name) > MAX_TAG:
        raise ValueError(f"a tag of {len(name)} characters")
    return None if found is None or not name else (name, found)


def _tensor(data: bytes) -> float | None:
    """Read a ``TensorProto`` of one number, the newer way to log a scalar."""
    kind, content, packed, plain = 0, b"", b"", None
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in (5, 6) and isinstance(value, bytes):  # float_val and double_val, packed or not
            packed += value
        elif number in (7, 10):  # int_val and int64_val
            plain = value if isinstance(value, int) else next(_varints(value), None)
    code = _NUMBERS.get(kind)
    if code is None:
        return None
    if plain is not None and not content:
        return float(plain - (1 << 64) if plain >> 63 else plain)
    raw = content or packed
    return float(struct.unpack(f"<{code}", raw)[0]) if len(raw) == struct.calcsize(f"<{code}") else None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Go through a protocol buffer: field number, and an integer or the raw bytes.

    Raises
    ------
    ValueError
        It is none.
    """
    position, size = 0, len(data)
    while position < size:
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > size:
            raise ValueError("a field reaches over the end")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an integer and give where the next byte lies."""
    if position < len(data) and data[position] < 0x80:  # nearly all of them
        return data[position], position + 1
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise ValueError("an integer without end")


def _varints(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _unpack(form: struct.Struct, data: bytes) -> float:
    if len(data) != form.size:
        raise ValueError(f"a number of {len(data)} bytes")
    return float(form.unpack(data)[0])


def _crc_table() -> tuple[int, ...]:
    """Make the table of CRC-32C (Castagnoli, reflected polynomial 0x82F63B78)."""
    table = []
    for value in range(256):
        rest = value
        for _ in range(8):
            rest = (rest >> 1) ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return tuple(table)


_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """Give the checksum of the record format: CRC-32C, turned by 15 bits, plus a constant.

    Examples
    --------
    >>> hex(masked_crc(b"123456789"))  # CRC-32C of this is 0xe3069283
    '0xc78ab0e5'
    """
    crc, table = 0xFFFF_FFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFF_FFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282_EAD8) & 0xFFFF_FFFF
