"""The table of mutations fits the code: `make mutants` takes long, so it would go stale unseen."""

import re

import pytest

from tests.architecture.sources import ROOT
from tests.mutants.run import occurrences
from tests.mutants.table import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_has_one_place_and_tests(mutation: Mutation) -> None:
    assert occurrences(mutation) == 1, f"{mutation.old!r} must stand once in {mutation.file}"
    assert mutation.old != mutation.new
    assert mutation.tests
    for selected in mutation.tests:
        path, _, function = selected.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        if function:
            name = re.escape(function.split("[")[0].split("::")[0])
            assert re.search(rf"^(def {name}\(|class {name}\b|{name} = )", text, re.MULTILINE), selected


def test_names_are_different() -> None:
    assert len({one.name for one in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize(
    "package", ["modeling", "adapters_store", "proof", "service", "training", "trunkline"]
)
def test_every_package_has_mutations(package: str) -> None:
    assert any(one.file.startswith(f"{package}/") for one in MUTATIONS)
