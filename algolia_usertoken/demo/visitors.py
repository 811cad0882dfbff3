"""The visitors, who all search, click the first hit and search again at the same time.

As in an application, all threads share one sync client, and all tasks share one async client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .. import (
    Identity,
    TokenAwareClient,
    TokenAwareClientSync,
    anonymous_user_token,
    identity_scope,
    pseudonymous_user_token,
    set_authenticated_user_token,
)
from .records import Record

if TYPE_CHECKING:
    from algoliasearch.search.models import SearchResponse

    from .. import EventSender
    from ..testing import LocalAlgolia

INDEX = "products"
ROUNDS = 10
LOGIN = ROUNDS // 2  # the round before which a visitor logs in
ANONYMOUS, LOGGED_IN = "anonymous", "logged in"

_JOBS = {"sync": "nightly-report", "async": "hourly-digest"}


@dataclass
class Visitor:
    """One visitor, and what they have done so far."""

    name: str
    client: Literal["sync", "async"]
    identity: Identity | None  # the identity in their request; if it is None, the client's default counts
    expected: Identity  # the identity that the server should see
    login: str | None = None  # the pseudonymous id with which they log in half-way
    searches: int = 0
    clicks: int = 0  # the clicks for which a user token is known

    @property
    def tag(self) -> str:
        """The tag of this visitor's searches. It identifies them, whatever identity they carry."""
        return f"{self.client}: {self.name}"

    def next_search(self, words: Sequence[str]) -> dict[str, Any]:
        """Log in if it is time to, and return the parameters of the next search."""
        if self.login is not None and self.searches == LOGIN:
            set_authenticated_user_token(self.login)
        stage = ANONYMOUS if self.login is None or self.searches < LOGIN else LOGGED_IN
        word = words[(len(self.tag) + self.searches) % len(words)]
        self.searches += 1
        return {"query": word, "clickAnalytics": True, "analyticsTags": [self.tag, stage]}

    def click(self, events: EventSender, response: SearchResponse) -> None:
        """Click the first hit, if there is one."""
        if not response.hits:
            return
        if self.expected.user_token is not None:
            self.clicks += 1
        events.clicked_object_ids_after_search(
            "Product Clicked", INDEX, [response.hits[0].object_id], [1], response.query_id or ""
        )


def crowd() -> list[Visitor]:
    """Five visitors for each client."""
    return [*_crowd("sync", "203.0.113.7"), *_crowd("async", "198.51.100.23")]


def _crowd(client: Literal["sync", "async"], address: str) -> list[Visitor]:
    anonymous, regular = Identity(anonymous_user_token()), Identity(anonymous_user_token())
    login = pseudonymous_user_token(f"jane-{client}@example.com", secret="a secret that stays on the server")
    by_address = Identity(client_ip=address)
    return [
        Visitor("anonymous visitor", client, anonymous, anonymous),
        Visitor("logs in half-way", client, regular, regular, login),
        Visitor("IP address only", client, by_address, by_address),
        Visitor("opted out", client, Identity(opted_out=True), Identity()),
        Visitor("background job", client, None, Identity(_JOBS[client])),
    ]


def index(algolia: LocalAlgolia, records: list[Record]) -> None:
    """Index the records, through the API."""
    with TokenAwareClientSync.create_with_config(algolia.search_config()) as client:
        client.save_objects(INDEX, records, wait_for_tasks=True)


def visit(algolia: LocalAlgolia, visitors: list[Visitor], words: Sequence[str]) -> None:
    """Run all visitors at once: a thread for each with the sync client, a task for each with the async client."""
    in_threads = [visitor for visitor in visitors if visitor.client == "sync"]
    in_tasks = [visitor for visitor in visitors if visitor.client == "async"]
    client = TokenAwareClientSync.create_with_config(
        algolia.search_config(), user_token=_JOBS["sync"], insights_config=algolia.insights_config()
    )
    with client, ThreadPoolExecutor(len(in_threads)) as threads:
        visits = [threads.submit(_visit_sync, client, visitor, words) for visitor in in_threads]
        asyncio.run(_visit_all_async(algolia, in_tasks, words))
        for finished in visits:
            finished.result()


def _visit_sync(client: TokenAwareClientSync, visitor: Visitor, words: Sequence[str]) -> None:
    with identity_scope(visitor.identity):
        for _ in range(ROUNDS):
            response = client.search_single_index(INDEX, visitor.next_search(words))
            visitor.click(client.events, response)


async def _visit_all_async(algolia: LocalAlgolia, visitors: list[Visitor], words: Sequence[str]) -> None:
    client = TokenAwareClient.create_with_config(
        algolia.search_config(), user_token=_JOBS["async"], insights_config=algolia.insights_config()
    )
    async with client:
        await asyncio.gather(*(_visit_async(client, visitor, words) for visitor in visitors))


async def _visit_async(client: TokenAwareClient, visitor: Visitor, words: Sequence[str]) -> None:
    with identity_scope(visitor.identity):
        for _ in range(ROUNDS):
            response = await client.search_single_index(INDEX, visitor.next_search(words))
            visitor.click(client.events, response)
