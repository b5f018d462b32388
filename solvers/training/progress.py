"""The progress of a training run: a bar on a terminal, otherwise a line in the log every 50 steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepcd.solvers.training.checkpoints import State

LOG = logging.getLogger("deepcd")
EVERY = 50  # number of steps between two lines, and number of steps that a line averages


@contextmanager
def reporting(state: State, bar: bool) -> Iterator[Callable[[float], None]]:
    """Yield a function that is to be called with the learning rate after each step.

    Parameters
    ----------
    state : State
        The state of the run, which is read at each call.
    bar : bool
        Whether to show a progress bar on standard error if that is a terminal. Otherwise a line every 50 steps goes to
        the logger ``deepcd``, level INFO.
    """
    console, steps, begin, started = Console(stderr=True), state.settings.steps, state.step, time.perf_counter()

    def facts(rate: float, speed: float, separator: str) -> str:
        residuals = " ".join(f"{r:.2f}" for r in state.log.recent(EVERY))
        losses = state.log.loss[-EVERY:]
        loss = f"{sum(losses) / len(losses):.2f}" if losses else "-"
        return f"log10|r| {residuals or '-'}{separator}loss {loss}, rate {rate:.1e}, {speed:.2f} steps/s"

    if not (bar and console.is_terminal):

        def line(rate: float) -> None:
            if state.step % EVERY == 0 or state.step == steps:
                speed = (state.step - begin) / (time.perf_counter() - started)
                left = timedelta(seconds=round((steps - state.step) / speed))
                LOG.info("step %d of %d: %s, %s left", state.step, steps, facts(rate, speed, ", "), left)

        yield line
        return
    columns = (BarColumn(bar_width=12), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as shown:
        task = shown.add_task("compiling", total=steps, completed=begin)

        def advance(rate: float) -> None:
            shown.update(task, completed=state.step)
            speed = shown.tasks[0].speed or (state.step - begin) / (time.perf_counter() - started)
            shown.update(task, description=facts(rate, speed, "\n"))

        yield advance
