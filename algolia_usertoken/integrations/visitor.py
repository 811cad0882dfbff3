"""Who the visitor of a web request is, by cookie, header, login and address; and the cookie to give them.

The decision (`VisitorRules.flow`) does no I/O and is the same for every framework. Where it needs an answer from one of
the application's own functions it yields that function, and whoever drives it calls or awaits it.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from ..errors import InvalidClientIPError, InvalidUserTokenError
from ..identity import Identity, anonymous_user_token, is_user_token

# The cookie as search-insights keeps it: https://github.com/algolia/search-insights.js#user-token
COOKIE = "_ALGOLIA"
COOKIE_MAX_AGE = 180 * 24 * 60 * 60  # seconds
ANONYMOUS_PREFIX = "anonymous-"

Question = Callable[[Any], Any]
# Who sent a request, and the anonymous token just made for them, if any, which their cookie is to keep.
Visitor = tuple[Identity, str | None]
Flow = Generator[Question, Any, Visitor]

logger = logging.getLogger("algolia_usertoken.integrations")

_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # of a cookie or a header: RFC 9110, 5.6.2
_is_for_shared_caches = re.compile(r"\b(?:public|s-maxage)\b", re.IGNORECASE).search
_OPTED_OUT = Identity(opted_out=True)
_ANSWERS = (str, bool, type(None))
_SECONDS_BETWEEN_COMPLAINTS = 60.0


class VisitorRules:
    """How an application tells its visitors apart; `request` is what its framework calls one.

    Args:
        authenticated_user_token: A function of the request that gives the pseudonymous id of who is logged in, or None.
        cookie: The name of the cookie that holds the anonymous token.
        set_cookie: Whether a visitor without a token may be given one, in that cookie: True, False, or a function of
            the request (has the visitor consented?).
        header: The request header in which your own mobile app may send its user token. Whoever sends it is believed.
        client_ip: Whether to note the peer's address, for the fallback where there is no token.
        opted_out: A function of the request that says whether this visitor refused tracking: no token, no event, no
            cookie.
        allow_async: Whether the functions may be coroutine functions.

    What a visitor sends is never an error: a cookie, header or address that is no good is ignored, and logged once. Nor
    is an error in one of the functions: it is logged with its traceback, at most once a minute for each function, and
    taken as "nobody is logged in", "opted out" or "no consent".

    Raises:
        TypeError: An argument is of the wrong type, or a function is a coroutine function and must not be one.
        ValueError: `cookie` or `header` cannot be the name of one.
    """

    def __init__(
        self,
        *,
        authenticated_user_token: Callable[[Any], Any] | None = None,
        cookie: str = COOKIE,
        set_cookie: bool | Callable[[Any], Any] = False,
        header: str | None = None,
        client_ip: bool = False,
        opted_out: Callable[[Any], Any] | None = None,
        allow_async: bool = False,
    ) -> None:
        if authenticated_user_token is not None:
            _check_function("authenticated_user_token", authenticated_user_token, allow_async)
        if opted_out is not None:
            _check_function("opted_out", opted_out, allow_async)
        if not isinstance(set_cookie, bool):
            _check_function("set_cookie", set_cookie, allow_async, or_else="True, False or ")
        if not isinstance(client_ip, bool):
            raise TypeError(f"client_ip must be True or False, not {type(client_ip).__name__}")
        _check_name("cookie", cookie)
        if header is not None:
            _check_name("header", header)
        self.header = header
        self.cookie = cookie
        self._authenticated_user_token = authenticated_user_token
        self._set_cookie = set_cookie
        self._client_ip = client_ip
        self._opted_out = opted_out
        self.asks = any(map(callable, (authenticated_user_token, set_cookie, opted_out)))
        self._cookie_start = f"{cookie}="
        self._in_cookies = re.compile(rf"(?:^|;) *{re.escape(cookie)}=").search
        self._environ_header = "HTTP_" + header.upper().replace("-", "_") if header is not None else ""
        self._silent_until: dict[str, float] = {}

    def flow(self, cookies: str | None, claim: str | None, address: str | None) -> Flow:
        """The decision: yields each function of the request that it needs the answer of, and returns the `Visitor`.

        Args:
            cookies: The value of the request's Cookie header; several are joined with "; ".
            claim: The value of the header opted in to; several are joined with ",".
            address: The peer's address.
        """
        if self._opted_out is not None:
            try:
                refused = bool((yield self._opted_out))
            except Exception:
                self._complain_of_function("opted_out", "this visitor is treated as opted out")
                refused = True
            if refused:
                return _OPTED_OUT, None
        login = None
        if self._authenticated_user_token is not None:
            try:
                login = self._login((yield self._authenticated_user_token))
            except Exception:
                self._complain_of_function("authenticated_user_token", "this visitor is treated as not logged in")
        token = self._token(cookies, claim)
        allowed = False
        if token is None:
            if isinstance(self._set_cookie, bool):
                allowed = self._set_cookie
            else:
                try:
                    allowed = bool((yield self._set_cookie))
                except Exception:
                    self._complain_of_function("set_cookie", "this visitor is given no cookie")
        return self._visitor(token, login, address, allowed)

    def decide(self, cookies: str | None, claim: str | None, address: str | None) -> Visitor:
        """`flow`, where nothing needs to be asked (`asks` is false): the short way."""
        token = self._token(cookies, claim)
        return self._visitor(token, None, address, token is None and self._set_cookie is True)

    def flow_of_environ(self, environ: Mapping[str, Any]) -> Flow:
        """The decision about a request in the form of a WSGI environ, or Django's `META`."""
        return self.flow(
            environ.get("HTTP_COOKIE"),
            environ.get(self._environ_header) if self.header is not None else None,
            environ.get("REMOTE_ADDR"),
        )

    def set_cookie_value(self, token: str, *, secure: bool) -> str:
        """The value of the Set-Cookie header that keeps `token` as search-insights would.

        It names no SameSite, so browsers apply their default, Lax; and it is not HttpOnly, for search-insights to read.
        """
        return f"{self.cookie}={token}; Max-Age={COOKIE_MAX_AGE}; Path=/{'; Secure' if secure else ''}"

    def _token(self, cookies: str | None, claim: str | None) -> str | None:
        if claim:
            if is_user_token(claim):
                return claim
            self._complain_once("header", "the header %s of a request holds no valid user token", self.header)
        if not cookies:
            return None
        # As search-insights reads it: the first of several, with nothing unquoted or decoded.
        start = cookies.find(self._cookie_start)
        if start < 0:
            return None
        if start and cookies[start - 2 : start] != "; ":
            found = self._in_cookies(cookies)  # a name that merely ends so, or unusual white space
            if found is None:
                return None
            start = found.end()
        else:
            start += len(self._cookie_start)
        end = cookies.find(";", start)
        token = cookies[start : None if end < 0 else end].strip(" ")
        if token.startswith(ANONYMOUS_PREFIX) and is_user_token(token):
            return token
        if token:
            self._complain_once("cookie", "the cookie %s of a request holds no valid anonymous token", self.cookie)
        return None

    def _visitor(self, token: str | None, login: str | None, address: str | None, allowed: bool) -> Visitor:
        new_token = anonymous_user_token() if allowed else None
        if self._client_ip and address:
            return self._with_address(new_token or token, login, address), new_token
        if new_token is not None:
            return Identity(new_token, login), new_token
        return _identity(token, login), None

    def _login(self, answer: object) -> str | None:
        if is_user_token(answer):
            return answer  # type: ignore[return-value]
        if answer is None or answer == "":
            return None
        what = (
            f"a string of {len(answer)} characters" if isinstance(answer, str) else f"of type {type(answer).__name__}"
        )
        # The value itself may be what must not be in a log: somebody's e-mail address.
        raise InvalidUserTokenError(
            f"the answer ({what}) is not what Algolia accepts as a token; see pseudonymous_user_token()"
        )

    def _with_address(self, token: str | None, login: str | None, address: Any) -> Identity:
        try:
            if address[:7] == "::ffff:" and "." in address:
                address = address[7:]  # IPv4, as a socket that listens on both sees it
            return _identity(token, login, address)
        except (InvalidClientIPError, TypeError):
            self._complain_once("address", "the peer's address is no IP address")
            return _identity(token, login)

    def _complain_once(self, about: str, message: str, *args: object) -> None:
        if self._may_complain(about, math.inf):
            logger.warning(f"{message}; it is ignored. This is logged once", *args)

    def _complain_of_function(self, name: str, consequence: str) -> None:
        if self._may_complain(name, _SECONDS_BETWEEN_COMPLAINTS):
            logger.exception("%s failed; %s. This is logged at most once a minute", name, consequence)

    def _may_complain(self, about: str, pause: float) -> bool:
        now = time.monotonic()
        if now < self._silent_until.get(about, 0.0):
            return False
        self._silent_until[about] = now + pause
        return True


# A visitor sends many requests, one after the other; to check their tokens and address once is enough.
_identity = functools.lru_cache(maxsize=1024)(Identity)


def drive(flow: Flow, request: Any) -> Visitor:
    """Run the decision about a request to its end, with plain functions."""
    try:
        question = next(flow)
        while True:
            try:
                answer = question(request)
                if type(answer) not in _ANSWERS and inspect.isawaitable(answer):
                    if inspect.iscoroutine(answer):
                        answer.close()
                    raise TypeError("it is async, and nobody awaits its answer here")
            except Exception as error:
                question = flow.throw(error)
            else:
                question = flow.send(answer)
    except StopIteration as end:
        visitor: Visitor = end.value
        return visitor


async def drive_async(flow: Flow, request: Any) -> Visitor:
    """As `drive`, with functions whose answer may have to be awaited."""
    try:
        question = next(flow)
        while True:
            try:
                answer = question(request)
                if type(answer) not in _ANSWERS and inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:
                question = flow.throw(error)
            else:
                question = flow.send(answer)
    except StopIteration as end:
        visitor: Visitor = end.value
        return visitor


def is_for_shared_caches(cache_control: str) -> bool:
    """Whether a response with this Cache-Control may be handed to several visitors, so that no cookie may be on it."""
    return _is_for_shared_caches(cache_control) is not None


def _check_function(name: str, value: object, allow_async: bool, or_else: str = "") -> None:
    if not callable(value):
        raise TypeError(f"{name} must be {or_else}a function of the request, not {type(value).__name__}")
    if not allow_async and any(map(inspect.iscoroutinefunction, (value, getattr(value, "__call__", None)))):  # noqa: B004
        raise TypeError(f"{name} must be a plain function here, not a coroutine function")


def _check_name(argument: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, not {type(value).__name__}")
    if not _is_name(value):
        raise ValueError(f"{argument} {value[:40]!a} cannot be the name of a {argument}")
