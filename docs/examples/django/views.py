"""The views of the shop. Nothing here says who the visitor is, but for login and logout."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.utils.html import format_html
from django.views.decorators.http import require_POST, require_safe
from settings import who_is_logged_in
from shop import backend, pages, store

from algolia_usertoken import TokenAwareClientSync, browser, set_authenticated_user_token

algolia = backend.connect()
# One client for the whole shop. It never hears of a user token: each request has one of its own.
client = TokenAwareClientSync.create_with_config(algolia.search_config, insights_config=algolia.insights_config)


def visit(request: HttpRequest) -> pages.Visit:
    csrf_input = format_html('<input type="hidden" name="csrfmiddlewaretoken" value="{}">', get_token(request))
    return pages.Visit(request.COOKIES, request.session, store.Query.of(request.GET), csrf_input=csrf_input)


def page(request: HttpRequest, template: str, status: int = 200, **values: Any) -> HttpResponse:
    html, headers = pages.render(template, visit(request), algolia, **values)
    return HttpResponse(html, status=status, headers=headers)


def search(query: store.Query) -> store.Results:
    return store.Results.of(query, client.search(query.requests(algolia.index)), client.events)


def product_or_404(key: str) -> dict[str, Any]:
    if key not in backend.PRODUCTS:
        raise Http404
    return backend.PRODUCTS[key]


def see_other(location: str) -> HttpResponse:
    response = HttpResponseRedirect(location)
    response.status_code = 303
    return response


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return page(request, "search.html", results=search(visit(request).query))


@require_safe
def instant(request: HttpRequest) -> HttpResponse:
    return page(request, "instant.html", results=search(visit(request).query))


@require_safe
def product(request: HttpRequest, key: str) -> HttpResponse:
    found = product_or_404(key)
    store.see(client.events, algolia.index, request.session, found, request.GET.get("ref", ""))
    return page(request, "product.html", product=found)


@require_safe
def cart(request: HttpRequest) -> HttpResponse:
    lines = store.lines(request.session)
    return page(request, "cart.html", lines=lines, total=store.total(lines), order=False)


@require_POST
def add_to_cart(request: HttpRequest) -> HttpResponse:
    found = product_or_404(request.POST.get("objectID", ""))
    store.put_into_cart(client.events, algolia.index, request.session, found)
    return see_other("/cart")


@require_POST
def remove_from_cart(request: HttpRequest) -> HttpResponse:
    store.take_out(request.session, request.POST.get("objectID", ""))
    return see_other("/cart")


@require_POST
def checkout(request: HttpRequest) -> HttpResponse:
    bought = store.buy(client.events, algolia.index, request.session)
    return page(request, "cart.html", lines=bought, total=store.total(bought), order=True)


def login(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        user = request.POST.get("user", "").strip()[:40]
        if not user:
            return page(request, "message.html", 400, message="Please tell us your name")
        request.session["user"] = user  # from the next request on
        set_authenticated_user_token(who_is_logged_in(request))  # for the rest of this one
    return page(request, "login.html", results=search(store.Query()))


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    request.session.pop("user", None)
    set_authenticated_user_token(None)
    return see_other("/")


@require_POST
def consent(request: HttpRequest) -> HttpResponse:
    response = see_other("/")
    for name, value, attributes in pages.consent_cookies(request.POST.get("choice", "")):
        response.set_cookie(name, value, **attributes)
    return response


@require_safe
def received(request: HttpRequest) -> HttpResponse:
    html, headers = pages.received(visit(request), algolia)
    return HttpResponse(html, headers=headers)


@require_safe
def identity(request: HttpRequest) -> HttpResponse:
    return JsonResponse(browser.settings(), headers=pages.PRIVATE)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(request, "message.html", 404, message="There is no such page")
