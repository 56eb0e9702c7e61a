"""The variables `TRUNKLINE_…`: settings, what orchestrators and compose files put there, and mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import settings as service_settings
from service.environment import ELSEWHERE, remarks, variable_of
from service.settings import Settings, sentences

ROOT = Path(__file__).resolve().parents[3]
LINKS = {  # what Kubernetes sets for a Service named trunkline with a port named http
    "TRUNKLINE_SERVICE_HOST": "10.96.0.12",
    "TRUNKLINE_SERVICE_PORT": "8000",
    "TRUNKLINE_SERVICE_PORT_HTTP": "8000",
    "TRUNKLINE_PORT": "tcp://10.96.0.12:8000",
    "TRUNKLINE_PORT_8000_TCP": "tcp://10.96.0.12:8000",
    "TRUNKLINE_PORT_8000_TCP_PROTO": "tcp",
    "TRUNKLINE_PORT_8000_TCP_PORT": "8000",
    "TRUNKLINE_PORT_8000_TCP_ADDR": "10.96.0.12",
}
OTHER_LINKS = {
    "TRUNKLINE_GATEWAY_SERVICE_HOST": "fd00::1",
    "TRUNKLINE_GATEWAY_PORT": "udp://[fd00::1]:53",
    "TRUNKLINE_GATEWAY_PORT_53_UDP_ADDR": "fd00::1",
}


def _told(environ: dict[str, str]) -> list[str]:
    return list(remarks(environ, Settings.model_fields))


@pytest.mark.parametrize("links", [LINKS, LINKS | OTHER_LINKS, {"TRUNKLINE_PORT": "tcp://[fd00::1]:8000"}])
def test_links_of_an_orchestrator_are_ignored_and_told_once(
    links: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in links.items():
        monkeypatch.setenv(name, text)
    assert Settings().port == 8000
    assert Settings(port=9000).port == 9000
    (told,) = _told(links)
    assert "TRUNKLINE_PORT" in told
    assert "enableServiceLinks: false" in told
    assert "10.96" not in told


def test_a_number_in_the_same_variable_is_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (LINKS | {"TRUNKLINE_PORT": "9001"}).items():
        monkeypatch.setenv(name, text)
    assert Settings().port == 9001


@pytest.mark.parametrize("name", Settings.model_fields)
@pytest.mark.parametrize("nothing", ["", "  ", "\n"])
def test_an_empty_variable_is_not_given(name: str, nothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUNKLINE_DTYPE")
    usual = Settings()
    monkeypatch.setenv(variable_of(name), nothing)
    assert Settings() == usual


def test_white_space_around_a_value_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("DEVICE", "cpu\n"), ("PORT", " 9000 "), ("HOST", "127.0.0.1\r\n"), ("STORE", "s\n")):
        monkeypatch.setenv(f"TRUNKLINE_{name}", text)
    found = Settings()
    assert (found.device, found.port, found.host, found.store) == ("cpu", 9000, "127.0.0.1", Path("s"))


def test_a_wrong_value_is_called_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_PORT", "http://10.0.0.1")
    with pytest.raises(ValidationError) as caught:
        Settings(max_items=0)
    first, second = sorted(sentences(caught.value, {"max_items": "--max-items"}))
    assert first.startswith("--max-items is 0: ")
    assert second.startswith("TRUNKLINE_PORT is 'http://10.0.0.1': ")
    assert Settings(port=8000).port == 8000, "where it is given otherwise the variable does not count"


def test_unknown_names_are_told_with_the_nearest_and_without_their_values() -> None:
    (told,) = _told({"TRUNKLINE_MAX_ITEM": "secret", "TRUNKLINE_ZZZ": "secret", "PATH": "/bin"})
    assert "TRUNKLINE_MAX_ITEM (is TRUNKLINE_MAX_ITEMS meant?)" in told
    assert "TRUNKLINE_ZZZ:" in told
    assert "secret" not in told
    (many,) = _told({f"TRUNKLINE_ZZZ{number}": "" for number in range(9)})
    assert "and 4 more" in many


def test_every_variable_of_the_project_is_known() -> None:
    """The client's, the compose file's and the tests' own are no mistakes on the server's machine."""
    places = [
        *ROOT.glob("docker*"),
        *ROOT.glob("docker/*"),
        *ROOT.glob("trunkline/**/*.py"),
        *ROOT.glob("scripts/*"),
    ]
    places += [
        ROOT / "tests" / "conftest.py",
        *ROOT.glob("tests/recorded/*.py"),
        *ROOT.glob("examples/**/*.py"),
    ]
    texts = [place.read_text(encoding="utf-8") for place in places if place.is_file()]
    named = {name for text in texts for name in re.findall(r"\bTRUNKLINE_[A-Z_]*[A-Z]\b", text)}
    assert {"TRUNKLINE_URL", "TRUNKLINE_TOKEN", "TRUNKLINE_IMAGE"} <= named
    assert _told(dict.fromkeys(named | ELSEWHERE, "x")) == []


@pytest.mark.parametrize("text", ["a-long-token\n", " a-long-token", "\ufeffa-long-token\r\n"])
def test_white_space_around_a_token_is_told(text: str, tmp_path: Path) -> None:
    (told,) = _told({"TRUNKLINE_TOKEN": text})
    assert told.startswith("TRUNKLINE_TOKEN has white space")
    assert "long" not in told
    path = tmp_path / "token"
    path.write_text(f"{text}\n", encoding="utf-8")
    odd = [*service_settings.remarks(Settings(token_file=path), {})]
    assert not [*service_settings.remarks(Settings(token_file=tmp_path / "none"), {})]
    assert len(odd) == (text.strip("\r\n") != "a-long-token"), "the newline at the end of a file is usual"
