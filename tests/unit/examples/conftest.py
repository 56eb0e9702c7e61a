"""Lets the tests import the demo's files as the demo itself does: from its own folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "examples" / "support_desk"


@pytest.fixture(autouse=True)
def demo_folder_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield FOLDER
    for name in [name for name in sys.modules if name == "demo" or name.startswith("demo_")]:
        del sys.modules[name]
