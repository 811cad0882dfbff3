"""Runs the programs of tests, each in a new interpreter. A program of more than five lines is a file in `programs`."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from waiting import PATIENCE

TESTS = pathlib.Path(__file__).parents[1]


def command_of(program: str, *arguments: object) -> list[str]:
    """The command for the text of a program, or for its file, such as "programs/one.py" in the folder of the tests."""
    found = [str(TESTS / program)] if program.endswith(".py") else ["-c", program]
    return [sys.executable, *found, *map(str, arguments)]


def run_program(
    program: str, *arguments: object, code: int | None = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Its exit code must be `code`; None means any."""
    done = subprocess.run(
        command_of(program, *arguments),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert code in (done.returncode, None), done.stderr or done.returncode
    return done
