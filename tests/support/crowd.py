"""A crowd of visitors, interleaved on keep-alive connections, and a check of what Algolia received from each."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from waiting import PATIENCE
from websockets.sync.client import connect

from algolia_usertoken import anonymous_user_token
from algolia_usertoken.testing import LocalAlgolia

CONNECTIONS = 12
SOME = "a token that nobody else has"


@dataclass(frozen=True)
class Visitor:
    """A visitor. Of ten, one has no cookie yet, one refused consent, one is an app with a header.

    Every second visitor is logged in.
    """

    number: int
    token: str = field(default_factory=anonymous_user_token)

    @property
    def role(self) -> str:
        return {7: "new", 8: "refused", 9: "app"}.get(self.number % 10, "returning")

    @property
    def login(self) -> str | None:
        return f"user-{self.number}" if self.number % 2 and self.role != "refused" else None

    @property
    def headers(self) -> dict[str, str]:
        cookie = {
            "new": "theme=dark",
            "refused": f"consent=no; _ALGOLIA={self.token}",
            "app": "",
            "returning": f"theme=dark; _ALGOLIA={self.token}",
        }[self.role]
        headers = {"Cookie": cookie} if cookie else {"X-Algolia-UserToken": self.token}
        return {**headers, "X-Login": f"user-{self.number}"} if self.number % 2 else headers


@dataclass
class Crowd:
    """Sends requests for `/{visitor}/{kind}/{act}-{number}`.

    `kinds` says how many searches each kind makes; `acts` are what requests may set: "login", "logout" or "token".
    """

    port: int
    kinds: Mapping[str, int]
    visitors: Sequence[Visitor]
    acts: Sequence[str] = ()
    hang_up: bool = True
    sent: dict[str, tuple[str | None, str | None, int]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _to_send: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, requests: int) -> None:
        self._to_send = requests
        threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            while True:
                with self._lock:
                    if not self._to_send:
                        return
                    self._to_send -= 1
                    number = next(self._numbers)
                visitor, kind = chance.choice(self.visitors), chance.choice(list(self.kinds))
                path = f"{visitor.number}/{kind}/{number}"
                if self.acts:
                    path = f"{visitor.number}/{kind}/{chance.choice(self.acts)}-{number}"
                if kind == "websocket":
                    self._talk(path, visitor)
                elif self.hang_up and kind == "stream" and chance.random() < 0.2:
                    self._hang_up(path, visitor)
                else:
                    self._get(connection, path, visitor)
        except Exception as error:
            self.problems.append(f"{path}: {error!r}")
        finally:
            connection.close()

    def _get(self, connection: http.client.HTTPConnection, path: str, visitor: Visitor) -> None:
        for attempt in range(3):
            try:
                connection.request("GET", f"/{path}", headers=visitor.headers)
                response = connection.getresponse()
                response.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # The server closed an idle connection or one that had an error, which is allowed.
                connection.close()
                if attempt == 2:
                    raise
        kind = path.split("/")[1]
        if response.status != (500 if kind.endswith(("error", "crash")) else 200):
            self.problems.append(f"{path}: status {response.status}")
        set_cookie = response.getheader("Set-Cookie")
        if response.status == 500 and set_cookie is None:
            # The answer came from outside the middleware, where no cookie can be set.
            token = None if visitor.role == "refused" else SOME if visitor.role == "new" else visitor.token
            self.sent[path] = *self._after_act(path, visitor, token), self.kinds[kind]
        else:
            self._note(path, visitor, set_cookie)

    def _talk(self, path: str, visitor: Visitor) -> None:
        uri = f"ws://127.0.0.1:{self.port}/{path}"
        with connect(uri, additional_headers=visitor.headers, proxy=None, open_timeout=PATIENCE) as socket:
            for _ in range(self.kinds["websocket"]):
                socket.send("search")
                socket.recv()
            self._note(path, visitor, socket.response.headers.get("Set-Cookie"))

    def _hang_up(self, path: str, visitor: Visitor) -> None:
        """Send a request, and close the connection when the answer has begun."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            headers = "".join(f"{name}: {value}\r\n" for name, value in visitor.headers.items())
            connection.sendall(f"GET /{path}?pause=0.02 HTTP/1.1\r\nHost: shop\r\n{headers}\r\n".encode())
            start = b""
            while b"\r\n\r\n" not in start and (received := connection.recv(2000)):  # a head may come in parts
                start += received
        head = start.decode("latin-1")
        cookie = next((line[12:] for line in head.split("\r\n") if line.lower().startswith("set-cookie: ")), None)
        self._note(path, visitor, cookie, 0)

    def _note(self, path: str, visitor: Visitor, set_cookie: str | None, searches: int | None = None) -> None:
        token: str | None = visitor.token
        if visitor.role == "new":
            token = (set_cookie or "").partition(";")[0].removeprefix("_ALGOLIA=")
        elif visitor.role == "refused":
            token = None
        if (set_cookie is not None and "_ALGOLIA" in set_cookie) != (visitor.role == "new"):
            self.problems.append(f"{path}: Set-Cookie {set_cookie!r} for a visitor who is {visitor.role}")
        if searches is None:
            searches = self.kinds[path.split("/")[1]]
        else:
            self.left.add(path)
        self.sent[path] = *self._after_act(path, visitor, token), searches

    @staticmethod
    def _after_act(path: str, visitor: Visitor, token: str | None) -> tuple[str | None, str | None]:
        """The user token and the login of a request after its act."""
        act, _, number = path.rpartition("/")[2].partition("-")
        if visitor.role == "refused":
            return None, None
        if act == "token":
            return f"set-{number}", visitor.login
        return token, {"login": f"logged-in-{number}", "logout": None}.get(act, visitor.login)

    def check(self, algolia: LocalAlgolia) -> None:
        """Check that each search and event carries the tokens of its own visitor, and that none is missing."""
        assert self.problems[:10] == []
        searches = Counter(search.query for search in algolia.searches)
        missing = [path for path, (_, _, expected) in self.sent.items() if searches[path] < expected]
        assert missing[:10] == []
        for search in algolia.searches:
            if self.sent[search.query][0] == SOME and search.user_token is not None:
                self.sent[search.query] = search.user_token, *self.sent[search.query][1:]
        tokens = [token for path, (token, _, _) in self.sent.items() if self._role(path) == "new"]
        assert len(tokens) == len(set(tokens))
        mixed_up = [
            (search.query, search.user_token, self.sent[search.query])
            for search in algolia.searches
            if search.user_token != self.sent[search.query][0]
        ]
        assert mixed_up[:10] == []
        wanted = Counter(search.query for search in algolia.searches if self.sent[search.query][0] is not None)
        clicked = Counter(event.event["objectIDs"][0] for event in algolia.events)
        # A visitor who leaves half-way may have searched, and may have left before the click.
        assert {path: number for path, number in (wanted - clicked).items() if path not in self.left} == {}
        assert clicked - wanted == Counter()
        mixed_up_events = [
            event
            for event in algolia.events
            if (event.user_token, event.authenticated_user_token) != self.sent[event.event["objectIDs"][0]][:2]
        ]
        assert mixed_up_events[:10] == []
        assert algolia.mismatches() == []

    def _role(self, path: str) -> str:
        return self.visitors[int(path.split("/")[0])].role
