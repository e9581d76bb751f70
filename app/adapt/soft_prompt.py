"""Soft prompts as tokens: what they are called, and where texts and chats have them. Torch-free.

A soft prompt is a row of trained vectors before every text. Here its vectors are rows of the embedding
matrix, and its places are tokens that the tokenizer puts before a text by itself, so that whatever reads
a finished folder reads them too. What trains them is in `app.adapt.layers.prompt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

CONFIG_KEY = "attune_prompt_tokens"  # in a network's config: the ids of its prompt's tokens
WRITTEN = re.compile(r"'(?:<\|soft_prompt_\d+\|>)+'")  # the prompt in a template that writes it


def token_name(number: int) -> str:
    """Return the name of the prompt's token `number`."""
    return f"<|soft_prompt_{number}|>"


def prompt_ids(tokenizer: Any) -> list[int]:
    """Return the ids of the tokenizer's soft prompt in their order; of most tokenizers, none."""
    return list(_ids(tokenizer))


def with_prompt(template: str, tokenizer: Any) -> str:
    """Return a chat template that writes the tokenizer's soft prompt first, or after the start token.

    Chats are tokenized without special tokens, because their templates write those: the prompt too.
    """
    text = f"'{''.join(token_name(number) for number, _ in enumerate(_ids(tokenizer)))}'"
    if WRITTEN.search(template):
        return WRITTEN.sub(text, template)
    if not WRITTEN.fullmatch(text):
        return template
    # The pluses keep what the template says at its own ends; of those Jinja drops the last newline.
    return (
        f"{{% set attune_chat +%}}{template.removesuffix(chr(10))}{{%+ endset %}}"
        "{%- if bos_token and attune_chat.startswith(bos_token) -%}"
        f"{{{{ bos_token + {text} + attune_chat[bos_token|length:] }}}}"
        f"{{%- else -%}}{{{{ {text} + attune_chat }}}}{{%- endif -%}}"
    )


def _ids(tokenizer: Any) -> Iterator[int]:
    for number in count():
        found = tokenizer.convert_tokens_to_ids(token_name(number))
        if found is None or found == tokenizer.unk_token_id:
            return
        yield found
