"""The pages of the shop, and where they are."""

from __future__ import annotations

from typing import Any

import views
from django.urls import path
from django.views.static import serve
from shop import pages

from algolia_usertoken.integrations.relay import EventsRelay

urlpatterns: list[Any] = [
    path("", views.home),
    path("instant", views.instant),
    path("product/<str:key>", views.product),
    path("cart", views.cart),
    path("cart/add", views.add_to_cart),
    path("cart/remove", views.remove_from_cart),
    path("checkout", views.checkout),
    path("login", views.login),
    path("logout", views.logout),
    path("consent", views.consent),
    path("received", views.received),
    path("identity.json", views.identity),
]
if pages.RELAY:
    urlpatterns.append(path(pages.RELAY_PATH.removeprefix("/"), EventsRelay(views.client).django))
if pages.NPM:
    urlpatterns.append(path("static/npm/<path:path>", serve, {"document_root": pages.NPM}))
urlpatterns.append(path("static/<path:path>", serve, {"document_root": pages.STATIC}))

handler404 = views.not_found
