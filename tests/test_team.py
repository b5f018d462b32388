"""Threads that share a pass: who gets which planes, in which order results come back, and that they run at once."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading

import pytest

from deepcd.solvers.kernels.team import SMALLEST, Team

LARGE = 64 * SMALLEST


def test_planes_are_divided_without_gap_or_overlap() -> None:
    assert Team(3, 10, LARGE).run(lambda start, stop: (start, stop)) == [(0, 3), (3, 6), (6, 10)]


def test_one_thread_runs_where_it_is_called() -> None:
    team = Team(1, 10, LARGE)
    assert team.run(lambda a, start, stop: (a, start, stop, threading.get_ident()), "x") == [
        ("x", 0, 10, threading.get_ident())
    ]


@pytest.mark.parametrize(
    ("threads", "planes", "cells", "used"),
    [(8, 3, LARGE, 3), (4, 100, 2 * SMALLEST, 2), (4, 100, 5, 1), (0, 9, LARGE, 1)],
)
def test_no_more_threads_than_are_worth_it(threads: int, planes: int, cells: int, used: int) -> None:
    assert Team(threads, planes, cells).threads == used


def test_scratch_and_bounds_of_their_own() -> None:
    team = Team(2, 9, LARGE)
    seen = team.run(lambda s, start, stop: (s, start, stop), scratch=[("a",), ("b",)], bounds=[0, 1, 5])
    assert seen == [("a", 0, 1), ("b", 1, 5)]
    alone = Team(1, 9, LARGE)
    assert alone.run(lambda s, start, stop: (s, start, stop), scratch=[("a",)], bounds=[0, 5]) == [("a", 0, 5)]


def test_shares_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)
    idents = Team(2, 4, LARGE).run(lambda start, stop: (meeting.wait(), threading.get_ident())[1])
    assert idents[0] == threading.get_ident() != idents[1]


@pytest.mark.parametrize("failing", [0, 2])
def test_errors_of_any_share_are_raised(failing: int) -> None:
    def kernel(start: int, stop: int) -> None:
        if start == failing:
            raise ZeroDivisionError(start)

    with pytest.raises(ZeroDivisionError, match=str(failing)):
        Team(2, 4, LARGE).run(kernel)


def test_copies_and_pickles_start_threads_of_their_own() -> None:
    team = Team(2, 4, LARGE)
    shares = team.run(lambda start, stop: (start, stop))
    for twin in (copy.copy(team), copy.deepcopy(team), pickle.loads(pickle.dumps(team))):
        assert twin.bounds == team.bounds
        assert twin.run(lambda start, stop: (start, stop)) == shares
        assert twin.pool is not team.pool


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    team = Team(2, 4, LARGE)
    shares = team.run(lambda start, stop: (start, stop))
    child = os.fork()
    if child == 0:  # pragma: no cover
        signal.alarm(20)  # a hanging child ends by this signal
        os._exit(0 if team.run(lambda start, stop: (start, stop)) == shares else 1)
    assert os.waitpid(child, 0)[1] == 0
