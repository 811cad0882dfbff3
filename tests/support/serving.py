"""Starts the servers that a test needs on free loopback ports, and stops them."""

from __future__ import annotations

import inspect
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from uvicorn import Config as UvicornConfig
from waiting import PATIENCE

HERE = pathlib.Path(__file__).parent


@contextmanager
def running(
    command: Sequence[str], port: int | None, log: pathlib.Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command`: the block begins when the process listens on `port`, and the process is terminated when it ends.

    Raises:
        RuntimeError: The process did not start, or had to be killed at the end; the message has its output.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if port is not None:
            _wait_until_listening(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the process has a group of its own, with its workers
            process.wait()
            raise RuntimeError(f"{command[:4]} did not end: {log.read_text(errors='replace')[-2000:]}") from None


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: pathlib.Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:]}")


def uvicorn(application: str, port: int, *options: str) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--log-level", "warning"]
    if "timeout_worker_healthcheck" in inspect.signature(UvicornConfig).parameters:
        # Otherwise it kills a worker that does not answer for 5 seconds, as one that works on a busy machine may.
        command += ["--timeout-worker-healthcheck", str(int(PATIENCE))]
    return [*command, *options]


def hypercorn(application: str, port: int, *options: str) -> list[str]:
    # The log has only warnings and errors, such as the errors that applications raise.
    bind = ["--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    return [sys.executable, "-m", "hypercorn", application, *bind, *options]


def gunicorn(application: str, port: int, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "gunicorn",
        application,
        "--bind",
        f"127.0.0.1:{port}",
        "--log-level",
        "warning",
        *options,
    ]


def daphne(application: str, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "-v", "0", *options, application]


def granian(application: str, port: int, *options: str) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", "granian", *address, *options, application]


def waitress(application: str, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "waitress", "--listen", f"127.0.0.1:{port}", *options, application]


def uwsgi(application: str, port: int, *options: str) -> list[str]:
    # Run inside this Python, so that the server finds its packages, wherever it would look for them by itself.
    program = "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])"
    address = ["--http-socket", f"127.0.0.1:{port}", "--wsgi", application, "--disable-logging"]
    return [sys.executable, "-c", program, *address, *options]
