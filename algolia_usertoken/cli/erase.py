"""algolia-usertoken erase"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import InvalidUserTokenError, OutboxError, kind_of
from .common import (
    APPLICATION,
    add_application,
    add_command,
    application,
    counted,
    finding_as_text,
    insights_config,
    lead,
    printable,
    progress,
    refuse,
)

_COLOURS = {"done": "32", "failed": "31", "yours": "33"}
_PROFILES = {"us": "us", "de": "eu"}  # for each region of Insights the region of Personalization
_MORE = f"""\
{APPLICATION}\
  ALGOLIA_REGION      the region, if --region is not given

examples:
  algolia-usertoken erase anonymous-5c3f8f2e user-1234 --region de
  algolia-usertoken erase - --outbox events.db < tokens

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "erase",
        help="erase the data of users: events, profiles, events that wait on disk",
        description="Erases the data that is kept under user tokens: first the events that wait in an outbox and in "
        "dead letters, then, at Algolia, the events, the profile of Personalization and the conversations of Agent "
        "Studio. For each place it prints what it did, and at the end what only you or Algolia's support can do. Give "
        "all tokens that the user had: that of the cookie and that of the login. You may run it again at any time.",
        more=_MORE,
    )
    parser.add_argument(
        "tokens",
        nargs="+",
        metavar="TOKEN",
        help="a token; or -, to read tokens from the standard input, one per line: other users of the machine can see "
        "arguments, but not the input",
    )
    parser.add_argument(
        "--outbox",
        action="append",
        default=[],
        metavar="FILE",
        help="the path of an SQLiteOutbox; may be given several times",
    )
    parser.add_argument(
        "--dead-letters",
        action="append",
        default=[],
        metavar="FILE",
        help="the path of DeadLetters; may be given several times",
    )
    add_application(
        parser,
        key="a key with the ACLs `deleteObject`, `recommendation` (for profiles) and `logs` (for Agent Studio)",
        host_is="a LocalAlgolia to erase in instead of Algolia",
    )
    parser.set_defaults(run=run)


class _Step(NamedTuple):
    """The result for one place. Its state is "done", "failed", or "yours": the command can't do it, the user must."""

    state: str
    place: str
    said: str
    remedy: str = ""


def run(arguments: argparse.Namespace) -> int:
    try:
        given = application(arguments, "app_id", "api_key")
        tokens = list(_tokens(arguments.tokens))
    except ValueError as error:
        return refuse(error)
    failed = 0
    with progress() as say:
        for step in _steps(arguments, given, tokens, say):
            say("")
            failed += step.state == "failed"
            print(
                finding_as_text(_COLOURS[step.state], step.state, step.place, printable(step.said), step.remedy),
                flush=True,
            )
    print(
        f"\n{failed} failed: follow the advice there, and run the command again."
        if failed
        else "\nThis command has done all that it can do."
    )
    return 1 if failed else 0


def _tokens(given: list[str]) -> Iterator[str]:
    """The tokens, each once.

    Raises:
        ValueError: A token is empty, or there are no tokens.
    """
    tokens: dict[str, None] = {}
    for number, one in enumerate(given, start=1):
        if one != "-":
            named = [(f"argument {number}", one)]
        elif sys.stdin is None:
            raise ValueError("there is no input to read tokens from")
        else:
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")
            lines = enumerate(sys.stdin, start=1)
            named = [(f"line {line}", text.strip()) for line, text in lines if text.strip()]
        for name, token in named:
            if not token.strip():
                raise ValueError(f"{name} is empty")
            tokens[token] = None
    if not tokens:
        raise ValueError("the input has no token")
    return iter(tokens)


def _steps(arguments: argparse.Namespace, given: dict[str, str | None], tokens: list[str], say: Any) -> Iterator[_Step]:
    # Events on disk are erased first; otherwise they could arrive at Algolia after the rest is erased.
    for path in arguments.outbox:
        yield _outbox(path, tokens)
    for path in arguments.dead_letters:
        yield _dead_letters(path, tokens)
    valid = [token for token in tokens if _is_valid(token)]
    if len(valid) < len(tokens):
        said = f"{counted(len(tokens) - len(valid), 'token is', 'tokens are')} not valid for Algolia"
        yield _Step("done", "tokens", f"{said}, so nothing is kept there under them.")
    if valid:
        yield from _at_algolia(arguments, given, valid, say)
    yield from _YOURS


def _outbox(path: str, tokens: list[str]) -> _Step:
    try:
        from ..events.erasing import erase
    except ImportError:  # pragma: no cover - a Python without sqlite3
        return _Step("failed", "outbox", f"{path}: this Python has no sqlite3.")
    try:
        erased = erase(path, tokens)
    except OutboxError as error:
        return _Step("failed", "outbox", f"{error}.")
    said = f"{path}: {counted(erased.removed)} removed."
    if not erased.of_the_living:
        return _Step("done", "outbox", said)
    verb = "stays" if erased.of_the_living == 1 else "stay"
    return _Step(
        "failed",
        "outbox",
        f"{said} {counted(erased.of_the_living)} {verb}: a running process delivers them.",
        "Wait until they are delivered (`algolia-usertoken outbox status`), or end the process.",
    )


def _dead_letters(path: str, tokens: list[str]) -> _Step:
    from ..dead_letters import erase

    try:
        erased = erase(path, tokens)
    except (OSError, ValueError) as error:
        return _Step(
            "failed", "letters", f"{path}: {getattr(error, 'strerror', None) or 'a file cannot have this name'}."
        )
    said = f"{path}: {counted(erased.removed, 'letter', 'letters')} removed."
    if not erased.unreadable:
        return _Step("done", "letters", said)
    said += f" {counted(erased.unreadable, 'line is', 'lines are')} not JSON, and may have data of the user."
    return _Step("failed", "letters", said, "Look at them, and remove them from the file.")


def _at_algolia(
    arguments: argparse.Namespace, given: dict[str, str | None], tokens: list[str], say: Any
) -> Iterator[_Step]:
    from algoliasearch.insights.client import InsightsClientSync
    from algoliasearch.personalization.client import PersonalizationClientSync
    from algoliasearch.personalization.config import PersonalizationConfig

    app_id, api_key, region = given["app_id"], given["api_key"], given["region"]
    with InsightsClientSync.create_with_config(insights_config(arguments, given)) as insights:
        yield _deleted(
            "events",
            tokens,
            insights.delete_user_token_with_http_info,
            "the events of {} will be gone within 48 hours",
            "deleteObject",
            say,
        )
    of_regions = []
    for of_profiles in (_PROFILES[region],) if region else ("us",) if arguments.host else ("us", "eu"):
        config = PersonalizationConfig(app_id, api_key, of_profiles)
        lead(config, arguments)
        with PersonalizationClientSync.create_with_config(config) as profiles:
            of_regions.append(
                _deleted(
                    "profile",
                    tokens,
                    profiles.delete_user_profile_with_http_info,
                    f"the profiles of {{}} in the region {of_profiles} are erased",
                    "recommendation",
                    say,
                )
            )
    yield from _of_one_region(of_regions)
    try:
        from algoliasearch.agent_studio.client import AgentStudioClientSync
        from algoliasearch.agent_studio.config import AgentStudioConfig
    except ImportError:  # this version of algoliasearch has no Agent Studio client
        yield _Step(
            "yours",
            "agents",
            "Agent Studio: this algoliasearch has no client for it.",
            "If you use it, install the newest algoliasearch, and run this again.",
        )
        return
    of_agents = AgentStudioConfig(app_id, api_key)
    lead(of_agents, arguments)
    with AgentStudioClientSync.create_with_config(of_agents) as agents:
        yield _deleted(
            "agents",
            tokens,
            agents.delete_user_data_with_http_info,
            "what Agent Studio has of {} is erased: conversations, messages, memories",
            "logs",
            say,
        )


def _of_one_region(steps: list[_Step]) -> list[_Step]:
    """Forgive the failure of one region if the other has answered: an application is in one region only."""
    if not any(step.state == "done" for step in steps):
        return steps
    remedy = "This is expected if the application is in the other region. With --region, only one is asked."
    return [step if step.state == "done" else step._replace(state="yours", remedy=remedy) for step in steps]


def _deleted(place: str, tokens: list[str], delete: Callable[[str], Any], said: str, acl: str, say: Any) -> _Step:
    """Delete what one place keeps of each user; stop at the first failure."""
    from algoliasearch.http.exceptions import RequestException

    known = 0
    for number, token in enumerate(tokens):
        say(f"{place}: {number:,} of {len(tokens):,} users")
        try:
            delete(token)
            known += 1
            continue
        except RequestException as error:
            status = error.status_code
            answer = f"Algolia has answered {status}"
        except Exception as error:  # raised by requests or urllib3
            status, answer = None, f"Algolia can't be reached ({kind_of(error)})"
        if status == 404:  # Algolia knows nothing of this user, or the application does not use this feature
            continue
        done = f" Before that, {counted(number, 'user', 'users')} succeeded." if number else ""
        what = f"Not erased: {answer}.{done}"
        if status in (401, 403):
            return _Step("failed", place, what, f"The key must be one of this application, with the ACL `{acl}`.")
        return _Step("failed", place, what, "Run it again.")
    said = (
        said.format(counted(known, "user", "users"))
        if known
        else f"no data of {counted(len(tokens), 'user', 'users')} is kept there"
    )
    return _Step("done", place, f"{said[0].upper()}{said[1:]}.")


_ASK = "Ask Algolia's support (https://support.algolia.com), with the application's id and the tokens."
_YOURS = (
    _Step("yours", "queued", "Events that a running process has in memory: flush its sender, then run this again."),
    _Step("yours", "searches", "Searches that were counted under the tokens: there is no request to erase them.", _ASK),
    _Step("yours", "logs", "Algolia's logs keep requests for seven days. Then Algolia deletes them."),
    _Step(
        "yours",
        "models",
        "Recommend keeps no profiles. No request removes a user from its models, but Algolia trains them again, on the "
        "events that remain.",
        _ASK,
    ),
    _Step(
        "yours",
        "advanced",
        "Advanced Personalization has profiles of its own, and algoliasearch has no client for it.",
        _ASK,
    ),
    _Step("yours", "browser", "The cookie _ALGOLIA, and what your own database, sessions, logs and backups hold."),
)


def _is_valid(token: str) -> bool:
    from .. import validate_user_token

    try:
        validate_user_token(token)
    except InvalidUserTokenError:
        return False
    return True
