"""The tests say the same on every machine, whatever its environment holds."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
from waiting import PATIENCE

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

TESTS = pathlib.Path(__file__).parent
# What reads the environment: output in columns and colours, keys, proxies, pytest inside of pytest, servers.
READ_IT = [
    "test_check.py::test_check_names_a_key_that_algolia_refuses",
    "test_cli.py::test_help_fits_80_columns_and_names_the_exit_codes",
    "test_cli.py::TestUsage",
    "test_demo.py::TestTable",
    "test_examples.py::test_the_header_of_an_app_is_believed_by_the_fastapi_shop_only",
    "test_insights.py::test_push_events_fills_in_the_user_and_the_login",
    "events/test_sender.py::test_a_missing_application_id_or_key_is_named",
    "testing/test_plugin.py::test_a_route_that_is_not_called_is_an_error",
    "testing/test_plugin.py::test_an_event_that_is_refused_fails_the_test",
    "testing/test_plugin.py::test_failures_show_the_test_and_not_the_insides",
]
MACHINES = {
    "one of CI": {"CI": "true", "BUILD_NUMBER": "7", "FORCE_COLOR": "1", "COLUMNS": "40", "TERM": "dumb"},
    "far away, behind a proxy, with keys and options": {
        "LC_ALL": "C",
        "TZ": "Asia/Kathmandu",
        "NO_COLOR": "1",
        "TERM": "xterm-256color",
        "COLUMNS": "300",
        **dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9"),
        "no_proxy": "example.com",
        "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
        "SSL_CERT_FILE": "/nowhere/ca.pem",
        "ALGOLIA_APP_ID": "TESTING",
        "ALGOLIA_API_KEY": "a-key",
        "ALGOLIA_REGION": "de",
        "ALGOLIA_INDEX": "mine",
        "ALGOLIA_INDEX_NAME": "mine",
        "ALGOLIA_URL": "http://127.0.0.1:9",
        "ALGOLIA_USERTOKEN_SECRET": "a secret",
        "WEB_CONCURRENCY": "3",
        "GUNICORN_CMD_ARGS": "--workers 3",
        "UVICORN_PORT": "9",
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    },
}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=TESTS.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 5,
        check=False,
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_the_tests_pass_on_a_machine_that_is(machine: str) -> None:
    done = run(MACHINES[machine], *(str(TESTS / name) for name in READ_IT))

    assert done.returncode == 0, done.stdout[-5000:]


def test_the_tests_refuse_to_run_without_assertions() -> None:
    done = run({"PYTHONOPTIMIZE": "1"}, str(TESTS / "test_errors.py"))

    assert done.returncode != 0
    assert "assert statements are not executed" in done.stderr
