"""algolia-usertoken erase: what is kept of users, place by place."""

from __future__ import annotations

import io
import json
import pathlib
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken import DeadLetters, InvalidEventError, SQLiteOutbox
from algolia_usertoken.cli import main
from algolia_usertoken.events.inspection import status_of
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

KEY = "an-admin-key"


def text(token: str, **more: Any) -> bytes:
    event = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"], "userToken": token}
    return json.dumps(event | {"timestamp": int(time.time() * 1000)} | more).encode()


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        yield algolia


@pytest.fixture
def erase(algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, list[str]]]]:
    """Runs the command; its exit code, and what it says of each place, each in one line."""

    def run(*arguments: object) -> tuple[int, dict[str, list[str]]]:
        code = main(["erase", *map(str, arguments), "--host", f"127.0.0.1:{algolia.port}"])
        out, err = capsys.readouterr()
        assert err == ""
        assert max(map(len, out.splitlines())) <= 80
        said: dict[str, list[str]] = {}
        for line in out.splitlines():
            if line and not line.startswith(" "):
                said.setdefault(line[10:22].strip(), []).append(f"{line[:10].strip()}: {line[22:]}")
                place = line[10:22].strip()
            elif line.strip():
                said[place][-1] += f" {line.strip()}"
        return code, said

    return run


class TestAtAlgolia:
    def test_erases_events_and_profile_of_each_user_and_says_what_it_can_not_do(
        self, algolia: LocalAlgolia, erase: Callable[..., Any]
    ) -> None:
        with _sender(algolia) as events:
            for token in ("gone", "gone-too", "stays"):
                events.send(json.loads(text(token)))

        code, said = erase("gone", "gone-too", "gone")

        assert code == 0
        assert [event.user_token for event in algolia.events] == ["stays"]
        assert said["events"] == ["done: The events of 2 users will be gone within 48 hours."]
        assert said["profile"] == ["done: The profiles of 2 users in the region us are erased."]
        assert said["agents"][0].startswith(("done: No data of 2 users is kept there", "yours: Agent Studio"))
        assert [place for place, lines in said.items() if lines[0].startswith("yours: ")][-6:] == [
            *("queued", "searches", "logs", "models", "advanced", "browser")
        ]
        assert "https://support.algolia.com" in said["searches"][0]

    def test_with_a_key_that_may_not_it_says_which_it_takes(
        self, algolia: LocalAlgolia, erase: Callable[..., Any]
    ) -> None:
        code, said = erase("gone", "--api-key", "a-foreign-key")

        assert code == 1
        assert said["events"][0].startswith("failed: Not erased: Algolia has answered 401.")
        assert "with the ACL `deleteObject`" in said["events"][0]

    def test_without_a_connection_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["erase", "gone", "--host", "127.0.0.1:9"]) == 1
        assert "Not erased: " in capsys.readouterr().out

    def test_tokens_from_the_input_are_no_arguments(
        self, algolia: LocalAlgolia, erase: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with _sender(algolia) as events:
            for token in ("gone", "gone-too"):
                events.send(json.loads(text(token)))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"gone\r\n\n  gone-too  \n")))

        assert erase("-")[0] == 0
        assert algolia.events == []

    def test_tokens_from_an_input_of_another_kind(
        self, algolia: LocalAlgolia, erase: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with _sender(algolia) as events:
            events.send(json.loads(text("gone")))
        monkeypatch.setattr("sys.stdin", io.StringIO("gone\n"))  # as of a program that calls `main`

        assert erase("-")[0] == 0
        assert algolia.events == []

    def test_without_an_input_that_is_told(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", None)

        assert main(["erase", "-", "--host", "127.0.0.1:9"]) == 2
        assert capsys.readouterr().err == "algolia-usertoken: there is no input to read tokens from\n"

    def test_an_algoliasearch_without_agent_studio_leaves_that_to_the_user(
        self, erase: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "algoliasearch.agent_studio.client", None)

        code, said = erase("gone")

        assert code == 0
        assert said["agents"] == [
            (
                "yours: Agent Studio: this algoliasearch has no client for it. "
                "→ If you use it, install the newest algoliasearch, and run this again."
            )
        ]

    @pytest.mark.parametrize(("tokens", "said"), [([""], "argument 1 is empty"), (["-"], "the input has no token")])
    def test_nothing_is_erased_without_a_valid_token(
        self,
        tokens: list[str],
        said: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n \n")))

        assert main(["erase", *tokens, "--host", "127.0.0.1:9"]) == 2
        assert capsys.readouterr().err == f"algolia-usertoken: {said}\n"

    def test_what_was_used_as_a_token_and_is_none_is_erased_from_dead_letters_and_not_quoted(
        self, tmp_path: pathlib.Path, erase: Callable[..., Any]
    ) -> None:
        path = tmp_path / "failed.ndjson"
        DeadLetters(path)(InvalidEventError("no"), [json.loads(text("jane@example.com"))])

        code, said = erase("jane@example.com", "--dead-letters", path)

        assert code == 0
        assert path.read_bytes() == b""
        assert "events" not in said
        assert "jane" not in str(said)


class TestOnDisk:
    @pytest.fixture
    def path(self, tmp_path: pathlib.Path) -> pathlib.Path:
        return tmp_path / "events.db"

    def test_removes_what_waits_of_processes_that_ended_and_overwrites_it(
        self, path: pathlib.Path, erase: Callable[..., Any]
    ) -> None:
        outbox = SQLiteOutbox(path)
        for token in ("gone-forever", "stays", "gone-forever-not"):
            outbox.append(text(token))
        outbox.append(text("stays", authenticatedUserToken="gone-forever"))
        outbox.close()
        with sqlite3.connect(path) as connection:
            connection.execute('INSERT INTO damaged VALUES (1, 2, 3, \'{"userToken": "gone-forever"\')')
        connection.close()

        code, said = erase("gone-forever", "--outbox", path)

        assert code == 0
        assert said["outbox"] == [f"done: {path}: 3 events removed."] or "3 events" in said["outbox"][0]
        heir = SQLiteOutbox(path)
        heir.keep()
        assert sorted(json.loads(one)["userToken"] for one in heir.take(9)) == ["gone-forever-not", "stays"]
        heir.took()
        heir.close()
        on_disk = b"".join(one.read_bytes() for one in path.parent.iterdir())
        assert b'"gone-forever"' not in on_disk
        assert b'"gone-forever-not"' in on_disk

    def test_leaves_events_to_a_process_that_runs_and_says_so(
        self, path: pathlib.Path, erase: Callable[..., Any]
    ) -> None:
        living = SQLiteOutbox(path, lease=3600)
        living.append(text("gone"))

        code, said = erase("gone", "--outbox", path)

        assert code == 1
        assert "0 events removed. 1 event stays: a running process delivers" in said["outbox"][0]
        assert len(living.take(9)) == 1
        living.took()
        living.close()

    def test_removes_many_without_losing_count(self, path: pathlib.Path, erase: Callable[..., Any]) -> None:
        outbox = SQLiteOutbox(path)
        for number in range(2500):
            outbox.append(text("gone" if number % 2 else "stays"))
        outbox.close()

        assert erase("gone", "--outbox", path)[0] == 0
        assert status_of(str(path)).waiting == 1250
        assert main(["outbox", "check", str(path)]) == 0

    @pytest.mark.parametrize("option", ["--outbox", "--dead-letters"])
    def test_a_file_that_is_not_there_is_told_and_not_made(
        self, option: str, path: pathlib.Path, erase: Callable[..., Any]
    ) -> None:
        code, said = erase("gone", option, path)

        assert code == 1
        assert "o such file" in str(said)
        assert not path.exists()

    def test_lines_of_dead_letters_that_are_no_json_are_told(
        self, tmp_path: pathlib.Path, erase: Callable[..., Any]
    ) -> None:
        path = tmp_path / "failed.ndjson"
        path.write_text('{"event": {"userToken": "gone"\n')

        code, said = erase("gone", "--dead-letters", path)

        assert code == 1
        assert "0 letters removed. 1 line is not JSON, and may have data of the user." in said["letters"][0]


def test_of_two_regions_the_one_that_the_application_is_not_in_is_no_failure() -> None:
    from algolia_usertoken.cli.erase import _of_one_region, _Step

    done, failed = _Step("done", "profile", "us: erased"), _Step("failed", "profile", "eu: answered 403")

    assert [step.state for step in _of_one_region([done, failed])] == ["done", "yours"]
    assert "--region" in _of_one_region([failed, done])[0].remedy
    assert _of_one_region([failed, failed]) == [failed, failed]
    assert _of_one_region([failed]) == [failed]


def _sender(algolia: LocalAlgolia) -> Any:
    from algolia_usertoken import EventSender

    return EventSender(config=algolia.insights_config(), close_timeout=PATIENCE)
