"""The torch half."""

from __future__ import annotations

from app.adapt.layers.text_to_text import TextToTextNetwork


class AnyTextNetwork(TextToTextNetwork):
    """An encoder-decoder as it is."""
