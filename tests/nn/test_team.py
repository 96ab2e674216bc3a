"""Threads that share out torch's work: in order, one operator thread each, and gone when they are not wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from stplm.nn.team import Team


def test_results_come_in_order_from_threads_that_run_torch_alone() -> None:
    before = torch.get_num_threads()

    def look(piece: int) -> tuple[int, int, bool, bool]:
        return piece, torch.get_num_threads(), torch.is_inference_mode_enabled(), threading.current_thread() is main

    main = threading.current_thread()
    with Team() as team:
        assert list(team.map(look, range(50))) == [(i, 1, True, False) for i in range(50)]
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_pieces_are_made_as_they_are_needed() -> None:
    made: list[int] = []

    def pieces() -> Iterator[int]:
        for i in range(10_000):
            made.append(i)
            yield i

    with Team() as team:
        results = team.map(lambda i: i, pieces())
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        results.close()  # type: ignore[attr-defined]
    assert len(made) < 10 + 3 * team.size


def test_an_error_of_a_piece_is_the_callers() -> None:
    with Team() as team, pytest.raises(ZeroDivisionError):
        list(team.map(lambda i: 1 / i, [2, 1, 0, 1]))
    with pytest.raises(RuntimeError, match="with"):
        next(team.map(abs, [1]))


def test_two_threads_feed_a_device_and_leave_torch_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, with a CPU in its place."""
    monkeypatch.setattr("stplm.nn.team.feeds", lambda device: True)
    before, seen = torch.get_num_threads(), set[str]()
    both = threading.Barrier(2, timeout=60)

    def look(piece: int) -> tuple[int, int]:
        seen.add(threading.current_thread().name)
        if piece < 2:
            both.wait()  # each thread has one of the first two
        return piece, torch.get_num_threads()

    with Team() as team:
        assert team.size == 2
        assert list(team.map(look, range(20))) == [(i, before) for i in range(20)]
    assert len(seen) == 2
    assert torch.get_num_threads() == before
