"""The same rows give the same labels in every format, and those that the law says; or the same refusal.

Nothing is trained: rows are read, as every command reads them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.label_columns import KINDS, LabelColumn, answer_of, comparable
from tests.label_law import REFUSED, Answer
from tests.written_tables import FORMATS, WORKBOOK, Format
from training.data.load import load_data
from training.errors import ConfigError, DataError
from training.settings.config import TrainConfig

_LONG, _QUICK = 10_000, 110
"""Draws of all kinds together."""
EVERYWHERE = settings(
    max_examples=-(-(_LONG if settings().max_examples > 100 else _QUICK) // len(KINDS)),  # long: `thorough`
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def read(column: LabelColumn, train: Format, validation: Format) -> tuple[str, Answer] | None:
    """The type of the refusal (or nothing), and what each row is read as.

    None of a TSV whose every line by itself has all cells although quotes go over lines (a label with tab and
    line end): quotes are read as part of the texts there, and that is told.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, form, sheet in zip(
            ("train", "validation"), (train, validation), column.sheets, strict=True
        ):
            form.save(folder, split, sheet)
        if column.names is not None:
            (folder / "dataset.json").write_text(json.dumps({"label_names": column.names}), encoding="utf-8")
        fields = ",".join(column.fields) if column.fields_given else None
        try:
            data = load_data(
                TrainConfig(
                    data=str(folder), task="t", kind=column.kind, label_field=fields, text_fields=("text",)
                )
            )
        except (DataError, ConfigError) as error:
            note(f"{train.name}: {error}")
            return type(error).__name__, REFUSED
    if any("quotes are part of the texts" in told for told in data.notes):
        return None
    targets = [*data.train.targets, *data.validation.targets]
    return "", comparable(column, [data.task.told(target) for target in targets])


def fits_a_workbook(column: LabelColumn) -> bool:
    """It has no control characters, and its numbers are those of cells: doubles of at most sixteen digits."""
    controls = any(ord(c) < 32 or 0xFFFE <= ord(c) <= 0xFFFF for c in "".join(map(str, column.values)))
    long = any(isinstance(value, float) and len(repr(value)) > 16 for value in column.values)
    between = any(isinstance(value, int) and abs(value) > 2**53 for value in column.values)
    return not controls and not long and not between


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@EVERYWHERE
def test_rows_have_the_same_labels_in_every_format(kind: str, data: st.DataObject) -> None:
    column = data.draw(KINDS[kind], label="column")
    expected = answer_of(column)
    formats = [*FORMATS]
    if fits_a_workbook(column) and not data.draw(st.integers(0, 7), label="with a workbook"):
        formats.append(WORKBOOK)
    pairs = [(form, form) for form in formats]
    pairs.append((data.draw(st.sampled_from(formats)), data.draw(st.sampled_from(formats))))
    answers = {
        f"{train.name} / {validation.name}": read(column, train, validation) for train, validation in pairs
    }
    found = {names: answer for names, answer in answers.items() if answer is not None}
    for names in answers.keys() - found.keys():
        assert "TSV" in names
        assert any("\t" in str(value) for value in column.values), "only tabs make such lines look whole"
    wrong = {names: answer for names, (_, answer) in found.items() if answer != expected}
    assert not wrong, f"expected {expected}"
    refusals = {error for error, _ in found.values()}
    assert len(refusals) == 1, refusals
