"""How kernels share the cores: one lock around numba's own threads, and row blocks in threads of ours.

numba's fallback thread pool ("workqueue", used where neither TBB nor OpenMP is found) ends the process when two threads
start parallel kernels at once, and the plugin runs jobs in threads. Each kernel uses all cores anyway.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

ONE_AT_A_TIME = threading.RLock()
_BLOCK = 32_768


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
