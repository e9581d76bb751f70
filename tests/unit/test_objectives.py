"""What objectives make of tokens: how much is hidden, whole words, T5's sentinels, documents kept apart."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import sentencepiece
from transformers import BertTokenizer, T5Tokenizer

from app.adapt.backbone import NAMES, finish_tokenizer, special_pieces
from app.adapt.objective import IGNORED
from app.adapt.objectives.causal_lm import CausalLm
from app.adapt.objectives.masked_lm import MaskedLm
from app.adapt.objectives.span_corruption import SpanCorruption
from app.adapt.piece_table import PieceTable
from app.adapt.plugins import OBJECTIVES, SEGMENTERS
from app.errors import InvalidSpec
from tests.published import DATA
from tests.tiny import TEXTS, make_vocab

NONE = np.empty(0, dtype=np.int64)


def draw(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(key or [0]))


@pytest.fixture(scope="module")
def bert() -> PieceTable:
    return PieceTable.of(BertTokenizer(vocab=make_vocab(TEXTS)))


def learned(kind: str, architecture, texts=TEXTS * 20):
    segmenter = SEGMENTERS[kind].model_validate({"vocabulary_size": 420})
    made = segmenter.learn(texts, special_pieces(architecture), NAMES[architecture]["unk_token"])
    return finish_tokenizer(made, architecture, 64)


# --- masked_lm ---


def test_masking_hides_what_devlin_et_al_say(bert):
    """15 % are targets; of these 80 % the mask, 10 % another token, 10 % themselves."""
    tokens = np.random.Generator(np.random.PCG64(1)).choice(bert.plain, 200)
    fates: Counter[str] = Counter()
    for row in range(300):
        made = MaskedLm().row(tokens, NONE, bert, draw(0, row), apart=False)
        ids, target = np.array(made.input_ids)[1:-1], np.array(made.target)[1:-1]
        hidden = target != IGNORED
        assert hidden.sum() == made.units == 30
        assert (target[hidden] == tokens[hidden]).all()
        assert (ids[~hidden] == tokens[~hidden]).all()
        fates["mask"] += int((ids[hidden] == bert.mask).sum())
        fates["same"] += int((ids[hidden] == tokens[hidden]).sum())
        assert not np.isin(ids, [0, 1, 2, 3]).any(), "no other special token is put in"
    total = 300 * 30
    assert fates["mask"] / total == pytest.approx(0.8, abs=0.02)
    # Of the tenth that changes, some draw what was there.
    assert fates["same"] / total == pytest.approx(0.1 + 0.1 / len(bert.plain), abs=0.015)


def test_every_token_is_hidden_as_often_as_any_other(bert):
    tokens = bert.plain[:40]
    counts = np.zeros(40)
    for row in range(2000):
        made = MaskedLm().row(tokens, NONE, bert, draw(0, row), apart=False)
        counts += np.array(made.target)[1:-1] != IGNORED
    assert counts.sum() == 2000 * 6
    assert counts.min() > 240
    assert counts.max() < 360


def test_special_tokens_are_never_hidden(bert):
    tokens = np.concatenate([bert.plain[:20], [3], bert.plain[20:40], [1, 1, 3]])
    for row in range(50):
        made = MaskedLm(rate=0.5).row(tokens, NONE, bert, draw(row), apart=False)
        target = np.array(made.target)
        assert not np.isin(target[target != IGNORED], [0, 1, 2, 3, 4]).any()
        assert made.input_ids[-2:] == [1, 3], "a separator at the end is not doubled"


def test_a_row_of_unknown_words_still_has_a_target(bert):
    made = MaskedLm().row(np.array([1, 1, 1]), NONE, bert, draw(), apart=False)
    assert made.units == 1
    made = MaskedLm(whole_word=True).row(np.array([3]), NONE, bert, draw(), apart=False)
    assert made.units == 1


@pytest.mark.parametrize("kind", SEGMENTERS.kinds)
def test_whole_words_are_hidden_whole(kind):
    tokenizer = learned(kind, "encoder")
    pieces = PieceTable.of(tokenizer)
    text = "filmplot badcardstolen the oldtransfer and blockjoy"
    encoding = tokenizer(text, add_special_tokens=False)
    tokens = np.array(encoding["input_ids"])
    words = encoding.word_ids()
    split = {word for word in words if words.count(word) > 1}
    assert len(split) >= 3, "the test needs words of several pieces"
    assert pieces.unknown not in tokens
    objective = MaskedLm(whole_word=True, rate=0.4)
    hidden_words = set()
    for row in range(200):
        made = objective.row(tokens, np.array([0]), pieces, draw(row), apart=False)
        hidden = np.array(made.target)[1:-1] != IGNORED
        assert 1 <= hidden.sum() == made.units
        for word in set(words):
            own = hidden[[at for at, other in enumerate(words) if other == word]]
            assert own.all() or not own.any(), "a word is hidden in part"
            hidden_words |= {word} if own.all() else set()
    assert hidden_words & split


def test_whole_words_do_not_run_over_the_end_of_a_document(bert):
    within = next(at for at in bert.plain if not bert.starts_word_V[at])
    tokens = np.array([int(bert.plain[-1]), within, within, within])
    for row in range(50):
        made = MaskedLm(whole_word=True, rate=0.5).row(
            tokens, np.array([2]), bert, draw(row), apart=False
        )
        hidden = np.array(made.target)[1:-1] != IGNORED
        assert hidden.tolist() in ([True, True, False, False], [False, False, True, True])


def test_the_same_row_is_made_again(bert):
    tokens = bert.plain[:30]
    rows = [MaskedLm().row(tokens, NONE, bert, draw(3, 7), apart=False) for _ in range(2)]
    assert rows[0] == rows[1]
    assert rows[0] != MaskedLm().row(tokens, NONE, bert, draw(3, 8), apart=False)


# --- causal_lm ---


def test_a_causal_row_is_the_tokens_and_those_that_follow(bert):
    tokens = np.array([5, 6, 7, 8])
    made = CausalLm().row(tokens, np.array([0]), bert, draw(), apart=False)
    assert (made.input_ids, made.target) == ([5, 6, 7, 8], [6, 7, 8, IGNORED])
    assert (made.units, made.extra) == (3, {})


def test_documents_in_a_row_are_kept_apart(bert):
    tokens = np.array([5, 6, 3, 7, 8, 3, 9])
    made = CausalLm().row(tokens, np.array([3, 6]), bert, draw(), apart=True)
    assert made.target == [6, 3, IGNORED, 8, 3, IGNORED, IGNORED]
    assert made.extra["positions"] == [0, 1, 2, 0, 1, 2, 0]
    assert made.units == 4


def test_positions_that_begin_anew_hide_the_document_before(tmp_path):
    """A network's logits of a document are what they are when it stands alone."""
    import torch

    from app.adapt.backbone import make_folder
    from app.adapt.plugins import BACKBONES
    from app.adapt.tasks.text_generation.config import TextGeneration

    tokenizer = learned("bpe", "decoder")
    pieces = PieceTable.of(tokenizer)
    objective = CausalLm()
    half, task = objective.network(), TextGeneration(form="text")
    for kind in ("gpt2", "llama"):
        backbone = BACKBONES[kind].model_validate(
            {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_length": 64}
        )
        make_folder(backbone, tokenizer, tmp_path / kind, 0)
        network = task.network().load(task, tmp_path / kind).eval()
        first, second = (np.array(tokenizer(text)["input_ids"]) for text in TEXTS[:2])
        both = np.concatenate([first, second])
        starts = np.array([0, len(first)])
        row = objective.row(both, starts, pieces, draw(), apart=True)
        alone = objective.row(second, np.array([0]), pieces, draw(), apart=True)
        with torch.no_grad():
            together = half.forward(network, half.collate(task, [row], 0)).logits[0, len(first) :]
            by_itself = half.forward(network, half.collate(task, [alone], 0)).logits[0]
            joined = objective.row(both, starts, pieces, draw(), apart=False)
            seen = half.forward(network, half.collate(task, [joined], 0)).logits[0, len(first) :]
        torch.testing.assert_close(together, by_itself, atol=1e-4, rtol=1e-4)
        assert (seen - by_itself).abs().max() > 1e-3


# --- span_corruption ---


def reference_spans(length: int, rate: float, mean: float, cuts) -> list[int]:
    """The T5 code's random_spans_noise_mask, written out with lists; `cuts` draws a segmentation.

    Source: google-research/text-to-text-transfer-transformer, t5/data/preprocessors.py.
    """
    noise = min(max(int(np.round(length * rate)), 1), length - 1)
    spans = max(int(np.round(noise / mean)), 1)
    kept_sizes, noise_sizes = cuts(length - noise, spans), cuts(noise, spans)
    mask: list[int] = []
    for kept, hidden in zip(kept_sizes, noise_sizes, strict=True):
        mask += [0] * kept + [1] * hidden
    return mask


@pytest.mark.parametrize("length", [2, 3, 10, 57, 128, 512])
@pytest.mark.parametrize(("rate", "mean"), [(0.15, 3.0), (0.5, 5.0), (0.15, 1.0)])
def test_spans_are_as_many_and_as_long_as_t5_has_them(length, rate, mean):
    objective = SpanCorruption(rate=rate, mean_length=mean)
    mask = objective.noise(length, draw(length)).astype(int)

    def equal(total: int, count: int) -> list[int]:
        return [total // count + (at < total % count) for at in range(count)]

    expected = reference_spans(length, rate, mean, equal)
    assert len(mask) == len(expected) == length
    assert mask.sum() == sum(expected)
    assert np.diff(mask).clip(0).sum() == sum(b > a for a, b in pairwise(expected))
    assert (mask[0], mask[-1]) == (0, 1), "a row begins with what stays and ends with a span"


def test_the_row_and_its_target_are_as_in_the_paper():
    """Figure 2 of Raffel et al.: the example of transformers' documentation, with these spans."""
    tokenizer = learned("unigram", "encoder_decoder", ["the cute dog walks in the park"] * 50)
    pieces = PieceTable.of(tokenizer)
    tokens = np.array(tokenizer("the cute dog walks in the park")["input_ids"][:-1])
    objective = SpanCorruption(rate=0.4, mean_length=2)
    made = objective.row(tokens, NONE, pieces, draw(5), apart=False)
    said, wanted = (tokenizer.convert_ids_to_tokens(ids) for ids in (made.input_ids, made.target))
    assert said[-1] == wanted[-1] == "</s>"
    sentinels = [piece for piece in said if piece.startswith("<extra_id_")]
    assert sentinels == [f"<extra_id_{n}>" for n in range(len(sentinels))]
    assert sentinels == [piece for piece in wanted if piece.startswith("<extra_id_")]
    # Putting what the target says in place of the sentinels gives the text back.
    spans: dict[str, list[int]] = {}
    for piece, id_ in zip(wanted[:-1], made.target[:-1], strict=True):
        if piece.startswith("<extra_id_"):
            current = spans.setdefault(piece, [])
        else:
            current.append(id_)
    filled: list[int] = []
    for piece, id_ in zip(said[:-1], made.input_ids[:-1], strict=True):
        filled += spans.get(piece, [id_])
    assert filled == tokens.tolist()
    assert made.units == len(made.target) == len(made.others[0])


def test_sentinels_are_those_of_a_published_t5():
    file = DATA.parent / "models" / "tokenizers" / "t5_spiece.model"
    if not file.is_file():
        pytest.skip("T5's tokenizer is not beside the published data")
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    vocabulary = [(model.id_to_piece(id_), model.get_score(id_)) for id_ in range(len(model))]
    pieces = PieceTable.of(T5Tokenizer(vocab=vocabulary))
    # Made of its pieces alone, this tokenizer of transformers numbers them upwards.
    assert pieces.sentinels == tuple(range(32_000, 32_100))
    assert (pieces.first, pieces.last, pieces.end) == ((), (1,), 1)


@pytest.mark.parametrize("max_length", [16, 64, 128, 512])
def test_a_corrupted_row_fills_the_length_and_no_more(max_length):
    tokenizer = learned("unigram", "encoder_decoder")
    pieces = PieceTable.of(tokenizer)
    objective = SpanCorruption()
    room = objective.room(pieces, max_length)
    tokens = np.random.Generator(np.random.PCG64(2)).choice(pieces.plain, room)
    made = objective.row(tokens, NONE, pieces, draw(1), apart=False)
    assert max_length - 1 <= made.longest <= max_length
    assert len(made) == objective.width(pieces, max_length)
    if max_length == 512:
        assert room == 568, "T5: 568 tokens become 512 (compute_input_and_target_lengths)"


def test_a_tokenizer_that_does_not_fit_is_refused(bert):
    with pytest.raises(InvalidSpec, match="sentinels"):
        SpanCorruption().check(bert, 512)
    decoder = PieceTable.of(learned("bpe", "decoder"))
    with pytest.raises(InvalidSpec, match="mask token"):
        MaskedLm().check(decoder, 512)


@pytest.mark.parametrize("kind", OBJECTIVES.kinds)
def test_every_objective_says_what_its_model_does(kind):
    from app.adapt.plugins import TASKS

    objective = OBJECTIVES[kind].model_validate({})
    task = TASKS[objective.task()["kind"]].model_validate(objective.task())
    assert task.architecture == objective.architecture
