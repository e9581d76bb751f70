"""A tokenizer that puts a soft prompt before every text: tokens of its own, and a template that has them.

Classes of transformers such as BertTokenizer make their template anew when they are loaded; the extended
tokenizer is a generic one, which takes it from tokenizer.json. It is checked by saving and loading it.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedConfig, TokenizersBackend

from app.adapt.soft_prompt import prompt_ids, token_name, with_prompt
from app.errors import InvalidSpec

# Lester et al. 2021, section 3.2. Vocabularies have the most common ones at their beginning.
COMMON = 5_000
SPACES = "▁Ġ"  # how tokens of SentencePiece and of byte-level vocabularies begin a word
PROBES = ("Two words.", "Ünïcode, 北京 and  spaces\n")
FIRST = {"Sequence": {"id": "A", "type_id": 0}}
SECOND = {"Sequence": {"id": "B", "type_id": 0}}
# What loading reads from these would make the template anew, or is of the class that is left.
CLASS_OPTIONS = ("add_bos_token", "add_eos_token", "tokenizer_class", "auto_map")


def extended(tokenizer: Any, config: PreTrainedConfig, num_tokens: int) -> tuple[Any, list[int]]:
    """Return a tokenizer with so many prompt tokens more, and their ids; the given one stays as it is.

    They come after the start token ([CLS], <s>) and before the text, of a pair before the first text.

    Raises:
        InvalidSpec: this tokenizer cannot be given them.
    """
    if not isinstance(tokenizer, TokenizersBackend):
        raise does_not_fit("its tokenizer is not one of the tokenizers library (tokenizer.json)")
    if hasattr(tokenizer, "tgt_lang"):
        raise does_not_fit("its tokenizer puts other tokens before a text for each language")
    start = len(prompt_ids(tokenizer))
    names = [token_name(number) for number in range(start, start + num_tokens)]
    with TemporaryDirectory(prefix="attune-tokenizer-") as name:
        folder = Path(name)
        generic = _generic(tokenizer, folder)
        added: Any = [AddedToken(each, special=True, normalized=False) for each in names]
        generic.add_special_tokens(
            {"extra_special_tokens": added}, replace_extra_special_tokens=False
        )
        ids = cast("list[int]", generic.convert_tokens_to_ids(names))
        _put_before_texts(generic.backend_tokenizer, names, ids)
        if generic.chat_template:
            generic.chat_template = _with_prompt(generic.chat_template, generic)
        generic.save_pretrained(folder)
        config.save_pretrained(folder)
        loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    _check(tokenizer, loaded, ids)
    return loaded, ids


def common_words(tokenizer: Any) -> list[int]:
    """Return the ids of the most common tokens that are words or pieces of them, without special ones."""
    special = set(tokenizer.all_special_ids)
    ids = [token for token in range(len(tokenizer)) if token not in special]
    names = cast("list[str]", tokenizer.convert_ids_to_tokens(ids))
    words = [token for token, name in zip(ids, names, strict=True) if name.lstrip(SPACES).isalpha()]
    return (words or ids)[:COMMON]


def does_not_fit(reason: str) -> InvalidSpec:
    """Return the error for a model that cannot have a soft prompt."""
    message = f"method prompt does not fit this model: {reason}; use lora or bias_only"
    return InvalidSpec(message, param="method", code="method_does_not_fit")


def _generic(tokenizer: Any, folder: Path) -> Any:
    """Return the tokenizer as one of the class that takes everything from its files."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    options: dict[str, Any] = json.loads(path.read_bytes())
    options = {key: value for key, value in options.items() if key not in CLASS_OPTIONS}
    # These are the class's, where the tokenizer says nothing else.
    for name in ("model_input_names", "padding_side", "truncation_side"):
        options[name] = getattr(tokenizer, name)
    path.write_text(json.dumps(options))
    return TokenizersBackend.from_pretrained(folder, local_files_only=True)


def _with_prompt(template: Any, tokenizer: Any) -> Any:
    if isinstance(template, dict):  # several, by name
        named = cast("dict[str, str]", template)
        return {name: with_prompt(each, tokenizer) for name, each in named.items()}
    return with_prompt(template, tokenizer)


def _put_before_texts(backend: Tokenizer, names: list[str], ids: list[int]) -> None:
    old = json.loads(backend.to_str())["post_processor"]
    new = _processor(old, {"id": names[0], "ids": ids, "tokens": names})
    # A processor is read as a part of a tokenizer only; this is the smallest.
    smallest = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "decoder": None, "post_processor": new,
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }  # fmt: skip
    backend.post_processor = Tokenizer.from_str(json.dumps(smallest)).post_processor


def _processor(old: dict[str, Any] | None, prompt: dict[str, Any]) -> dict[str, Any]:
    """Return a post-processor's JSON with a piece more before the first text.

    Raises:
        InvalidSpec: it is of a kind that has no such place.
    """
    kind = None if old is None else old["type"]
    if old is None or kind == "ByteLevel":  # it puts nothing before a text
        template = _template(prompt, [FIRST], [FIRST, SECOND], {})
        return template if old is None else {"type": "Sequence", "processors": [old, template]}
    match kind:
        case "TemplateProcessing":
            return _template(prompt, old["single"], old["pair"], old["special_tokens"])
        case "BertProcessing" | "RobertaProcessing":
            return _of_bert(old, prompt)
        case "Sequence":
            parts: list[dict[str, Any]] = old["processors"]
            at = next((i for i, part in enumerate(parts) if part["type"] != "ByteLevel"), -1)
            return {
                **old,
                "processors": [*parts[:at], _processor(parts[at], prompt), *parts[at:][1:]],
            }
        case _:
            raise does_not_fit(f"its tokenizer's post-processor is a {kind}")


def _template(
    prompt: dict[str, Any], single: list[Any], pair: list[Any], special: dict[str, Any]
) -> dict[str, Any]:
    def opened(pieces: list[Any]) -> list[Any]:
        at = next(i for i, piece in enumerate(pieces) if piece.get("Sequence", {}).get("id") == "A")
        kind = pieces[at]["Sequence"]["type_id"]
        return [
            *pieces[:at],
            {"SpecialToken": {"id": prompt["id"], "type_id": kind}},
            *pieces[at:],
        ]

    return {
        "type": "TemplateProcessing",
        "single": opened(single),
        "pair": opened(pair),
        "special_tokens": {**special, prompt["id"]: prompt},
    }


def _of_bert(old: dict[str, Any], prompt: dict[str, Any]) -> dict[str, Any]:
    """Return what these two write, as a template: [CLS] A [SEP] B [SEP], <s> A </s> </s> B </s>."""
    is_bert = old["type"] == "BertProcessing"
    special = {
        name: {"id": name, "ids": [number], "tokens": [name]}
        for name, number in (old["cls"], old["sep"])
    }
    start, end = ({"SpecialToken": {"id": old[side][0], "type_id": 0}} for side in ("cls", "sep"))
    kind = 1 if is_bert else 0
    second = [{"Sequence": {"id": "B", "type_id": kind}},
              {"SpecialToken": {"id": old["sep"][0], "type_id": kind}}]  # fmt: skip
    between = [end] if is_bert else [end, end]
    template = _template(prompt, [start, FIRST, end], [start, FIRST, *between, *second], special)
    if is_bert or not old["trim_offsets"]:
        return template
    trims = {"type": "ByteLevel", "add_prefix_space": old["add_prefix_space"],
             "trim_offsets": True, "use_regex": True}  # fmt: skip
    return {"type": "Sequence", "processors": [trims, template]}


def _check(before: Any, after: Any, ids: list[int]) -> None:
    """Compare the tokenizer as it will be loaded with the one it was made of."""
    for given in ((PROBES[0],), (PROBES[1],), PROBES):
        old, new = before(*given), after(*given)
        found = [token for token in new["input_ids"] if token in set(ids)]
        rest = [token for token in new["input_ids"] if token not in set(ids)]
        if found != ids or rest != old["input_ids"] or set(old) != set(new):
            raise does_not_fit("its tokenizer does not keep the prompt's tokens when it is saved")
