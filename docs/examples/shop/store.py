"""The shop without a web framework: what is searched, what is in the cart, and which events Algolia is sent.

Nothing here names a user: the client and its events ask whose request is being served.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from algolia_usertoken import EventSender, current_identity

from .backend import PRODUCTS

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
    hits: list[dict[str, Any]]  # records, each with its `position`, from 1
    total: int
    pages: int
    query_id: str
    brands: dict[str, int]

    @classmethod
    def of(cls, query: Query, response: Any) -> Results:
        """From the answer of `client.search`."""
        found, counted = response.to_dict()["results"]
        first = query.page * PAGE_SIZE + 1
        hits = [{**hit, "position": first + number} for number, hit in enumerate(found["hits"])]
        brands = dict(sorted(counted.get("facets", {}).get("brand", {}).items()))
        return cls(query, hits, found["nbHits"], found["nbPages"], found.get("queryID", ""), brands)


@dataclass(frozen=True)
class Line:
    """A product in the cart. `query_id` is that of the search that led to it, or ""."""

    product: dict[str, Any]
    quantity: int
    query_id: str

    @property
    def total(self) -> float:
        return float(self.product["price"]) * self.quantity


def is_counted() -> bool:
    """Whether Algolia is told who the current visitor is."""
    identity = current_identity()
    return identity is not None and identity.user_token is not None and not identity.opted_out


def lines(session: Mapping[str, Any]) -> list[Line]:
    """The cart, which the framework's session keeps as `{objectID: [quantity, query id]}`."""
    return [Line(PRODUCTS[key], quantity, query_id) for key, (quantity, query_id) in session.get("cart", {}).items()]


def total(cart: list[Line]) -> float:
    return round(sum(line.total for line in cart), 2)


def see(events: EventSender, index: str, product: Mapping[str, Any], arguments: Mapping[str, str]) -> None:
    """A product's page is opened. `arguments` may say which search led here, and where in its results.

    Without a position, the browser has told of the click by itself.
    """
    query_id, position = arguments.get("queryID", ""), arguments.get("position", "")
    if is_query_id(query_id) and position.isascii() and position.isdigit() and 0 < len(position) < 6 and int(position):
        events.clicked_object_ids_after_search(
            "Product Clicked", index, [product["objectID"]], [int(position)], query_id
        )
    events.viewed_object_ids("Product Viewed", index, [product["objectID"]])


def put_into_cart(
    events: EventSender, index: str, session: MutableMapping[str, Any], product: Mapping[str, Any], query_id: str
) -> None:
    key, price = product["objectID"], product["price"]
    cart = dict(session.get("cart", {}))
    quantity, led_here = cart.get(key, [0, ""])
    if is_query_id(query_id):
        led_here = query_id
    cart[key] = [min(quantity + 1, 99), led_here]
    session["cart"] = cart
    details = {"object_data": [{"price": price, "quantity": 1}], "value": price, "currency": CURRENCY}
    if led_here:
        events.added_to_cart_object_ids_after_search("Added to Cart", index, [key], led_here, **details)
    else:
        events.added_to_cart_object_ids("Added to Cart", index, [key], **details)


def forget_searches(session: MutableMapping[str, Any]) -> None:
    """When a visitor chooses about cookies, their token changes, and the searches so far are no longer theirs."""
    session["cart"] = {key: [quantity, ""] for key, (quantity, _) in session.get("cart", {}).items()}


def take_out(session: MutableMapping[str, Any], key: str) -> None:
    session["cart"] = {other: line for other, line in session.get("cart", {}).items() if other != key}


def buy(events: EventSender, index: str, session: MutableMapping[str, Any]) -> list[Line]:
    """Empty the cart, and return what was in it. What searches led to and what not are two events."""
    cart = lines(session)
    session["cart"] = {}
    for bought in ([line for line in cart if line.query_id], [line for line in cart if not line.query_id]):
        if not bought:
            continue
        keys = [line.product["objectID"] for line in bought]
        data = [{"price": line.product["price"], "quantity": line.quantity} for line in bought]
        worth = {"value": total(bought), "currency": CURRENCY}
        if bought[0].query_id:
            data = [{**item, "queryID": line.query_id} for item, line in zip(data, bought, strict=True)]
            events.purchased_object_ids_after_search("Purchased", index, keys, data, **worth)
        else:
            events.purchased_object_ids("Purchased", index, keys, object_data=data, **worth)
    return cart


def is_query_id(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
