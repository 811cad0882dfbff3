"""A visitor of the documented shops (docs/examples): over HTTP, as a browser without JavaScript would use them."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx
from waiting import PATIENCE

VOID = {"input", "link", "meta", "br"}
BUTTON = {"consent-accept": {"choice": "yes"}, "consent-refuse": {"choice": "no"}, "consent-change": {"choice": ""}}


class Html(HTMLParser):
    """A page, taken apart; what is not closed, closed twice, or has an id twice is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.forms: list[tuple[dict[str, str], list[dict[str, str]]]] = []
        self._open: list[str] = []
        assert text.startswith("<!doctype html>")
        self.feed(text)
        self.close()
        assert self._open == []
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "form":
            self.forms.append((attributes, []))
        elif tag in ("input", "button") and "form" in self._open:
            self.forms[-1][1].append(attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def find(self, **wanted: str) -> list[dict[str, str]]:
        """The attributes of the elements of one class, or with one id."""
        ((name, value),) = wanted.items()
        name = name.rstrip("_")
        return [found for _, found in self.elements if value in found.get(name, "").split()]

    def has(self, id_: str) -> bool:
        return bool(self.find(id=id_))


class Visitor:
    """A browser: it keeps cookies, and the page that it is on."""

    page: Html

    def __init__(self, port: int, **headers: str) -> None:
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers=headers,
            follow_redirects=True,
            trust_env=False,
            timeout=PATIENCE,
        )

    def open(self, path: str, status: int = 200, **parameters: str) -> None:
        self._show(self.http.get(path, params=parameters or None), status)

    def press(self, button: str, status: int = 200, **values: str) -> None:
        """Submit the form with this button, by its id."""
        for attributes, fields in self.page.forms:
            if any(field.get("id") == button for field in fields):
                kept = {field["name"]: field["value"] for field in fields if field.get("type") == "hidden"}
                named = {**kept, **BUTTON.get(button, {}), **values}
                self._show(self.http.post(attributes["action"], data=named), status)
                return
        raise AssertionError(f"no button {button}")

    def open_first_hit(self) -> None:
        self.open(self.page.find(class_="hit-link")[0]["href"])

    @property
    def who(self) -> tuple[str, str, str]:
        """The user token, the login and the source, as the panel shows them."""
        (found,) = self.page.find(id="who")
        return found["data-user-token"], found["data-authenticated-user-token"], found["data-source"]

    @property
    def cookie(self) -> str | None:
        return self.http.cookies.get("_ALGOLIA")

    def _show(self, response: httpx.Response, status: int) -> None:
        assert response.status_code == status, response.text[-500:]
        self.page = Html(response.text)
        policy = response.headers["content-security-policy"]
        for tag, attributes in self.page.elements:
            assert tag != "hostile"
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            if tag == "script" and "src" not in attributes and "type" not in attributes:
                assert f"'nonce-{attributes['nonce']}'" in policy
            for name in ("src", "href", "action"):
                value = attributes.get(name, "/")
                assert value.startswith(("/", "data:", "#", "http://127.0.0.1:")), value


def buy_something(visitor: Visitor, words: str) -> None:
    visitor.open("/", q=words)
    visitor.open_first_hit()
    visitor.press("add-to-cart")
    visitor.press("checkout")
    assert visitor.page.has("order")
    visitor.open("/cart")
    assert not visitor.page.find(class_="cart-line")
