"""Make an interpreter load `site` from its library instead of from the copy frozen into the program.

Debian freezes its own `site.py`, which looks for `dist-packages`, into `python3.11`. CPython looks a frozen module
up by name in the table that `_PyImport_FrozenStdlib` points to (CPython 3.11, Include/cpython/import.h: an array of
32-byte `struct _frozen`, ended by a name of NULL). Pointing one entry's name at an empty string hides the module.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from slipway.errors import SlipwayError

_TABLE = b"_PyImport_FrozenStdlib"
_ENTRY = 32
_MOST_ENTRIES = 256
_LOAD = 1
_DYNSYM = 11


@dataclass
class _Elf:
    """The parts of a 64-bit little-endian ELF executable with fixed addresses that are needed here."""

    data: bytearray

    def offset(self, address: int) -> int:
        """Return the place in the file of a virtual address."""
        start, size, count = (*struct.unpack_from("<Q", self.data, 32), *struct.unpack_from("<HH", self.data, 54))
        for index in range(count):
            kind, _, place, base, _, length = struct.unpack_from("<IIQQQQ", self.data, start + index * size)
            if kind == _LOAD and base <= address < base + length:
                return int(place + address - base)
        raise ValueError(f"address {address:#x} is not in the file")

    def symbol(self, name: bytes) -> int:
        """Return the address of a dynamic symbol."""
        start = struct.unpack_from("<Q", self.data, 40)[0]
        size, count = struct.unpack_from("<HH", self.data, 58)
        sections = [struct.unpack_from("<IIQQQQII", self.data, start + index * size) for index in range(count)]
        for _, kind, _, _, place, length, link, _ in sections:
            if kind != _DYNSYM:
                continue
            strings = sections[link][4]
            for entry in range(place, place + length, 24):
                text, _, _, _, value = struct.unpack_from("<IBBHQ", self.data, entry)
                if self.text(strings + text) == name:
                    return int(value)
        raise ValueError(f"there is no symbol {name.decode()}")

    def text(self, offset: int) -> bytes:
        """Return the zero-terminated string at a place in the file."""
        return bytes(self.data[offset : self.data.index(0, offset)])

    def pointer(self, offset: int) -> int:
        """Return the 64-bit value at a place in the file."""
        return int(struct.unpack_from("<Q", self.data, offset)[0])


def hide_frozen_module(program: bytes, module: str) -> bytes:
    """Return `program` with its frozen copy of `module` hidden, so that the import system finds the file.

    Raises:
        SlipwayError: the program is not a CPython 3.11 built with fixed addresses, or holds no such module.
    """
    elf = _Elf(bytearray(program))
    try:
        entry = elf.offset(elf.pointer(elf.offset(elf.symbol(_TABLE))))
        for _ in range(_MOST_ENTRIES):
            name = elf.pointer(entry)
            if name == 0:
                break
            if elf.text(elf.offset(name)) == module.encode():
                struct.pack_into("<Q", elf.data, entry, name + len(module))
                return bytes(elf.data)
            entry += _ENTRY
    except (ValueError, struct.error) as error:
        seen = str(error)
    else:
        seen = "a table without it"
    raise SlipwayError(
        f"the frozen module {module} cannot be hidden in Debian's Python",
        seen=seen,
        rule="a CPython 3.11 executable with fixed addresses and a table of frozen modules",
        edit="src/slipway/channel/frozen.py",
    )
