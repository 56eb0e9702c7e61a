"""Settings: strict, from the environment, and safe by default."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.errors import ConfigurationError
from service.settings import Settings, is_loopback, resolve_token


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_MAX_ITEMS", "7")
    assert Settings().max_items == 7
    assert Settings(max_items=8).max_items == 8


@pytest.mark.parametrize(
    "given", [{"max_items": 0}, {"device": "tpu"}, {"dtype": "float64"}, {"port": 70000}, {"maxitems": 5}]
)
def test_values_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**given)  # type: ignore[arg-type]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().max_items = 5  # type: ignore[misc]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert resolve_token(Settings(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_any_other_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        resolve_token(Settings(host=host))
    assert resolve_token(Settings(host=host, token=SecretStr("abcdefgh12"))) == "abcdefgh12"


@pytest.mark.parametrize(
    "token", ["", "short", "with space inside", "ümlautümlaut", "del\x7fete-it", "'in-quotes'"]
)
def test_weak_or_unsendable_tokens_are_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match="ASCII"):
        resolve_token(Settings(token=SecretStr(token)))


@pytest.mark.parametrize("text", ["abcdefgh\n", " abcdefgh\r\n", "\ufeffabcdefgh", "\tabcdefgh\n\n"])
def test_what_stands_around_a_token_is_cut_off(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    assert resolve_token(Settings(token=SecretStr(text))) == "abcdefgh"
    assert resolve_token(Settings(token_file=tmp_path / "token")) == "abcdefgh"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abcd efgh", r"has white space inside \(character 5\)"),
        ("abcd\nefgh", r"has white space inside \(character 5\)"),
        ("abcdefgü", r"not ASCII \(character 8\)"),
        ("abcdefg\x00", r"a control character \(character 8\)"),
        ('"abcdefgh"', "stands in quotes"),
        ("abc", "has 3"),
    ],
)
def test_what_is_wrong_with_a_token_is_named_and_the_token_is_not(
    text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    for settings in (Settings(token=SecretStr(text)), Settings(token_file=tmp_path / "token")):
        with pytest.raises(ConfigurationError, match=says) as caught:
            resolve_token(settings)
        assert "abc" not in str(caught.value).replace(str(tmp_path), "")


def test_a_missing_token_file_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = resolve_token(Settings(host="0.0.0.0", token_file=path))
    assert token is not None
    assert len(token) >= 32
    assert path.read_text() == token + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert resolve_token(Settings(host="0.0.0.0", token_file=path)) == token


def test_token_files_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        resolve_token(Settings(token_file=tmp_path / "missing" / "token"))
    (tmp_path / "empty").write_text("")
    with pytest.raises(ConfigurationError, match="8 ASCII"):
        resolve_token(Settings(token_file=tmp_path / "empty"))
    (tmp_path / "wide").write_text("abcdefgh", encoding="utf-16")
    with pytest.raises(ConfigurationError, match="UTF-16"):
        resolve_token(Settings(token_file=tmp_path / "wide"))
    with pytest.raises(ConfigurationError, match="both"):
        resolve_token(Settings(token=SecretStr("abcdefgh"), token_file=tmp_path / "x"))


def test_the_token_does_not_show() -> None:
    assert "abcdefgh12" not in repr(Settings(token=SecretStr("abcdefgh12")))
