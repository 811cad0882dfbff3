from __future__ import annotations

import copy
import dataclasses
import hmac
import pickle
import random
import string
from types import SimpleNamespace
from typing import Any

import pytest

from algolia_usertoken import (
    HitReference,
    Identity,
    InvalidReferenceError,
    InvalidUserTokenError,
    anonymous_user_token,
    pseudonymous_user_token,
)
from algolia_usertoken.events.hits import reference as reference_module

pytestmark = pytest.mark.oldest_versions

QUERY_ID = "0123456789abcdef" * 2
SECRET = "a secret of the shop"
URL_SAFE = string.ascii_letters + string.digits + "-_"
NOW = 1_800_000_000


class Clock:
    """What the time is for references, in seconds since the epoch."""

    def __init__(self) -> None:
        self.now: float = NOW

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reference_module, "time", SimpleNamespace(time=clock.time))
    return clock


def reference(**changes: Any) -> HitReference:
    fields = {"query_id": QUERY_ID, "index_name": "products", "object_id": "1234", "position": 21, "user_token": "u-1"}
    return HitReference(**{**fields, **changes})


# -- What a reference is -----------------------------------------------------------------------------------------------


def test_a_reference_holds_the_hit_and_its_search() -> None:
    hit = HitReference(QUERY_ID, "products", "1234", 21, user_token="u-1")

    assert (hit.query_id, hit.index_name, hit.object_id, hit.position) == (QUERY_ID, "products", "1234", 21)
    assert HitReference(None, "products", "1234").position is None


def test_whose_a_reference_is_is_neither_shown_nor_compared() -> None:
    mine, theirs = reference(user_token="u-mine"), reference(user_token="u-theirs")

    assert mine == theirs
    assert hash(mine) == hash(theirs)
    for one in (mine, HitReference.verify(mine.sign(SECRET), SECRET)):
        shown = f"HitReference(query_id='{QUERY_ID}', index_name='products', object_id='1234', position=21)"
        assert repr(one) == shown
    assert len({mine, *(reference(**{name: "x"}) for name in ("query_id", "index_name", "object_id"))}) == 4
    assert mine != reference(position=22)


def test_a_reference_is_frozen_and_has_slots() -> None:
    hit = reference()
    with pytest.raises(dataclasses.FrozenInstanceError):
        hit.position = 1  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        hit.more = 1  # type: ignore[attr-defined]
    assert not hasattr(hit, "__dict__")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"query_id": 7}, TypeError, "query_id must be a string, not int"),
        ({"query_id": ""}, ValueError, "query_id is empty"),
        ({"index_name": None}, TypeError, "index_name must be a string, not NoneType"),
        ({"index_name": ""}, ValueError, "index_name is empty"),
        ({"object_id": 1234}, TypeError, "object_id must be a string, not int"),
        ({"object_id": ""}, ValueError, "object_id is empty"),
        ({"position": "1"}, TypeError, "position must be a whole number, not str"),
        ({"position": True}, TypeError, "position must be a whole number, not bool"),
        ({"position": 1.0}, TypeError, "position must be a whole number, not float"),
        ({"position": 0}, ValueError, "position must be at least 1, not 0"),
        ({"user_token": "jane@example.com"}, InvalidUserTokenError, r"user_token \(16 characters\) has '@'"),
        ({"user_token": Identity("u-1")}, InvalidUserTokenError, "user_token must be a string, not Identity"),
    ],
)
def test_the_arguments_of_a_reference_are_checked(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        reference(**wrong)


@pytest.mark.parametrize("signed", [False, True])
def test_made_for_compares_with_the_visitor_who_searched(signed: bool) -> None:
    def made(**fields: Any) -> HitReference:
        return HitReference.verify(reference(**fields).sign(SECRET), SECRET) if signed else reference(**fields)

    mine, nobodys = made(user_token="u-1"), made(user_token=None)

    for me in ("u-1", Identity("u-1"), Identity("u-1", "login"), Identity(authenticated_user_token="u-1")):
        assert mine.made_for(me) is True
        assert nobodys.made_for(me) is False
    for other in ("u-2", "U-1", "u-11", Identity("u-2", "u-1"), Identity(None, "u-2")):
        assert mine.made_for(other) is False
    for nobody in (None, Identity(), Identity(client_ip="192.0.2.7"), Identity("u-1", opted_out=True)):
        assert mine.made_for(nobody) is False
        assert nobodys.made_for(nobody) is True
    for wrong in (7, "not a token", b"u-1"):
        with pytest.raises(InvalidUserTokenError):
            mine.made_for(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_reference_can_be_kept_in_a_cache_or_a_session(again: Any) -> None:
    for one in (reference(), HitReference.verify(reference().sign(SECRET), SECRET)):
        kept = again(one)

        assert kept == one
        assert kept.made_for("u-1")
        assert not kept.made_for("u-2")
        assert kept.sign(SECRET)


def test_a_copy_with_other_fields_is_made_for_nobody() -> None:
    moved = dataclasses.replace(reference(), position=3)

    assert moved == reference(position=3)
    assert moved.made_for(None)


# -- Signed and verified -----------------------------------------------------------------------------------------------

QUERY_IDS = [None, QUERY_ID, "message_3f2a", "message_" + "~" * 120, QUERY_ID.upper(), "é", "0" * 31]
NAMES = ["1234", " ", "0", "prod/é?&=#%", "\x00\n\udcff\ud800", "商品🛍", "a" * 127, "a" * 128, "x" * 5000]
POSITIONS = [None, 1, 127, 128, 1000, 10**12]


@pytest.mark.parametrize("query_id", QUERY_IDS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("user_token", [None, "u", "t" * 128])
def test_a_signed_reference_comes_back_equal(
    query_id: str | None, position: int | None, user_token: str | None
) -> None:
    for name in NAMES:
        for index_name, object_id in ((name, "1234"), ("products", name), (name, name)):
            hit = HitReference(query_id, index_name, object_id, position, user_token=user_token)
            text = hit.sign(SECRET)
            back = HitReference.verify(text, SECRET)

            assert back == hit
            assert type(back) is HitReference
            assert back.made_for(user_token)
            assert not back.made_for("somebody-else")
            assert set(text) <= set(URL_SAFE)


def test_the_text_is_short() -> None:
    hit = reference(user_token=anonymous_user_token())

    assert len(hit.sign(SECRET)) == 81
    assert len(reference(query_id=None, user_token=None).sign(SECRET)) < 60
    assert len(reference(position=None, object_id="p" * 36).sign(SECRET)) < 130


def test_the_text_stays_readable_for_later_versions(clock: Clock) -> None:
    text = "1a0nSAAHALkvuETPr9gEBI0VniavN7wEjRWeJq83vCHByb2R1Y3RzFTEyMzRG-ibCkkMmjziXRYluJqdA"

    assert reference().sign(SECRET) == text
    assert HitReference.verify(text, SECRET) == reference()
    assert HitReference.verify(text, SECRET).made_for("u-1")


def test_a_secret_may_be_text_or_bytes() -> None:
    assert HitReference.verify(reference().sign("ключ"), "ключ".encode()) == reference()
    assert HitReference.verify(reference().sign(b"\xff\x00"), b"\xff\x00") == reference()


@pytest.mark.parametrize(
    ("secret", "error", "message"),
    [
        ("", ValueError, "secret is empty: without a secret anybody could sign references"),
        (b"", ValueError, "secret is empty"),
        (None, TypeError, "secret must be a string or bytes, not NoneType"),
        (7, TypeError, "secret must be a string or bytes, not int"),
    ],
)
def test_a_secret_that_is_none_is_refused(secret: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reference().sign(secret)
    with pytest.raises(error, match=message):
        HitReference.verify(reference().sign(SECRET), secret)


@pytest.mark.parametrize("object_id", ["1", "12", "123"])  # so that base64 ends in each of its three ways
@pytest.mark.parametrize("user_token", ["u-1", None])
def test_no_character_can_be_changed(object_id: str, user_token: str | None) -> None:
    text = reference(object_id=object_id, user_token=user_token).sign(SECRET)
    for at, character in enumerate(text):
        for other in URL_SAFE + "+/= .\n%é":
            if other != character:
                with pytest.raises(InvalidReferenceError):
                    HitReference.verify(text[:at] + other + text[at + 1 :], SECRET)


def test_nothing_can_be_left_out_added_or_swapped() -> None:
    text = reference().sign(SECRET)
    other = reference(object_id="5678").sign(SECRET)
    changed = [text[:at] + text[at + 1 :] for at in range(len(text))]
    changed += [text[:at] + more + text[at:] for at in range(len(text) + 1) for more in ("A", "=", "\n", " ", "!")]
    changed += [text[:at] + other[at:] for at in range(1, len(text)) if text[:at] + other[at:] not in (text, other)]
    changed += [text * 2, text.lower(), text[::-1], text.encode().hex()]
    for one in changed:
        with pytest.raises(InvalidReferenceError):
            HitReference.verify(one, SECRET)


def test_a_reference_signed_with_another_secret_is_refused() -> None:
    for signed_with, secret in ((SECRET, SECRET + "!"), ("a", "b"), (SECRET, SECRET.upper())):
        with pytest.raises(InvalidReferenceError, match="the signature does not match"):
            HitReference.verify(reference().sign(signed_with), secret)


def test_garbage_is_no_reference() -> None:
    chance = random.Random(7)
    garbage: list[Any] = [None, "", "1", 7, 1.5, b"", reference().sign(SECRET).encode(), [], object(), reference()]
    garbage += ["1" + "A" * length for length in range(100)]
    garbage += ["\ud800" * 50, "é" * 50, "1" + "١" * 50, "1" * 1_000_000, "\x00" * 50, "1" + "=" * 50]
    for _ in range(2000):
        alphabet = chance.choice([URL_SAFE, string.printable, "1A-_", "0123456789abcdef\u2028é\ud800"])
        garbage.append("".join(chance.choices(alphabet, k=chance.randrange(120))))
    for one in garbage:
        with pytest.raises(InvalidReferenceError):
            HitReference.verify(one, SECRET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the reference is missing: it must be a text that sign"),
        (7, "the reference must be a text that sign.. made, not int"),
        ("", "the text is no reference: sign.. has not made it"),
        (QUERY_ID[:20], "the text is no reference: sign.. has not made it"),
        ("2" + "A" * 80, "the reference has version 2: this package reads and makes version 1"),
        ("9" + "A" * 80, "the reference has version 9: this package reads and makes version 1"),
        ("1" + "A" * 77, "the text is no reference: sign.. has not made it"),  # no base64 has that length
        ("1" + "A" * 80, "the signature does not match"),
    ],
)
def test_the_error_says_what_is_wrong(text: Any, message: str) -> None:
    with pytest.raises(InvalidReferenceError, match=f"^{message}"):
        HitReference.verify(text, SECRET)


def test_a_text_of_another_version_is_not_read_as_this_one() -> None:
    text = reference().sign(SECRET)
    with pytest.raises(InvalidReferenceError, match="version 2"):
        HitReference.verify("2" + text[1:], SECRET)


def test_thirty_days_are_the_limit_unless_said_otherwise(clock: Clock) -> None:
    clock.now = NOW + 0.9
    text = reference().sign(SECRET)
    for age in (0, 1, 30 * 24 * 60 * 60):
        clock.now = NOW + age
        assert HitReference.verify(text, SECRET) == reference()
    clock.now += 1
    with pytest.raises(
        InvalidReferenceError,
        match=r"^the reference is too old: .* 2592001 seconds ago, and max_age is 2592000 seconds$",
    ):
        HitReference.verify(text, SECRET)
    assert HitReference.verify(text, SECRET, max_age=2592001) == reference()
    assert HitReference.verify(text, SECRET, max_age=float("inf")) == reference()
    assert HitReference.verify(text, SECRET, max_age=None) == reference()

    clock.now = NOW + 1
    assert HitReference.verify(text, SECRET, max_age=1.5) == reference()
    with pytest.raises(InvalidReferenceError, match="too old"):
        HitReference.verify(text, SECRET, max_age=0)


def test_the_signature_is_looked_at_before_the_age(clock: Clock) -> None:
    text = reference().sign(SECRET)
    clock.now += 10**8
    with pytest.raises(InvalidReferenceError, match="signature"):
        HitReference.verify(text, "another")


def test_clocks_may_differ_by_a_minute(clock: Clock) -> None:
    text = reference().sign(SECRET)
    clock.now = NOW - 60
    assert HitReference.verify(text, SECRET, max_age=0) == reference()
    clock.now = NOW - 61
    for max_age in (None, 10.0):
        with pytest.raises(InvalidReferenceError, match=r"^the reference is from the future: .* 61 seconds from now"):
            HitReference.verify(text, SECRET, max_age=max_age)


@pytest.mark.parametrize(
    ("max_age", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("60", TypeError), (True, TypeError), (b"", TypeError)],
)
def test_a_max_age_that_is_no_number_of_seconds_is_refused(max_age: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^max_age must be"):
        HitReference.verify(reference().sign(SECRET), SECRET, max_age=max_age)


# -- What a signed text gives away -------------------------------------------------------------------------------------


def test_a_signed_reference_does_not_tell_whose_search_it_was() -> None:
    token = "anonymous-5c3f8f2e"
    data = reference_module._from_base64(reference(user_token=token).sign(SECRET)[1:])

    assert token.encode() not in data
    # Neither that two links are one user's, nor, without the secret, whether they are of somebody known.
    digests = {
        reference_module._from_base64(reference(user_token=token, **other).sign(SECRET)[1:])[5:13]
        for other in ({}, {"object_id": "1"}, {"position": 1}, {"query_id": "message_1"}, {"index_name": "other"})
    }
    digests.add(reference_module._from_base64(reference(user_token=token).sign("another secret")[1:])[5:13])
    assert len(digests) == 6


def test_a_verified_reference_can_be_signed_again(clock: Clock) -> None:
    text = reference().sign(SECRET)
    clock.now += 60
    verified = HitReference.verify(text, SECRET)

    again = HitReference.verify(verified.sign(SECRET.encode()), SECRET, max_age=0)
    assert again == reference()
    assert again.made_for("u-1")
    assert not again.made_for("u-2")
    with pytest.raises(ValueError, match="secret is not the one that this reference was verified with"):
        verified.sign("another")
    nobodys = HitReference.verify(reference(user_token=None).sign(SECRET), SECRET)
    assert HitReference.verify(nobodys.sign("another"), "another").made_for(None)


def test_no_user_can_choose_an_id_that_gives_away_a_key() -> None:
    # A shop may make pseudonyms with the same secret; each is an HMAC of what may be the visitor's choice.
    for label in (reference_module._SIGNING_KEY, reference_module._DIGEST_KEY):
        for errors in ("strict", "surrogatepass"):
            with pytest.raises(UnicodeDecodeError):
                label.decode("utf-8", errors)
    assert reference_module._SIGNING_KEY != reference_module._DIGEST_KEY
    assert pseudonymous_user_token("7", secret=SECRET, prefix="") == reference_module._to_base64(
        hmac.digest(SECRET.encode(), b"7", "sha256")
    )
