"""How each package is built: nobody imports in a circle, and training stands on few floors."""

import subprocess
import sys
from pathlib import Path

from scripts import house
from tests.architecture.sources import PACKAGES, ROOT


def test_no_package_has_a_circle_and_training_is_low() -> None:
    built = house.read_house(ROOT)
    assert house.problems_of({name: built[name] for name in PACKAGES}) == []


def test_not_even_types_make_a_circle() -> None:
    built = house.read_house(ROOT)
    assert [circle for name in PACKAGES for circle in house.circles_of(built[name], typed=True)] == []


def made(folder: Path, **files: str) -> Path:
    """A tree with a package `training` of these modules; `a__b` is a/b.py."""
    for name, text in files.items():
        path = folder / "training" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_floors_and_imports_are_counted_by_module_and_by_room(tmp_path: Path) -> None:
    tree = made(
        tmp_path,
        top="from training import low\nfrom training.tasks.one import X\nimport os\n",
        low="def late():\n    from .tasks import two\n    from .tasks.two import Y\n",
        tasks__one="from . import two\nfrom .two import Y\n",
        tasks__two="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..low import late\n",
    )
    built = house.read_house(tree)
    table = house.measure(built)
    assert table["training"] == (4, 11, 4, 3, 3, 3, 3, 0, 2)
    assert table["total"] == (4, 11)
    assert house.problems_of(built) == []
    assert house.circles_of(built["training"], typed=True) == {
        frozenset({"training.low", "training.tasks.two"}),
        frozenset({"training.low", "training.tasks"}),
    }


def test_a_circle_and_a_tower_are_told(tmp_path: Path) -> None:
    circle = made(tmp_path / "circle", a="from . import b\n", b="from . import c\n", c="from .a import x\n")
    assert house.problems_of(house.read_house(circle)) == ["a circle: training.a, training.b, training.c"]
    tower = made(tmp_path / "tower", **{f"f{n}": f"from . import f{n + 1}\n" for n in range(9)})
    run = [sys.executable, str(ROOT / "scripts" / "house.py"), "--root", str(tower), "--check"]
    told = subprocess.run([*run, "--against", str(circle)], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stdout.splitlines()[-1] == "training: rooms on 9 floors, allowed: 7"
    assert [line.split() for line in told.stdout.splitlines() if line.startswith("total")] == [
        ["total", "3", "3"],
        ["total", "9", "9"],
        ["total", "+6", "+6"],
    ]
