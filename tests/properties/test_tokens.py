"""User tokens and identities, whatever they are made of."""

from __future__ import annotations

import asyncio
import base64
import copy
import hmac
import ipaddress
import pickle
import string
import uuid
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algolia_usertoken import (
    Identity,
    InvalidClientIPError,
    InvalidUserTokenError,
    TokenAwareClient,
    TokenAwareClientSync,
    anonymous_user_token,
    identity_scope,
    pseudonymous_user_token,
    validate_user_token,
)
from algolia_usertoken.identity import as_identity, is_public_client_ip, is_user_token
from algolia_usertoken.integrations.visitor import VisitorRules
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

ALPHABET = string.ascii_letters + string.digits + "_=/+-"

few = settings(max_examples=max(1, settings().max_examples // 10))  # where each one costs a request

tokens = st.text(ALPHABET, min_size=1, max_size=128)
any_text = st.text(st.characters(exclude_categories=()), max_size=140)  # surrogates, too
# Tokens, near misses and worse.
texts = st.one_of(
    tokens,
    any_text,
    st.text(ALPHABET, min_size=127, max_size=130),
    st.builds(
        lambda before, bad, after: before + bad + after,
        st.text(ALPHABET, max_size=64),
        st.one_of(st.sampled_from("\n\r\0\t .@:|,;\\\"'é٣ａ\ud800\u2028"), st.characters(exclude_categories=())),
        st.text(ALPHABET, max_size=63),
    ),
)
no_strings = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.lists(tokens), st.dictionaries(tokens, tokens)
)
addresses = st.ip_addresses().map(str)
identities = st.builds(Identity, st.none() | tokens, st.none() | tokens, st.none() | addresses, st.booleans())


class Liar(str):
    """A string that says it is another."""

    def __str__(self) -> str:
        return "liar"

    __repr__ = __str__

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[str]:
        return iter("liar")

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def is_token(text: str) -> bool:
    """The rule, in other words than the package's."""
    return 1 <= len(text) <= 128 and all(character in ALPHABET for character in text)


# -- Tokens --------------------------------------------------------------------------------------------------------


@given(texts)
def test_a_token_is_what_the_rule_says(text: str) -> None:
    assert is_user_token(text) == is_token(text)
    if is_token(text):
        assert validate_user_token(text) == text
        assert as_identity(text) == Identity(text)
    else:
        with pytest.raises(InvalidUserTokenError) as caught:
            validate_user_token(text)
        # Safe to log: short, in one line, and no more of it than a beginning.
        message = str(caught.value).replace("…", "")
        assert message.isascii()
        assert message.isprintable()
        assert len(message) <= 250
        assert len(text) <= 40 or text[:41] not in message


@given(texts)
def test_a_token_of_a_subclass_is_what_it_holds_not_what_it_says(text: str) -> None:
    try:
        taken = validate_user_token(Liar(text))
    except InvalidUserTokenError:
        assert not is_token(text)
    else:
        assert is_token(text)
        assert type(taken) is str
        assert taken == text
        assert type(Identity(Liar(text)).user_token) is type(Identity(None, Liar(text)).authenticated_user_token) is str


@given(no_strings)
def test_what_is_no_string_is_no_token(value: Any) -> None:
    with pytest.raises(InvalidUserTokenError, match="must be a string, not"):
        validate_user_token(value)
    assert not is_user_token(value)


# -- Identities ----------------------------------------------------------------------------------------------------


@given(identities)
def test_copies_of_an_identity_are_equal(identity: Identity) -> None:
    copies = [
        Identity(identity.user_token, identity.authenticated_user_token, identity.client_ip, identity.opted_out),
        copy.copy(identity),
        copy.deepcopy(identity),
        *(pickle.loads(pickle.dumps(identity, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ]

    assert {identity, *copies} == {identity}
    assert all(one == identity and repr(one) == repr(identity) for one in copies)


@given(identities, identities)
def test_identities_are_equal_if_all_they_say_is(one: Identity, other: Identity) -> None:
    def says(identity: Identity) -> tuple[Any, ...]:
        return identity.user_token, identity.authenticated_user_token, identity.client_ip, identity.opted_out

    assert (one == other) == (says(one) == says(other))
    assert hash(one) == hash(other) or one != other


@given(st.data(), st.none() | tokens)
def test_repr_of_an_identity_does_not_tell_neighbours_apart(data: st.DataObject, token: str | None) -> None:
    version, bits = data.draw(st.sampled_from([(4, 24), (6, 48)]))
    address = data.draw(st.ip_addresses(v=version))
    network = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    neighbour = data.draw(st.ip_addresses(network=network))

    shown = repr(Identity(token, client_ip=str(address)))

    assert shown == repr(Identity(token, client_ip=str(neighbour)))
    assert shown.isascii()
    assert shown.isprintable()
    assert token is None or repr(token) in shown


@given(
    st.one_of(
        any_text,
        addresses,
        st.tuples(addresses, any_text).map("".join),
        st.tuples(addresses, st.just("%eth0")).map("".join),
    )
)
def test_an_address_is_one_that_others_understand_too(text: str) -> None:
    try:
        ipaddress.ip_address(text)
        good = "%" not in text
    except ValueError:
        good = False

    if good:
        assert Identity(client_ip=text).client_ip == text
    else:
        with pytest.raises(InvalidClientIPError) as caught:
            Identity(client_ip=text)
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()


# -- Generators ----------------------------------------------------------------------------------------------------


def test_anonymous_tokens_are_new_uuids() -> None:
    made = {anonymous_user_token() for _ in range(1_000)}

    assert len(made) == 1_000
    for token in made:
        prefix, _, rest = token.partition("-")
        assert (prefix, str(uuid.UUID(rest)), uuid.UUID(rest).version) == ("anonymous", rest, 4)
        assert uuid.UUID(rest).variant == uuid.RFC_4122
        assert is_token(token)


# HMAC takes a key that ends in zeros for the same without them.
secrets = st.one_of(any_text, st.binary(max_size=140)).filter(
    lambda secret: bool(secret) and secret[-1] not in ("\0", 0)
)
user_ids = st.one_of(st.integers(), any_text.filter(bool))
prefixes = st.text(ALPHABET, max_size=21)


def encoded(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")


@given(user_ids, secrets, prefixes)
def test_pseudonymous_tokens_are_the_hmac_of_the_id(user_id: Any, secret: Any, prefix: str) -> None:
    token = pseudonymous_user_token(user_id, secret=secret, prefix=prefix)

    digest = hmac.new(encoded(secret), encoded(user_id), "sha256").digest()
    assert token == prefix + base64.b64encode(digest, altchars=b"-_").decode().rstrip("=")
    assert is_token(token)
    assert len(token) == len(prefix) + 43 <= 64
    # As whoever comes back gives them: the id as text, the secret as bytes.
    assert pseudonymous_user_token(str(user_id), secret=encoded(secret), prefix=prefix) == token


@given(st.tuples(user_ids, secrets, prefixes), st.tuples(user_ids, secrets, prefixes))
def test_pseudonymous_tokens_differ_where_anything_does(one: Any, other: Any) -> None:
    def made(user_id: Any, secret: Any, prefix: str) -> str:
        return pseudonymous_user_token(user_id, secret=secret, prefix=prefix)

    same = (encoded(one[0]), encoded(one[1]), one[2]) == (encoded(other[0]), encoded(other[1]), other[2])
    assert (made(*one) == made(*other)) == same
    changed = made(one[0], other[1], one[2])
    assert (changed == made(*one)) == (encoded(one[1]) == encoded(other[1]))


@given(user_ids, secrets, texts.filter(bool) | st.text(ALPHABET, min_size=20, max_size=23))
def test_a_prefix_makes_a_token_or_is_refused(user_id: Any, secret: Any, prefix: str) -> None:
    if is_token(prefix) and len(prefix) <= 21:
        token = pseudonymous_user_token(user_id, secret=secret, prefix=prefix)
        assert is_token(token)
        assert token.startswith(prefix)
        assert len(token) <= 64
    else:
        with pytest.raises(ValueError, match=r"^prefix "):
            pseudonymous_user_token(user_id, secret=secret, prefix=prefix)


# -- Cookies -------------------------------------------------------------------------------------------------------

names = st.sampled_from(["_ALGOLIA", "X_ALGOLIA", "a", "visit", "__Host-visitor", "_ALGOLIA2"])
crumbs = st.tuples(names, st.text(ALPHABET + '"%.', max_size=10)).map("=".join)


@given(
    st.text(ALPHABET, max_size=118), names, st.lists(crumbs, max_size=3), st.lists(crumbs, max_size=3), st.booleans()
)
def test_a_token_comes_back_from_its_cookie(rest: str, name: str, before: Any, after: Any, secure: bool) -> None:
    token = "anonymous-" + rest
    rules = VisitorRules(cookie=name, set_cookie=True)
    sent = rules.set_cookie_value(token, secure=secure)

    as_others_read_it = SimpleCookie(sent)[name]
    assert as_others_read_it.value == token
    assert bool(as_others_read_it["secure"]) == secure
    before = [crumb for crumb in before if not crumb.startswith(name + "=")]
    cookies = "; ".join([*before, sent.split(";")[0], *after])
    assert rules.decide(cookies, None, None) == (Identity(token), None)


@given(st.lists(crumbs, max_size=4))
def test_a_new_visitor_is_known_when_they_come_back(others: list[str]) -> None:
    rules = VisitorRules(cookie="_VISITOR", set_cookie=True)
    first, token = rules.decide("; ".join(others), None, None)
    assert token is not None
    kept = rules.set_cookie_value(token, secure=True).split(";")[0]

    assert first == Identity(token)
    assert rules.decide("; ".join([*others, kept]), None, None) == (first, None)


@given(
    st.one_of(st.none(), any_text, texts.map("_ALGOLIA=".__add__), texts.map("_ALGOLIA=anonymous-".__add__)),
    st.none() | texts,
    st.one_of(st.none(), any_text, addresses, addresses.map("::ffff:".__add__)),
)
def test_what_a_visitor_sends_is_never_an_error(cookies: Any, claim: Any, address: Any) -> None:
    rules = VisitorRules(header="X-Algolia-UserToken", client_ip=True)

    identity, token = rules.decide(cookies, claim, address)

    assert token is None
    if claim is not None and is_token(claim):
        assert identity.user_token == claim
    else:
        found = identity.user_token
        assert found is None or (is_token(found) and found.startswith("anonymous-") and found in cookies)
    assert identity.client_ip is None or identity.client_ip in address


# -- Over HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        yield algolia


@few
@given(tokens, addresses)
def test_a_token_and_a_public_address_arrive_as_they_are(server: LocalAlgolia, token: str, address: str) -> None:
    async def search() -> None:
        async with TokenAwareClient.create_with_config(server.search_config(), forward_client_ip=True) as client:
            await client.search_single_index("products")

    forwarded = address if is_public_client_ip(address) else None  # others say nothing to Algolia
    server.clear()
    with identity_scope(Identity(token, client_ip=address)):
        with TokenAwareClientSync.create_with_config(server.search_config(), forward_client_ip=True) as client:
            client.search_single_index("products")
        asyncio.run(search())

    assert [(search.user_token_header, search.forwarded_for) for search in server.searches] == [(token, forwarded)] * 2
