"""A lossless WebP that is nearly all Huffman tables: RFC 9649, section 3."""

import struct

_SIMPLE = (0b0001, 4)  # a code of one symbol, which takes no bit: 0
_LENGTHS = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)  # the order in which the lengths of lengths stand


class _Bits:
    """The lowest first."""

    def __init__(self) -> None:
        self._value = self._count = 0
        self._bytes = bytearray()

    def put(self, *parts: tuple[int, int]) -> None:
        """Each a value and how many bits it has."""
        for value, count in parts:
            self._value |= value << self._count
            self._count += count
            while self._count >= 8:
                self._bytes.append(self._value & 255)
                self._value >>= 8
                self._count -= 8

    def done(self) -> bytes:
        return bytes(self._bytes) + bytes([self._value]) + bytes(64)


def groups(side: int) -> bytes:
    """A square of `side` pixels, a multiple of 4, with a set of tables for each 4 x 4 of them (6.2.2): 6 kB of memory
    for 3 bytes of file."""
    across, bits = side // 4, _Bits()
    bits.put((0x2F, 8), (side - 1, 14), (side - 1, 14), (0, 4))  # signature, sides, no alpha and version
    bits.put((0, 1), (0, 1), (1, 1), (0, 3))  # no transform, no colour cache, many groups, each of 4 x 4 pixels
    # which group: its low byte is the green, its high byte the red of an image, without a colour cache
    bits.put((0, 1), *_flat(280), *_flat(256), _SIMPLE, _SIMPLE, _SIMPLE)
    for group in range(across * across):
        bits.put(*((int(f"{value:08b}"[::-1], 2), 8) for value in (group & 255, group >> 8)))
    bits.put(*[_SIMPLE] * 5 * across * across)
    data = bits.done()
    data += bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", 12 + len(data)) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data


def _flat(alphabet: int) -> list[tuple[int, int]]:
    """A code of 8 bits for each of the first 256 symbols: its lengths, 0 and 8, have a code of one bit."""
    head = [(0, 1), (len(_LENGTHS) - 4, 4), *((int(length in (0, 8)), 3) for length in _LENGTHS), (0, 1)]
    return head + [(int(symbol < 256), 1) for symbol in range(alphabet)]
