"""What ``ibllm serve`` refuses before it listens, and what it warns of."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_serve import command


def test_what_is_no_run_is_refused(capsys, tmp_path):
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_an_address_that_is_taken_is_named(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        assert main(["serve", str(tmp_path), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen at 127.0.0.1:{port}" in said and "--port" in said


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("short", "--token: expected at least 8"),
        ("with a space in it", "--token: expected at least 8"),
        ("mit-Umläuten", "--token: expected at least 8"),
        ("@empty.txt", "empty.txt: expected at least 8"),
        ("@absent.txt", "absent.txt: No such file"),
    ],
)
def test_a_token_that_is_none_is_refused(capsys, tmp_path, monkeypatch, token, said):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    assert main(["serve", "run", "--token", token]) == 2
    assert said in capsys.readouterr().err


def served_with(monkeypatch, *words):
    """The settings that a server would have."""
    found = []
    monkeypatch.setattr(command, "_serve", lambda run, port, device, settings: found.append(settings))
    assert main(["serve", "run", *words]) == 0
    return found[0]


def test_a_server_for_others_without_a_token_is_warned_of(monkeypatch, tmp_path, recwarn):
    file = tmp_path / "token.txt"
    file.write_text("open-sesame\n")
    assert served_with(monkeypatch).loopback and not recwarn.list
    assert served_with(monkeypatch, "--host", "0.0.0.0", "--token", f"@{file}").token == "open-sesame" and not recwarn.list
    assert not served_with(monkeypatch, "--host", "::").loopback
    assert ":: is open to other machines, and there is no token" in str(recwarn.pop().message)


def test_limits_are_as_told(monkeypatch):
    settings = served_with(
        monkeypatch, "--max-body", "0.5", "--max-pixels", "2", "--max-wait", "20", "--max-batch", "7", "--queue", "9", "--timeout", "3"
    )
    assert (settings.body, settings.pixels, settings.wait, settings.rows, settings.queue, settings.timeout) == (
        2**19,
        2_000_000,
        0.02,
        7,
        9,
        3.0,
    )


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["serve", "run"]) == 2
    assert "pip install 'ibllm[serve]'" in capsys.readouterr().err
