from __future__ import annotations

import io

import pytest

from detdistill.core.console import print_err, print_out


def test_results_are_printed_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_out("\x1b[2J\u202eé\n2", end="")
    print_out()
    assert capsys.readouterr().out == "\\x1b[2J\\u202eé\n2\n"


def test_a_name_cannot_begin_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    print_err("note: the file a\nerror: b\n  c\rd")
    assert capsys.readouterr().err == "note: the file a\n  error: b\n  c\\rd\n"


def test_messages_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    print_err("x\n" * 1_000_000)
    print_err("x" * 1_000_000)
    assert len(capsys.readouterr().err) < 5_000


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_an_output_cannot_encode_is_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    print_out("кошка \ud800")
    text = raw.getvalue().decode(encoding)
    assert text.strip() == ("кошка" if encoding == "utf-8" else "\\u043a\\u043e\\u0448\\u043a\\u0430") + " \\ud800"
