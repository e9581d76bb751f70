"""Scripts that write no spaces between words. Torch-free."""

from __future__ import annotations

# Kana and Han, as the inside of a character class: each character stands alone, as BERT splits them.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
