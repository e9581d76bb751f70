"""From examples to token ids: prompts, answers, and which tokens are learned. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from app.adapt.outputs import Encoded
from app.adapt.soft_prompt import prompt_ids, with_prompt
from app.adapt.task import Example
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.tasks.text_generation.data import Answer, Message

# For models that were never taught to chat: words that any vocabulary can spell.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] + ':\n' + message['content'] }}"
    "{{ eos_token + '\n' if message['role'] == 'assistant' else '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
T = TypeVar("T")
PROMPT_SHARE = 2  # of a length that is too short for both, the prompt may take half


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int,
    template: str | None,
) -> list[Encoded]:  # fmt: skip
    """Return the sequences of all examples.

    `input_ids` is the prompt, the target the token ids that follow it; `extra["learned"]` says which tokens
    of the prompt are learned too. A text without prompt that is longer than `max_length`
    becomes several sequences.

    Raises:
        InvalidRequest: the chat template is wrong, or refuses a chat.
    """
    made: Any = tokenizer
    if template is not None or not made.chat_template:
        made.chat_template = with_prompt(template or PLAIN_TEMPLATE, made)
    from jinja2 import TemplateError

    rows: list[Encoded] = []
    for index, example in enumerate(examples):
        try:
            rows += _sequences(made, example, index, max_length)
        except TemplateError as error:
            raise _refused(example, error) from error
    return rows


def _sequences(tokenizer: Any, example: Example, index: int, max_length: int) -> list[Encoded]:
    target: Answer | None = example.target
    if target is None:
        return [_asked(tokenizer, example, index, max_length)]
    if target.form == "text":
        return _text(tokenizer, example, index, max_length)
    if target.rejected is not None:
        return [_pair(tokenizer, example, index, max_length)]
    return [_answered(tokenizer, example, index, max_length)]


def _refused(example: Example, error: Exception) -> InvalidRequest:
    """Return the error for messages that a template does not take: some want turns, or no system's."""
    where = f"inputs.{example.row}" if example.target is None else f"row {example.row}"
    message = f"{where}: the model's chat template refuses the messages: {error}"
    param = where if example.target is None else "task.chat_template"
    return InvalidRequest(message, param=param, code="chat_template", details={"row": example.row})


def _asked(tokenizer: Any, example: Example, index: int, max_length: int) -> Encoded:
    ids, _ = _prompt(tokenizer, example)
    extra = {"truncated": len(ids) > max_length, "prompt": shown(example)}
    kept = _last(ids, max_length, _fixed(tokenizer, ids))
    return Encoded(kept, row=example.row, example=index, extra=extra)


def _answered(tokenizer: Any, example: Example, index: int, max_length: int) -> Encoded:
    """Return prompt and answer; of a chat, earlier answers are learned too."""
    whole, learned = _prompt(tokenizer, example)
    said = _answer_ids(tokenizer, example, example.target.text)
    fixed = _fixed(tokenizer, whole)
    prompt, (answer,) = _cut(whole, [said], max_length, fixed)
    learned = _last(learned, len(prompt), fixed)
    return Encoded(
        prompt,
        target=answer,
        row=example.row,
        example=index,
        others=(answer,),
        units=sum(learned[1:]) + len(answer),
        is_joined=True,
        extra={
            "learned": learned,
            "prompt": shown(example),
            "expected": example.target.text,
            "truncated": len(whole) + len(said) > max_length,
        },
    )


def _pair(tokenizer: Any, example: Example, index: int, max_length: int) -> Encoded:
    prompt, _ = _prompt(tokenizer, example)
    answers = [
        _answer_ids(tokenizer, example, text)
        for text in (example.target.text, example.target.rejected)
    ]
    size = len(prompt) + max(map(len, answers))
    prompt, answers = _cut(prompt, answers, max_length, _fixed(tokenizer, prompt))
    return Encoded(
        prompt,
        target=tuple(answers),
        row=example.row,
        example=index,
        others=tuple(answers),
        is_joined=True,
        extra={"truncated": size > max_length},
    )


def _text(tokenizer: Any, example: Example, index: int, max_length: int) -> list[Encoded]:
    """Return the text in pieces of at most `max_length`; the last one learns to end.

    A soft prompt, with what is before it, is not learned, and stands before each piece.
    """
    ids = [*start_of(tokenizer), *_ids(tokenizer, example.inputs["text"])]
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    fixed = ids[: _fixed(tokenizer, ids)]
    ids = ids[len(fixed) :]
    room = max_length - len(end) - len(fixed)
    rows: list[Encoded] = []
    for begin in range(0, len(ids), room):
        piece = [*fixed, *ids[begin : begin + room]]
        is_last = begin + room >= len(ids)
        target = end if is_last else []
        learned = [False] * len(fixed) + [True] * (len(piece) - len(fixed))
        rows.append(
            Encoded(
                piece,
                target=target,
                row=example.row,
                example=index,
                others=(target,),
                units=max(1, sum(learned[1:]) + len(target)),
                is_joined=True,
                extra={"learned": learned, "prompt": "", "expected": ""},
            )
        )
    return rows


def _prompt(tokenizer: Any, example: Example) -> tuple[list[int], list[bool]]:
    """Return the tokens of the prompt, and which of them are answers of earlier turns."""
    inputs = example.inputs
    if "messages" not in inputs:
        text = inputs.get("prompt", inputs.get("text", ""))
        ids = [*start_of(tokenizer), *_ids(tokenizer, text)]
        return ids, [False] * len(ids)
    messages: list[Message] = inputs["messages"]
    text = _render(tokenizer, messages, asks=True)
    places: list[tuple[int, int]] = []
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            before = _render(tokenizer, messages[:at], asks=True)
            until = _render(tokenizer, messages[: at + 1], asks=False)
            if text.startswith(before) and text.startswith(until):
                places.append((len(before), len(until)))
    lead = _lead(tokenizer, text)
    if not places:
        ids = [*lead, *_ids(tokenizer, text)]
        return ids, [False] * len(ids)
    batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    learned = [
        any(first <= start and end <= last for first, last in places) and end > start
        for start, end in batch["offset_mapping"]
    ]
    return [*lead, *batch["input_ids"]], [False] * len(lead) + learned


def _answer_ids(tokenizer: Any, example: Example, text: str) -> list[int]:
    """Return the tokens of an answer with its end."""
    if "messages" in example.inputs:
        messages = [*example.inputs["messages"], {"role": "assistant", "content": text}]
        prompt = _render(tokenizer, messages[:-1], asks=True)
        whole = _render(tokenizer, messages, asks=False)
        if whole.startswith(prompt):
            text = whole[len(prompt) :].rstrip()
    ids = _ids(tokenizer, text)
    end = tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _cut(
    prompt: list[int], answers: list[list[int]], max_length: int, fixed: int
) -> tuple[list[int], list[list[int]]]:
    """Return both within `max_length`: the prompt loses its beginning, then the answers their end.

    The first `fixed` tokens of the prompt stay, and are no part of its share.
    """
    longest, left = max(map(len, answers)), max_length - fixed
    share = fixed + min(len(prompt) - fixed, left // PROMPT_SHARE)
    prompt = _last(prompt, max(max_length - longest, share, fixed + 1), fixed)
    return prompt, [answer[: max_length - len(prompt)] for answer in answers]


def _last(items: list[T], length: int, fixed: int) -> list[T]:
    """Return the first `fixed` items and of the others the last ones, `length` together."""
    return [*items[:fixed], *items[max(fixed, len(items) - (length - fixed)) :]]


def _fixed(tokenizer: Any, ids: list[int]) -> int:
    """Return how many tokens stay when a prompt loses its beginning: those up to a soft prompt's last."""
    soft = prompt_ids(tokenizer)
    return ids.index(soft[0]) + len(soft) if soft else 0


def _render(tokenizer: Any, messages: Sequence[Message], *, asks: bool) -> str:
    if not messages and not asks:
        return ""
    return str(
        tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return cast("list[int]", tokenizer(text, add_special_tokens=False)["input_ids"])


def _lead(tokenizer: Any, text: str) -> list[int]:
    """Return the start token, unless the template has written it; it always writes a soft prompt."""
    start = tokenizer.bos_token
    return [] if start and text.startswith(start) else _start(tokenizer)


def start_of(tokenizer: Any) -> list[int]:
    """Return what the tokenizer itself puts before a text: the start token, a soft prompt."""
    return [*_start(tokenizer), *prompt_ids(tokenizer)]


def _start(tokenizer: Any) -> list[int]:
    ids = cast("list[int]", tokenizer("")["input_ids"])
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def shown(example: Example) -> str:
    """Return the prompt as people read it."""
    if "messages" in example.inputs:
        return str(example.inputs["messages"][-1]["content"])
    return str(example.inputs.get("prompt", example.inputs.get("text", "")))
