"""Progress and cancel are one plain callback: ``progress(done, total)``.

To cancel, the callback raises :class:`stplm.errors.Cancelled`; the engine lets it through and leaves its input as it
was. The command line shows tqdm, the plugin a bar: both hand the engine such a callback.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """The default: say nothing."""
