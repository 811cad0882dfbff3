"""Sanic and Tornado with the code in docs/other-frameworks.md: `python probe_sanic_tornado.py sanic|tornado PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import probe
import sanic
import tornado.web
import tornado.websocket
from docs_code import DOCS, blocks

from algolia_usertoken import set_authenticated_user_token
from algolia_usertoken.integrations.asgi import IdentityMiddleware

page: dict[str, Any] = {}
for block in blocks(DOCS / "other-frameworks.md"):
    if not block.lstrip().startswith("await "):
        exec(block, page)


def add_sanic_views(app: Any) -> Any:
    @app.get("/<visitor>/async/<number>")
    async def in_handler(request: Any, visitor: str, number: str) -> Any:
        return sanic.json(await probe.search_async(request.path[1:]))

    @app.get("/<visitor>/stream/<number>")
    async def in_stream(request: Any, visitor: str, number: str) -> None:
        response = await request.respond(content_type="text/plain")
        for _ in range(3):
            await response.send(repr(await probe.search_async(request.path[1:])))
            await asyncio.sleep(float(request.args.get("pause", 0)))
        await response.eof()

    @app.get("/<visitor>/login/<number>")
    async def in_login(request: Any, visitor: str, number: str) -> Any:
        set_authenticated_user_token("user-42")
        return sanic.json(await probe.search_async(request.path[1:]))

    @app.get("/<visitor>/error/<number>")
    async def before_an_error(request: Any, visitor: str, number: str) -> Any:
        await probe.search_async(request.path[1:])
        raise ZeroDivisionError

    @app.exception(ZeroDivisionError)
    async def on_error(request: Any, error: Exception) -> Any:
        return sanic.json(await probe.search_async(request.path[1:]), status=500)

    @app.websocket("/<visitor>/websocket/<number>")
    async def in_websocket(request: Any, websocket: Any, visitor: str, number: str) -> None:
        while True:
            await websocket.recv()
            await websocket.send(repr(await probe.search_async(request.path[1:])))

    @app.after_server_stop
    async def close(app: Any) -> None:
        await probe.close_async()
        probe.client.close()

    return app


asgi = probe.watched_asgi(
    IdentityMiddleware(
        add_sanic_views(sanic.Sanic("under-asgi")),
        authenticated_user_token=lambda scope: probe.header(scope, b"x-login"),
        set_cookie=True,
        header=probe.HEADER,
        opted_out=lambda scope: probe.refused(probe.header(scope, b"cookie")),
    )
)


class Handler(page["AsVisitor"]):  # type: ignore[misc]
    async def get(self, visitor: str, kind: str, number: str) -> None:
        what = self.request.path[1:]
        if kind == "login":
            set_authenticated_user_token("user-42")
        for _ in range(3 if kind == "stream" else 1):
            self.write(repr(await probe.search_async(what)))
            await self.flush() if kind == "stream" else None
        if kind == "error":
            raise ZeroDivisionError

    def write_error(self, status: int, **keywords: Any) -> None:
        self.write(repr(probe.search(self.request.path[1:])))


class WebSocket(page["AsVisitor"], tornado.websocket.WebSocketHandler):  # type: ignore[misc]
    async def on_message(self, message: Any) -> None:
        await self.write_message(repr(await probe.search_async(self.request.path[1:])))


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
