from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import pytest

from algolia_usertoken.cli import main

COMMAND = [sys.executable, "-m", "algolia_usertoken"]


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def records_file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "records.json"


class TestUsage:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(["--version"])

        assert exit_.value.code == 0
        assert capsys.readouterr().out == "algolia-usertoken 0.1.0\n"

    @pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
    def test_help_tells_the_exit_codes(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)

        assert exit_.value.code == 0
        assert "exit codes:" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--loud"], ["demo", "--records"]])
    def test_wrong_usage(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
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
            ('{"objectID": "1"}\n{"objectID": "2"}\n', "one object per line? It must be one list"),
            ('[{"objectID": "1", "price": NaN}]', "is not JSON: NaN"),
            ("[" * 200_000, "is not JSON"),
            ('{"hits": []}', "must hold a list of records, not an object"),
            ("null", "must hold a list of records, not null"),
            ("3", "must hold a list of records, not a number"),
            ("[]", "the list has no records"),
            ('[{"objectID": "1"}, "2"]', "record 2 is a string, not an object"),
            ('[{"objectID": "1"}, {"name": "Shoe"}]', "record 2 has no objectID"),
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
        assert process.wait(60) == 141

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
    def test_quiet_when_interrupted(self) -> None:
        # Interrupts itself as soon as the visitors are about to start.
        code = (
            "import os, signal, sys; from algolia_usertoken import cli, demo\n"
            "demo.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(30)\n"
            "sys.exit(cli.main(['demo']))"
        )
        start = time.monotonic()
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

        assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
        assert time.monotonic() - start < 25
