"""Tokens of texts whose beginnings come again: those of the whole text, whatever the tokenizer and wherever it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rstar_fast import nano, steps
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.policies.tokenizing import PieceTokenizer, markers_to_cut_behind

CORPUS = [record.solution.replace("<", " ") for record in nano.generate("train", 200, 5)]


def made(
    *,
    space: bool = False,
    normalizer: normalizers.Normalizer | None = None,
    metaspace: str | None = None,
    before: str | None = None,
    after: str | None = None,
    added: tuple[AddedToken | str, ...] = steps.MARKERS,
) -> PreTrainedTokenizerFast:
    """A tokenizer of one of the kinds there are."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = decoders.ByteLevel()
    if metaspace is not None:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace, split=False)
        tokenizer.decoder = decoders.Metaspace()
    special = [token for token in (before, after) if token is not None]
    alphabet = sorted({*pre_tokenizers.ByteLevel.alphabet(), *"".join(CORPUS), *"▁é<>_"})
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokens = [AddedToken(token, normalized=False, special=False) if isinstance(token, str) else token for token in added]
    tokenizer.add_tokens(tokens)
    if special:
        of_special = [(token, tokenizer.token_to_id(token)) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(filter(None, (before, "$A", after))), special_tokens=of_special
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def marker(**how: bool) -> tuple[AddedToken, ...]:
    return tuple(AddedToken(text, **{"normalized": False, "special": False} | how) for text in steps.MARKERS)


ALL = steps.MARKERS
KINDS: dict[str, tuple[PreTrainedTokenizerFast, tuple[str, ...]]] = {
    "nano": (load_tokenizer(str(nano.POLICY), "policy"), ALL),
    "byte level": (made(), ALL),
    "a space before": (made(space=True), ALL),
    "normalized": (made(normalizer=normalizers.NFC()), ALL),
    "something prepended": (made(normalizer=normalizers.Prepend("_")), ALL),
    "begins with a token": (made(before="<s>"), ALL),
    "special markers": (made(added=marker(special=True)), ALL),
    "some markers only": (made(added=(steps.END_OF_STEP, steps.CODE)), (steps.CODE, steps.END_OF_STEP)),
    "no markers": (made(added=()), ()),
    "ends with a token": (made(after="</s>"), ()),
    "metaspace at the first": (made(metaspace="first"), ()),
    "markers that take spaces": (made(added=marker(lstrip=True)), ()),
    "markers that take what follows": (made(added=marker(rstrip=True)), ()),
    "markers of whole words": (made(added=marker(single_word=True)), ()),
    "normalized markers": (made(added=marker(normalized=True)), ()),
    "a longer token": (made(added=(*ALL, f"{steps.END_OF_STEP}\n")), tuple(m for m in ALL if m != steps.END_OF_STEP)),
    "a token that overlaps": (made(added=(*ALL, "x<end_of_")), tuple(m for m in ALL if not m.startswith("<end_of_"))),
}
TEXTS = st.lists(
    st.sampled_from([*ALL, "\n", " ", "x", "  y = 12", "<", "<end_of_", "end_of_step>", "é", "e\u0301", "print(x)", "_", "</s>"]), max_size=12
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_cut_only_where_its_tokens_allow_it(kind: str) -> None:
    tokenizer, markers = KINDS[kind]
    assert set(markers_to_cut_behind(tokenizer)) == set(markers)


@given(st.sampled_from(sorted(KINDS)), st.lists(st.lists(TEXTS, max_size=5), min_size=1, max_size=4))
def test_tokens_are_those_of_the_whole_text(kind: str, calls: list[list[str]]) -> None:
    tokenizer, _ = KINDS[kind]
    pieces = PieceTokenizer(tokenizer)
    for texts in calls:
        assert [tokens.tolist() for tokens in pieces(texts)] == [tokenizer(text)["input_ids"] for text in texts]


def test_what_was_tokenized_before_is_not_tokenized_again() -> None:
    tokenizer = made()
    asked: list[str] = []

    class Asking(PreTrainedTokenizerFast):
        def __call__(self, texts, **settings):
            asked.extend([texts] if isinstance(texts, str) else texts)
            return super().__call__(texts, **settings)

    pieces = PieceTokenizer(Asking(tokenizer_object=tokenizer.backend_tokenizer))
    asked.clear()
    prompt, step, other = "question\n<code>", "\nx = 1\n<end_of_step>", "\ny = 2\n<end_of_step>"
    pieces([prompt + step, prompt + other, prompt + step])
    pieces([prompt + step + other + "z"])
    assert asked == [prompt, step, other, "z"]


@pytest.mark.parametrize("kind", ["markers that take what follows", "a longer token", "metaspace at the first"])
def test_the_kinds_that_are_not_cut_would_differ(kind: str) -> None:
    tokenizer, _ = KINDS[kind]
    texts = ("x<end_of_step>\ny", "x<end_of_step> y", "x<end_of_step>y<end_of_step>y")
    halves = [text.partition(steps.END_OF_STEP) for text in texts]
    apart = [
        tokenizer(before + cut)["input_ids"] + tokenizer(after, add_special_tokens=False)["input_ids"] for before, cut, after in halves
    ]
    assert apart != [tokenizer(text)["input_ids"] for text in texts]
