"""How kernels share the cores: one lock around numba's own threads, and row blocks in threads of ours.

numba's fallback thread pool ("workqueue", used where neither TBB nor OpenMP is found) ends the process when two threads
start parallel kernels at once, and the plugin runs jobs in threads. Each kernel uses all cores anyway.

Its OpenMP pool, when it starts, gives the OpenMP library a number of threads, and where numba and torch share that
library (Linux) torch's number is gone with it: sums are cut elsewhere, and training ends in other last bits.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_BLOCK = 32_768


class _OneAtATime:
    """A lock that the thread which holds it may take again; when it lets go, torch has the threads that it had."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._before: list[int | None] = []

    def __enter__(self) -> None:
        self._lock.acquire()
        torch = sys.modules.get("torch")
        self._before.append(torch.get_num_threads() if torch else None)

    def __exit__(self, *_: object) -> None:
        try:
            before, torch = self._before.pop(), sys.modules.get("torch")
            if before is not None and torch and torch.get_num_threads() != before:
                torch.set_num_threads(before)
        finally:
            self._lock.release()


ONE_AT_A_TIME = _OneAtATime()
"""Held around each of numba's parallel loops: ``with ONE_AT_A_TIME: loop(...)``."""


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Within it, matrix products run in one thread: small ones gain nothing from more, give the same bytes on any
    machine of a kind, and may be called from threads of ours. The libraries are looked for once: that takes a while.
    """
    return cast("AbstractContextManager[object]", _libraries().limit(limits=1))


def in_blocks(do: Callable[[int, int], None], n: int, block: int = _BLOCK) -> None:
    """Call ``do(start, stop)`` for blocks of ``n`` rows, on all cores.

    For kernels that run without the interpreter's lock (numba's ``nogil``, most of numpy) and write rows of their own.
    Unlike numba's parallel loops they get on with those of napari, and leave the window its turn.
    """
    starts = range(0, n, block)
    if len(starts) <= 1:
        do(0, n)
        return
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1), "stplm rows") as threads:
        try:
            for _ in threads.map(lambda start: do(start, min(start + block, n)), starts):
                pass
        except BaseException:  # the blocks that wait are not begun
            threads.shutdown(wait=False, cancel_futures=True)
            raise
