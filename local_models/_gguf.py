"""The header of a GGUF file: how many parameters it holds and whether it is whole. No library needed.

Layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, metadata, one entry per
tensor, padding, data.
"""

import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the metadata types with a fixed length; 8 is a string, 9 an array."""
_STRING, _ARRAY, _U32 = 8, 9, 4
_COUNT_MAX = 1_000_000
"""More tensors or metadata than any real file has: what is read is no header."""
_ALIGNMENT_KEY = "general.alignment"
_BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    30: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 36),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
}
"""Values and bytes of a block by tensor type: F32, F16, BF16; Q4_0 .. Q8_1; Q2_K .. Q8_K."""


class NotGguf(ValueError):
    """No GGUF file, one that ends too early, or one with tensors of an unknown type."""


def parameters(path: Path) -> int:
    """How many parameters the file holds. Raises NotGguf; OSError passes through."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            counted, end = _header(stream)
        except (struct.error, OverflowError, UnicodeDecodeError) as error:
            raise NotGguf(path.name) from error
    if end > size:
        raise NotGguf(path.name)
    return counted


def _header(stream: BinaryIO) -> tuple[int, int]:
    """Parameters, and where the data of the last tensor ends."""
    if stream.read(4) != MAGIC:
        raise NotGguf("magic")
    version, tensors, entries = _take(stream, "<IQQ")
    if version not in (2, 3) or max(tensors, entries) > _COUNT_MAX:
        raise NotGguf("header")
    alignment = 32
    for _ in range(entries):
        key = _string(stream)
        (kind,) = _take(stream, "<I")
        if key == _ALIGNMENT_KEY and kind == _U32:
            (alignment,) = _take(stream, "<I")
        else:
            _skip(stream, kind)
    counted = end = 0
    for _ in range(tensors):
        _string(stream)
        (axes,) = _take(stream, "<I")
        shape = _take(stream, f"<{axes}Q")
        kind, offset = _take(stream, "<IQ")
        if kind not in _BLOCKS:
            raise NotGguf(f"tensor type {kind}")
        values, size = _BLOCKS[kind]
        count = int(prod(shape))
        counted += count
        end = max(end, int(offset) + -(-count // values) * size)
    here = stream.tell()
    return counted, here + -here % max(1, alignment) + end


def _take(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _string(stream: BinaryIO) -> str:
    (length,) = _take(stream, "<Q")
    raw = stream.read(length) if length <= _COUNT_MAX else b""
    if len(raw) != length:
        raise NotGguf("text")
    return raw.decode()


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _string(stream)
    elif kind == _ARRAY:
        inner, count = _take(stream, "<IQ")
        if count > 100 * _COUNT_MAX:
            raise NotGguf("array")
        if inner in _SCALARS:
            stream.seek(count * _SCALARS[inner], 1)
        else:
            for _ in range(count):
                _skip(stream, inner)
    elif kind in _SCALARS:
        stream.seek(_SCALARS[kind], 1)
    else:
        raise NotGguf("metadata")
