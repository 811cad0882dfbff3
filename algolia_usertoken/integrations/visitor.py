"""Decides who the visitor of a web request is, by cookie, header, login and address, and which cookie they are given.

The decision (`VisitorRules.flow`) does no I/O and is the same for every framework. Where it needs the answer of one of
the application's own functions, it yields that function, and its driver calls or awaits it.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from ..checks import check_bool, check_type, is_async, type_name, wrong_type
from ..context import RequestFrame, current_request
from ..errors import InvalidClientIPError, InvalidUserTokenError, UserTokenError, traced
from ..identity import (
    ANONYMOUS_PREFIX,
    MAX_USER_TOKEN_LENGTH,
    Identity,
    anonymous_user_token,
    is_public_client_ip,
    is_user_token,
)
from .shared_caches import CookieVerdict, Headers, for_one_visitor, verdict, with_private

# The cookie as search-insights keeps it: https://github.com/algolia/search-insights.js#user-token
COOKIE = "_ALGOLIA"
COOKIE_MAX_AGE = 180 * 24 * 60 * 60  # seconds
_COOKIE = f"; Max-Age={COOKIE_MAX_AGE}; Path=/"
_SECURE_COOKIE = f"{_COOKIE}; Secure"

Question = Callable[[Any], Any]
# Who sent a request, and the anonymous token just made for them, if any, which their cookie is to keep.
Visitor = tuple[Identity, str | None]
Flow = Generator[Question, Any, Visitor]

logger = logging.getLogger("algolia_usertoken.integrations")

_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # of a cookie or a header: RFC 9110, 5.6.2
# In `_ALGOLIA`, search-insights accepts only a value that begins so.
_is_anonymous_token = re.compile(
    rf"{ANONYMOUS_PREFIX}[a-zA-Z0-9_=/+-]{{0,{MAX_USER_TOKEN_LENGTH - len(ANONYMOUS_PREFIX)}}}"
).fullmatch
# Some gateways (Azure's, for example) add the port, and RFC 7239, 6, puts IPv6 into brackets. Not every server that
# takes the address from them removes that.
_has_port = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}").fullmatch
_OPTED_OUT = Identity(opted_out=True)
_ANSWERS = (str, bool, type(None))
_SECONDS_BETWEEN_COMPLAINTS = 60.0

# The key of the ASGI scope or the WSGI environ under which a request keeps its `Visit`. A middleware inside another one
# finds there what the outer one has decided.
VISIT = "algolia_usertoken.visit"

# Cookies and headers that usually hold secrets. If one were read as a user token, it would be sent to Algolia.
_SECRET_COOKIES = frozenset(
    {"session", "sessionid", "session_id", "connect.sid", "csrftoken", "csrf_token", "xsrf-token", "remember_token"}
)
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-csrftoken", "x-csrf-token"})


class Visit(RequestFrame):
    """One web request: who its visitor is, and what the headers of its response have to say about that."""

    rules: VisitorRules | None = None  # of the middleware that recognised the visitor
    new_token: str | None = None  # a token that was made for this visitor, and that their cookie is to keep
    more_vary: tuple[str, ...] = ()  # request headers by which a middleware inside this one tells visitors apart
    path: str | None = None  # the path of an ASGI request
    sent: Mapping[str, Any] | None = None  # "status" and "headers" of the response, once they were sent

    def recognised(self, rules: VisitorRules, identity: Identity, new_token: str | None) -> None:
        """Note what a middleware has found out about the visitor."""
        if identity is not self.identity:
            self.given = identity
            self.become(identity)
        if self.rules is None:
            self.given = identity
            self.rules, self.new_token = rules, new_token
            return
        self.more_vary = (*self.more_vary, *rules.vary)
        # The rules that count are those of the middleware that gives the cookie, or that asked for consent in vain.
        if new_token is not None or (rules.asks_consent and self.new_token is None):
            self.more_vary = (*self.more_vary, *self.rules.vary)
            self.rules, self.new_token = rules, new_token

    def show(self) -> bool:
        """Note that the response will name its visitor. Return False if it must not.

        The response must not name its visitor if its headers were sent already and let a shared cache keep it. Then the
        visitor was not given the cookie either, and a token that was made for them would never come back.
        """
        super().show()
        if self.sent is None:
            return True
        return verdict(self.sent["status"], as_text(self.sent.get("headers") or ())) is CookieVerdict.YES

    def headers(self, status: int, headers: Headers, *, secure: bool) -> Headers:
        """The headers to send instead of `headers`, so that no shared cache hands this visitor's token to another.

        Args:
            status: The status code of the response.
            headers: The headers of the application's response. If they set or delete that cookie themselves, no second
                cookie is added.
            secure: Whether the request came over HTTPS.
        """
        rules, token = self.rules, self.new_token
        if self.is_shown:
            names = dict.fromkeys((*(rules.vary if rules else ()), *self.more_vary))
            headers = for_one_visitor(headers, vary=tuple(names))
        if token is not None and rules is not None and not self.is_opted_out and not rules.are_with_cookie(headers):
            found = verdict(status, headers)
            if found is CookieVerdict.YES_AND_PRIVATE:
                headers = with_private(headers)
            if found is not CookieVerdict.NO:
                headers = [*headers, ("Set-Cookie", rules.set_cookie_value(token, secure=secure))]
        self.sent = {"status": status, "headers": headers}
        return headers

    @property
    def is_opted_out(self) -> bool:
        return self.identity is not None and self.identity.opted_out


def outer_visit(request: Mapping[str, Any]) -> Visit | None:
    """The visit that a middleware around this one has opened; `request` is an ASGI scope or a WSGI environ."""
    around: Mapping[str, Any] | None = request
    while around is not None:
        visit = around.get(VISIT)
        if isinstance(visit, Visit) and visit.is_open:
            return visit
        # Where an application of one kind is inside one of the other kind, a2wsgi keeps the outer request in the inner.
        around = around.get("wsgi_environ") or around.get("asgi.scope")
    return None


def bridged_visit(environ: Mapping[str, Any]) -> Visit | None:
    """The visit of an ASGI middleware around a WSGI application, if the environ does not have it.

    It is taken from the context. But that may be the context of another request: a view may call a WSGI application as
    its client, and a server may begin a request in the context of the request before it. So the paths must be equal.
    """
    visit = current_request()
    if not isinstance(visit, Visit) or visit.path is None:
        return None
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return visit if path.encode("latin-1", "replace") == visit.path.encode("utf-8", "replace") else None


def as_text(headers: Any) -> Headers:
    """Headers of an ASGI message, which are bytes, or of any other response."""
    return [
        (name.decode("latin-1"), value.decode("latin-1")) if isinstance(name, bytes) else (name, value)
        for name, value in headers
    ]


class VisitorRules:
    """How an application tells its visitors apart. A `request` is the request object of its framework.

    Nothing that a visitor sends raises an error: a cookie, header or address that is not valid is ignored, and logged
    once. If one of the functions raises an error, the type and the place of the error are logged, at most once a minute
    for each function, and without its text, which may be personal. The error means "not logged in", "opted out" or "no
    consent".

    Args:
        authenticated_user_token: A function that gets the request and returns the pseudonymous id of the user who is
            logged in, or None.
        cookie: The name of the cookie that holds the user token. From `_ALGOLIA`, only an anonymous token is used, as
            in search-insights. From a cookie of another name, any valid token is used; a value that is not a valid
            token is not overwritten.
        set_cookie: Whether a visitor without a token is given one in that cookie: True, False, or a function that gets
            the request and returns True if the visitor has consented. Any other answer means no consent.
        header: The name of the request header in which your own mobile app sends its user token. The header is trusted,
            no matter who sends it.
        client_ip: Whether searches without a token carry the peer's IP address instead.
        opted_out: A function that gets the request and returns True if the visitor refuses tracking. Then searches
            carry no token, no events are sent, and no cookie is set.
        allow_async: Whether the functions may be coroutine functions.
        secret_cookies: The names of the framework's cookies for sessions and CSRF tokens, which `cookie` must not be.
        hint_about: A function that gets an error which one of the functions raised, and returns what to do about it, or
            "".

    Raises:
        TypeError: An argument is of the wrong type, or a function is a coroutine function and must not be one.
        ValueError: `cookie` or `header` is not a valid name, or is the name of one that holds a secret: a session, a
            CSRF token or a password.
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
        secret_cookies: Iterable[str] = (),
        hint_about: Callable[[Exception], str] = lambda error: "",
    ) -> None:
        if authenticated_user_token is not None:
            _check_function("authenticated_user_token", authenticated_user_token, allow_async)
        if opted_out is not None:
            _check_function("opted_out", opted_out, allow_async)
        if not isinstance(set_cookie, bool):
            _check_function("set_cookie", set_cookie, allow_async, or_else="True, False or ")
        check_bool("client_ip", client_ip)
        _check_name("cookie", cookie, _SECRET_COOKIES.union(map(str.lower, secret_cookies)))
        if header is not None:
            _check_name("header", header, _SECRET_HEADERS)
        self.header = header
        self.vary = ("Cookie",) if header is None else ("Cookie", header)
        self.cookie = cookie
        self._authenticated_user_token = authenticated_user_token
        self._set_cookie = set_cookie
        self._client_ip = client_ip
        self._opted_out = opted_out
        self.asks_consent = not isinstance(set_cookie, bool)
        self.asks = any(map(callable, (authenticated_user_token, set_cookie, opted_out)))
        self._cookie_start = f"{cookie}="
        self._is_cookie_value = _is_anonymous_token if cookie == COOKIE else is_user_token
        self._in_cookies = re.compile(rf"(?:^|;) *{re.escape(cookie)}=").search
        self._environ_header = "HTTP_" + header.upper().replace("-", "_") if header is not None else ""
        self._hint_about = hint_about
        self._silent_until: dict[str, float] = {}

    def flow(self, cookies: str | None, claim: str | None, address: str | None, outer: Visit | None = None) -> Flow:
        """Make the decision: a generator that yields each function whose answer it needs, and returns the `Visitor`.

        Args:
            cookies: The value of the request's Cookie header; several are joined with "; ".
            claim: The value of the request header that may name a user token; several are joined with ",".
            address: The peer's address.
            outer: The visit that a middleware around this one has opened. What it knows stays, and only the rest is
                added.
        """
        login = token = known_ip = None
        may_ask_consent = True
        if outer is not None:
            known = outer.identity or Identity()
            if known.opted_out:
                return known, None
            login, token, known_ip = known.authenticated_user_token, known.user_token, known.client_ip
            may_ask_consent = outer.rules is None or not outer.rules.asks_consent
        if self._opted_out is not None:
            try:
                refused = bool((yield self._opted_out))
            except Exception as error:
                self._complain_of_function("opted_out", "this visitor is treated as opted out", error)
                refused = True
            if refused:
                return _OPTED_OUT, None
        if login is None and self._authenticated_user_token is not None:
            try:
                login = _login((yield self._authenticated_user_token))
            except Exception as error:
                self._complain_of_function(
                    "authenticated_user_token", "this visitor is treated as not logged in", error
                )
        allowed = False
        if token is None:
            token, is_taken = self._token(cookies, claim)
            if token is None and not is_taken and may_ask_consent:
                allowed = self._set_cookie is True
                if self.asks_consent:
                    try:
                        allowed = self._consent((yield self._set_cookie))  # type: ignore[misc]
                    except Exception as error:
                        self._complain_of_function("set_cookie", "this visitor is given no cookie", error)
        if known_ip is not None:
            new_token = anonymous_user_token() if allowed else None
            return _identity(new_token or token, login, known_ip), new_token
        return self._visitor(token, login, address, allowed)

    def decide(self, cookies: str | None, claim: str | None, address: str | None) -> Visitor:
        """Do what `flow` does, if no function has to be asked (`asks` is false).

        Without a generator and its driver, the ASGI middleware costs a fifth less: 3.7 instead of 4.6 µs a request.
        """
        token, is_taken = self._token(cookies, claim)
        return self._visitor(token, None, address, token is None and not is_taken and self._set_cookie is True)

    def flow_of_environ(self, environ: Mapping[str, Any], outer: Visit | None = None) -> Flow:
        """Make the decision about a request in the form of a WSGI environ, or Django's `META`."""
        return self.flow(
            environ.get("HTTP_COOKIE"),
            environ.get(self._environ_header) if self.header is not None else None,
            environ.get("REMOTE_ADDR"),
            outer,
        )

    def are_with_cookie(self, headers: Headers) -> bool:
        """Tell whether the application itself sets or deletes the cookie in a response."""
        return any(
            name.lower() == "set-cookie" and value.lstrip().startswith(self._cookie_start) for name, value in headers
        )

    def set_cookie_value(self, token: str, *, secure: bool) -> str:
        """Return the value of the Set-Cookie header that keeps `token` as search-insights would.

        It names no SameSite, so that browsers apply their default, Lax. It is not HttpOnly, so that search-insights can
        read it.
        """
        return f"{self._cookie_start}{token}{_SECURE_COOKIE if secure else _COOKIE}"

    def _token(self, cookies: str | None, claim: str | None) -> tuple[str | None, bool]:
        """Return the visitor's token, and whether their cookie holds something else, which must not be overwritten."""
        if claim:
            if is_user_token(claim):
                return claim, False
            self._complain_once("header", "the header %s of a request holds no valid user token", self.header)
        if not cookies:
            return None, False
        # search-insights reads it in the same way: the first of several counts, and nothing is unquoted or decoded.
        start = cookies.find(self._cookie_start)
        if start < 0:
            return None, False
        if start and cookies[start - 2 : start] != "; ":
            found = self._in_cookies(cookies)  # a name that merely ends so, or unusual white space
            if found is None:
                return None, False
            start = found.end()
        else:
            start += len(self._cookie_start)
        end = cookies.find(";", start)
        token = cookies[start : None if end < 0 else end].strip(" ")
        if self._is_cookie_value(token):
            return token, False
        if not token:
            return None, False
        is_algolias = self.cookie == COOKIE
        what = "anonymous" if is_algolias else "user"
        self._complain_once("cookie", f"the cookie %s of a request holds no valid {what} token", self.cookie)
        return None, not is_algolias

    def _visitor(self, token: str | None, login: str | None, address: str | None, allowed: bool) -> Visitor:
        new_token = anonymous_user_token() if allowed else None
        if self._client_ip and address:
            return _identity(new_token or token, login, self._address(address)), new_token
        if new_token is not None:
            return Identity(new_token, login), new_token
        return _identity(token, login), None

    def _consent(self, answer: object) -> bool:
        if answer is True:
            return True
        if answer is not None and answer is not False:
            self._complain_once(
                "consent", "set_cookie returned %s, but only True is the visitor's consent", type(answer).__name__
            )
        return False

    def _address(self, address: Any) -> str | None:
        """Return the peer's address, if it can be a visitor's."""
        if not isinstance(address, str):
            address = repr(type(address))  # so that it is not valid
        found, complaint = _visitors_address(address)
        if complaint:
            self._complain_once("address", complaint)
        return found

    def _complain_once(self, about: str, message: str, *args: object) -> None:
        if self._may_complain(about, math.inf):
            logger.warning(f"{message}; it is ignored. This is logged once", *args)

    def _complain_of_function(self, name: str, consequence: str, error: Exception) -> None:
        if self._may_complain(name, _SECONDS_BETWEEN_COMPLAINTS):
            # The text of an error of this package is never personal. That of other code may be: "no user jane@…".
            logger.error(
                "%s failed%s; %s. %sThis is logged at most once a minute. It raised %s",
                name,
                f" ({error})" if isinstance(error, UserTokenError) else "",
                consequence,
                self._hint_about(error),
                traced(error),
            )

    def _may_complain(self, about: str, pause: float) -> bool:
        now = time.monotonic()
        if now < self._silent_until.get(about, 0.0):
            return False
        self._silent_until[about] = now + pause
        return True


# A visitor sends many requests, one after the other. It is enough to check their tokens and address once.
_identity = functools.lru_cache(maxsize=1024)(Identity)


@functools.lru_cache(maxsize=1024)
def _visitors_address(address: str) -> tuple[str | None, str | None]:
    """Return the address of a peer if it can be that of a visitor, or the reason why it cannot."""
    with_port = _has_port(address)
    if with_port is not None:
        address = with_port[1] or with_port[2]
    try:
        Identity(client_ip=address)
    except InvalidClientIPError:
        return None, "the peer's address is not an IP address"
    import ipaddress  # the check above has imported it

    parsed = ipaddress.ip_address(address)
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        address = str(parsed.ipv4_mapped)  # a socket that listens for IPv4 and IPv6 gives an IPv4 address so
    if is_public_client_ip(address):
        return address, None
    return None, (
        "the peer's address is a private one, as behind a proxy: make the server take the visitor's address from the "
        "proxy (--forwarded-allow-ips of uvicorn, and of gunicorn with UvicornWorker; else Werkzeug's ProxyFix)"
    )


def _login(answer: object) -> str | None:
    if is_user_token(answer):
        return answer  # type: ignore[return-value]
    if answer is None or answer == "":
        return None
    what = f"a string of {len(answer)} characters" if isinstance(answer, str) else f"of type {type_name(answer)}"
    # The value itself is not quoted, as it may be an e-mail address, which must not be in a log.
    raise InvalidUserTokenError(
        f"the answer ({what}) is not what Algolia accepts as a token; see pseudonymous_user_token()"
    )


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
                    raise TypeError("the function is async, but it cannot be awaited here")
            except Exception as error:
                question = flow.throw(error)
            else:
                question = flow.send(answer)
    except StopIteration as end:
        visitor: Visitor = end.value
        return visitor


async def drive_async(flow: Flow, request: Any) -> Visitor:
    """Do what `drive` does, with functions whose answer may have to be awaited."""
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


def check_application(app: object, own: Mapping[str, str], kind: str, *arguments: str) -> None:
    """Check that an argument is an application that a middleware can call.

    Args:
        app: The argument.
        own: For each framework, by the name of its package, what to use instead for its applications.
        kind: The name of such applications, with the article.
        arguments: The names of the arguments with which such an application is called.

    Raises:
        TypeError: `app` cannot be called with these arguments. The text says what to use for an application of one of
            these frameworks.
    """
    if _takes(app, arguments):
        return
    # Only now, as the class of a suitable application may come from another framework: Quart's base class is Flask's.
    for base in type(app).__mro__:
        package = base.__module__.partition(".")[0]
        if package in own:
            raise TypeError(f"app must not be a {package} application: {own[package]}")
    raise wrong_type("app", f"{kind} application, which is called with {', '.join(arguments)}", app)


def _takes(app: object, arguments: tuple[str, ...]) -> bool:
    if not callable(app):
        return False
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # it has no signature, as some functions that are written in C
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _check_function(name: str, value: object, allow_async: bool, or_else: str = "") -> None:
    if not callable(value):
        raise wrong_type(name, f"{or_else}a function of the request", value)
    if not allow_async and is_async(value):
        raise TypeError(f"{name} must be a plain function here, not a coroutine function")


def _check_name(argument: str, value: Any, secret: frozenset[str]) -> None:
    check_type(argument, value, str, "a string")
    if not _is_name(value):
        raise ValueError(
            f"{argument} cannot be the name of a {argument}: it is empty, or has a character that no name may have"
        )
    if value.lower() in secret:
        raise ValueError(f"{argument} {value!r} holds a secret of the visitor, which would be sent to Algolia")
