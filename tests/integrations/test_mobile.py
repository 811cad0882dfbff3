"""An app: a plain HTTP client without cookies, that has a token of its own and sends events to Algolia by itself."""

from __future__ import annotations

import http.client
import json
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import serving
from algoliasearch.insights.client import InsightsClientSync
from ports import free_port
from waiting import PATIENCE

from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

TOKEN = "app-7d1c2b"
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "FastAPI": lambda port: serving.uvicorn("shop_fastapi:app", port),
    "Flask": lambda port: serving.gunicorn("shop_flask:app", port),
    "Django": lambda port: serving.gunicorn("shop_django:wsgi", port),
}


class App:
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.headers = {"X-Algolia-UserToken": TOKEN}

    def get(self, path: str) -> Any:
        self.connection.request("GET", path, headers=self.headers)
        response = self.connection.getresponse()
        body = response.read()
        self.connection.close()
        assert response.status == 200, body
        self.got_cookie = response.getheader("Set-Cookie") is not None
        return json.loads(body)

    def log_in(self) -> None:
        self.headers["X-Login"] = "user-42"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, algolia: LocalAlgolia, tmp_path: pathlib.Path) -> Callable[..., Any]:
    @contextmanager
    def start(**env: str) -> Iterator[App]:
        port = free_port()
        env = {"LOCAL_ALGOLIA_PORT": str(algolia.port), **env}
        with serving.running(SERVERS[request.param](port), port, tmp_path / "log", env):
            yield App(port)

    return start


def test_a_mobile_app_is_one_user_throughout(server: Callable[..., Any], algolia: LocalAlgolia) -> None:
    with server() as app, InsightsClientSync.create_with_config(algolia.insights_config()) as insights:
        assert app.get("/settings") == {"userToken": TOKEN, "useCookie": False}
        assert not app.got_cookie

        app.get("/1/sync/1")
        app.log_in()
        settings = app.get("/settings")
        assert settings == {"userToken": TOKEN, "authenticatedUserToken": "user-42", "useCookie": False}

        app.get("/1/sync/2")
        event = {
            "eventType": "click",
            "eventName": "Clicked in the app",
            "index": "products",
            "objectIDs": ["1"],
            "positions": [1],
            "queryID": algolia.searches[-1].query_id,
            "userToken": settings["userToken"],
            "authenticatedUserToken": settings["authenticatedUserToken"],
        }
        insights.push_events({"events": [event]})

    assert {search.user_token for search in algolia.searches} == {TOKEN}
    assert [
        (event.user_token, event.authenticated_user_token) for event in algolia.events if "app" in event.event_name
    ] == [(TOKEN, "user-42")]
    assert list(algolia.identities()) == [TOKEN]
    assert algolia.mismatches() == []


def test_the_header_of_a_mobile_app_is_not_believed_without_opt_in(
    server: Callable[..., Any], algolia: LocalAlgolia
) -> None:
    with server(APP_HEADER="") as app:
        settings = app.get("/settings")
        app.get("/1/sync/1")

    assert settings["userToken"].startswith("anonymous-")
    assert TOKEN not in algolia.identities()
