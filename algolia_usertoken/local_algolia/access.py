"""Which requests are allowed: those whose Host is this machine; from pages of other sites, only searches and events.

Any page that a developer visits can send requests to a server on the developer's own machine. It may give that server a
name of its own by DNS (rebinding), and then read the answers. The check of the Host header prevents that.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping

from .errors import ApiError

_host_and_port = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::[0-9]*)?").fullmatch
_is_name = re.compile(r"[^\s:/@\[\]*,]+").fullmatch


def checked_hosts(hosts: Collection[str]) -> frozenset[str]:
    """The host names in the form in which they are compared. Raises ValueError for one that is no name or address."""
    if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Iterable):
        raise ValueError(f"allowed_hosts must be a list of names, not {hosts!r}")
    return frozenset(_checked(host) for host in hosts)


class Access:
    """Judges requests by their Host, Origin and Sec-Fetch-Site headers.

    Args:
        allowed_hosts: Names, in addition to those of the loopback interface, that requests may have as Host.
    """

    def __init__(self, allowed_hosts: frozenset[str] = frozenset()) -> None:
        self._allowed = allowed_hosts

    def check_host(self, hosts: Iterable[str]) -> None:
        """Raise `ApiError` with 403 unless there is a Host, and each one names this machine or is allowed."""
        hosts = list(hosts)
        if not hosts or not all(map(self._knows, hosts)):
            raise ApiError(
                403,
                "The Host of this request is no name of the loopback interface (localhost, 127.0.0.1, [::1]), and a "
                "page of another site could have sent it. If it is a name of this machine, allow it: "
                "LocalAlgolia(allowed_hosts=[…]), or algolia-usertoken serve --allow-host NAME",
            )

    def check_site(self, headers: Mapping[str, str]) -> None:
        """Raise `ApiError` with 403 if a page of another site asks. Another port of this machine is the same site."""
        origin = headers.get("origin")
        if origin is None:
            from_here = headers.get("sec-fetch-site", "").lower() != "cross-site"
        else:
            scheme, _, host = origin.partition("://")
            from_here = scheme in ("http", "https") and self._knows(host)
        if not from_here:
            raise ApiError(403, "Pages of other sites may search and send events here, and nothing else")

    def check_same_origin(self, headers: Mapping[str, str]) -> None:
        """Raise `ApiError` with 403 if the request comes from a page that is not this server's own."""
        origin = headers.get("origin")
        own = origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
        if not own or headers.get("sec-fetch-site", "none").lower() not in ("none", "same-origin"):
            raise ApiError(403, "Only the inspector's own page, and programs that are no browsers, may ask for this")

    def _knows(self, host: str) -> bool:
        found = _host_and_port(host)
        if found is None:
            return False
        name = _plain(found[1])
        return name == "localhost" or name in self._allowed or _is_loopback(name)


def _checked(host: str) -> str:
    if isinstance(host, str):
        name = _plain(host)
        if _is_name(name) or _address(name) is not None:
            return name
    raise ValueError(f"allowed_hosts must be names of hosts without scheme and port, as shop.test, not {host!r}")


def _plain(host: str) -> str:
    return host.strip("[]").removesuffix(".").lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


@functools.lru_cache(maxsize=256)  # every request names a host
def _is_loopback(name: str) -> bool:
    address = _address(name)
    # Some versions of Python also count ::ffff:127.0.0.1 as a loopback address.
    return address is not None and address.is_loopback and getattr(address, "ipv4_mapped", None) is None
