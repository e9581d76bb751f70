"""Vocabularies of a network's own: what becomes a token, and where it lies in the text."""

from __future__ import annotations

import pytest

from app.adapt.vocabulary import SPECIAL, learn_vocabulary, unit_of

ENGLISH = "Don't stop: the film's end (of 1999) isn’t bad!"
CHINESE = "这部电影iPhone5很好看，不是吗？"


def learned(*texts: str, unit="words", size=100, min_count=1):
    return learn_vocabulary(texts, unit, size=size, min_count=min_count)


def pieces(tokenizer, text: str) -> list[str]:
    """Return what each token covers of the text, read off the offsets."""
    found = tokenizer.encode(text, add_special_tokens=False)
    return [text[start:end] for start, end in found.offsets]


def test_words_contractions_numbers_and_signs():
    tokenizer = learned(ENGLISH)
    expected = (
        "Don", "'t", "stop", ":", "the", "film", "'s", "end", "(", "of", "1999", ")", "isn", "’t", "bad",
        "!",
    )  # fmt: skip
    assert pieces(tokenizer, ENGLISH) == list(expected)
    tokens = tokenizer.encode(ENGLISH, add_special_tokens=False).tokens
    assert tokens == [piece.lower().replace("’", "'") for piece in expected]


def test_chinese_stands_alone_among_words():
    assert pieces(learned(CHINESE), CHINESE) == [*"这部电影", "iPhone", "5", *"很好看，不是吗？"]


def test_characters_stand_alone_and_keep_their_places():
    text = f" {CHINESE}\n好 "
    found = pieces(learned(text, unit="characters"), text)
    assert found == [*CHINESE, "好"]


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize(
    "text",
    [
        "İstanbul is ﬁne ① ㎡",  # one character becomes two
        "e\u0301te\u0301 cafe\u0301",  # two become one
        "한국어 텍스트 ひらがな カタカナ",
        "👍🏽 family 👨‍👩‍👧 ok",
        "tab\tand\u3000wide  spaces",
    ],
)
def test_offsets_lie_in_the_text_in_order(unit, text):
    found = learned(text, unit=unit).encode(text, add_special_tokens=False)
    assert SPECIAL["unk_token"] not in found.tokens
    edges = [edge for place in found.offsets for edge in place]
    assert all(start < end <= len(text) for start, end in found.offsets)
    assert [start for start, _ in found.offsets] == sorted(start for start, _ in found.offsets)
    covered = {at for start, end in found.offsets for at in range(start, end)}
    assert {at for at, sign in enumerate(text) if sign.isalnum()} <= covered
    assert max(edges) <= len(text)


def test_what_nobody_sees_is_no_token():
    tokenizer = learned("a b")
    assert tokenizer.encode("\u200b\x00 \ufeff").tokens == ["[CLS]", "[SEP]"]


def test_a_pair_is_one_sequence():
    assert learned("a b").encode("a", "b").tokens == ["[CLS]", "a", "[SEP]", "b", "[SEP]"]


def test_padding_is_zero_and_the_commonest_words_are_kept():
    tokenizer = learned("b b a c", "c d", size=len(SPECIAL) + 3)
    assert tokenizer.get_vocab() == {
        **{name: number for number, name in enumerate(SPECIAL.values())}, "b": 5, "c": 6, "a": 7,
    }  # fmt: skip
    assert learned("b b a c", "c d", min_count=2).get_vocab_size() == len(SPECIAL) + 2


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([ENGLISH], "words"),
        ([CHINESE], "characters"),
        (["ひらがなとカタカナ"], "characters"),
        (["한국어 텍스트"], "words"),
        (["12 !?"], "words"),
        ([ENGLISH, "中文"], "words"),
        ([], "words"),
    ],
)
def test_the_script_decides(texts, expected):
    assert unit_of(texts) == expected
