"""One training process, or several that ``accelerate launch`` started: the same loop either way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stplm.errors import StplmError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def is_main_process() -> bool:
    """Whether this process writes what a run writes: the only one, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


class Processes:
    """This process alone: ``index`` 0 of ``count`` 1."""

    index = 0
    count = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wrap(self, objective: nn.Module) -> Any:
        """The module to call for a loss."""
        return objective

    def backward(self, loss: Tensor) -> None:
        """Gradients, averaged over the processes."""
        loss.backward()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        return values

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The others wait until the main process has left the block."""
        yield


class _Launched(Processes):
    def __init__(self, device: torch.device) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import DistributedDataParallelKwargs
        except ImportError as error:
            raise StplmError(
                "Training in several processes needs accelerate.",
                found=str(error),
                mend='pip install "stplm-napari[train]"',
            ) from error
        # A step may leave a loss out, and its parameters with it.
        options = DistributedDataParallelKwargs(find_unused_parameters=True)
        self._accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[options])
        super().__init__(self._accelerator.device)
        self.index, self.count = self._accelerator.process_index, self._accelerator.num_processes

    def wrap(self, objective: nn.Module) -> Any:
        return self._accelerator.prepare_model(objective)

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def mean(self, values: Tensor) -> Tensor:
        reduced: Tensor = self._accelerator.reduce(values, reduction="mean")
        return reduced

    @contextmanager
    def main_first(self) -> Iterator[None]:
        with self._accelerator.main_process_first():
            yield


def open_processes(device: torch.device) -> Processes:
    """What this process was started as. ``device`` gives way to the one that accelerate assigns, on GPUs."""
    return _Launched(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes(device)
