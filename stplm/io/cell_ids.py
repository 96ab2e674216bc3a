"""Xenium's own cell ids: a 32-bit number written as eight letters, and a dataset suffix ("aaaakoob-1").

10x Genomics, "Cell ID format mapping" (Xenium Onboard Analysis 1.3 and later): the number in hexadecimal, its digits
0-f replaced by the letters a-p, padded with "a" to eight letters, then "-" and the suffix.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from stplm.errors import SectionError

_SHIFTS = np.array([28, 24, 20, 16, 12, 8, 4, 0], dtype=np.uint32)
_FORMAT = re.compile(r"[a-p]{8}-\d+")


def encode_cell_ids(numbers: npt.ArrayLike, suffix: int = 1) -> npt.NDArray[np.str_]:
    """Write numbers (n,) in [0, 2**32) as Xenium cell ids."""
    prefix = np.asarray(numbers, dtype=np.uint32)
    letters = ((prefix[:, None] >> _SHIFTS) & 0xF).astype(np.uint8) + np.uint8(ord("a"))
    words = np.ascontiguousarray(letters).view("S8").ravel().astype("U8")
    return np.char.add(words, f"-{suffix}")


def decode_cell_ids(ids: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Read Xenium cell ids (n,) into (n, 2) uint32: number and dataset suffix.

    Raises SectionError for the first id that is not eight letters a-p, "-" and a number.
    """
    words = np.asarray(ids, dtype=str)
    for word in words:
        if _FORMAT.fullmatch(word) is None:
            raise SectionError(
                "A cell id is not in Xenium's format.",
                found=repr(str(word)),
                expected='eight letters a-p, "-" and a number, as "aaaaficg-1"',
                mend="Number the cells and write the numbers with stplm.io.cell_ids.encode_cell_ids.",
            )
    if not len(words):
        return np.zeros((0, 2), dtype=np.uint32)
    parts = np.char.partition(words, "-")
    letters = np.ascontiguousarray(parts[:, 0].astype("S8")).view(np.uint8).reshape(-1, 8) - np.uint8(ord("a"))
    prefix = (letters.astype(np.uint64) << _SHIFTS.astype(np.uint64)).sum(axis=1)
    return np.column_stack([prefix, parts[:, 2].astype(np.uint64)]).astype(np.uint32)
