from __future__ import annotations

import base64
import copy
import dataclasses
import enum
import hashlib
import hmac
import pickle
import random
import re
import string
import sys
import uuid
from typing import Any

import pytest

from algolia_usertoken import (
    Identity,
    InvalidClientIPError,
    InvalidUserTokenError,
    TokenAwareClient,
    anonymous_user_token,
    identity_scope,
    pseudonymous_user_token,
    validate_user_token,
)
from algolia_usertoken.identity import as_identity, is_public_client_ip, is_user_token
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.oldest_versions, pytest.mark.package_contents]

ALPHABET = string.ascii_letters + string.digits + "_=/+-"

VALID = [
    "a",
    "0",
    "-",
    ALPHABET,
    "anonymous-7b1e2f0c-4d2b-4a3e-9f63-0a3c8d7b7a10",
    "null",
    "a" * 64,
    "a" * 65,
    "a" * 127,
    "a" * 128,
    "==",
    "//",
]

# The value, and what the message must say about it.
INVALID: list[tuple[Any, str]] = [
    ("", "is empty: to send no token, use None"),
    ("a" * 129, "has 129 characters: at most 128"),
    ("a" * 100_000, "has 100000 characters: at most 128"),
    ("user@example.com", "has '@' at position 5: only letters a-z"),
    ("auth0|x", "has '|' at position 6"),
    ("GA1.2.3", "has '.' at position 4"),
    ("a:b", "has ':' at position 2"),
    ("a b", "has ' ' at position 2"),
    (" ab", "has ' ' at position 1"),
    ("ab\n", r"has '\n' at position 3"),
    ("ab\r\nX-Evil: 1", r"has '\r' at position 3"),
    ("\x00", r"has '\x00' at position 1"),
    ("a\x7f", r"has '\x7f' at position 2"),
    ("é", r"has '\xe9' at position 1"),
    ("用户", r"has '\u7528' at position 1"),
    ("٣", r"has '\u0663' at position 1"),  # a digit, for str.isdigit
    ("ａ", r"has '\uff41' at position 1"),  # a letter, for str.isalpha
    ("\U0001f600", r"has '\U0001f600' at position 1"),
    ("\ud800", r"has '\ud800' at position 1"),
    ("x" * 200 + "@", "has '@' at position 201"),
    (7, "a string, not int"),
    (True, "a string, not bool"),
    (1.5, "a string, not float"),
    (b"abc", "a string, not bytes"),
    (bytearray(b"abc"), "a string, not bytearray"),
    (["a"], "a string, not list"),
    (object(), "a string, not object"),
    (uuid.UUID(int=1), "a string, not UUID"),
]


class Plan(str, enum.Enum):
    FREE = "free"
    BAD = "not valid"


@pytest.mark.parametrize("token", VALID)
def test_valid_tokens_are_taken_everywhere(token: str) -> None:
    assert validate_user_token(token) == token
    assert is_user_token(token)
    assert Identity(token).user_token == token
    assert Identity(authenticated_user_token=token).authenticated_user_token == token
    assert as_identity(token) == Identity(token)


@pytest.mark.parametrize(("token", "message"), INVALID)
def test_invalid_tokens_are_refused_everywhere_and_the_text_says_why(token: Any, message: str) -> None:
    assert not is_user_token(token)
    refusals = [
        (lambda: validate_user_token(token), "user token"),
        (lambda: Identity(token), "user_token"),
        (lambda: Identity("ok", token), "authenticated_user_token"),
        (lambda: as_identity(token), "identity"),
        (lambda: as_identity(token, "default"), "default"),
    ]
    for refused, name in refusals:
        with pytest.raises(InvalidUserTokenError) as caught:
            refused()
        assert str(caught.value).startswith(f"{name} ")
        assert message in str(caught.value)


def test_none_is_no_token_but_an_identity_may_lack_one() -> None:
    with pytest.raises(InvalidUserTokenError, match=r"^user token must be a string, not NoneType$"):
        validate_user_token(None)  # type: ignore[arg-type]
    assert not is_user_token(None)
    assert as_identity(None) is None
    assert Identity(None, None) == Identity()


@pytest.mark.parametrize("code", [*range(0x250), 0x2028, 0xD800, 0xDFFF, 0xFF0B, 0xFFFF, 0x1F600, sys.maxunicode])
def test_each_character_is_allowed_or_not_wherever_it_stands(code: int) -> None:
    character = chr(code)
    for token in (character, f"a{character}", f"{character}a", f"a{character}a"):
        assert is_user_token(token) is (character in ALPHABET)


@pytest.mark.slow
def test_thousands_of_hostile_tokens_are_refused_and_never_quoted() -> None:
    rng = random.Random(7)
    for _ in range(3_000):
        length = rng.choice((1, 2, 31, 32, 33, 40, 41, 128, 129, 500))
        token = "".join(chr(rng.choice((rng.randrange(256), rng.randrange(0x110000)))) for _ in range(length))
        if all(character in ALPHABET for character in token) and length <= 128:
            continue
        with pytest.raises(InvalidUserTokenError) as caught:
            validate_user_token(token)
        message = str(caught.value)
        assert message.isascii()
        assert message.isprintable()
        assert f"{length} characters" in message
        assert length <= 2 or (token not in message and ascii(token)[1:-1] not in message)


@pytest.mark.parametrize("tail", ["@", "a" * 100])
def test_no_part_of_a_token_is_quoted(tail: str) -> None:
    secret = "".join(ALPHABET[i % 26] for i in range(120))
    with pytest.raises(InvalidUserTokenError) as caught:
        validate_user_token(secret + tail)

    assert not any(secret[start : start + 4] in str(caught.value) for start in range(26))


def test_a_refused_token_is_told_by_its_length_and_the_place_of_what_is_wrong() -> None:
    with pytest.raises(InvalidUserTokenError) as caught:
        validate_user_token("jane@example.com")

    assert str(caught.value).startswith("user token (16 characters) has '@' at position 5: only letters ")


def test_names_of_types_are_cut() -> None:
    for length in (39, 40, 41):
        name = "N" * length
        with pytest.raises(InvalidUserTokenError) as caught:
            validate_user_token(type(name, (), {})())  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"user token must be a string, not {name[:40]}: ")


def test_subclasses_of_str_are_strings() -> None:
    assert validate_user_token(Plan.FREE) == "free"
    assert Identity(Plan.FREE, Plan.FREE) == Identity("free", "free")
    for token in (Identity(Plan.FREE).user_token, Identity(None, Plan.FREE).authenticated_user_token):
        assert type(token) is str
    with pytest.raises(InvalidUserTokenError, match=r"^user_token \(9 characters\) has ' ' at position 4"):
        Identity(Plan.BAD)


class Peer(str, enum.Enum):
    THEIRS = "203.0.113.7"


def test_an_address_of_a_subclass_of_str_is_kept_as_the_string_it_is() -> None:
    identity = Identity(client_ip=Peer.THEIRS)

    assert type(identity.client_ip) is str
    assert repr(identity) == "Identity(client_ip='203.0.113.0/24')"


async def test_a_subclass_of_str_that_prints_as_something_else_is_sent_as_the_string_it_is(
    async_client: TokenAwareClient, algolia: LocalAlgolia
) -> None:
    with identity_scope(Plan.FREE):
        await async_client.search_single_index("products", {"query": "shoe"})

    assert [search.user_token for search in algolia.searches] == ["free"]


# -- Identity ------------------------------------------------------------------------------------------------------


def test_identity_takes_its_fields_by_position_and_name() -> None:
    identity = Identity("anon", "login", "203.0.113.7", True)

    assert identity == Identity(
        user_token="anon", authenticated_user_token="login", client_ip="203.0.113.7", opted_out=True
    )
    assert (Identity().user_token, Identity().authenticated_user_token, Identity().client_ip) == (None, None, None)
    assert Identity().opted_out is False


def test_identities_are_values() -> None:
    assert Identity("a") == Identity("a")
    assert len({Identity("a"), Identity("a"), Identity("b"), Identity(), Identity(opted_out=True)}) == 4
    assert Identity("a") != Identity(authenticated_user_token="a")
    assert Identity("a") != "a"
    assert bool(Identity())


def test_identities_cannot_be_changed() -> None:
    identity = Identity("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.user_token = "b"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        identity.other = 1  # type: ignore[attr-defined]
    assert not hasattr(identity, "__dict__")


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(2, 6))]
)
def test_identities_can_be_copied_and_pickled(again: Any) -> None:
    identity = Identity("anon", "login", "2001:db8::1", True)
    assert again(identity) == identity


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(InvalidUserTokenError, match="has '@' at position 2"):
        dataclasses.replace(Identity("a"), authenticated_user_token="a@b")


@pytest.mark.parametrize("opted_out", [None, 1, 0, "yes"])
def test_opted_out_is_yes_or_no(opted_out: Any) -> None:
    with pytest.raises(TypeError, match=rf"^opted_out must be True or False, not {type(opted_out).__name__}$"):
        Identity(opted_out=opted_out)


@pytest.mark.parametrize(
    ("identity", "shown"),
    [
        (Identity(), "Identity()"),
        (Identity("u-1"), "Identity(user_token='u-1')"),
        (Identity(authenticated_user_token="l-1"), "Identity(authenticated_user_token='l-1')"),
        (Identity("u-1", "l-1"), "Identity(user_token='u-1', authenticated_user_token='l-1')"),
        (Identity(opted_out=True), "Identity(opted_out=True)"),
        (Identity(client_ip="203.0.113.77"), "Identity(client_ip='203.0.113.0/24')"),
        (Identity(client_ip="2001:db8:aa:bb::77"), "Identity(client_ip='2001:db8:aa::/48')"),
        (Identity("u", client_ip="::1"), "Identity(user_token='u', client_ip='::/48')"),
    ],
)
def test_repr_is_safe_to_log(identity: Identity, shown: str) -> None:
    assert repr(identity) == str(identity) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("2002:cb00:71{0}::1", "2002:cb00:7100::/40"),  # 6to4
        ("2002:cb00:71{0}:aa:bb:cc:dd:ee", "2002:cb00:7100::/40"),
        ("2001:0:4136:e378:8000:63bf:34ff:8e{0}", "2001:0:4136::/48"),  # Teredo, which turns each bit
        ("::ffff:cb00:71{0}", "::/48"),  # mapped
        ("64:ff9b::cb00:71{0}", "64:ff9b::/48"),  # NAT64
        ("64:ff9b:1::cb00:71{0}", "64:ff9b:1::/48"),  # NAT64 of a network's own, with 96 bits before the address,
        ("64:ff9b:1:cb00:71:{0}00::", "64:ff9b:1::/48"),  # or with 48
        ("2001:db8:cb00:71:{0}::", "2001:db8:cb00::/48"),  # or with 32 of the network's
        ("::cb00:71{0}", "::/48"),  # "compatible"
        ("::ffff:0:cb00:71{0}", "::/48"),  # translated
        ("2001:db8::200:5efe:cb00:71{0}", "2001:db8::/48"),  # ISATAP
    ],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_masked_as_one(address: str, shown: str) -> None:
    for octet in (0x00, 0x4D, 0xFF):
        assert repr(Identity(client_ip=address.format(f"{octet:02x}"))) == f"Identity(client_ip={shown!r})"


@pytest.mark.parametrize(
    "address",
    [
        "203.0.113.7",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "2001:DB8::7",
        "::ffff:203.0.113.7",
        "2001:db8::192.0.2.1",
    ],
)
def test_a_valid_client_ip_is_kept_as_it_is_written(address: str) -> None:
    assert Identity(client_ip=address).client_ip == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "203.0.113",
        "203.0.113.256",
        "203.0.113.07",
        "203.0.113.7:443",
        "203.0.113.7, 198.51.100.1",
        "203.0.113.0/24",
        " 203.0.113.7",
        "203.0.113.7\n",
        "203.0.113.7\r\nX-Evil: 1",
        "[2001:db8::1]",
        "2001:db8::1::2",
        "fe80::1%eth0",
        "fe80::1%\r\nX-Evil: 1",
        "٣.0.113.7",
        "1" * 1000,
    ],
)
def test_a_client_ip_that_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidClientIPError) as caught:
        Identity(client_ip=address)

    assert str(caught.value) == f"client_ip ({len(address)} characters) is not an IPv4 or IPv6 address"
    assert caught.value.__context__ is None  # that of the standard library quotes the address


@pytest.mark.parametrize("address", [1, b"\xcb\x00\x71\x07", ["203.0.113.7"]])
def test_a_client_ip_that_is_no_string_is_refused(address: Any) -> None:
    with pytest.raises(InvalidClientIPError, match=rf"^client_ip must be a string, not {type(address).__name__}$"):
        Identity(client_ip=address)


def test_as_identity_keeps_identities() -> None:
    identity = Identity("a", "b")
    assert as_identity(identity) is identity


# -- Generators ----------------------------------------------------------------------------------------------------


def test_anonymous_tokens_look_like_those_of_search_insights() -> None:
    token = anonymous_user_token()

    assert re.fullmatch(r"anonymous-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", token)
    assert is_user_token(token)
    assert len({anonymous_user_token() for _ in range(100)}) == 100


def test_pseudonymous_tokens_are_hmac_sha256_in_url_safe_base64() -> None:
    digest = hmac.new(b"s3cret", b"user@example.com", hashlib.sha256).digest()

    assert pseudonymous_user_token("user@example.com", secret="s3cret") == "user-" + base64.urlsafe_b64encode(
        digest
    ).decode().rstrip("=")


def test_pseudonymous_tokens_never_change() -> None:
    assert pseudonymous_user_token(7, secret="k") == "user-nHN9FjvNExW7aVsAJi47pEh64mcLsrDmuO5_atNUIVo"


class Number(enum.IntEnum):
    SEVEN = 7


class Text(str, enum.Enum):
    SEVEN = "7"

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize("user_id", [Number.SEVEN, Text.SEVEN, "7"])
def test_pseudonymous_tokens_are_the_same_for_equal_ids(user_id: str | int) -> None:
    assert pseudonymous_user_token(user_id, secret="k") == pseudonymous_user_token(7, secret="k")


def test_pseudonymous_tokens_depend_on_all_they_are_made_of() -> None:
    tokens = [
        pseudonymous_user_token("7", secret="k"),
        pseudonymous_user_token("8", secret="k"),
        pseudonymous_user_token("7", secret="l"),
        pseudonymous_user_token("7", secret="k", prefix="member-"),
    ]
    assert len(set(tokens)) == 4
    assert pseudonymous_user_token(7, secret=b"k") == tokens[0]


@pytest.mark.parametrize(
    "user_id", ["user@example.com", "auth0|5f7c", "用户", "\ud800", " ", "x" * 10_000, 0, -1, 2**70]
)
@pytest.mark.parametrize("secret", ["k", b"\x00", "\ud800", "ключ"])
@pytest.mark.parametrize("prefix", ["", "user-", "p" * 21])
def test_pseudonymous_tokens_are_valid_whatever_the_id(user_id: str | int, secret: str | bytes, prefix: str) -> None:
    token = pseudonymous_user_token(user_id, secret=secret, prefix=prefix)

    assert is_user_token(token)
    assert token.startswith(prefix)
    assert len(token) == len(prefix) + 43 <= 64
    assert token == pseudonymous_user_token(user_id, secret=secret, prefix=prefix)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"user_id": ""}, ValueError, "user_id is empty: an empty id would make one token for many users"),
        ({"user_id": None}, TypeError, "user_id must be a string or a whole number, not NoneType"),
        ({"user_id": b"7"}, TypeError, "user_id must be a string or a whole number, not bytes"),
        ({"user_id": True}, TypeError, "user_id must be a string or a whole number, not bool"),
        ({"user_id": 1.0}, TypeError, "user_id must be a string or a whole number, not float"),
        ({"secret": ""}, ValueError, "secret is empty: without a secret anybody could compute the tokens"),
        ({"secret": b""}, ValueError, "secret is empty"),
        ({"secret": None}, TypeError, "secret must be a string or bytes, not NoneType"),
        ({"secret": 7}, TypeError, "secret must be a string or bytes, not int"),
        ({"prefix": "p" * 22}, ValueError, "prefix has 22 characters: at most 21 keep the token within 64"),
        ({"prefix": "user:"}, ValueError, "prefix (5 characters) has ':' at position 5"),
        ({"prefix": 7}, ValueError, "prefix must be a string, not int"),
    ],
)
def test_bad_arguments_of_a_pseudonymous_token_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        pseudonymous_user_token(**{"user_id": "7", "secret": "k", **arguments})

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("prefix", [None, 0])
def test_a_prefix_is_a_string(prefix: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^prefix must be a string"):
        pseudonymous_user_token("7", secret="k", prefix=prefix)


def test_anonymous_tokens_are_of_every_variant_that_rfc_9562_allows() -> None:
    variants = {anonymous_user_token()[len("anonymous-") + 19] for _ in range(400)}

    assert variants == set("89ab")


# -- Addresses that are nobody's -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "client_ip",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.101.53.4",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "fc00::1",
        "fdff::1",
        "FD00::1",
        "ff02::1",
        "::ffff:10.1.2.3",
        "::ffff:127.0.0.1",
        "::ffff:a01:203",
        "0:0:0:0:0:ffff:192.168.1.1",
    ],
)
def test_an_address_that_no_visitor_has_is_not_public(client_ip: str) -> None:
    Identity(client_ip=client_ip)  # an identity may have it all the same

    assert not is_public_client_ip(client_ip)


@pytest.mark.parametrize(
    "client_ip",
    [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "192.0.2.1",  # those of documentation, which Python calls private
        "198.51.100.7",
        "203.0.113.7",
        "223.255.255.255",
        "2001:db8::1",
        "2606:4700::1111",
        "::2",
        "fbff::1",
        "::ffff:203.0.113.7",
        "::ffff:8.8.8.8",
    ],
)
def test_an_address_that_a_visitor_may_have_is_public(client_ip: str) -> None:
    assert is_public_client_ip(client_ip)


@pytest.mark.parametrize("value", ["", "localhost", "10.1.2", "10.1.2.3.4", "fe80::1%eth0", "10.1.2.3, 8.8.8.8"])
def test_a_text_that_is_no_address_is_not_public(value: str) -> None:
    assert not is_public_client_ip(value)
