"""Wrong calls, as the program itself answers them."""

import pytest

from nearedge.cli.app import main


def answer(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return caught.value.code, told.out, told.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("lable", "x"), "there is no such command; got 'lable'; did you mean `nearedge label`?"),
        (("frobnicate",), "there is no such command; got 'frobnicate'; see `nearedge --help`"),
        (("models", "lst"), "there is no such command; got 'lst'; did you mean `nearedge models list`?"),
        (("run", "a.yaml", "--sett", "x=1"), "see `nearedge run --help`"),
        (("label",), "see `nearedge label --help`"),
        (("sql", "SELECT 1", "--format", "xml"), "see `nearedge sql --help`"),
    ],
)
def test_a_wrong_call_is_one_line(capsys, arguments, line):
    code, out, err = answer(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.endswith(f"{line}\n")
    assert err.count("\n") == 1


def test_without_anything_the_help_is_shown(capsys):
    code, out, err = answer(capsys)
    assert code == 2
    assert "Usage" in out + err
    assert "error" not in out + err


def test_help_is_no_error(capsys):
    code, out, _ = answer(capsys, "label", "--help")
    assert not code
    assert "Example" in out


def test_the_exit_status_of_a_command_stays(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = answer(capsys, "stop", "none")
    assert code == 2
    assert err.startswith("error: there is no campaign here")
