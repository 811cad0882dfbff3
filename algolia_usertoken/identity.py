"""The user for whom a request is made: an identity, the rules for user tokens, and functions that make tokens.

The rules are those of Algolia's API: a token has 1 to 128 characters out of `[a-zA-Z0-9_=/+-]`, see
https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from .checks import check_bool, check_type, type_name, wrong_type
from .errors import InvalidClientIPError, InvalidUserTokenError

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

MAX_USER_TOKEN_LENGTH = 128  # characters
ANONYMOUS_PREFIX = "anonymous-"  # how search-insights begins the tokens of anonymous visitors
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_=/+-]")
_NOBODYS_NETWORKS = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",  # multicast, and what is reserved, 255.255.255.255 included
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
)
_UUID_VARIANT = "89ab"
USER_TOKEN = re.compile(r"[a-zA-Z0-9_=/+-]{1,128}")
_is_user_token = USER_TOKEN.fullmatch


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """The user or visitor that a request is made for.

        Identity("anonymous-5c3f8f2e", authenticated_user_token="user-42")

    `Identity()` means that the request is known to have no user. An identity cannot be changed, and checks its
    arguments when it is made. You can log its `repr`: it shows the tokens, but masks the IP address.

    Args:
        user_token: The anonymous token of the visitor, or the token of the session, which searches and events carry
            before and after a login: 1 to 128 characters out of `[a-zA-Z0-9_=/+-]`.
        authenticated_user_token: The pseudonymous id of a user who is logged in, which events carry in addition to
            `user_token`. The same characters are allowed.
        client_ip: The visitor's IPv4 or IPv6 address, which searches carry if there is no user token.
        opted_out: Whether the visitor refuses tracking. If True, searches carry no token, and events are not sent.

    Raises:
        InvalidUserTokenError: Algolia does not accept one of the tokens.
        InvalidClientIPError: `client_ip` is not an IP address.
        TypeError: `opted_out` is neither True nor False.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """

    user_token: str | None = None
    authenticated_user_token: str | None = None
    client_ip: str | None = None
    opted_out: bool = False

    def __post_init__(self) -> None:
        # An identity is made for each new visitor, so tokens that are right pass quickly.
        for name, token in (
            ("user_token", self.user_token),
            ("authenticated_user_token", self.authenticated_user_token),
        ):
            if token is None or (type(token) is str and _is_user_token(token)):
                continue
            object.__setattr__(self, name, checked_user_token(token, name))
        if self.client_ip is not None:
            address = _checked_client_ip(self.client_ip)
            if address is not self.client_ip:
                object.__setattr__(self, "client_ip", address)
        check_bool("opted_out", self.opted_out)

    def __repr__(self) -> str:
        fields = {
            "user_token": self.user_token,
            "authenticated_user_token": self.authenticated_user_token,
            "client_ip": self.client_ip and _masked(self.client_ip),
            "opted_out": self.opted_out or None,
        }
        return f"Identity({', '.join(f'{name}={value!r}' for name, value in fields.items() if value is not None)})"


@lru_cache(maxsize=1024)
def is_public_client_ip(client_ip: str) -> bool:
    """Tell whether an address can be that of a visitor on the internet, so that it is of use to Algolia.

    The answer is False for private, shared, loopback, link-local, unspecified, unique-local, multicast and reserved
    addresses, also in the form `::ffff:10.1.2.3`, and for a string that is not an address. Addresses for documentation
    count as public.

    https://www.iana.org/assignments/iana-ipv4-special-registry
    https://www.iana.org/assignments/iana-ipv6-special-registry
    """
    import ipaddress

    try:
        address = ipaddress.ip_address(client_ip)
    except ValueError:
        return False
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not any(address in network for network in _nobodys_networks())


@lru_cache(maxsize=1)
def _nobodys_networks() -> tuple[IPv4Network | IPv6Network, ...]:
    import ipaddress

    return tuple(map(ipaddress.ip_network, _NOBODYS_NETWORKS))


def as_identity(value: Identity | str | None, name: str = "identity") -> Identity | None:
    """Turn an argument into an `Identity`: a string is a user token, and None, which means no answer, stays None.

    Raises:
        InvalidUserTokenError: `value` is neither an Identity nor a valid token nor None. The error calls it `name`.
    """
    if value is None or isinstance(value, Identity):
        return value
    return Identity(checked_user_token(value, name, "an Identity or a string"))


def validate_user_token(value: str) -> str:
    """Check that Algolia accepts a string as a user token.

    Args:
        value: The token.

    Returns:
        The token.

    Raises:
        InvalidUserTokenError: `value` is not a string, is empty, is longer than 128 characters, or has a character
            outside `[a-zA-Z0-9_=/+-]`. The message says what is wrong, and does not quote the token.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """
    return checked_user_token(value, "user token")


def anonymous_user_token() -> str:
    """Make a new token for an anonymous visitor, as search-insights makes them.

    Returns:
        `anonymous-` and a UUID of version 4, 46 characters.

    https://github.com/algolia/search-insights.js
    """
    digits = os.urandom(16).hex()
    # The version, 4, and the variant of RFC 9562. This is what `uuid.uuid4()` makes, in half the time, and without the
    # import of `uuid`, which takes as long as half of this package's own: each new visitor waits for their token.
    return (
        f"{ANONYMOUS_PREFIX}{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-"
        f"{_UUID_VARIANT[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


def pseudonymous_user_token(user_id: str | int, *, secret: str | bytes, prefix: str = "user-") -> str:
    """Make the token of a user who is logged in. It is always the same, and does not reveal who the user is.

        pseudonymous_user_token("jane@example.com", secret=settings.SECRET)

    The same `user_id` and `secret` always give the same token, and 7 and "7" are the same id. Without the secret,
    nobody can compute the id from the token, or the token from the id. Algolia asks you to use such tokens.

    Args:
        user_id: Your key for the user: a database id, an e-mail address, …
        secret: A key of your own that stays on the server, at least one character. If you change it, all users get
            other tokens, and Algolia sees them as new users.
        prefix: The beginning of the token: 0 to 21 characters that are allowed in a token. So the token has at most 64.

    Returns:
        `prefix` and 43 characters of HMAC-SHA256 in URL-safe base64.

    Raises:
        TypeError: `user_id` is neither a string nor a whole number, or `secret` neither a string nor bytes.
        ValueError: `user_id` or `secret` is empty, or `prefix` is too long or has a character that no token may have.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """
    import base64  # these two imports would take a fifth of the time that the import of the package takes
    import hmac

    if isinstance(user_id, bool):
        raise wrong_type("user_id", "a string or a whole number", user_id)
    check_type("user_id", user_id, (str, int), "a string or a whole number")
    if user_id == "":
        raise ValueError("user_id is empty: an empty id would make one token for many users")
    key = key_of(secret, "compute the tokens")
    if prefix != "":
        prefix = checked_user_token(prefix, "prefix")
    if len(prefix) > 21:
        raise ValueError(f"prefix has {len(prefix)} characters: at most 21 keep the token within 64")
    # The text of an enum's member differs from one version of Python to the next; that of its value does not.
    text = str.__str__(user_id) if isinstance(user_id, str) else int.__repr__(user_id)
    message = text.encode("utf-8", "surrogatepass")
    return prefix + base64.urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=").decode("ascii")


def key_of(secret: str | bytes, act: str) -> bytes:
    """Turn a secret into a key for HMAC.

    Args:
        secret: The secret.
        act: What anybody could do without a secret, for the text of the error.

    Raises:
        TypeError: `secret` is neither a string nor bytes.
        ValueError: `secret` is empty.
    """
    check_type("secret", secret, (str, bytes), "a string or bytes")
    if not secret:
        raise ValueError(f"secret is empty: without a secret anybody could {act}")
    return secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret


def is_user_token(value: object) -> bool:
    """Tell whether Algolia accepts `value` as a user token."""
    return isinstance(value, str) and _is_user_token(value) is not None


def checked_user_token(value: object, name: str, what: str = "a string") -> str:
    """Return `value` as a plain string, if it is a user token.

    Args:
        value: The value to check.
        name: The name of the value in the error.
        what: The words of the error for what the value must be.

    Raises:
        InvalidUserTokenError: `value` is not a user token.
    """
    text = value if type(value) is str else _plain(value)
    if text is None:
        hint = "" if value is None else ": to make a token of the id of a user, see pseudonymous_user_token()"
        raise InvalidUserTokenError(f"{name} must be {what}, not {type_name(value)}{hint}")
    if _is_user_token(text):
        return text
    if not text:
        raise InvalidUserTokenError(f"{name} is empty: to send no token, use None")
    # The token itself is not quoted: it may be somebody's e-mail address, and this text may end in a log.
    bad = _FORBIDDEN.search(text)
    if bad:
        raise InvalidUserTokenError(
            f"{name} ({len(text)} characters) has {bad[0]!a} at position {bad.start() + 1}: only letters a-z and A-Z, "
            "digits and _ = / + - are allowed. To make a token of an e-mail address or the id of a user, see "
            "pseudonymous_user_token()"
        )
    raise InvalidUserTokenError(f"{name} has {len(text)} characters: at most {MAX_USER_TOKEN_LENGTH} are allowed")


def _plain(value: object) -> str | None:
    """Return a string as exactly a `str`, as a subclass may print as something else; None if it is not a string."""
    try:
        return str.__str__(value)
    except TypeError:
        return None


def _checked_client_ip(value: object) -> str:
    text = value if type(value) is str else _plain(value)
    if text is None:
        raise InvalidClientIPError(f"client_ip must be a string, not {type_name(value)}")
    import ipaddress  # this would take a twentieth of the time that the import of the package takes

    # A zone ("fe80::1%eth0") means nothing to another machine, and may have any character.
    if "%" not in text:
        try:
            ipaddress.ip_address(text)
        except ValueError:  # it quotes the address, so our own error is raised outside, where it is not chained to it
            pass
        else:
            return text
    raise InvalidClientIPError(f"client_ip ({len(text)} characters) is not an IPv4 or IPv6 address")


def _masked(client_ip: str) -> str:
    """The network of a client, as in "203.0.113.0/24": enough for a log, and too little to find the visitor.

    If an IPv6 address contains an IPv4 address, no more of that is shown than of an IPv4 address. With Teredo (RFC
    4380), NAT64 (RFC 6052 and 8215) and mapped addresses (RFC 4291), the first 48 bits contain nothing of its last
    octet. With 6to4 (RFC 3056) they contain all of it, so only 40 bits are shown.
    """
    import ipaddress

    address = ipaddress.ip_address(client_ip)
    bits = 24
    if isinstance(address, ipaddress.IPv6Address):
        bits = 48 if address.sixtofour is None else 16 + 24
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))
