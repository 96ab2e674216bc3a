"""Memory that is not needed any more goes back to the system, where the platform lets it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def let_go(array: NDArray[Any]) -> None:
    """Write what a memory-mapped file still owes the disk, and let its pages leave memory; others stay as they are."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap):
        owner.flush()
        if hasattr(mmap, "MADV_DONTNEED"):
            owner.madvise(mmap.MADV_DONTNEED)


def give_back() -> None:
    """Let the allocator return what a long task has freed, once Python has freed all that it can."""
    gc.collect()
    trim()


def trim() -> None:
    """Let the allocator return what is free: glibc keeps it otherwise, in as many heaps as there are threads."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
