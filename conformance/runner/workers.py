"""Processes that each run tests on a cluster of their own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Iterator, Optional

from .suite.runner import Result, Suite, start

_suite: Optional[Suite] = None


@dataclass
class Setup:
    suite: Path
    work: Path
    binary: Path


def prepare(setup: Setup) -> None:
    """In each worker: its cluster, stopped when the worker ends."""
    global _suite
    _suite = start(setup.suite, setup.work, setup.binary)
    Finalize(None, _suite.cluster.stop, exitpriority=10)


def run(name: str) -> Result:
    assert _suite is not None
    return _suite.run(_suite.tests()[name])


def run_all(names: list[str], jobs: int, setup: Setup) -> Iterator[Result]:
    """Results as they come."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, prepare, (setup,)) as pool:
        for future in as_completed([pool.submit(run, name) for name in names]):
            yield future.result()
