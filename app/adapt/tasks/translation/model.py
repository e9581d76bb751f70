"""The torch half."""

from __future__ import annotations

from app.adapt.layers.text_to_text import TextToTextNetwork


class TranslationNetwork(TextToTextNetwork):
    """An encoder-decoder as it is."""
