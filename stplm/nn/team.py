"""Threads that share out torch's work on a CPU: each runs its operators alone, on a piece of its own.

Small operators gain little from several threads each and wait for one another at every end; where the cores are shared
with other programs that wait is most of the time. Pieces (batches of cells, tiles) have no ends to meet at, and their
results do not depend on how many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import torch

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_AHEAD = 2
"""Pieces a thread that may wait for their turn, or to be fetched."""


class Team:
    """As many threads as torch would use (``torch.get_num_threads``); on a GPU two, so that one prepares a piece and
    fetches another while the GPU works.

    Parameters
    ----------
    device
        Where the work runs.
    half
        Matrix products in bfloat16.
    """

    def __init__(self, device: Any = "cpu", *, half: bool = False) -> None:
        self.device, self._half = torch.device(device), half
        self._before = torch.get_num_threads()
        self._feeds = feeds(self.device)
        self.size = 2 if self._feeds else self._before
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Team:
        self._threads = ThreadPoolExecutor(self.size, "stplm torch", None if self._feeds else _one_thread)
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
            # torch tells threads that are yet to come what it was told last.
            torch.set_num_threads(self._before)

    def map(self, do: Callable[[_In], _Out], pieces: Iterable[_In]) -> Iterator[_Out]:
        """``do`` of each piece, in order, in inference mode. A few pieces are taken ahead, never all.

        What ``do`` raises is raised here; where the caller stops, pieces that wait are not begun.
        """

        def one(piece: _In) -> _Out:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16, enabled=self._half))
                return do(piece)

        if self._threads is None:
            raise RuntimeError("a team works inside its with block")
        waiting: deque[Future[_Out]] = deque()
        try:
            for piece in pieces:
                waiting.append(self._threads.submit(one, piece))
                if len(waiting) > _AHEAD * self.size:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def feeds(device: torch.device) -> bool:
    """Whether a team's threads feed a device, and do not compute themselves."""
    return device.type != "cpu"


def _one_thread() -> None:
    torch.set_num_threads(1)
