"""The house: which room may import which, what an import costs, and what a user has to install."""

from __future__ import annotations

import ast
import graphlib
import json
import pathlib
import re
import socket
import subprocess
import sys

import pytest
from waiting import PATIENCE

import algolia_usertoken

pytestmark = [pytest.mark.oldest_versions, pytest.mark.package_contents]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = pathlib.Path(algolia_usertoken.__file__).parent
PROJECT = pathlib.Path(__file__).parent.parent
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))

# Each room, and the rooms it may import: the house, from the ground up. "" is the package itself, its public names.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "checks": set(),
    "identity": {"errors"},
    "context": {"errors", "identity"},
    "provider": {"errors", "identity", "context"},
    "search_request": {"errors", "identity"},
    "sessions": set(),
    "transporter": {"errors", "identity", "provider", "search_request", "sessions"},
    "events.plain": set(),
    "events.rules": {"errors", "identity", "events.plain"},
    "events.given": {"errors", "events.plain", "events.rules"},
    "events.model": {"errors", "identity", "events.plain", "events.rules", "events.given"},
    "events.text": {"errors", "identity", "events.plain", "events.rules", "events.given"},
    "events.threads": set(),
    "events.connections": {"events.threads"},
    "events.delivery": {"errors", "events.connections", "events.rules"},
    "events": {
        "errors",
        "identity",
        "provider",
        "events.plain",
        "events.rules",
        "events.given",
        "events.model",
        "events.text",
        "events.threads",
        "events.delivery",
    },
    "dead_letters": {"errors", "events.plain", "events.rules"},
    "insights": {
        "errors",
        "identity",
        "provider",
        "events.rules",
        "events.given",
        "events.model",
        "events.text",
        "sessions",
    },
    "query_memory": {"identity", "context", "events", "events.model", "events.plain"},
    "clients": {
        "errors",
        "identity",
        "context",
        "provider",
        "search_request",
        "transporter",
        "events",
        "insights",
        "",  # for annotations
    },
    "": {
        "errors",
        "identity",
        "context",
        "provider",
        "transporter",
        "events",
        "events.delivery",
        "insights",
        "clients",
        "query_memory",
        "dead_letters",
    },
    "browser": {"identity", "context", "provider"},
    "integrations": {"errors", "identity", "context", "provider", "browser", "integrations.lifespan"},
    "integrations.lifespan": {"events"},  # imported only where a sender exists
    "integrations.relay": {"identity", "context", "events", "events.rules", "integrations"},
    "integrations.celery": {"errors", "identity", "context", "provider", "integrations.celery_delivery"},
    "integrations.celery_delivery": {"errors", "events", "events.delivery"},
    "local_algolia": set(),  # the library is judged by it, so neither may borrow from the other
    "testing": {"", "errors", "identity", "context", "search_request", "events", "local_algolia"},
    "demo": {"", "testing"},
    "check": {"", "search_request"},
    "audit": {"check"},  # decides; of `check` it has the form of a finding only
    "traffic": {"audit", "check"},
    "cli": {
        *("", "errors", "check", "audit", "traffic", "dead_letters", "demo", "testing"),
        *("events", "events.delivery", "events.rules"),
    },
    "__main__": {"cli"},
}


# Every room may check its arguments, but for those that borrow nothing of the package.
for _room, _rooms in MAY_IMPORT.items():
    if _room not in ("checks", "errors", "local_algolia"):
        _rooms.add("checks")


def room_of(module: str) -> str:
    """The room of a module, given without the package's name: "events.sender" is in "events"."""
    return module if module in MAY_IMPORT else module.split(".")[0]


def module_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported_modules(path: pathlib.Path) -> set[str]:
    """The package's own modules that a file imports, anywhere in it, without the package's name."""
    folder = path.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ["algolia_usertoken", *folder[: len(folder) - node.level + 1]] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package == "algolia_usertoken":
                while module and not is_module(module):
                    module = module.rpartition(".")[0]
                found.add(module)
    return found


def loaded_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=PATIENCE)
    return set(json.loads(output.stdout))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: module_of(path) or "__init__")
def test_imports_between_modules_go_one_way(path: pathlib.Path) -> None:
    room = room_of(module_of(path))
    assert room in MAY_IMPORT, f"{path.name} is in no known room: say here what it may import"

    imported = {room_of(module) for module in imported_modules(path)} - {room}

    assert imported <= MAY_IMPORT[room]


def test_the_files_of_the_event_sender_can_be_put_in_a_row_where_each_imports_those_before_it() -> None:
    files = {module_of(path): path for path in (PACKAGE / "events").rglob("*.py")}
    imports = {name: imported_modules(path) & set(files) - {name} for name, path in files.items()}

    row = list(graphlib.TopologicalSorter(imports).static_order())  # a CycleError names those that go in a circle

    assert row[-1] == "events.sender"


@pytest.mark.parametrize("room", ["local_algolia"])
def test_no_two_files_of_a_room_import_each_other(room: str) -> None:
    folder = PACKAGE / room
    files = {path: imported_modules(path) for path in folder.rglob("*.py") if path.name != "__init__.py"}
    waiting = {module_of(path): imported for path, imported in files.items()}
    while ready := {module for module, imported in waiting.items() if not imported & set(waiting)}:
        waiting = {module: imported for module, imported in waiting.items() if module not in ready}

    assert waiting == {}


def test_no_file_of_the_event_sender_is_longer_than_a_few_screens() -> None:
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (PACKAGE / "events").rglob("*.py")
    }

    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_the_package_is_cheap_to_import() -> None:
    loaded = loaded_after("import algolia_usertoken")

    assert loaded & {"algoliasearch", "aiohttp", "requests", "pydantic", "respx", "httpx", "pytest", "asyncio"} == set()


@pytest.mark.slow
def test_a_client_is_imported_without_what_only_insights_needs() -> None:
    assert "algoliasearch.insights.models" not in loaded_after("from algolia_usertoken import TokenAwareClientSync")


@pytest.mark.parametrize("module", ["cli", "local_algolia", "testing"])
def test_the_command_and_the_stand_in_are_cheap_to_import(module: str) -> None:
    loaded = loaded_after(f"import algolia_usertoken.{module}")

    assert loaded & {"algoliasearch", "aiohttp", "requests", "pydantic"} == set()


@pytest.mark.parametrize("module", ["browser", "integrations.asgi", "integrations.wsgi"])
def test_integrations_that_need_no_framework_are_cheap_to_import(module: str) -> None:
    loaded = loaded_after(f"import algolia_usertoken.{module}")

    assert loaded & {"algoliasearch", "starlette", "flask", "django", "celery", "asgiref", "asyncio"} == set()


def test_a_user_installs_algoliasearch_and_typing_extensions() -> None:
    assert PYPROJECT["project"]["dependencies"] == ["algoliasearch>=4.40,<5", "typing-extensions"]


def test_the_one_extra_is_for_testing() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]

    assert list(extras) == ["testing"]
    assert sorted(re.match(r"[a-z]+", requirement)[0] for requirement in extras["testing"]) == ["pytest", "respx"]


def test_the_type_marker_and_the_catalogue_are_shipped() -> None:
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["algolia_usertoken"]
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "demo" / "catalogue.json").is_file()


def test_ci_runs_the_test_command_of_the_readme_and_runs_it_last() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", readme, re.MULTILINE)
    demo = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/algolia-usertoken demo"
    test = next(command for command in commands[commands.index(demo) :] if "pytest" in command)

    assert (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == test


def test_the_map_of_modules_in_the_readme_is_complete() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    rooms = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}

    assert {name for name in files | rooms if name not in readme.partition("## Contributing")[2]} == set()


def test_links_of_the_readme_become_text_where_they_would_lead_nowhere() -> None:
    """A package index shows the README alone: links to files of the checkout become their text and the path there."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for each in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        readme = re.sub(each["pattern"], each["replacement"], readme)

    targets = re.findall(r"\]\(([^)]+)\)", readme)

    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "quickstart (`docs/quickstart.md`)" in readme


@pytest.mark.parametrize("host", ["192.0.2.1", "insights.algolia.io"])
def test_tests_reach_no_other_machine(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"tried to reach {host}"):
        socket.create_connection((host, 80), timeout=1)
