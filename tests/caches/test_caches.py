"""Visitors behind a shared cache: nobody is handed another's token, whatever a page says about caching."""

from __future__ import annotations

import collections
import http.client
import re
import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import pages
import pytest
from caches import APPLICATIONS, CACHES, cache
from waiting import PATIENCE

from algolia_usertoken import anonymous_user_token

KINDS = [pages.HTML, pages.JSON, pages.CSS, pages.NAMED]
TOKEN = re.compile(r"anonymous-[0-9a-f-]{36}")


class Answer(NamedTuple):
    status: int
    made: str | None
    cookie: str | None
    named: str | None


class Shop:
    """A shop behind a cache, and what its visitors were wrongly given, as rows of a table."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.close = self._connection.close
        self.wrong: list[str] = []

    def get(self, path: str, token: str | None = None, **headers: str) -> Answer:
        if token is not None:
            headers["Cookie"] = f"_ALGOLIA={token}"
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        body = response.read().decode()
        cookies = [value for value in response.headers.get_all("Set-Cookie", []) if value.startswith("_ALGOLIA=")]
        named = TOKEN.search(body)
        return Answer(
            response.status,
            response.headers.get("X-Made"),
            cookies[0].partition(";")[0].removeprefix("_ALGOLIA=") if cookies else None,
            named[0] if named else None,
        )

    def visit(self, path: str, holders_first: bool) -> None:
        """Three visitors come to a page one after the other, then each again, with others in between."""
        kind, rule = path.strip("/").partition("?")[0].split("/")
        known: set[str] = set()  # tokens that some visitor holds by now
        holders = [anonymous_user_token() for _ in range(2)]

        def come(token: str | None, **headers: str) -> str | None:
            """A visit; gives the token that the visitor holds after it."""
            answer = self.get(path, token, **headers)
            if answer.status not in (200, 304):
                self.note(path, f"status {answer.status}")
            mine = token or answer.cookie
            for what, found in [("cookie", answer.cookie), ("page", answer.named)]:
                if found is not None and found != token and found in known:
                    self.note(path, f"SHARED, in a {what}")
            if answer.cookie is not None and token is not None:
                self.note(path, "a cookie for a visitor who has one")
            if kind == pages.NAMED and answer.status == 200:
                if token is not None and answer.named != token:
                    self.note(path, "names somebody else" if answer.named else "does not name its visitor")
                if token is None and answer.named not in (None, answer.cookie):
                    self.note(path, "names a token that nobody holds")
            if kind != pages.NAMED and answer.cookie is not None and kind not in pages.RULES[rule].cookie:
                self.note(path, "a cookie where none may be")
            known.update(found for found in (token, answer.cookie, answer.named) if found is not None)
            return mine

        if holders_first:
            come(holders[0])
        three = [come(None) for _ in range(3)]
        # A page that was made for somebody who has the cookie may have been kept: it has none for others.
        if not holders_first and kind in pages.RULES[rule].cookie and None in three:
            self.note(path, "no cookie on a first visit")
        come(holders[1])
        come(None, **{"If-None-Match": pages.ETAG})
        for mine in three:
            come(mine or anonymous_user_token())
        come(None)

    def note(self, path: str, what: str) -> None:
        self.wrong.append(f"{path.partition('?')[0]:40} {what}")

    def is_kept(self, path: str) -> bool:
        """Whether a page comes twice, as only a cache can hand it out. nginx may store it a moment after the answer."""
        made: set[str | None] = set()
        until = time.monotonic() + PATIENCE / 4
        while time.monotonic() < until:
            found = self.get(path).made
            if found in made:
                return True
            made.add(found)
            time.sleep(0.01)
        return False


@pytest.fixture(params=CACHES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("application", APPLICATIONS)
def test_visitors_behind_a_cache_share_no_token(name: str, application: str, port_of: Callable[[str], int]) -> None:
    with cache(name, port_of(application)) as port, closing(Shop(port)) as shop:
        for kind in KINDS:
            for rule in pages.RULES:
                shop.visit(f"/{kind}/{rule}", holders_first=False)
                if kind in (pages.HTML, pages.NAMED):
                    shop.visit(f"/{kind}/{rule}?holders", holders_first=True)

    rows = collections.Counter(shop.wrong)
    table = "\n".join(f"{count:3} times  {row}" for row, count in rows.items())
    pages_wrong = len({row.split()[0] for row in rows})
    assert not rows, f"{name}, {application}: wrong on {pages_wrong} of {len(KINDS) * len(pages.RULES)} pages\n{table}"


@pytest.mark.parametrize("application", APPLICATIONS)
def test_the_cache_keeps_what_it_may(name: str, application: str, port_of: Callable[[str], int]) -> None:
    with cache(name, port_of(application)) as port, closing(Shop(port)) as shop:
        not_kept = [
            f"/{kind}/{rule}"
            for kind in (pages.HTML, pages.JSON, pages.CSS)
            for rule, about in pages.RULES.items()
            if about.kept and not shop.is_kept(f"/{kind}/{rule}")
        ]

    assert not_kept == []
