"""Every setting of a training run: name, type, default, help, rule and panel of the help page in one place.

Read from here: the options of `trunkline train`, what is refused and in which words, docs/settings.md, and
what a row of `defaults.py` may say. A new setting is one declaration here, and its use.
"""

# ruff: noqa: RUF009 - the calls make fields

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from training.settings import checks
from training.settings.checks import HEAD, TEXT_TO_TEXT, Rule, one_of, text, whole

Gap = TypeVar("Gap")
"""None where a number may be left open, Never where every gap is filled."""


def setting(
    panel: str, default: Any, words: str, rule: Rule, *, only: str | None = None, gap: bool = False
) -> Any:
    """A field with its help; `only` names the form that it belongs to.

    With `gap` it is None until the run is known, and `default` is for methods that say nothing else.
    """
    made: Callable[..., Any] = partial(
        field, metadata={"panel": panel, "help": words, "rule": rule, "only": only, "fallback": default}
    )
    return made(default_factory=dict) if default == {} else made(default=None if gap else default)


_what = partial(setting, "What to train")
_result = partial(setting, "What comes out")
_data = partial(setting, "Data")
_text_to_text = partial(setting, "Text-to-text", only=TEXT_TO_TEXT)
_training = partial(setting, "Training (what is not given comes from the method's defaults)")
_number = partial(_training, gap=True)
_of_head = partial(_number, only=HEAD)


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What to train, on which data, and what comes out."""

    data: str = _what(MISSING, "folder with train/validation/test files, or one file of rows", text("a path"))
    task: str = _what(
        MISSING, "name of the task: lower-case letters, digits, '.', '_', '-', at most 64", checks.task_name
    )
    method: str = _what(
        "hadamard",
        "adapter method, as listed by `trunkline methods`; auto tries several at several rates and layers",
        text("a method name"),
    )
    budget: str | None = _what(
        None,
        f"time that --method auto may take, such as 90s, 10m or 1h ({checks.BUDGET} when not given)",
        checks.budget,
    )
    method_config: Mapping[str, Any] = _what(
        {}, "settings of the method, e.g. norm=both; its own defaults otherwise", checks.mapping
    )
    backbone: str = _what("minilm", "`minilm`, a local model directory, or a hub id", text("a name or path"))
    form: str = _what(
        HEAD,
        "head (a classifier on the backbone's state) or text-to-text (an encoder-decoder writes the label)",
        one_of((HEAD, TEXT_TO_TEXT)),
    )
    recipe: str | None = _what(
        None,
        "compacter or hadamard: train as that paper does (compacter: rates, epochs, batches, warm-up, best "
        "checkpoint; hadamard: the head alone, then the adapter under the frozen head)",
        one_of(("compacter", "hadamard")),
    )
    device: str = _what("auto", "auto, cpu or cuda (a number may follow, cuda:1)", checks.device)
    precision: str = _what(
        "auto",
        "products of the frozen layers in training steps: float32, bfloat16 (sums and all else stay "
        "float32), or auto: bfloat16 where the processor has it; evaluation is always float32",
        one_of(("auto", "float32", "bfloat16")),
    )
    out: str | None = _result(
        None, "adapter file to write; <task>.safetensors when not given", text("a path")
    )
    file_dtype: str = _result(
        "float32", "number format inside the file: float32 or float16", one_of(("float32", "float16"))
    )
    report: str | None = _result(
        None, "page to write about the run (.html), or a folder for <task>.html", text("a path")
    )
    abstain: float | None = _result(
        None,
        "withhold a label that is too unsure (the answer is null, with its scores): chooses on held-out rows "
        "the score from which at most this share of answers is wrong, e.g. 0.05",
        checks.part,
    )
    description: str = _result("", "one sentence about the task, kept in the file", checks.any_text)

    kind: str | None = _data(
        None,
        "single_sentence, sentence_pair, multi_label, multiple_choice, regression, similarity, token_labels "
        "or free_text",
        text("a kind of data"),
    )
    text_fields: tuple[str, ...] | None = _data(
        None,
        "the one or two text fields, in order, instead of dataset.json (more with text-to-text)",
        checks.field_names,
    )
    choice_fields: tuple[str, ...] | None = _data(
        None, "the fields of a multiple choice's answers, or the one that lists them", checks.field_names
    )
    label_field: str | None = _data(
        None, "the field with the label (`label`, or `labels` for multi-label)", text("a field name")
    )
    label_names: tuple[str, ...] | None = _data(
        None, "label names in index order, instead of dataset.json", checks.different_names
    )
    metric: str | None = _data(
        None,
        "metric that chooses the best epoch, instead of dataset.json; f1+accuracy means their mean",
        text("a metric name"),
    )
    format: str = _text_to_text(
        "auto",
        "text-to-text: an official GLUE or SuperGLUE task, fields (`name: text` of each field), or auto "
        "(by the data set's name)",
        text("auto, fields, or an official task"),
    )
    targets: str = _text_to_text(
        "digits", "text-to-text: labels as digits, as in the papers, or as words", one_of(("digits", "words"))
    )
    task_prefix: bool | None = _text_to_text(
        None,
        "text-to-text: put the task's name in front; as in the paper when not given (by method)",
        checks.switch,
    )
    official_code: bool = _text_to_text(
        False,
        "text-to-text: exactly what the papers' code writes (MNLI lacks a colon, COPA its question, "
        "STS-B rounds to 0.1)",
        checks.switch,
    )
    class_weights: str = _data(
        "none",
        "auto (inverse frequency), none, or a JSON file {label: weight}",
        text("auto, none or a JSON file"),
    )
    split_rule: str = _data(
        "files",
        "files (train and validation as they are), or paper (the Compacter paper's seeded splits of them)",
        one_of(("files", "paper")),
    )
    validation_fraction: float = _data(
        0.1, "share of the train rows held out when there is no validation file", checks.part
    )
    max_train_rows: int | None = _data(
        None,
        "learn from so many train rows, drawn by label with the seed (split_rule paper: the first of its "
        "permutation)",
        whole(1),
    )
    max_validation_rows: int | None = _data(
        None, "measure on so many validation rows, drawn by label with the seed", whole(1)
    )


@dataclass(frozen=True, kw_only=True)
class Numbers(Generic[Gap]):
    """The settings that the loop reads: what the user leaves open comes from a recipe or the method's row."""

    max_tokens: int | Gap = _data(
        128,
        "longer inputs are cut to this many tokens, longest text first",
        whole(checks.MIN_TOKENS),
        gap=True,
    )
    epochs: int | Gap = _number(
        5, "passes over the data in stage two (adapter); by the number of rows when not given", whole(0)
    )
    fit_head: bool | Gap = _of_head(
        True,
        "stage one: fit the head on the frozen backbone; off = stage two starts from a random head",
        checks.switch,
    )
    head_l2: float | None = _of_head(
        None,
        "decay of the fitted head, as scikit-learn's 1/C for several classes; by cross-validation when not "
        "given",
        checks.positive,
    )
    head_start: float | Gap = _of_head(
        0.3,
        "share of the fitted head's size with which stage two starts, so that its loss is not nought and the "
        "adapter learns; a number's head starts whole",
        checks.share,
    )
    refit: str | Gap = _of_head(
        "auto",
        "what is trained again on all rows when the held-out ones are train rows: head, all (adapter too), "
        "or auto (all up to 500 rows, else head); none leaves that out, and the head's second fit as well",
        one_of(("auto", "head", "all", "none")),
    )
    lr: float | Gap = _number(3e-3, "learning rate of the adapter", checks.rate)
    lr_head_stage2: float | Gap = _of_head(1e-2, "learning rate of the head in stage two", checks.rate)
    train_head: bool | Gap = _number(
        True, "train the head on in stage two; off = it keeps what stage one found", checks.switch
    )
    batch_size: int | Gap = _number(32, "most rows of a batch", whole(1))
    batch_tokens: int | Gap = _number(4096, "most tokens of a batch", whole(8))
    evaluate_steps: int | Gap = _number(
        5,
        "evaluate after the first epoch that ends so many steps after the last time; 0 = every epoch",
        whole(0),
    )
    warmup: float | Gap = _number(
        0.06, "share of the steps in which the learning rate rises", checks.fraction
    )
    warmup_steps: int | Gap = _number(0, "the same as a number of steps; 0 = use the share", whole(0))
    weight_decay: float | Gap = _number(
        0.0, "decay of the head's weights in stage two; adapter parameters never decay", checks.not_negative
    )
    patience: int | None = _number(
        20, "a stage stops after this many epochs without a better validation metric", whole(1)
    )
    pooling: str | Gap = _of_head(
        "unit",
        "unit (the mean of the tokens, at length one), mean, first or pooler; eos on an encoder-decoder; "
        "apart (pairs: each text is encoded alone, the head reads both states, their difference and product)",
        one_of(("unit", "mean", "first", "pooler", "eos", "apart")),
    )


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How often to train, and from where."""

    seed: int = _training(0, "first seed: initial head, order of rows, split", whole(0))
    seeds: int = _training(
        1, "train this many seeds, keep the best by validation, tell the spread", whole(1, 100)
    )
    resume: bool = _training(True, "go on from <out>.resume when it belongs to the same run", checks.switch)
