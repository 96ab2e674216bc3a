"""Many cell ids in little room, for a journal line. No Qt.

Ids, not row numbers: a journal outlives the order in which a reader happens to list the cells.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_PLAIN = 200
"""Up to so many ids stand in the line as they are, for anyone to read."""


def pack(cells: Sequence[str]) -> Any:
    """Ids as JSON can hold them: a list, or of many ``{"n", "dtype", "columns"}``.

    ``columns`` is base64 of zlib of the ids as an array of that numpy dtype, all first bytes first: ids of a section
    differ in their last characters, so this takes half the room that zlib needs for them one after the other.
    """
    if len(cells) <= _PLAIN:
        return list(cells)
    try:
        ids = np.array(cells, dtype="S")
    except UnicodeEncodeError:
        ids = np.array(cells, dtype="U")
    columns = np.ascontiguousarray(ids.view(np.uint8).reshape(len(ids), -1).T)
    # A column is a run of one character or as good as random: there is no repeat for zlib to look for.
    squeeze = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    packed = squeeze.compress(columns.tobytes()) + squeeze.flush()
    return {"n": len(ids), "dtype": ids.dtype.str, "columns": base64.b64encode(packed).decode("ascii")}


def unpack(packed: Any) -> list[str]:
    """The ids that :func:`pack` packed. Raises ValueError when they are damaged."""
    if not isinstance(packed, Mapping):
        return [str(c) for c in packed]
    try:
        dtype = np.dtype(packed["dtype"])
        columns = np.frombuffer(zlib.decompress(base64.b64decode(packed["columns"])), np.uint8)
        ids = np.ascontiguousarray(columns.reshape(-1, int(packed["n"])).T).view(dtype).ravel()
    except (KeyError, TypeError, zlib.error, binascii.Error) as error:
        raise ValueError(f"packed cell ids are damaged: {error}") from error
    found: list[str] = ids.astype("U").tolist()
    return found
