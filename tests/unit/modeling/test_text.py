"""TextEncoder: equal to the library's tokenizer, with and without truncation, from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from modeling import TextError
from modeling.loading import minilm_directory
from modeling.text import TextEncoder
from tests.tiny import minilm, tiny_backbone, tokenizer

TEXTS = ["", "Hello, world!", "naïve café 🙂", "a " * 700, "tab\tnew\nline", "[SEP] [MASK]", "無料 text"]
PAIRS = [(a, b) for a in TEXTS[:4] for b in TEXTS]


@pytest.mark.parametrize("limit", [8, 33, 128, 512])
def test_equals_the_library(limit: int) -> None:
    library = AutoTokenizer.from_pretrained(str(minilm_directory()))
    items: list[str | tuple[str, str]] = [*TEXTS, *PAIRS]
    for item in items:
        # a list of one, because the library drops an empty second text outside of a list
        want = {k: v[0] for k, v in library([item], truncation="longest_first", max_length=limit).items()}
        full = {k: v[0] for k, v in library([item], truncation=False, verbose=False).items()}
        got = minilm().text.encode([item], limit)[0]
        assert got.ids == want["input_ids"], item
        assert got.type_ids == want["token_type_ids"], item
        assert got.num_tokens == len(full["input_ids"])
        assert got.truncated == (len(got.ids) < got.num_tokens)


def test_roberta_template_has_two_separators_between() -> None:
    encoded = tiny_backbone("roberta").text.encode([("w1 w2", "w3"), "w1"])
    assert encoded[0].ids == [1, 5, 6, 2, 2, 7, 2]
    assert encoded[1].ids == [1, 5, 2]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=30) | st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=8))
def test_a_batch_is_each_text_alone(items: list[str | tuple[str, str]]) -> None:
    text = minilm().text
    assert text.encode(items, 16) == [text.encode([item], 16)[0] for item in items]


def test_many_threads_get_the_same() -> None:
    text = minilm().text
    want = text.encode(TEXTS, 64)
    with ThreadPoolExecutor(16) as pool:
        assert all(got == want for got in pool.map(lambda _: text.encode(TEXTS, 64), range(200)))


@pytest.mark.parametrize("limit", [0, 2, 513])
def test_a_limit_that_cannot_be_kept_is_refused(limit: int) -> None:
    with pytest.raises(TextError, match=rf"max_tokens is {limit}; allowed: 3 .* to 512"):
        minilm().text.encode(["a"], limit)


def test_each_text_is_made_ids_once() -> None:
    class Counting:
        def __init__(self, inner: object) -> None:
            self.inner, self.texts = inner, list[str]()

        def encode_batch_fast(self, texts: list[str], **options: bool) -> object:
            self.texts += texts
            return self.inner.encode_batch_fast(texts, **options)  # type: ignore[attr-defined]

    encoder = tiny_backbone("bert").text
    alone = [encoder.tokenize([item])[0] for item in ("w1", ("w1", "w2"), ("w1", "w1"))]
    counting = Counting(encoder._tokenizer)
    patched = pytest.MonkeyPatch()
    patched.setattr(encoder, "_tokenizer", counting)
    try:
        assert encoder.tokenize(["w1", ("w1", "w2"), ("w1", "w1")]) == alone
    finally:
        patched.undo()
    assert sorted(counting.texts) == ["w1", "w2"]


@pytest.mark.parametrize(
    ("model_type", "end", "wanted"),
    [
        ("t5", 2, [[5, 2], [6, 7, 2]]),  # its tokenizer writes the end
        ("bart", 2, [[1, 5, 2], [1, 6, 7, 2]]),
        ("t5", 9, [[5, 2, 9], [6, 7, 2, 9]]),
    ],
)
def test_a_target_ends_once(model_type: str, end: int, wanted: list[list[int]]) -> None:
    text = TextEncoder(tokenizer(model_type), 64)
    assert text.targets(["w1", "w2 w3"], end) == wanted
