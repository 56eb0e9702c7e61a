"""The source and target strings of every GLUE and SuperGLUE task, as in the Compacter paper and its code.

A source is the fields with their names, joined by single spaces; a target is the index of the label as a
digit, a number (STS-B) or free text (ReCoRD, SQuAD). `official_code` gives exactly what the published code
(rabeehk/compacter) writes; without it three slips of that code are put right:

- MNLI: the code writes "hypothesis" without its colon.
- COPA: the code drops `question`, so nothing says whether the cause or the effect is wanted; here it follows
  as the last field.
- STS-B: the code rounds to 0.1 although the paper has steps of 0.2. The paper counts 21 classes, which is
  1.0 to 5.0; the data begin at 0.0, so there are 26 here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.formats.rewriting import mark_words, spaced_punctuation, without_highlights, without_markup
from training.formats.scale import Scale

Row = Mapping[str, Any]
HALVE, THOUSAND, AS_FILES = "halve", "thousand", "files"
SPLIT_RULES = (AS_FILES, HALVE, THOUSAND)
"""How the paper makes a test set out of public files (`rows/split.py`)."""
_UNKNOWN_ANSWER = "<unk>"


@dataclass(frozen=True)
class Format:
    """One task: the fields it reads, its source, how many classes it has, its split rule and its metrics.

    `source(row, official_code)` gives the source without the task's name. `classes` is None for free text
    and for STS-B, whose `scale` turns numbers into classes. `split_rule` is how the paper makes a test set
    out of public files (`split.py`); the mean of `metrics` chooses its checkpoint.
    """

    name: str
    fields: tuple[str, ...]
    source: Callable[[Row, bool], str]
    metrics: tuple[str, ...]
    split_rule: str = HALVE
    classes: int | None = 2
    scale: Scale | None = None

    @property
    def unknown(self) -> str | None:
        """What is learnt where there is no right answer."""
        return _UNKNOWN_ANSWER if self.name == "superglue-record" else None

    @property
    def free_text(self) -> bool:
        """Whether answers are any text, so that no list of label strings exists."""
        return self.classes is None and self.scale is None


def with_prefix(source: str, prefix: str) -> str:
    """The task's name in front, or nothing."""
    return f"{prefix} {source}" if prefix else source


def named_fields(row: Row, fields: Mapping[str, str]) -> str:
    """`name: text` of each field, joined by single spaces; `fields` maps the name shown to the row's key."""
    return " ".join(f"{shown}: {row[key]}" for shown, key in fields.items())


def official_name(name: str | None, fields: frozenset[str]) -> str | None:
    """The official task meant by a data set's name, when the rows have the fields that it needs.

    `rte`, `copa` and `boolq_small` are found; SuperGLUE's names may lack their prefix, and a name may carry
    an ending such as `_small`.
    """
    plain = (name or "").lower().removesuffix("_small").removesuffix(".fixed")
    for candidate in (plain, f"superglue-{plain}", f"superglue-{plain}.fixed"):
        if candidate in FORMATS and fields >= set(FORMATS[candidate].fields):
            return candidate
    return None


def _fields(*names: str) -> Callable[[Row, bool], str]:
    return lambda row, _: named_fields(row, {name: name for name in names})


def _mnli(row: Row, official_code: bool) -> str:
    colon = "" if official_code else ":"
    return f"premise: {row['premise']} hypothesis{colon} {row['hypothesis']}"


def _copa(row: Row, official_code: bool) -> str:
    names = ("premise", "choice1", "choice2") + (() if official_code else ("question",))
    return named_fields(row, {name: name for name in names})


def _multirc(row: Row, _: bool) -> str:
    plain = {name: without_markup(row[name]) for name in ("question", "answer", "paragraph")}
    return named_fields(plain, {name: name for name in plain})


def _record(row: Row, _: bool) -> str:
    passage = without_highlights(row["passage"])
    return f"record query: {row['query']} entities: {', '.join(row['entities'])} passage: {passage}"


def _wsc(row: Row, _: bool) -> str:
    first = (row["span1_text"], int(row["span1_index"]))
    return f"text: {mark_words(row['text'], first, (row['span2_text'], int(row['span2_index'])))}"


def _squad(row: Row, _: bool) -> str:
    question, context = (spaced_punctuation(row[name]) for name in ("question", "context"))
    return f"question: {question} context: {context}"


_PAIR = ("sentence1", "sentence2")
_NLI = ("premise", "hypothesis")
_QQP = ("question1", "question2")
_WSC = ("text", "span1_text", "span1_index", "span2_text", "span2_index")
_COPA = ("premise", "choice1", "choice2", "question")
_ACCURACY = ("accuracy",)
CODE_SCALE = Scale(0.0, 5.0, 10)

_ALL = (
    Format("mrpc", _PAIR, _fields(*_PAIR), ("f1", "accuracy")),
    Format("cola", ("sentence",), _fields("sentence"), ("matthews",)),
    Format("sst2", ("sentence",), _fields("sentence"), _ACCURACY, THOUSAND),
    Format("stsb", _PAIR, _fields(*_PAIR), ("pearson", "spearman"), classes=None, scale=Scale(0.0, 5.0, 5)),
    Format("qqp", _QQP, _fields(*_QQP), ("f1", "accuracy"), THOUSAND),
    Format("mnli", _NLI, _mnli, _ACCURACY, AS_FILES, classes=3),
    Format("qnli", ("question", "sentence"), _fields("question", "sentence"), _ACCURACY, THOUSAND),
    Format("rte", _PAIR, _fields(*_PAIR), _ACCURACY),
    Format("wnli", _PAIR, _fields(*_PAIR), _ACCURACY),
    Format("superglue-boolq", ("question", "passage"), _fields("question", "passage"), _ACCURACY),
    Format("superglue-rte", _NLI, _fields(*_NLI), _ACCURACY),
    Format("superglue-cb", _NLI, _fields(*_NLI), ("macro_f1", "accuracy"), classes=3),
    Format("superglue-copa", _COPA, _copa, _ACCURACY),
    Format("superglue-multirc", ("question", "answer", "paragraph"), _multirc, ("f1", "exact_match")),
    Format("superglue-wic", (*_PAIR, "word"), _fields(*_PAIR, "word"), _ACCURACY),
    Format("superglue-wsc.fixed", _WSC, _wsc, _ACCURACY),
    Format(
        "superglue-record",
        ("query", "entities", "passage"),
        _record,
        ("f1", "exact_match"),
        THOUSAND,
        classes=None,
    ),
    Format("squad", ("question", "context"), _squad, ("f1", "exact_match"), AS_FILES, classes=None),
)
FORMATS: Mapping[str, Format] = {format_.name: format_ for format_ in _ALL}
