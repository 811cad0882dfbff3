"""The shop without a web framework: what is searched, what is in the cart, and which events Algolia is sent.

Nothing here names a user: the client and its events ask whose request is being served.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from algolia_usertoken import EventSender, HitReference, InvalidReferenceError, QueryMemory, current_identity

from .backend import PRODUCTS, SECRET

PAGE_SIZE = 12
CURRENCY = "EUR"


@dataclass(frozen=True)
class Query:
    """What a visitor looks for: words, one brand or all, and which page of it, from 0."""

    words: str = ""
    brand: str = ""
    page: int = 0

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> Query:
        """From the arguments of a request, whatever they are."""
        page = arguments.get("page", "")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 4 else 0
        return cls(arguments.get("q", "")[:200].strip(), arguments.get("brand", "")[:100], number)

    def requests(self, index: str) -> dict[str, Any]:
        """The argument of `client.search`: the hits, and how many each brand would have."""
        words = {"indexName": index, "query": self.words}
        hits = {
            **words,
            "page": self.page,
            "hitsPerPage": PAGE_SIZE,
            "clickAnalytics": is_counted(),  # a click on a search that is nobody's could not be told
            "attributesToHighlight": [],
            "facetFilters": [f"brand:{self.brand}"] if self.brand else [],
        }
        brands = {**words, "hitsPerPage": 0, "facets": ["brand"], "analytics": False}
        return {"requests": [hits, brands]}


@dataclass(frozen=True)
class Results:
    query: Query
    hits: list[dict[str, Any]]  # records, each with its `position`, from 1, and its `reference`, signed, or ""
    total: int
    pages: int
    query_id: str
    brands: dict[str, int]

    @classmethod
    def of(cls, query: Query, response: Any, events: EventSender) -> Results:
        """From the answer of `client.search`."""
        found, counted = response.to_dict()["results"]
        hits = [
            {**hit, "position": reference.position, "reference": reference.sign(SECRET) if reference.query_id else ""}
            for hit, reference in zip(found["hits"], events.references(response), strict=True)
        ]
        brands = dict(sorted(counted.get("facets", {}).get("brand", {}).items()))
        return cls(query, hits, found["nbHits"], found["nbPages"], found.get("queryID", ""), brands)


@dataclass(frozen=True)
class Line:
    """A product in the cart."""

    product: dict[str, Any]
    quantity: int

    @property
    def total(self) -> float:
        return float(self.product["price"]) * self.quantity


def is_counted() -> bool:
    """Whether Algolia is told who the current visitor is."""
    identity = current_identity()
    return identity is not None and identity.user_token is not None and not identity.opted_out


def lines(session: Mapping[str, Any]) -> list[Line]:
    """The cart, which the framework's session keeps as `{objectID: quantity}`."""
    return [Line(PRODUCTS[key], quantity) for key, quantity in session.get("cart", {}).items()]


def total(cart: list[Line]) -> float:
    return round(sum(line.total for line in cart), 2)


def reference_to(product: Mapping[str, Any], index: str, text: str) -> HitReference:
    """What a link said of how a visitor came to a product; if nothing, then not by a search."""
    with suppress(InvalidReferenceError):
        reference = HitReference.verify(text, SECRET)
        if reference.object_id == product["objectID"]:  # and not of another product's link
            return reference
    return HitReference(None, index, product["objectID"])


def see(
    events: EventSender, index: str, session: MutableMapping[str, Any], product: Mapping[str, Any], text: str
) -> None:
    """A product's page is opened. `text` may be the reference of the hit that was clicked.

    Without one nobody clicked, or the browser has told of the click by itself.
    """
    reference = reference_to(product, index, text)
    if reference.query_id is not None:
        events.clicked("Product Clicked", reference)
        QueryMemory(session).remember([reference])
    events.viewed_object_ids("Product Viewed", index, [product["objectID"]])


def put_into_cart(
    events: EventSender, index: str, session: MutableMapping[str, Any], product: Mapping[str, Any]
) -> None:
    key, price = product["objectID"], product["price"]
    cart = session.get("cart", {})
    session["cart"] = {**cart, key: min(cart.get(key, 0) + 1, 99)}
    events.added_to_cart(
        "Added to Cart",
        *QueryMemory(session).recall(index, [key]),
        object_data=[{"price": price, "quantity": 1}],
        value=price,
        currency=CURRENCY,
    )


def take_out(session: MutableMapping[str, Any], key: str) -> None:
    session["cart"] = {other: line for other, line in session.get("cart", {}).items() if other != key}


def buy(events: EventSender, index: str, session: MutableMapping[str, Any]) -> list[Line]:
    """Empty the cart, and return what was in it."""
    cart = lines(session)
    session["cart"] = {}
    if cart:
        keys = [line.product["objectID"] for line in cart]
        memory = QueryMemory(session)
        events.purchased(
            "Purchased",
            *memory.recall(index, keys),
            object_data=[{"price": line.product["price"], "quantity": line.quantity} for line in cart],
            value=total(cart),
            currency=CURRENCY,
        )
        memory.forget(index, keys)
    return cart
