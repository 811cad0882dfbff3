"""Sanic and Tornado with the code in docs/other-frameworks.md: `python shop_others.py sanic|tornado PORT`."""

from __future__ import annotations

import asyncio
import pathlib
import re
import sys
from typing import Any

import sanic
import shop
import tornado.web
import tornado.websocket

from algolia_usertoken import set_authenticated_user_token
from algolia_usertoken.integrations.asgi import IdentityMiddleware

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "other-frameworks.md"
page: dict[str, Any] = {}
for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
    if not block.startswith("await "):
        exec(block, page)


def add_sanic_views(app: Any) -> Any:
    @app.get("/<visitor>/async/<number>")
    async def in_handler(request: Any, visitor: str, number: str) -> Any:
        return sanic.json(await shop.search_async(request.path[1:]))

    @app.get("/<visitor>/stream/<number>")
    async def in_stream(request: Any, visitor: str, number: str) -> None:
        response = await request.respond(content_type="text/plain")
        for _ in range(3):
            await response.send(repr(await shop.search_async(request.path[1:])))
            await asyncio.sleep(float(request.args.get("pause", 0)))
        await response.eof()

    @app.get("/<visitor>/login/<number>")
    async def in_login(request: Any, visitor: str, number: str) -> Any:
        set_authenticated_user_token("user-42")
        return sanic.json(await shop.search_async(request.path[1:]))

    @app.get("/<visitor>/error/<number>")
    async def before_an_error(request: Any, visitor: str, number: str) -> Any:
        await shop.search_async(request.path[1:])
        raise ZeroDivisionError

    @app.exception(ZeroDivisionError)
    async def on_error(request: Any, error: Exception) -> Any:
        return sanic.json(await shop.search_async(request.path[1:]), status=500)

    @app.websocket("/<visitor>/websocket/<number>")
    async def in_websocket(request: Any, websocket: Any, visitor: str, number: str) -> None:
        while True:
            await websocket.recv()
            await websocket.send(repr(await shop.search_async(request.path[1:])))

    @app.after_server_stop
    async def close(app: Any) -> None:
        await shop.close_async()
        shop.client.close()

    return app


asgi = shop.watched_asgi(
    IdentityMiddleware(
        add_sanic_views(sanic.Sanic("under-asgi")),
        authenticated_user_token=lambda scope: dict(scope["headers"]).get(b"x-login", b"").decode() or None,
        set_cookie=True,
        header=shop.HEADER,
        opted_out=lambda scope: shop.refused(dict(scope["headers"]).get(b"cookie", b"").decode()),
    )
)


class Handler(page["AsVisitor"]):  # type: ignore[misc]
    async def get(self, visitor: str, kind: str, number: str) -> None:
        what = self.request.path[1:]
        if kind == "login":
            set_authenticated_user_token("user-42")
        for _ in range(3 if kind == "stream" else 1):
            self.write(repr(await shop.search_async(what)))
            await self.flush() if kind == "stream" else None
        if kind == "error":
            raise ZeroDivisionError

    def write_error(self, status: int, **keywords: Any) -> None:
        self.write(repr(shop.search(self.request.path[1:])))


class WebSocket(page["AsVisitor"], tornado.websocket.WebSocketHandler):  # type: ignore[misc]
    async def on_message(self, message: Any) -> None:
        await self.write_message(repr(await shop.search_async(self.request.path[1:])))


async def serve_tornado(port: int) -> None:
    app = tornado.web.Application([(r"/([^/]+)/websocket/.+", WebSocket), (r"/([^/]+)/([^/]+)/([^/]+)", Handler)])
    app.listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "tornado":
        asyncio.run(serve_tornado(port))
    else:
        add_sanic_views(page["shop"]).run(host="127.0.0.1", port=port, single_process=True, motd=False)
