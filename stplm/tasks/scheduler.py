"""Where independent units of work are done: in line, in processes of this machine, or on a Dask cluster.

A unit is a function of a module and plain values, which any worker that sees the same files can call, and call again:
a worker that is killed costs the units that it had in hand, and others take these over.
"""

from __future__ import annotations

import queue
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stplm.errors import StplmError

if TYPE_CHECKING:
    from distributed import Client, Future

_PATIENCE_S = 10
"""How long an address may take to answer."""
_AHEAD = 2
"""Sections in work for each worker: enough that none waits for the last unit of another's section."""

Token = tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """``work(*given)``: a function that can be imported, and values that can be sent."""

    work: Callable[..., Any]
    given: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Ended:
    """What came of a unit: its result, or the error that it raised."""

    token: Token
    result: Any = None
    error: Exception | None = None


class Pool(ABC):
    """Takes units and gives back what came of them, in the order in which they end."""

    @property
    @abstractmethod
    def ahead(self) -> int:
        """How many sections it is worth having in work at once."""

    @abstractmethod
    def submit(self, token: Token, unit: Unit) -> None:
        """Have a unit done. Of two, that of the lower ``token`` (section, unit) comes first."""

    @abstractmethod
    def next_ended(self, patience: float) -> Ended | None:
        """The next unit that ends; None where none did for ``patience`` seconds."""


class InLine(Pool):
    """One unit after the other, in this process."""

    ahead = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[Token, Unit]] = deque()

    def submit(self, token: Token, unit: Unit) -> None:
        self._waiting.append((token, unit))

    def next_ended(self, patience: float) -> Ended | None:
        if not self._waiting:
            return None
        token, unit = self._waiting.popleft()
        try:
            return Ended(token, unit.work(*unit.given))
        except Exception as error:  # whoever asked for the unit says what it costs
            return Ended(token, error=error)


class Workers(Pool):
    """The workers of a Dask scheduler that ``client`` is connected to."""

    def __init__(self, client: Client) -> None:
        self._client, self._name = client, uuid.uuid4().hex[:8]
        self._futures: dict[Token, Future[Any]] = {}
        self._ended: queue.SimpleQueue[Token] = queue.SimpleQueue()

    @property
    def ahead(self) -> int:
        return _AHEAD * max(len(self._client.scheduler_info(n_workers=-1)["workers"]), 1)

    def submit(self, token: Token, unit: Unit) -> None:
        section, number = token
        future = self._client.submit(
            unit.work, *unit.given, key=f"stplm-{self._name}-{section}-{number}", pure=False, priority=-section
        )
        self._futures[token] = future
        future.add_done_callback(lambda _: self._ended.put(token))

    def next_ended(self, patience: float) -> Ended | None:
        from distributed import CancelledError, KilledWorker

        try:
            token = self._ended.get(timeout=patience)
        except queue.Empty:
            return None
        try:
            return Ended(token, self._futures.pop(token).result())
        except CancelledError as error:
            raise StplmError(
                "The scheduler went away.",
                found=str(error),
                mend="Start it again and give the same line: what was finished is not done again.",
            ) from error
        except KilledWorker as error:
            lost = StplmError(
                "Several workers were lost over the same piece of this section.",
                found=str(error),
                mend="Give workers more memory, or fewer of them to a machine.",
            )
            return Ended(token, error=lost)
        except Exception as error:  # as in line
            return Ended(token, error=error)

    def cancel(self) -> None:
        """Drop what was not begun. Workers end the unit they have in hand, and its part is kept."""
        self._client.cancel(list(self._futures.values()), force=True)
        self._futures.clear()


@contextmanager
def open_pool(scheduler: str | None = None, workers: int | None = None) -> Iterator[Pool]:
    """A pool for the time of the block; afterwards, or when the block raises, what was not begun is dropped.

    Parameters
    ----------
    scheduler
        Address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``. Its workers need this package, and the
        sections, the model and the output under the same paths.
    workers
        Start so many processes on this machine instead, with one thread each. With neither, units are done in line.

    Raises
    ------
    StplmError
        Both are given, or nobody answers at the address; in the block, when the scheduler goes away.
    """
    if scheduler is not None and workers is not None:
        raise StplmError(
            "Work goes to a scheduler or to processes of this machine, not to both.",
            mend="Leave out --scheduler or --workers.",
        )
    if scheduler is None and workers is None:
        yield InLine()
        return
    with _connected(scheduler, workers) as client:
        pool = Workers(client)
        try:
            yield pool
        finally:
            pool.cancel()


@contextmanager
def local_workers(number: int) -> Iterator[str]:
    """A scheduler with so many processes of this machine, one thread each, for the time of the block; its address."""
    from distributed import LocalCluster

    # Without a limit: files mapped into memory would count against it, and are no reason to end a worker.
    cluster = LocalCluster(n_workers=number, threads_per_worker=1, memory_limit=0, dashboard_address=None)
    try:
        yield str(cluster.scheduler_address)
    finally:
        # On a busy machine workers may be slower to end than Dask waits. It ends them; what they did is there.
        with suppress(TimeoutError):
            cluster.close()


@contextmanager
def _connected(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    from distributed import Client

    if scheduler is None:
        with local_workers(workers or 1) as address, Client(address) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=_PATIENCE_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise StplmError(
            "No Dask scheduler answers at this address.",
            where=scheduler,
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="an address such as tcp://host:8786",
            mend="Start one with 'dask scheduler', and workers with 'dask worker ADDRESS'.",
        ) from error
    with client:
        yield client
