"""The shapes of requests and answers as the documentation shows them; every limit is applied elsewhere.

The predict route builds its answer as plain data (thousands of items), so `TaskAnswer` and what it holds
describe that answer and are not constructed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..settings import told_limits

DEFAULT_NEW_TOKENS = 16
INCONSISTENT = "inconsistent"  # the type of our own violations: they say what is allowed and what to do

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class PredictRequest(BaseModel):
    """Texts, and the task or tasks that answer them. Items are validated one by one: none harms another."""

    model_config = _STRICT | {
        "json_schema_extra": {
            "examples": [
                {"task": "intent", "inputs": ["where is my parcel?"], "top_k": 3},
                {"tasks": ["intent", "urgency"], "inputs": ["where is my parcel?"]},
                {"task": "duplicate", "inputs": [{"text": "no light", "text_pair": "the lamp stays dark"}]},
                {
                    "task": "alike",
                    "inputs": ["the lamp stays dark", {"text": "no light", "text_pair": "dark"}],
                },
                {"task": "cause", "inputs": [{"text": "it rained", "choices": ["it is wet", "it is dry"]}]},
                {"task": "rte-t5", "inputs": ["sentence1: … sentence2: …"], "generate": True},
            ]
        }
    }

    task: str | None = Field(None, description="name, name@version or name@alias")
    tasks: list[str] | None = Field(None, min_length=1, description="several of them, instead of task")
    inputs: Any = Field(description='a text, {"text", "text_pair"}, {"text", "choices"}, or a list of these')
    top_k: int | None = Field(None, ge=1, description="return only the best scores")
    raw: bool = Field(False, description="also return the logits")
    generate: bool = Field(False, description="text_to_text: write the answer instead of scoring the labels")
    max_new_tokens: int | None = Field(
        None, ge=1, description=f"longest text to generate, in tokens; {DEFAULT_NEW_TOKENS} by default"
    )
    truncate: bool = Field(False, description="cut texts that are too long instead of refusing them")

    @property
    def references(self) -> list[str]:
        return [self.task] if self.task is not None else self.tasks or []

    @model_validator(mode="after")
    def _is_consistent(self) -> PredictRequest:
        found = [*self._task_violations(), *self._option_violations()]
        if found:  # as one error of pydantic's, so that each keeps its own place
            raise ValidationError.from_exception_data("PredictRequest", found)
        return self

    def _task_violations(self) -> Iterator[InitErrorDetails]:
        if self.task is None and self.tasks is None:
            yield _violation("task", None, "a name, or tasks with a list of names", "say which task answers")
        if self.task is not None and self.tasks is not None:
            yield _violation("tasks", self.tasks, "either task or tasks", "leave one of them out")

    def _option_violations(self) -> Iterator[InitErrorDetails]:
        only_scores = "nothing with generate, which gives a text and no scores"
        if self.generate and self.raw:
            yield _violation("raw", self.raw, only_scores, "leave it out")
        if self.generate and self.top_k is not None:
            yield _violation("top_k", self.top_k, only_scores, "leave it out")
        if self.max_new_tokens is not None and not self.generate:
            remedy = 'leave it out, or send "generate": true'
            yield _violation("max_new_tokens", self.max_new_tokens, "nothing without generate", remedy)


def _violation(field: str, got: object, allowed: str, remedy: str) -> InitErrorDetails:
    words = {"allowed": allowed, "remedy": remedy}
    return InitErrorDetails(
        type=PydanticCustomError(INCONSISTENT, "{allowed}", words), loc=(field,), input=got
    )


class ItemProblem(BaseModel):
    """Why one item has no answer."""

    code: str
    message: str
    index: int


class EntityFound(BaseModel):
    """Some words of a text that have a label."""

    start: int = Field(description="where it begins, in characters (Unicode code points) of the text as sent")
    end: int = Field(description="where it ends: the place behind its last character")
    label: str
    text: str = Field(description="the characters from start to end")
    score: float = Field(description="the probability that exactly this entity stands there")


class Prediction(BaseModel):
    """The answer for one item; an item that failed has `error` alone."""

    label: str | list[str] | None = Field(
        None,
        description="multi_label: a list; multiple_choice: the chosen text; regression, similarity, unknown: "
        "null; "
        "token_labels: a list of the labels of its entities, each once, in their order in the text; "
        "generated: the text if it is one of the labels, else null",
    )
    score: float | None = Field(
        description="null for a generated text and for an embedding; similarity: in the units of the data's "
        "scores, without scores the cosine; token_labels: the probability of all its entities together, and "
        "of no others"
    )
    scores: dict[str, float] = Field(
        description="best first, cut to top_k; empty for a generated text, for an embedding and for "
        "token_labels; similarity: the cosine"
    )
    embedding: list[float] | None = Field(
        None, description="similarity, of a text without text_pair alone: its embedding, of length one"
    )
    unknown: bool | None = Field(
        None, description="true where the label is withheld: its score is under the task's threshold"
    )
    entities: list[EntityFound] | None = Field(
        None, description="token_labels alone: what was found, in the order of the text"
    )
    index: int | None = Field(None, description="multiple_choice alone: the chosen one's place in choices")
    text: str | None = Field(None, description="generate alone: the generated text")
    tokens: int = Field(
        description="length of the input (of the longest pair of text and choice; of the longer text where a "
        "pair is encoded apart), before truncation, special tokens included"
    )
    truncated: bool
    logits: list[float] | list[list[float]] | None = Field(
        None,
        description="raw: one per label, or per choice; similarity: the cosine of a pair; token_labels: for "
        "each word, one per tag",
    )
    words: list[tuple[int, int]] | None = Field(
        None, description="raw with token_labels alone: start and end of each word that was not cut"
    )


class FailedPrediction(BaseModel):
    """What stands in the place of an item that failed."""

    error: ItemProblem


class TaskAnswer(BaseModel):
    """All items answered by one version of one task."""

    task: str
    version: int
    digest: str
    predictions: list[Prediction | FailedPrediction]


class TaskProblem(BaseModel):
    """A task of several that could not answer."""

    task: str
    error: dict[str, str]


class SeveralAnswers(BaseModel):
    """One result per requested task, in order."""

    results: list[TaskAnswer | TaskProblem]


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[dict[str, str]] | None = None


class VersionInfo(BaseModel):
    """One version of a task, and what the service made of it."""

    version: int
    digest: str
    size_bytes: int
    created: str
    state: Literal["resident", "failed"]
    reason: str | None = Field(None, description="why it could not be loaded")
    method: str | None = None
    kind: str | None = None
    labels: list[str] | None = Field(
        None, description="empty for a similarity, and for any text as an answer"
    )
    max_new_tokens: int | None = Field(None, description="longest answer of a task without labels")
    abstain: dict[str, float] | None = Field(
        None,
        description="of a task that withholds labels: the threshold of the score, the error that was asked "
        "for, and coverage, error and its bound as measured on held-out rows",
    )
    fields: list[str] | None = None
    max_tokens: int | None = None
    example: str | dict[str, str | list[str]] | None = Field(
        None, description="the form of an input, with the names of its fields in braces"
    )
    reads: dict[str, Any] | None = Field(
        None,
        description="the fields of rows that inputs were made of in training: text_fields, choice_fields, "
        "and the formatter that writes the sources of a text_to_text",
    )


class TaskInfo(BaseModel):
    """One task. `revision` is its ETag."""

    task: str
    revision: int
    production: int | None
    aliases: dict[str, int]
    versions: list[VersionInfo]


class TaskList(BaseModel):
    """A page of tasks, perhaps of fewer than were asked for: only `next` says whether it is the last."""

    tasks: list[TaskInfo]
    next: str | None = Field(None, description="send it as `after` for the next page; null: there is none")


class AliasTarget(BaseModel):
    """Where an alias is to point."""

    model_config = _STRICT
    version: int = Field(ge=1)


class ProbeInfo(BaseModel):
    """How the replay of the recorded probes went; `pending` ones follow, and may withdraw the version."""

    count: int
    max_difference: float
    pending: int = 0


class UploadAnswer(BaseModel):
    """A version that is live now."""

    task: str
    version: int
    digest: str
    size_bytes: int
    method: str
    kind: str
    labels: list[str]
    aliases: dict[str, int]
    probes: ProbeInfo


class State(BaseModel):
    """Health of the process."""

    status: str
    reason: str | None = None


class ThreadsInfo(BaseModel):
    """What forward passes run on, as it was chosen when the service started."""

    number: int = Field(description="of a forward pass")
    why: str
    wait: str = Field(description="how they wait for each other: the variables of OpenMP that say it")
    alone_tokens: int = Field(description="passes over at most so many tokens run on one thread")


class Info(BaseModel):
    """What is served, on what."""

    name: str
    version: str
    backbone: dict[str, JsonValue]
    device: str
    dtype: str
    dtype_reason: str = Field(
        description="why it is this one: what was asked for, or found where it was auto"
    )
    threads: ThreadsInfo
    recorded_passes: int = Field(
        description="how many a GPU has recorded so far; adapters that come and go need no new ones"
    )
    families: list[str]
    methods: list[str]
    kinds: list[str]
    adapters: dict[str, int]
    store_read_only: str | None = None


# What a file and a backbone limit, each behind the setting that it is told after.
_BEHIND = {"max_text_chars": "max_choices", "max_new_tokens": "max_tokens"}
_LIMITS: dict[str, Any] = {
    name: int for told in told_limits() for name in (told, _BEHIND.get(told)) if name is not None
}
Limits = create_model(
    "Limits",
    __doc__="Every limit that applies to callers.",
    **_LIMITS,
    store_read_only=bool,
    tolerance=dict[str, JsonValue],
)
