from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program_files import command_of, run_program
from waiting import PATIENCE

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
sys.path[:0] = [str(HERE), str(PROGRAMS)]

from collector import Collector  # noqa: E402 (a plain module beside this file, for the benchmarks, too)

from algolia_usertoken import SQLiteOutbox  # noqa: E402


class Finished(subprocess.CompletedProcess[str]):
    seconds: float


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A counting collector that answers 200, until it is told to do otherwise."""
    with Collector() as collector:
        yield collector


@pytest.fixture
def run(collector: Collector) -> Callable[..., Finished]:
    """Runs a file of `programs`, or the text of a program; `from prelude import …` gives it senders that lead to the
    collector."""

    def run(program: str, *arguments: str, code: int | None = 0, **environment: str) -> Finished:
        started = time.monotonic()
        environment = {"PYTHONPATH": str(PROGRAMS), "COLLECTOR_PORT": str(collector.port), **environment}
        if program.endswith(".py"):
            program = f"events/programs/{program}"
        done = run_program(program, *arguments, code=code, **environment)
        finished = Finished(done.args, done.returncode, done.stdout, done.stderr)
        finished.seconds = time.monotonic() - started
        return finished

    return run


@pytest.fixture
def senders() -> Iterator[Callable[..., Any]]:
    """Makes senders, and closes them after the test."""
    from prelude import sender

    made = []

    def make(*arguments: Any, **options: Any) -> Any:
        made.append(sender(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close(0.5)


@pytest.fixture
def sender(senders: Callable[..., Any], collector: Collector) -> Callable[..., Any]:
    """Makes senders that lead to the collector."""
    return lambda **options: senders(collector.port, **options)


# Outboxes.


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.db")


@pytest.fixture
def outbox(path: str) -> Iterator[SQLiteOutbox]:
    outbox = SQLiteOutbox(path)
    yield outbox
    outbox.close()


@pytest.fixture
def sibling(path: str) -> Iterator[SQLiteOutbox]:
    """Another owner of events in the same file."""
    sibling = SQLiteOutbox(path)
    yield sibling
    sibling.close()


@pytest.fixture
def sql(path: str) -> Iterator[Callable[..., list[Any]]]:
    """Runs a statement on the file."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)
    yield lambda statement, *parameters: connection.execute(statement, parameters).fetchall()
    connection.close()


@pytest.fixture
def end_leases(sql: Callable[..., list[Any]]) -> Callable[[], Any]:
    return lambda: sql("UPDATE owners SET alive_until = 0")


@pytest.fixture
def start(collector: Collector, path: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a file of `programs` in a process of its own; arguments: the path, then the given ones."""
    started = []

    def start(program: str, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command_of(f"events/programs/{program}", path, *arguments),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(PROGRAMS), str(HERE.parents[1])]),
                "COLLECTOR_PORT": str(collector.port),
            },
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
