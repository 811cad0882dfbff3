"""`algolia-usertoken check`, against a LocalAlgolia with each fault; what it says of Algolia itself, under respx."""

from __future__ import annotations

import http.server
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from algoliasearch.search.client import SearchClientSync
from answering import answering, served_by
from waiting import PATIENCE

from algolia_usertoken.check import Check
from algolia_usertoken.cli import main
from algolia_usertoken.testing import AlgoliaRouter, LocalAlgolia

pytestmark = pytest.mark.slow

STEPS = ["connection", "key", "index", "token", "query id", "event", "region"]
FORBIDDEN = {"message": "Method not allowed with this API key", "status": 403}
Checked = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALGOLIA_APP_ID", "ALGOLIA_API_KEY", "ALGOLIA_INDEX_NAME", "ALGOLIA_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algolia_usertoken.check._CONNECT_MS", int(PATIENCE * 1000))
    monkeypatch.setattr("algolia_usertoken.check._ANSWER_MS", int(PATIENCE * 1000))
    monkeypatch.setattr("algolia_usertoken.check._ALL_SECONDS", PATIENCE)


@pytest.fixture
def check(algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]) -> Checked:
    """Runs the command against `algolia` and returns its exit code and its JSON, findings by step."""

    def check(*arguments: str, host: str | None = None) -> tuple[int, dict[str, Any]]:
        code = main(["check", "--json", "--host", host or f"127.0.0.1:{algolia.port}", *arguments])
        report = json.loads(capsys.readouterr().out)
        assert [finding["step"] for finding in report["findings"]] == STEPS
        assert report["faults"] == sum(finding["state"] == "wrong" for finding in report["findings"])
        assert code == (1 if report["faults"] else 0)
        return code, {finding["step"]: finding for finding in report["findings"]}

    return check


def only_fault(findings: dict[str, Any], step: str, said: str, remedy: str) -> None:
    """`step` is the one thing wrong, and what comes after it was not tried."""
    states = [finding["state"] for finding in findings.values()]
    assert states.count("wrong") == 1
    assert findings[step]["state"] == "wrong"
    assert re.search(said, findings[step]["said"]), findings[step]["said"]
    assert re.search(remedy, findings[step]["remedy"]), findings[step]["remedy"]


def test_check_finds_nothing_wrong_and_what_it_sends_is_of_one_user(check: Checked, algolia: LocalAlgolia) -> None:
    code, findings = check()

    assert code == 0
    assert {finding["state"] for finding in findings.values()} == {"ok"}
    (search,), (event,) = algolia.searches, algolia.events
    assert search.user_token == event.user_token
    assert search.user_token.startswith("anonymous-")
    assert search.user_token in findings["token"]["said"]
    assert event.query_ids == (search.query_id,)
    assert search.params["analyticsTags"][0].startswith("algolia-usertoken-check-")
    assert algolia.mismatches() == []


@pytest.mark.parametrize("option", ["--api-key", "--app-id"])
def test_check_names_a_key_that_algolia_refuses(option: str, check: Checked) -> None:
    _, findings = check(option, "wrong-one-0000")

    only_fault(findings, "key", "Invalid Application-ID or API key", "same application")
    assert [finding["state"] for finding in findings.values()] == ["ok", "wrong", *["skipped"] * 5]


def test_the_key_is_never_shown(check: Checked) -> None:
    _, findings = check("--api-key", "0123456789abcdef")

    assert "…cdef" in findings["key"]["said"]
    assert "b" + "cdef" not in json.dumps(findings)


def test_a_key_that_may_not_search(check: Checked, algolia: LocalAlgolia) -> None:
    algolia.fail_next(403, body=FORBIDDEN)

    _, findings = check()

    only_fault(findings, "key", "Method not allowed with this API key", "ACL `search`")


def test_a_key_that_may_not_send_events(check: Checked, algolia: LocalAlgolia) -> None:
    algolia.fail_next(403, body=FORBIDDEN, path="/1/events")

    _, findings = check()

    only_fault(findings, "event", "may not send events.*403", "ACL `search`.$")  # a stand-in has no regions
    assert findings["region"]["state"] == "skipped"


def test_an_index_that_is_not_there(check: Checked) -> None:
    _, findings = check("--index", "Products")

    only_fault(findings, "index", "Index Products does not exist", "case-sensitive")


def test_check_of_an_index_without_records_sends_an_event_about_a_filter(check: Checked, algolia: LocalAlgolia) -> None:
    algolia.save_objects("empty", [])

    code, findings = check("--index", "empty")

    assert code == 0
    assert "0 records" in findings["index"]["said"]
    assert "there is no hit" in findings["event"]["said"]
    assert algolia.events[0].event["filters"] == ["checked:algolia-usertoken-check"]


def test_check_names_a_port_on_which_no_server_listens(check: Checked) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # keeps the port from all others, and does not listen
        port = one.getsockname()[1]
        _, findings = check(host=f"http://127.0.0.1:{port}")

    only_fault(findings, "connection", f"127.0.0.1:{port} cannot be reached: Connection refused", "serve")


def test_a_host_that_no_name_server_knows(check: Checked) -> None:
    _, findings = check(host="127..1:80")

    only_fault(findings, "connection", "127..1:80 cannot be reached: .*label empty", "serve")


def test_check_names_a_server_that_does_not_answer(
    check: Checked, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algolia_usertoken.check._ANSWER_MS", 500)
    algolia.hang_next(times=None)

    _, findings = check()

    only_fault(findings, "connection", "no host answers", "")


@pytest.mark.slow
def test_check_names_an_insights_host_that_does_not_answer(
    check: Checked, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    algolia.hang_next(times=None, path="/1/events")
    send = Check._sent_to

    def send_impatiently(*arguments: Any) -> Exception | None:
        monkeypatch.setattr("algolia_usertoken.check._ANSWER_MS", 500)  # from here on: the search has its answer
        return send(*arguments)

    monkeypatch.setattr(Check, "_sent_to", send_impatiently)

    _, findings = check()

    only_fault(findings, "event", "cannot be reached", "host of their own")


@pytest.mark.parametrize(
    "body",
    [
        "<html>Welcome to nginx!</html>",
        "[]",
        "{}",
        "null",
        "7",
        {"hits": 7},
        {"hits": None},
        {"hits": {"a": 1}},
        {"hits": [7]},
        {"hits": [{}]},
        {"hits": [{"objectID": 7}]},
    ],
)
def test_check_names_a_server_that_does_not_answer_as_algolia_does(
    body: Any, check: Checked, algolia: LocalAlgolia
) -> None:
    algolia.fail_next(200, body=body)

    _, findings = check()

    only_fault(findings, "connection", "not come from Algolia", "proxy")


@pytest.mark.parametrize("count", [None, "many", [1]])
def test_a_number_of_records_that_is_none(count: Any, check: Checked, algolia: LocalAlgolia) -> None:
    algolia.fail_next(200, body={"hits": [], "nbHits": count}, path="/1/indexes")

    _, findings = check()

    assert findings["index"]["said"] == "The index products exists."


@pytest.mark.parametrize("status", [401, 403, 404])
def test_check_names_a_proxy_that_refuses_the_search(status: int, check: Checked) -> None:
    with answering(status, b"<html>No</html>") as port:
        _, findings = check(host=f"127.0.0.1:{port}")

    only_fault(findings, "connection", f"not come from Algolia: {status}", "proxy")


def test_an_answer_that_never_ends(check: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algolia_usertoken.check._ALL_SECONDS", 0.5)
    with answering(200, b"{", length=100) as port:
        _, findings = check(host=f"127.0.0.1:{port}")

    only_fault(findings, "connection", "Not known within 0 seconds", "name server")
    assert [finding["state"] for finding in findings.values()] == ["wrong", *["skipped"] * 6]


@pytest.mark.parametrize("answer", ["<html>", "7"])
def test_check_names_a_server_that_does_not_take_events_as_algolia_does(
    answer: str, check: Checked, algolia: LocalAlgolia
) -> None:
    algolia.fail_next(200, body=answer, path="/1/events")

    _, findings = check()

    only_fault(findings, "event", "not come from Algolia", "proxy")


@pytest.mark.parametrize(("query_id", "step"), [(7, "query id"), ("b", "event")])
def test_a_query_id_that_is_none(query_id: Any, step: str, check: Checked, algolia: LocalAlgolia) -> None:
    body = {"hits": [{"objectID": "1"}], "nbHits": 1, "queryID": query_id}
    algolia.fail_next(200, body=body, path="/1/indexes")

    _, findings = check()

    only_fault(findings, step, "no queryID|No event can be made", "between|answers in Algolia's place")


@pytest.mark.parametrize("path", ["/1/indexes", "/1/logs", "/1/events"])
@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_error_that_repeats_the_key(
    path: str, status: int, algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]
) -> None:
    with SearchClientSync.create_with_config(algolia.search_config()) as parent:
        key = parent.generate_secured_api_key(algolia.api_key, {"filters": "a:b OR " * 30 + "c:d"})
    algolia.fail_next(status, body={"message": f"not with {key}"}, path=path, times=None)

    main(["check", "--host", algolia.url, "--api-key", key])

    assert key[:20] not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "message", "said", "remedy"),
    [
        (422, "userToken: invalid", "refused: 422, userToken: invalid", "changes bodies"),
        (400, "bad", "refused: 400", "changes bodies"),
        (413, "too large", "refused: 413", "changes bodies"),
        (429, "slow down", "refused: 429", "wait"),
        (401, "Invalid credentials", "may not send events.*401", "ACL"),
        (404, "not found", "may not send events.*404", "ACL"),
        (402, "pay first", "answered with 402: pay first", "later"),
        (503, "down", "cannot be reached: no host answers", "host of their own"),
    ],
)
def test_check_says_why_its_event_is_refused_and_what_to_do(
    status: int, message: str, said: str, remedy: str, check: Checked, algolia: LocalAlgolia
) -> None:
    algolia.fail_next(status, body={"message": message, "status": status}, path="/1/events", times=None)

    _, findings = check()

    only_fault(findings, "event", said, remedy)


def test_a_wrong_region_by_algolias_own_word(check: Checked, algolia: LocalAlgolia) -> None:
    body = {"message": "The log processing region does not match", "status": 401}
    algolia.fail_next(401, body=body, path="/1/events", times=None)

    _, findings = check()

    only_fault(findings, "region", "region does not match", "infrastructure")


@pytest.mark.parametrize(
    ("status", "step"), [(429, "key"), (500, "connection"), (400, "connection"), (405, "connection")]
)
def test_check_names_the_step_at_which_a_search_fails(
    status: int, step: str, check: Checked, algolia: LocalAlgolia
) -> None:
    algolia.fail_next(status, times=None)

    _, findings = check()

    only_fault(findings, step, "LocalAlgolia was told to answer|no host answers", "")


def test_check_names_an_answer_without_a_query_id(check: Checked, algolia: LocalAlgolia) -> None:
    answer = {"hits": [{"objectID": "1"}], "nbHits": 1, "query": "", "params": "", "processingTimeMS": 1}
    algolia.fail_next(200, body=answer, path="/1/indexes")

    _, findings = check()

    only_fault(findings, "query id", "no queryID", "cache")
    assert findings["event"]["state"] == "ok"


class TestLogs:
    def test_the_search_is_among_others(self, check: Checked, algolia: LocalAlgolia) -> None:
        other = {"query_body": "of somebody else", "url": "/1/indexes/products/query", "query_headers": ""}
        algolia.fail_next(200, body={"logs": [other]}, path="/1/logs")

        _, findings = check()

        assert findings["token"]["state"] == "ok"  # at the second look

    def test_a_key_that_may_not_read_them(self, check: Checked, algolia: LocalAlgolia) -> None:
        with SearchClientSync.create_with_config(algolia.search_config()) as parent:
            key = parent.generate_secured_api_key(algolia.api_key, {"filters": ""})

        code, findings = check("--api-key", key)

        assert code == 0
        assert findings["token"]["state"] == "unknown"
        assert "ACL `logs`" in findings["token"]["remedy"]

    @pytest.mark.parametrize("fault", [{"status": 500}, {"status": 400}, {"status": 200, "body": "<html>"}])
    def test_that_cannot_be_read_are_no_fault(self, fault: Any, check: Checked, algolia: LocalAlgolia) -> None:
        algolia.fail_next(**fault, path="/1/logs", times=None)

        code, findings = check()

        assert code == 0
        assert findings["token"]["state"] == "unknown"
        assert "could not be read" in findings["token"]["said"]

    def test_the_search_is_not_in_them_yet(
        self, check: Checked, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("algolia_usertoken.check._LOG_PAUSE", 0.0)
        algolia.fail_next(200, body={"logs": []}, path="/1/logs", times=None)

        code, findings = check()

        assert code == 0
        assert "not in Algolia's logs yet" in findings["token"]["said"]

    @pytest.mark.parametrize("logs", [7, [7], None, {}])
    def test_that_algolia_would_not_send_are_no_fault(self, logs: Any, check: Checked, algolia: LocalAlgolia) -> None:
        algolia.fail_next(200, body={"logs": logs}, path="/1/logs", times=None)

        code, findings = check()

        assert code == 0
        assert re.search("answer has no logs|not in Algolia's logs", findings["token"]["said"])

    @pytest.mark.parametrize("headers", [None, "", [1]])
    def test_without_headers_are_no_fault(
        self, headers: Any, check: Checked, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Its own tag only: LocalAlgolia makes query ids of the same function.
        monkeypatch.setattr("algolia_usertoken.check.secrets", SimpleNamespace(token_hex=lambda _: "0a1b"))
        entry = {"query_body": "algolia-usertoken-check-0a1b", "query_headers": headers}
        algolia.fail_next(200, body={"logs": [entry]}, path="/1/logs")

        code, findings = check()

        assert code == 0
        assert findings["token"]["state"] == "unknown"
        assert "without its headers" in findings["token"]["said"]

    @pytest.mark.parametrize(
        ("header", "said"),
        [
            ("", "without its header"),
            ("X-Algolia-UserToken: u-2", "another.*of 3 characters"),
            ("X-Original-UserToken: {}", "without its header"),
        ],
    )
    def test_the_header_was_lost_on_the_way(
        self, header: str, said: str, check: Checked, algolia: LocalAlgolia
    ) -> None:
        def change(headers: dict[str, str], body: dict[str, Any]) -> None:
            token = headers.pop("x-algolia-usertoken", "")
            if header:
                name, value = header.split(": ")
                headers[name] = value.format(token)

        with changing_proxy(algolia, change) as port:
            _, findings = check(host=f"127.0.0.1:{port}")

        only_fault(findings, "token", said, "user_token_in")
        assert findings["event"]["state"] == "ok"

    def test_a_parameter_came_in_on_the_way(self, check: Checked, algolia: LocalAlgolia) -> None:
        def change(headers: dict[str, str], body: dict[str, Any]) -> None:
            body["userToken"] = "u-2"

        with changing_proxy(algolia, change) as port:
            _, findings = check(host=f"127.0.0.1:{port}")

        only_fault(
            findings, "token", "without a userToken among its parameters, but", "adds no userToken|add no userToken"
        )


@contextmanager
def changing_proxy(algolia: LocalAlgolia, change: Callable[[dict[str, str], dict[str, Any]], object]) -> Iterator[int]:
    """A proxy in front of `algolia` that changes searches: the headers, by their names in lower case, and the body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.path.endswith("/query"):
                sent = json.loads(body)
                change(headers, sent)
                body = json.dumps(sent).encode()
                headers["content-length"] = str(len(body))
            answer = httpx.request(self.command, f"{algolia.url}{self.path}", headers=headers, content=body)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = forward

        def log_message(self, *args: Any) -> None:
            pass

    with served_by(Handler) as port:
        yield port


class TestAlgoliaItself:
    """Without --host, requests go to Algolia's own hosts: here respx stands in for them."""

    @pytest.fixture
    def algolia(self) -> Iterator[AlgoliaRouter]:  # type: ignore[override]
        with AlgoliaRouter(records={"products": [{"objectID": "1"}]}, assert_all_called=False) as router:
            yield router

    @pytest.fixture
    def check(self, capsys: pytest.CaptureFixture[str]) -> Checked:  # type: ignore[override]
        def check(*arguments: str) -> tuple[int, dict[str, Any]]:
            code = main(
                ["check", "--json", "--app-id", "APP", "--api-key", "a-key-of-app", "--index", "products", *arguments]
            )
            return code, {finding["step"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}

        return check

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("algolia_usertoken.check._LOG_PAUSE", 0.0)

    def hosts(self, router: AlgoliaRouter, path: str) -> list[str]:
        return [call.request.url.host for call in router.calls if call.request.url.path == path]

    def test_the_region_that_was_given(self, check: Checked, algolia: AlgoliaRouter) -> None:
        code, findings = check("--region", "de")

        assert code == 0
        assert self.hosts(algolia, "/1/events") == ["insights.de.algolia.io"]
        assert findings["region"] == {
            "step": "region",
            "state": "ok",
            "said": "The region de accepts events of this application.",
            "remedy": "",
        }

    def test_gets_events_at_its_common_host_where_no_region_is_given(
        self, check: Checked, algolia: AlgoliaRouter
    ) -> None:
        code, findings = check()

        assert code == 0
        assert self.hosts(algolia, "/1/events") == ["insights.algolia.io"]
        assert findings["region"]["state"] == "unknown"
        assert "us or de" in findings["region"]["remedy"]

    @pytest.mark.parametrize("arguments", [[], ["--region", "us"]])
    def test_is_found_in_another_region_than_the_one_given(
        self, arguments: list[str], check: Checked, algolia: AlgoliaRouter
    ) -> None:
        for host in ("insights.algolia.io", "insights.us.algolia.io"):
            algolia.post(f"https://{host}/1/events").respond(401, json={"message": "Invalid credentials"})

        code, findings = check(*arguments)

        assert code == 1
        assert findings["event"]["state"] == "ok"
        only_fault(findings, "region", "The region de accepts", "region de")

    def test_refuses_the_event_in_each_region(self, check: Checked, algolia: AlgoliaRouter) -> None:
        algolia.post(path="/1/events").respond(401, json={"message": "Invalid credentials"})

        _, findings = check("--region", "us")

        only_fault(findings, "event", "401, Invalid credentials", "region")
        assert self.hosts(algolia, "/1/events") == ["insights.us.algolia.io", "insights.de.algolia.io"]

    def test_an_id_too_long_for_a_host(self, check: Checked) -> None:
        _, findings = check("--app-id", "A" * 64)

        only_fault(findings, "connection", "Algolia cannot be reached", f"Is {'A' * 64} the application's id")

    def test_that_cannot_be_reached_is_told(self, check: Checked, algolia: AlgoliaRouter) -> None:
        algolia.post(path="/1/indexes/products/query").mock(side_effect=httpx.ConnectError)

        _, findings = check()

        only_fault(findings, "connection", "Algolia cannot be reached: ", "Is APP the application's id")

    def test_is_reached_with_what_the_environment_says(
        self, algolia: AlgoliaRouter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALGOLIA_APP_ID", "ENV")
        monkeypatch.setenv("ALGOLIA_API_KEY", "key-of-the-environment")
        monkeypatch.setenv("ALGOLIA_INDEX_NAME", "products")
        monkeypatch.setenv("ALGOLIA_REGION", "us")

        assert main(["check"]) == 0
        assert algolia.calls[0].request.headers["x-algolia-application-id"] == "ENV"
        text = capsys.readouterr().out
        assert "insights.us.algolia.io" in text
        assert all(len(line) <= 80 for line in text.splitlines())

    def test_the_user_is_to_be_erased_where_the_search_has_arrived(
        self, algolia: AlgoliaRouter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["check", "--app-id", "APP", "--api-key", "a-key-of-app", "--index", "products"]
        main(arguments)
        token = algolia.calls[0].request.headers["x-algolia-usertoken"]
        text = capsys.readouterr().out
        assert text.endswith(f"  user_token = {token!r}\n  client.insights.delete_user_token(user_token)\n")

        algolia.post(path="/1/indexes/products/query").mock(side_effect=httpx.ConnectError)
        main(arguments)
        assert "erase" not in capsys.readouterr().out

    def test_a_region_of_the_environment_that_is_none(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALGOLIA_REGION", "eu")

        assert main(["check", "--app-id", "A", "--api-key", "k", "--index", "i"]) == 2
        assert capsys.readouterr().err == "algolia-usertoken: ALGOLIA_REGION must be us or de\n"


KEY = ["--app-id", "A", "--api-key", "k"]
AN_ID = "the id of an application"
NO_INDEX = "cannot be an index name"
NO_KEY = "cannot be an API key: it has characters that are not allowed in one"


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "--app-id is missing: give it, or set ALGOLIA_APP_ID"),
        (["--app-id", "A"], "--api-key is missing: give it, or set ALGOLIA_API_KEY"),
        (["--app-id", "A", "--api-key", "k"], "--index is missing: give it, or set ALGOLIA_INDEX_NAME"),
        (["--app-id", "A B"], f"--app-id cannot be {AN_ID}: it has characters that are not allowed in one"),
        (["--app-id", "evil.com/"], f"--app-id cannot be {AN_ID}: it has characters that are not allowed in one"),
        (["--app-id", "0a" * 16], f"--app-id cannot be {AN_ID}: it looks like an API key"),
        (
            [*KEY, "--index", "\udcff"],
            "--index '\\udcff' cannot be an index name: it has characters that UTF-8 cannot encode",
        ),
        ([*KEY, "--index", "."], f"--index '.' {NO_INDEX}: it has a special meaning in URLs"),
        ([*KEY, "--index", ".."], f"--index '..' {NO_INDEX}: it has a special meaning in URLs"),
        (["--app-id", "A", "--api-key", "k\n"], f"--api-key {NO_KEY}"),
        (
            ["--app-id", "A", "--api-key", "schlüssel"],
            "--api-key cannot be an API key: it has characters that are not allowed in one",
        ),
    ],
)
def test_check_names_an_argument_that_is_missing_or_cannot_be(
    arguments: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err == f"algolia-usertoken: {missing}\n"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALGOLIA_APP_ID", "A B", f"ALGOLIA_APP_ID cannot be {AN_ID}: it has characters that are not allowed in one"),
        ("ALGOLIA_API_KEY", "k k", f"ALGOLIA_API_KEY {NO_KEY}"),
        (
            "ALGOLIA_INDEX_NAME",
            "..",
            f"ALGOLIA_INDEX_NAME '..' {NO_INDEX}: it has a special meaning in URLs",
        ),
    ],
)
def test_what_is_wrong_in_the_environment_is_told_by_the_name_of_its_variable(
    variable: str, value: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    assert main(["check", "--host", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == f"algolia-usertoken: {said}\n"


def test_the_environment_is_asked_with_a_host_too(
    check: Checked, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalAlgolia(app_id="MYAPP", api_key="key-of-the-environment") as other:
        other.save_objects("shoes", [{"objectID": "1"}])
        monkeypatch.setenv("ALGOLIA_APP_ID", "MYAPP")
        monkeypatch.setenv("ALGOLIA_API_KEY", "key-of-the-environment")
        monkeypatch.setenv("ALGOLIA_INDEX_NAME", "shoes")

        code, _ = check(host=other.url)
        assert code == 0
        assert other.searches[0].index == "shoes"

        code, _ = check("--api-key", "another-key", host=other.url)  # an option comes first
        assert code == 1


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1:port", "ftp://127.0.0.1", "http://", "127.0.0.1:8108/path", "[::1", "a:99999", "a@b"]
)
def test_a_host_that_is_none(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["check", "--host", host])

    assert exit_.value.code == 2
    assert "127.0.0.1:8108" in capsys.readouterr().err


def test_check_prints_its_findings_in_80_columns(algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--host", f"127.0.0.1:{algolia.port}", "--index", "nope"]) == 1

    text = capsys.readouterr().out
    assert "ok        connection  " in text
    assert "wrong     index       The index nope does not exist" in text
    assert "→ Names of indices" in text
    assert "\n1 problem found.\n" in text
    assert "To erase" not in text
    assert "dashboard" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "\033" not in text


def test_colours_are_for_a_terminal(
    algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["check", "--host", f"127.0.0.1:{algolia.port}", "--index", "nope"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(arguments)
    assert "\033[31mwrong\033[0m     index" in capsys.readouterr().out

    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            main(arguments)
        assert "\033" not in capsys.readouterr().out


@pytest.mark.slow
def test_an_output_that_knows_ascii_only(algolia: LocalAlgolia) -> None:
    command = [sys.executable, "-m", "algolia_usertoken", "check", "--host", algolia.url, "--index", "nöpe"]
    done = subprocess.run(
        command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""}, timeout=PATIENCE, check=False
    )

    assert done.returncode == 1, done.stderr
    assert b"n\\xf6pe" in done.stdout


def test_what_would_steer_the_terminal_is_escaped(algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]) -> None:
    algolia.fail_next(404, body={"message": "gone\033[31m\u202e"})

    main(["check", "--host", algolia.url])

    assert "gone\\x1b[31m\\u202e" in capsys.readouterr().out


def test_a_key_too_short_to_be_one(check: Checked) -> None:
    _, findings = check("--api-key", "k")

    only_fault(findings, "key", "^The key … of application LOCALALGOLIA is not accepted", "same application")


def test_a_proxy_that_wants_a_password(check: Checked, algolia: LocalAlgolia) -> None:
    algolia.fail_next(407, body={"message": "Proxy Authentication Required", "status": 407})

    _, findings = check()

    only_fault(findings, "connection", "407", "asks for a user name and a password")


def test_a_fault_of_our_own_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, algolia: LocalAlgolia) -> None:
    monkeypatch.setattr("algolia_usertoken.check.Check._findings", lambda self: iter([1 // 0]))

    with pytest.raises(ZeroDivisionError):
        main(["check", "--host", algolia.url])
