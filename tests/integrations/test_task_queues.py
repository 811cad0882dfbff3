"""What docs/task-queues.md shows runs under real workers of RQ, arq and Dramatiq, with Redis, as it stands there."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import serving
from program_files import run_program
from waiting import PATIENCE, wait_until

from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

# Each looks for, or buys, the product of this name.
VISITORS: dict[str, dict[str, Any] | None] = {
    "cookie": {"user_token": "anonymous-1"},
    "login": {"user_token": "anonymous-2", "authenticated_user_token": "user-42"},
    "refused": {"opted_out": True},
    "nobody": {},
    "unknown": None,
}
SEARCHED_AS = {"cookie": "anonymous-1", "login": "anonymous-2", "refused": None, "nobody": None, "unknown": None}
TOLD = {"cookie": ("anonymous-1", None), "login": ("anonymous-2", "user-42")}


@pytest.fixture
def products(algolia: LocalAlgolia) -> LocalAlgolia:
    """Algolia, with a product for each visitor."""
    algolia.save_objects("products", [{"objectID": name, "name": name} for name in VISITORS])
    return algolia


def environment(task_queue: str, redis_url: str, algolia: LocalAlgolia) -> dict[str, str]:
    return {
        "TASK_QUEUE": task_queue,
        "BROKER": redis_url,
        "LOCAL_ALGOLIA_PORT": str(algolia.port),
        "PYTHONPATH": str(serving.HERE),
    }


def queue_tasks(env: dict[str, str]) -> None:
    run_program("programs/queues_a_task_for_each_visitor.py", json.dumps(VISITORS), **env)


def work_to_the_end(command: list[str], env: dict[str, str]) -> None:
    """Run a worker until no task is left."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=serving.HERE,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def searched_as(algolia: LocalAlgolia) -> dict[str, str | None]:
    return {search.query: search.user_token for search in algolia.searches}


def told(algolia: LocalAlgolia) -> dict[str, tuple[str, str | None]]:
    """Whom Algolia was told for each product, each event once."""
    found = {each.event["objectIDs"][0]: (each.user_token, each.authenticated_user_token) for each in algolia.events}
    assert len(found) == len(algolia.events)
    return found


def test_a_job_of_rq_tells_algolia_of_the_visitor_who_queued_it(redis_url: str, products: LocalAlgolia) -> None:
    env = environment("rq", redis_url, products)
    queue_tasks(env)

    work_to_the_end(["rq.cli", "worker", "--burst", "--serializer", "json", "--url", redis_url], env)

    assert told(products) == TOLD


def test_a_task_of_arq_searches_and_tells_as_the_visitor_who_queued_it(redis_url: str, products: LocalAlgolia) -> None:
    env = environment("arq", redis_url, products)
    queue_tasks(env)

    work_to_the_end(["arq", "task_queue.WorkerSettings", "--burst"], env)

    assert searched_as(products) == SEARCHED_AS
    assert told(products) == TOLD
    assert products.mismatches() == []


def test_an_actor_of_dramatiq_searches_and_tells_as_the_visitor_who_queued_it(
    redis_url: str, products: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    env = environment("dramatiq", redis_url, products)
    queue_tasks(env)

    command = [sys.executable, "-m", "dramatiq", "task_queue", "--processes", "2", "--threads", "2"]
    with serving.running(command, None, tmp_path / "log", env):
        wait_until(lambda: len(products.searches) == len(VISITORS))
        assert not products.events, "this shows nothing of the end of a worker if somebody has delivered before"

    assert searched_as(products) == SEARCHED_AS
    assert told(products) == TOLD, (tmp_path / "log").read_text(encoding="utf-8")[-2000:]
    assert products.mismatches() == []
