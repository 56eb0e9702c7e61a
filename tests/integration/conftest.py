"""One tiny backbone per session; a fresh store and server per module or test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modeling import Backbone
from service.settings import Settings
from tests.integration.world import SPECS, Live, file_of, save_backbone, tiny


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return tiny()


@pytest.fixture(scope="session")
def files(backbone: Backbone) -> dict[str, bytes]:
    """One sound file per task."""
    return {task: file_of(backbone, task) for task in SPECS}


@pytest.fixture
def settings(backbone_folder: Path, tmp_path: Path) -> Settings:
    return Settings(backbone=str(backbone_folder), store=tmp_path / "store", device="cpu")


@pytest.fixture
def live(settings: Settings) -> Iterator[Live]:
    """An empty server."""
    with Live(settings) as server:
        yield server


@pytest.fixture(scope="module")
def shared(
    backbone_folder: Path, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """A server with every task; tests leave it as it is."""
    store = tmp_path_factory.mktemp("shared") / "store"
    with Live(Settings(backbone=str(backbone_folder), store=store, device="cpu")) as server:
        for task, data in files.items():
            response = server.push(task, data)
            assert response.status_code == 201, response.text
        yield server
