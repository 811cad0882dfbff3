"""Every command of a shell block of the README and the documentation is run, or checked as far as it can be here.

Run as they stand, but for the port: the commands of `algolia-usertoken` (those that would reach Algolia find respx in
its place) and the example applications, which are asked for a page. Checked only: what installs from the network (that
what it names exists), and what other checks run (the README's two lines, which CI and its test command are). A command
that none of these knows fails its test.
"""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import serving
from ports import free_port

from algolia_usertoken import SQLiteOutbox
from algolia_usertoken.cli import main
from algolia_usertoken.testing import AlgoliaRouter, LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = pathlib.Path(__file__).parent.parent
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```+(console|sh|shell|bash)\n(.*?)^\1```+$", re.MULTILINE | re.DOTALL)
WAIT = 30.0  # seconds, for a server to answer


def commands(page: pathlib.Path) -> Iterator[str]:
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        for line in match[3].splitlines():
            text = line.strip()
            if match[2] == "console":
                assert text.startswith("$ "), (
                    f"{page.name}: what a console prints belongs into a block of its own: {text}"
                )
                text = text[2:]
            yield re.sub(r"\s+#.*", "", text)


ALL = [pytest.param(command, id=f"{page.name}: {command[:50]}") for page in PAGES for command in commands(page)]


def answers(command: list[str], port: int, **environment: str) -> None:
    """Start a server, get its first page, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        with serving.running(command, port, log, environment):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"})
            with urllib.request.urlopen(request, timeout=WAIT) as response:
                assert response.status == 200
                assert b"<html" in response.read().lower()
        output = log.read_text(encoding="utf-8")
        assert "Traceback" not in output, output


def test_more_than_20_commands_of_the_docs_are_found() -> None:
    assert len(ALL) > 20


@pytest.mark.parametrize("command", ALL)
def test_every_command_of_the_docs_runs(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.startswith("export "):  # for the next one, which is given the same below
        assert re.fullmatch(r"export( [A-Z_]+=\S+)+", command)
        return
    while assigned := re.match(r"([A-Z_]+)=(\"[^\"]*\"|\S+) ", command):
        monkeypatch.setenv(assigned[1], assigned[2].strip('"'))
        command = command[assigned.end() :]
    for pattern, run in KNOWN.items():
        if re.fullmatch(pattern, command):
            run(command)
            return
    pytest.fail(f"no way is known to run this command: {command}")


def run_check(command: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALGOLIA_APP_ID", "APP")
        patch.setenv("ALGOLIA_API_KEY", "a-key-of-app")
        with AlgoliaRouter(records={"products": [{"objectID": "1"}]}):
            assert main(shlex.split(command)[1:]) == 0


def run_check_of_local_algolia(command: str) -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        assert main(shlex.split(command.replace(":8108", f":{algolia.port}"))[1:]) == 0


def run_audit(command: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALGOLIA_APP_ID", "APP")
        patch.setenv("ALGOLIA_API_KEY", "a-key-of-app")
        with AlgoliaRouter(records={"products": [{"objectID": "1"}]}):
            assert main(shlex.split(command)[1:]) == 0


def run_token(command: str) -> None:
    assert main(shlex.split(command)[1:]) == (1 if "@" in command else 0)


def run_outbox(command: str) -> None:
    with LocalAlgolia() as algolia, tempfile.TemporaryDirectory() as folder:
        SQLiteOutbox(pathlib.Path(folder, "events.db")).close()
        arguments = shlex.split(
            command.replace("events.db", f"{folder}/events.db").replace(":8108", f":{algolia.port}")
        )
        assert main(arguments[1:]) == 0


def run_with_files(command: str) -> None:
    """`send` and `erase`: with files of these names, and a stand-in in place of Algolia."""
    event = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"], "userToken": "u"}
    with LocalAlgolia() as algolia, tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("orders", "corrected", "failed"):
            pathlib.Path(f"{name}.ndjson").write_text(json.dumps(event), encoding="utf-8")
        SQLiteOutbox("events.db").close()
        patch.delenv("ALGOLIA_REGION", raising=False)
        arguments = [one for one in shlex.split(command)[1:] if not one.startswith("127.0.0.1") and one != "--host"]
        stand_in = ["--host", f"127.0.0.1:{algolia.port}", "--app-id", algolia.app_id, "--api-key", algolia.api_key]
        assert main([*arguments, *stand_in]) == 0


def run_serve(command: str) -> None:
    port = free_port()
    answers([sys.executable, "-m", "algolia_usertoken", "serve", "--port", str(port)], port)
    assert command == "algolia-usertoken serve --port 8108"


def run_example(command: str) -> None:
    port = free_port()
    _, script, *options = shlex.split(command.replace("8000", str(port)))
    answers([sys.executable, str(PROJECT / script), *options], port, SHOP_NPM="")


def check_install(command: str) -> None:
    arguments = shlex.split(command)[2:]
    groups, extras = PYPROJECT["dependency-groups"], PYPROJECT["project"]["optional-dependencies"]
    while arguments:
        argument = arguments.pop(0)
        if argument == "--group":
            assert arguments.pop(0) in groups
        elif argument == "-e":
            assert arguments.pop(0) == "."
        elif argument == ".":
            continue
        else:
            name, extra = re.fullmatch(r"([a-z-]+)(?:\[(\w+)\])?", argument).groups()
            assert name == PYPROJECT["project"]["name"]
            assert extra is None or extra in extras


def check_npm(command: str) -> None:
    named = json.loads((PROJECT / "tests" / "browser" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert set(shlex.split(command)[4:]) <= set(named)


def check_benchmark(command: str) -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / shlex.split(command)[1], "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0


def check_celery(command: str) -> None:
    from algolia_usertoken.integrations.celery import CeleryDelivery

    queues = re.search(r" -Q (\S+)$", command)[1].split(",")
    from celery import Celery

    assert CeleryDelivery(Celery(set_as_current=False))._queue in queues


def check_elsewhere(command: str) -> None:
    """CI runs it: its last line is the README's, and test_architecture holds the two equal; the demo is in test_cli."""
    assert (PROJECT / ".ci" / "run").is_file()


def check_nox(command: str) -> None:
    noxfile = (PROJECT / "noxfile.py").read_text(encoding="utf-8")
    sessions = re.findall(r"@nox\.session(?:\(.*\))?\n(?:@.*\n)*def (\w+)", noxfile)
    assert set(shlex.split(command)[2:]) <= set(sessions), sessions


def check_nothing(command: str) -> None:
    """What a maintainer types when releasing: it commits, tags, builds, and looks at what was built."""


KNOWN: dict[str, Callable[[str], None]] = {
    r"algolia-usertoken check --index products": run_check,
    r"algolia-usertoken (check|audit) --host 127\.0\.0\.1:8108": run_check_of_local_algolia,
    r"algolia-usertoken audit --index products --days 7": run_audit,
    r"algolia-usertoken token .*": run_token,
    r"algolia-usertoken outbox (status|drain|check) events\.db( --host .*)?": run_outbox,
    r"algolia-usertoken (send|erase) .*": run_with_files,
    r"mv failed\.ndjson corrected\.ndjson": check_elsewhere,
    r"algolia-usertoken serve --port 8108": run_serve,
    r"python docs/examples/\w+/app\.py --port 8000": run_example,
    r"(\.venv/bin/)?pip install .*": check_install,
    r"npm install --prefix .*": check_npm,
    r"python tests/benchmarks/\w+\.py": check_benchmark,
    r"nox -s [\w ]+": check_nox,
    r"git (commit|tag) .*|python -m build|twine check --strict dist/\*": check_nothing,
    r"celery -A shop worker -Q .*": check_celery,
    r"python3 -m venv \.venv && .*(demo|pytest -n 4)|\.ci/run": check_elsewhere,
    r"\.venv/bin/python -m pytest( -n 2 -m 'not slow')?": check_elsewhere,
}
