from __future__ import annotations

import json
import pathlib
import re
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken import Identity, identity_scope
from algolia_usertoken.cli import main
from algolia_usertoken.demo import catalogue, progress, read_records, report, search_words, visitors
from algolia_usertoken.demo import records as demo_records
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.package_contents, pytest.mark.slow]


@pytest.fixture(scope="module")
def visited() -> Any:
    """The demo's visits, over and received."""
    with LocalAlgolia() as algolia:
        crowd = visitors.crowd()
        visitors.index(algolia, catalogue())
        visitors.visit(algolia, crowd, search_words(catalogue()))
        yield crowd, algolia


@pytest.fixture
def crowd(visited: Any) -> list[visitors.Visitor]:
    return visited[0]


@pytest.fixture
def served(visited: Any) -> LocalAlgolia:
    return visited[1]


class Terminal:
    def isatty(self) -> bool:
        return True


class TestVisits:
    def test_all_arrive_under_the_right_identity(self, crowd: list[visitors.Visitor], served: LocalAlgolia) -> None:
        result = report.compare(crowd, served)

        assert [line.verdict for line in result.users] == ["ok"] * 10
        assert (result.searches, result.events, result.mismatches) == (100, 60, 0)
        assert served.mismatches() == []

    def test_sync_and_async_visitors_are_as_many(self, crowd: list[visitors.Visitor]) -> None:
        assert [visitor.client for visitor in crowd] == ["sync"] * 5 + ["async"] * 5

    def test_tell_apart_the_visitors_whom_the_server_knows(
        self, crowd: list[visitors.Visitor], served: LocalAlgolia
    ) -> None:
        anonymous, regular, by_address, opted_out, job = report.compare(crowd, served).users[:5]

        assert (anonymous.user_tokens, anonymous.logged_in_as) == ([crowd[0].expected.user_token], [])
        assert (regular.user_tokens, regular.logged_in_as) == ([crowd[1].expected.user_token], [crowd[1].login])
        assert (by_address.user_tokens, by_address.client_ips, by_address.events) == ([], ["203.0.113.7"], 0)
        assert (opted_out.user_tokens, opted_out.client_ips, opted_out.events) == ([], [], 0)
        assert (job.user_tokens, job.events) == (["nightly-report"], 10)

    def test_the_login_is_on_the_events_after_it_only(
        self, crowd: list[visitors.Visitor], served: LocalAlgolia
    ) -> None:
        token = crowd[1].expected.user_token
        logins = [event.authenticated_user_token for event in served.events if event.user_token == token]

        assert logins.count(None) == 5
        assert logins.count(crowd[1].login) == 5


class TestVerdicts:
    def test_a_search_under_another_token(self, algolia: LocalAlgolia) -> None:
        someone = Identity("u-1")
        one = visitors.Visitor("someone", "sync", Identity("u-2"), expected=someone)

        visitors.visit(algolia, [one, *visitors.crowd()], ["shoe"])
        result = report.compare([one], algolia)

        assert "10 searches under a wrong token" in result.users[0].verdict
        assert "10 events under a wrong token" in result.users[0].verdict

    def test_searches_that_nobody_made_are_mismatches(self, algolia: LocalAlgolia) -> None:
        crowd = visitors.crowd()
        visitors.visit(algolia, crowd, ["shoe"])

        result = report.compare(crowd[1:], algolia)

        assert result.mismatches == 20  # ten searches, ten clicks
        assert result.searches == 100

    def test_what_got_lost_is_counted_as_missing(self, crowd: list[visitors.Visitor], algolia: LocalAlgolia) -> None:
        lines = report.compare(crowd, algolia).users

        assert lines[0].verdict == "10 searches missing, 10 events missing"
        assert lines[3].verdict == "10 searches missing"


class TestTable:
    def test_has_a_line_for_each_visitor_and_a_sum(self, crowd: list[visitors.Visitor], served: LocalAlgolia) -> None:
        lines = report.as_table(report.compare(crowd, served)).splitlines()

        assert re.split(" {2,}", lines[0]) == [
            "who",
            "client",
            "seen as",
            "searches",
            "events",
            "logged in as",
            "ok?",
        ]
        assert re.fullmatch(r"anonymous visitor +sync +anonym\.\.\.\S{5} +10 +10 +- +yes", lines[1])
        assert re.fullmatch(r"logs in half-way +sync +anonym\.\.\.\S{5} +10 +10 +user-\S\.\.\.\S{5} +yes", lines[2])
        assert re.fullmatch(r"IP address only +sync +203\.0\.113\.7 +10 +0 +- +yes", lines[3])
        assert re.fullmatch(r"opted out +sync +- +10 +0 +- +yes", lines[4])
        assert re.fullmatch(r"background job +sync +nightly-report +10 +10 +- +yes", lines[5])
        assert lines[-1] == "100 searches, 60 events, 0 mismatches"

    def test_fits_a_terminal_and_is_aligned(self, crowd: list[visitors.Visitor], served: LocalAlgolia) -> None:
        lines = report.as_table(report.compare(crowd, served)).splitlines()

        assert max(map(len, lines)) <= 80
        assert len({line.rindex("  yes") for line in lines[1:11]}) == 1

    def test_colour_is_for_terminals(
        self, crowd: list[visitors.Visitor], served: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = report.compare(crowd, served)
        plain = report.as_table(result)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", Terminal())
        coloured = report.as_table(result)

        assert "\x1b" not in plain
        assert "\x1b[32myes\x1b[0m" in coloured
        assert re.sub(r"\x1b\[\d*m", "", coloured) == plain

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_has_no_colour_where_the_environment_wants_none(
        self,
        name: str,
        value: str,
        crowd: list[visitors.Visitor],
        served: LocalAlgolia,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", Terminal())

        assert "\x1b" not in report.as_table(report.compare(crowd, served))


class TestCommand:
    def test_prints_the_table_and_returns_0(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo"]) == 0

        out, err = capsys.readouterr()
        assert out.endswith("\n100 searches, 60 events, 0 mismatches\n")
        assert err == ""

    def test_json_says_the_same(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo", "--json"]) == 0

        result = json.loads(capsys.readouterr().out)
        assert (result["searches"], result["events"], result["mismatches"]) == (100, 60, 0)
        assert [user["who"] for user in result["users"]][:2] == ["anonymous visitor", "logs in half-way"]
        assert {user["verdict"] for user in result["users"]} == {"ok"}

    def test_returns_1_where_an_identity_goes_astray(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(visitors, "identity_scope", lambda _: identity_scope("everybody"))

        assert main(["demo"]) == 1

        out = capsys.readouterr().out
        assert "10 searches under a wrong token" in out
        assert not out.endswith(" 0 mismatches\n")

    @pytest.mark.parametrize(
        "records",
        [
            [{"objectID": "1"}],
            [
                {"objectID": 7, "name": "Schöne Schuhe"},
                {"objectID": "x", "tags": [{"de": "größer als 42"}], "none": None},
            ],
            [{"objectID": "靴", "name": "靴"}],
            [{"objectID": f"{n}", "text": "wool " * 50} for n in range(1500)],
        ],
        ids=["no text", "nested", "other scripts", "many"],
    )
    def test_takes_records_of_any_kind(
        self, records: list[Any], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "records.json"
        file.write_text(json.dumps(records), encoding="utf-8")

        assert main(["demo", "--records", str(file)]) == 0

        assert "100 searches, 60 events, 0 mismatches" in capsys.readouterr().out


class TestRecords:
    def test_the_catalogue_is_as_an_export_would_be(self) -> None:
        records = catalogue()

        assert len(records) == 40
        assert len({record["objectID"] for record in records}) == 40
        for record in records:
            assert list(record) == ["objectID", "name", "brand", "category", "price", "description"]

    def test_a_byte_order_mark_is_no_part_of_it(self, tmp_path: pathlib.Path) -> None:
        file = tmp_path / "records.json"
        file.write_text('[{"objectID": 1}]', encoding="utf-8-sig")

        assert read_records(str(file)) == [{"objectID": "1"}]

    def test_have_words_to_search_for(self) -> None:
        records = [
            {"objectID": "long-id", "n": 1, "name": "a Wool hat"},
            {"objectID": "2"},
            {"objectID": "3", "t": ["x", "x" * 99 + " shoe"]},
        ]

        assert search_words(records) == ["Wool", "shoe"]
        assert search_words([{"objectID": "2"}]) == [""]


class TestProgress:
    def test_nothing_but_on_a_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        with progress.step("working"):
            pass

        assert capsys.readouterr().err == ""

    def test_shows_a_step_that_takes_long(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import threading

        shown = threading.Event()
        real_write = sys.stderr.write
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys.stderr, "write", lambda text: (real_write(text), shown.set())[0], raising=False)
        monkeypatch.setattr(progress, "PATIENCE", 0.0)

        with progress.step("working"):
            assert shown.wait(PATIENCE)

        assert re.fullmatch(r"(\r\x1b\[Kworking \.\.\. \d+ s)+\r\x1b\[K", capsys.readouterr().err)


class TestCorners:
    def test_a_visitor_who_finds_nothing_clicks_nothing(self, crowd: list[visitors.Visitor]) -> None:
        visitor = next(one for one in crowd if one.expected.user_token is not None)
        clicks = visitor.clicks

        visitor.click(None, SimpleNamespace(hits=[]))  # there is no sender to ask

        assert visitor.clicks == clicks

    def test_a_cell_for_several_tokens_says_how_many(self) -> None:
        assert report._in_short(["a", "b"]) == "2 different"

    def test_a_step_that_ends_in_time_is_not_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        done = threading.Event()
        done.set()

        progress._show("quick", done)

        assert capsys.readouterr().err == ""

    def test_words_of_values_that_are_no_text(self) -> None:
        assert list(demo_records._texts({"a": ["x", 7, None, {"b": "y"}]})) == ["x", "y"]
