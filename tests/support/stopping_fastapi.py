"""The application of `stopping` in FastAPI, with a lifespan of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import stopping
from fastapi import FastAPI, Response

from algolia_usertoken.integrations.asgi import IdentityMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    stopping.events.viewed_object_ids("Seen", "products", ["at the shutdown"], identity="visitor")


app = FastAPI(lifespan=lifespan)
app.add_middleware(IdentityMiddleware)


@app.get("/{name}")
def view(name: str) -> Response:
    return Response(stopping.send(f"/{name}"))
