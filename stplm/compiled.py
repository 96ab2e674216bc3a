"""The decorator of all loops that numba compiles: machine code is kept on the disk, a file for each signature.

numba numbers the files of a function's signatures (1, 2, ...) and writes the list of them first. Where two processes
compile the same function for other types at one time, both may take one number: the list then says that the file is of
one signature and holds the code of the other, in every later process too, which reads memory wrongly and dies
(numba's issues 4807 and 10128). Workers of a cohort, processes of a training run and of the tests do start at one time.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numba


def compiled(
    *, parallel: bool = False, nogil: bool = False, fastmath: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """numba's ``njit`` with a cache that many processes may fill at once. Options are those of ``numba.njit``."""

    def decorate(function: Callable[..., Any]) -> Any:
        kernel = numba.njit(cache=True, parallel=parallel, nogil=nogil, fastmath=fastmath)(function)
        files: Any = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
        if all(hasattr(files, part) for part in ("save", "_load_index", "_save_index", "_save_data", "_data_name")):
            files.save = lambda key, code: _save(files, key, code)
        return kernel

    return decorate


def _save(files: Any, key: object, code: object) -> None:
    """numba's own ``save``, but that the signature names the file, and that the code is there before the list says so.

    At worst one of two processes' entries is missing from the list, and is compiled once more.
    """
    stem, _, ending = files._data_name(0).rpartition("0")
    name = stem + sha256(repr((numba.__version__, key)).encode()).hexdigest()[:16] + ending
    files._save_data(name, code)
    listed = files._load_index()
    listed[key] = name
    files._save_index(listed)
