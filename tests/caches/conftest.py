"""The applications behind the caches, each started once."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import serving
from ports import free_port

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))  # for caches.py and pages.py


@pytest.fixture(scope="session")
def port_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], int]]:
    """A function that gives the port of an application, and starts the application when it is asked first."""
    ports: dict[str, int] = {}
    env = {"PYTHONPATH": os.pathsep.join([str(HERE), str(serving.HERE)])}
    with ExitStack() as running:

        def port_of(name: str) -> int:
            from caches import APPLICATIONS

            if name not in ports:
                port, log = free_port(), tmp_path_factory.mktemp("application") / "log"
                running.enter_context(serving.running(APPLICATIONS[name](port), port, log, env))
                ports[name] = port
            return ports[name]

        yield port_of
