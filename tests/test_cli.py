from __future__ import annotations

import argparse
import errno
import io
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken import (
    EventSender,
    MemoryDelivery,
    SQLiteOutbox,
    TokenAwareClientSync,
    identity_scope,
    pseudonymous_user_token,
)
from algolia_usertoken.cli import _parser, main
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.package_contents, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "algolia_usertoken"]


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def records_file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "records.json"


class TestUsage:
    def test_version_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(["--version"])

        assert exit_.value.code == 0
        assert capsys.readouterr().out == "algolia-usertoken 0.1.0\n"

    @pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["serve", "--help"]])
    def test_help_tells_the_exit_codes(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)

        assert exit_.value.code == 0
        assert "exit codes:" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["dance"],
            ["demo", "--loud"],
            ["demo", "--records"],
            ["serve", "--port"],
            ["serve", "--port", "-1"],
            ["serve", "--port", "65536"],
            ["serve", "--port", "²"],
            ["serve", "--port", "http"],
        ],
    )
    def test_wrong_usage_ends_with_2_and_the_usage(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)

        assert exit_.value.code == 2
        assert "usage:" in capsys.readouterr().err


class TestRecordsThatCannotBeUsed:
    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("", "is not JSON: line 1, column 1"),
            ("objectID,name\n1,Shoe\n", "is not JSON: line 1, column 1"),
            ('[{"objectID": "1"},]', "is not JSON: line 1, column "),
            ('{"objectID": "1"}\n{"objectID": "2"}\n', "is one object per line, and it must be one list"),
            ('[{"objectID": "1", "price": NaN}]', "is not JSON: NaN"),
            ("[" * 200_000, "is not JSON"),
            ('{"hits": []}', "must hold a list of records, not an object"),
            ("null", "must hold a list of records, not null"),
            ("3", "must hold a list of records, not a number"),
            ("[]", "the list is empty"),
            ('[{"objectID": "1"}, "2"]', "record 2 must be an object, not a string"),
            ('[{"objectID": "1"}, {"name": "Shoe"}]', "record 2: objectID is missing"),
            ('[{"objectID": null}]', "record 1: objectID must be a string, not null"),
            ('[{"objectID": true}]', "record 1: objectID must be a string, not true or false"),
            ('[{"objectID": ""}]', "record 1: objectID is empty"),
        ],
    )
    def test_one_line_names_the_file_and_what_is_wrong(
        self, content: str, complaint: str, records_file: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        records_file.write_text(content, encoding="utf-8")

        assert main(["demo", "--records", str(records_file)]) == 2

        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"algolia-usertoken: {records_file}: ")
        assert complaint in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("name", "complaint"), [("missing.json", "No such file"), (".", "directory"), ("", "No such file")]
    )
    def test_a_file_that_cannot_be_read(
        self,
        name: str,
        complaint: str,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert main(["demo", "--records", name]) == 2

        err = capsys.readouterr().err
        assert complaint in err
        assert err.count("\n") == 1

    def test_a_path_that_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo", "--records", "a\0b"]) == 2

        assert capsys.readouterr().err == "algolia-usertoken: 'a\\x00b': cannot be read: embedded null byte\n"

    def test_a_file_that_is_no_text(self, records_file: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        records_file.write_bytes(b'[{"objectID": "\xff"}]')

        assert main(["demo", "--records", str(records_file)]) == 2

        assert "is not UTF-8 text (byte 15)" in capsys.readouterr().err


@pytest.mark.slow
class TestAsAProcess:
    def test_ends_with_the_code_of_its_command(self, records_file: pathlib.Path) -> None:
        result = run_command("demo", "--records", str(records_file))

        assert (result.returncode, result.stdout) == (2, "")
        assert "Traceback" not in result.stderr

    def test_quiet_when_nobody_reads_on(self) -> None:
        process = subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 141

    @pytest.mark.skipif(os.name == "nt", reason="a shell of its own")
    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            ("token anonymous >&-", 0, ""),
            ("token validate @ 2>&- >&-", 1, ""),
            ("token pseudonymous 1 --secret-file . 2>&-", 2, ""),
            (
                "token validate - <&-",
                2,
                "algolia-usertoken: the input is closed: no tokens can be read\n",
            ),
        ],
    )
    def test_ends_without_a_traceback_where_its_streams_are_closed(self, arguments: str, code: int, said: str) -> None:
        command = f"{shlex.join(COMMAND)} {arguments}"
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False)

        assert (done.returncode, done.stdout, done.stderr) == (code, "", said)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
    @pytest.mark.parametrize("arguments", [["token", "anonymous"], ["--version"], ["check", "--help"]])
    def test_says_that_the_disk_is_full(self, arguments: list[str]) -> None:
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*COMMAND, *arguments],
                env={**os.environ, "PYTHONUNBUFFERED": ""},  # with it, argparse hides the error itself
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=False,
            )

        assert (done.returncode, done.stderr) == (2, f"algolia-usertoken: {os.strerror(errno.ENOSPC)}\n")

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
    def test_ends_without_a_traceback_when_it_is_interrupted(self) -> None:
        # Interrupts itself as soon as the visitors are about to start.
        code = (
            "import os, signal, sys; from algolia_usertoken import cli, demo\n"
            "demo.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(3600)\n"
            "sys.exit(cli.main(['demo']))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)

        assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """`algolia-usertoken serve` on a free port, and what it printed."""
    processes = []

    def serve(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("Ctrl-C ends it.\n"):
            line = process.stdout.readline()
            assert line, process.communicate()
            printed += line
        return process, printed

    yield serve
    for process in processes:
        process.kill()
        process.communicate()


def follow(printed: str, client: str = "TokenAwareClientSync") -> Any:
    """The client that the printed lines make."""
    lines = textwrap.dedent(printed.partition("Lead a Python client here:\n\n")[2].partition("\n\n")[0])
    names: dict[str, Any] = {}
    exec(lines.replace("TokenAwareClientSync", client), names)
    return names["client"]


@pytest.mark.slow
class TestServe:
    def test_the_lines_that_it_prints_lead_a_client_there(self, serve: Any) -> None:
        _, printed = serve()

        with follow(printed) as client:
            found = client.search_single_index("products", {"query": "shoe", "userToken": "user-1"})
            client.with_identity("user-1").events.viewed_object_ids("Seen", "products", ["1"])
            client.events.flush()
            url = re.search(r"http://127\.0\.0\.1:\d+/", printed)[0]
            with urllib.request.urlopen(f"{url}inspector/state", timeout=PATIENCE) as answer:
                state = answer.read().decode()

        assert found.nb_hits > 0
        assert '"user": "user-1"' in state
        assert '"searches": 1, "events": 1' in state

    async def test_the_lines_that_it_prints_lead_an_async_client_there(self, serve: Any) -> None:
        _, printed = serve()

        async with follow(printed, "TokenAwareClient") as client:
            found = await client.search_single_index("products", {"query": "shoe"})

        assert found.nb_hits > 0

    def test_the_variables_that_it_prints_lead_an_application_there_that_reads_them_as_the_docs_show(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, printed = serve()
        for name, value in re.findall(r"\b(ALGOLIA_\w+)=(\S+)", printed):
            monkeypatch.setenv(name, value)
        page = (pathlib.Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
        section = page.partition("## Connecting an application\n")[2]
        names: dict[str, Any] = {}
        exec(section.partition("```python\n")[2].partition("```")[0], names)

        with names["make_client"](TokenAwareClientSync) as client:
            found = client.search_single_index("products", {"query": "shoe"})

        assert found.nb_hits > 0

    def test_the_host_that_it_prints_is_taken_by_the_other_commands(self, serve: Any) -> None:
        _, printed = serve()
        (host,) = re.findall(r"--host (\S+)\.\n", printed)

        assert main(["erase", "user-1", "--host", host]) == 0

    def test_a_host_is_allowed_by_name(self, serve: Any) -> None:
        _, printed = serve("--allow-host", "shop.test", "--allow-host", "b.test")
        url = re.search(r"http://127\.0\.0\.1:\d+/", printed)[0]
        request = urllib.request.Request(f"{url}inspector/state", headers={"Host": "shop.test"})

        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert answer.status == 200

    def test_the_inspector_is_at_the_address_that_it_prints(self, serve: Any) -> None:
        _, printed = serve()
        request = urllib.request.Request(printed.split(" ", 1)[0], headers={"Accept": "text/html"})

        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            page = answer.read().decode()

        assert "Who does Algolia think they are?" in page

    def test_own_records_in_an_index_of_any_name(self, serve: Any, records_file: pathlib.Path) -> None:
        records_file.write_text('[{"objectID": "1", "name": "Lamp"}]', encoding="utf-8")

        _, printed = serve("--records", str(records_file), "--index", "my lamps")

        assert "my lamps (1 record)" in printed
        with follow(printed) as client:
            assert client.search_single_index("my lamps", {"query": "lamp"}).nb_hits == 1

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals to send")
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
    def test_a_signal_ends_it_quietly(self, number: int, code: int, serve: Any) -> None:
        process, printed = serve()
        client = follow(printed)
        client.search_single_index("products", {"query": "shoe"})  # its connection stays open

        process.send_signal(number)

        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == code
        client.close()

    def test_a_port_that_is_taken(self, capsys: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            assert main(["serve", "--port", str(port)]) == 2

        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"algolia-usertoken: cannot listen on 127.0.0.1 port {port}: {os.strerror(errno.EADDRINUSE)}\n"
        assert signal.getsignal(signal.SIGTERM) is before

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--records", "missing.json"], "missing.json: cannot be read: No such file"),
            (["--index", ""], "--index is empty: it must be the name of an index"),
            (["--allow-host", "http://shop.test"], "allowed_hosts must be names of hosts"),
        ],
    )
    def test_serve_says_what_it_cannot_serve(
        self, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["serve", "--port", "0", *arguments]) == 2

        out, err = capsys.readouterr()
        assert out == ""
        assert complaint in err
        assert err.count("\n") == 1

    def test_the_default_port_of_serve_is_that_of_the_docs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.setattr(LocalAlgolia, "start", lambda self: asked.append(self.port) or os.kill(os.getpid(), 2))

        assert main(["serve"]) == 130

        assert asked == [8108]


class TestToken:
    def test_anonymous_prints_a_new_token(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["token", "anonymous"]) == 0
        assert re.fullmatch(r"anonymous-[0-9a-f-]{36}\n", capsys.readouterr().out)

    def test_pseudonymous_prints_the_token_that_python_makes(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
    ) -> None:
        file = tmp_path / "secret"
        file.write_text("the secret\n", encoding="utf-8")
        expected = pseudonymous_user_token("jane@example.com", secret="the secret", prefix="u-")

        assert main(["token", "pseudonymous", "jane@example.com", "--prefix", "u-", "--secret-file", str(file)]) == 0
        assert capsys.readouterr().out == f"{expected}\n"

        monkeypatch.setenv("ALGOLIA_USERTOKEN_SECRET", "the secret")
        assert main(["token", "pseudonymous", "jane@example.com", "--prefix", "u-"]) == 0
        assert capsys.readouterr().out == f"{expected}\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["1"], "the secret is missing: set ALGOLIA_USERTOKEN_SECRET, or give --secret-file"),
            (["1", "--secret-file", "no such file"], "--secret-file cannot be read: No such file or directory"),
            (["1", "--secret-file", "a\0b"], "--secret-file cannot be read: embedded null byte"),
            (
                ["1", "--secret-file", os.devnull],
                "the secret is missing: set ALGOLIA_USERTOKEN_SECRET, or give --secret-file",
            ),
            (["", "--secret-file", __file__], "user_id "),
            (["1", "--prefix", "user@", "--secret-file", __file__], "prefix "),
        ],
    )
    def test_pseudonymous_of_what_cannot_be(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ALGOLIA_USERTOKEN_SECRET", raising=False)

        assert main(["token", "pseudonymous", *arguments]) == 2
        assert capsys.readouterr().err.startswith(f"algolia-usertoken: {said}")

    def test_validate_says_of_each_argument_what_is_wrong(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["token", "validate", "user-1", "--", "-1"]) == 0
        assert capsys.readouterr().out == "valid    user-1\nvalid    -1\n"

        assert main(["token", "validate", "user-1", "jane@example.com", "", "\udcff"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line[0] != " "] == ["valid", "invalid", "invalid", "invalid"]
        assert lines[1].startswith("invalid  argument 2: user token (16 characters) has '@' at position 5")

    def test_validate_the_lines_of_the_input(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("user-1\nuser 2\r\nuser-3"))

        assert main(["token", "validate", "-"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line[0] != " "] == ["valid", "invalid", "valid"]
        assert lines[1].startswith("invalid  line 2: ")

    def test_an_input_that_is_no_text(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "algolia_usertoken", "token", "validate", "-"],
            input=b"user-1\n\xff\n",
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 1
        assert b"valid    user-1\ninvalid  " in done.stdout
        assert done.stderr == b""


def commands(parser: argparse.ArgumentParser, *path: str) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """The command line itself, each command of it, and the commands of those, with their parsers."""
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from commands(command, *path, name)


COMMANDS = dict(commands(_parser()))
each_command = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "algolia-usertoken")


def test_the_commands_are_all_there() -> None:
    assert {("demo",), ("serve",), ("check",), ("token", "validate"), ("outbox", "drain")} <= set(COMMANDS)


@each_command
def test_help_fits_80_columns_and_names_the_exit_codes(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        main([*path, "--help"])

    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert "exit codes:" in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()  # for every terminal


@each_command
def test_no_option_can_be_abbreviated(path: tuple[str, ...]) -> None:
    parser = COMMANDS[path]
    for option in parser._option_string_actions:
        if option.startswith("--"):
            for end in range(len("--x"), len(option)):
                assert option[:end] in parser._option_string_actions or not parser._get_option_tuples(option[:end])
    assert parser.allow_abbrev is False


def test_a_secret_is_not_taken_for_the_name_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--secret", "hush"], ["--secret=hush"], ["--pre", "x"]):
        with pytest.raises(SystemExit) as exit_:
            main(["token", "pseudonymous", "1", *given])

        assert exit_.value.code == 2
        err = capsys.readouterr().err
        assert "unrecognized arguments: " + given[0].partition("=")[0] in err
        assert "hush" not in err


class TestOutputFits80Columns:
    @staticmethod
    def widest(text: str) -> int:
        return max(map(len, text.splitlines()))

    def test_of_the_demo_also_where_something_is_wrong(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert main(["demo"]) == 0
        assert self.widest(capsys.readouterr().out) <= 80

        monkeypatch.setattr("algolia_usertoken.demo.visitors.set_authenticated_user_token", lambda token: None)
        monkeypatch.setattr("algolia_usertoken.demo.visitors.identity_scope", lambda identity: identity_scope("all"))
        assert main(["demo"]) == 1
        text = capsys.readouterr().out
        assert self.widest(text) <= 80
        assert "\nlogs in half-way (sync): 10 searches under a wrong token, " in text

    def test_of_a_served_stand_in(self, serve: Any) -> None:
        assert self.widest(serve()[1]) <= 80

    def test_of_tokens_that_are_not_valid(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["token", "validate", "jane@example.com", "x" * 200, "", "user-1"]) == 1
        text = capsys.readouterr().out
        assert self.widest(text) <= 80
        assert text.count("\ninvalid") == 2

    def test_of_events_that_a_stand_in_refused(
        self, algolia: LocalAlgolia, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "events.db"
        delivery = MemoryDelivery()
        delivery.hang()
        events = EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u-1", background=False)
        events.viewed_object_ids("Seen", "products", ["1"])
        main(["outbox", "status", str(path)])
        del events

        assert self.widest(capsys.readouterr().out) <= 80
