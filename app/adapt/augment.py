"""Texts made of other texts, for a teacher to answer: words hidden, left out, or a run of them. Torch-free.

Source: Tang et al. 2019 (arXiv 1903.12136), section 3.2: masking with p = 0.1, n-gram sampling with
p = 0.25 of n from 1 to 5; their replacement by words of the same part of speech needs a tagger and is left
out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Protocol

from app.adapt.scripts import UNSPACED

MAX_NGRAM = 5
# Scripts without spaces are cut into their characters, all else into words.
PIECE = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+\s*|\s+")


class Rule(Protocol):
    """How texts are changed; `app.spec.distill.Augmentation` is one."""

    @property
    def copies(self) -> int: ...  # noqa: D102 - see Augmentation
    @property
    def mask(self) -> float: ...  # noqa: D102
    @property
    def drop(self) -> float: ...  # noqa: D102
    @property
    def ngram(self) -> float: ...  # noqa: D102


def augment(texts: Sequence[str], rule: Rule, mask_token: str, seed: int) -> list[str]:
    """Return new texts, each once and none that is in `texts`; a pure function of its arguments."""
    rng = random.Random(seed)  # noqa: S311 - data, not a secret
    seen = {text.strip() for text in texts}
    made: list[str] = []
    for text in texts:
        pieces = PIECE.findall(text)
        for _ in range(rule.copies):
            changed = _changed(pieces, rule, mask_token, rng).strip()
            if changed and changed not in seen:
                seen.add(changed)
                made.append(changed)
    return made


def _changed(pieces: Sequence[str], rule: Rule, mask_token: str, rng: random.Random) -> str:
    kept: list[str] = []
    for piece in pieces:
        chance = rng.random()
        if chance < rule.mask:
            space = piece[len(piece.rstrip()) :]
            kept.append(mask_token + space)
        elif chance >= rule.mask + rule.drop:
            kept.append(piece)
    if kept and rng.random() < rule.ngram:
        size = rng.randint(1, min(MAX_NGRAM, len(kept)))
        start = rng.randint(0, len(kept) - size)
        kept = kept[start : start + size]
    return "".join(kept)
