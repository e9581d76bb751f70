"""From rows to examples: chats, prompts with completions, texts, preference pairs. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example

Form = Literal["messages", "completion", "text", "preference"]
# Which columns make a form; the first form whose columns are there is taken.
FORMS: tuple[tuple[Form, tuple[str, ...]], ...] = (
    ("preference", ("chosen", "rejected")),
    ("messages", ("messages",)),
    ("completion", ("prompt", "completion")),
    ("text", ("text",)),
)
ROLES = ("system", "user", "assistant", "tool")
# What other data formats (ShareGPT) call the roles.
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant",
            "observation": "tool", "function": "tool"}  # fmt: skip
Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The target: what the prompt is to be followed by; with `rejected`, rather than by that."""

    form: Form
    text: str = ""
    rejected: str | None = None


def form_of(columns: Mapping[str, str], wanted: str) -> Form | None:
    """Return the form that these roles make, None when something is missing."""
    for form, roles in FORMS:
        if wanted in {"auto", form} and all(role in columns for role in roles):
            return form
    return None


def parse(
    rows: Iterable[Row], columns: Mapping[str, str], problems: Problems, *, form: Form | None
) -> list[Example]:
    """Return the examples of a form; what cannot be used is a problem with row and column."""
    read = {"messages": _chat, "completion": _completion, "text": _text, "preference": _preference}
    examples: list[Example] = []
    for row in rows:
        found = read[str(form)](row, columns)
        if isinstance(found, Problem):
            problems.add(found)
        else:
            examples.append(found)
    return examples


def messages_of(value: Any) -> list[Message] | str:
    """Return the messages of a chat as `{"role", "content"}`, or what is wrong with them.

    Understood are OpenAI's form, ShareGPT's (`from`, `value`), and contents that are lists of text parts.
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        return 'messages are a list of {"role": ..., "content": ...}'
    messages: list[Message] = []
    for number, item in enumerate(cast("list[Any]", value), 1):
        entry = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
        role = entry.get("role", entry.get("from"))
        role = SPEAKERS.get(str(role), role)
        if role not in ROLES:
            return f"message {number}: the role must be one of {', '.join(ROLES)}, not {role!r}"
        content = _content(entry.get("content", entry.get("value")))
        if content is None:
            return f"message {number}: the content must be a text"
        messages.append({"role": str(role), "content": content})
    return messages


def _content(value: Any) -> str | None:
    if not isinstance(value, list):
        return value if isinstance(value, str) else None
    texts: list[str] = []
    for part in cast("list[Any]", value):
        entry = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
        text = entry.get("text", entry.get("value"))
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts) if texts else None


def _chat(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    column = columns["messages"]
    messages = messages_of(row.values.get(column))
    if isinstance(messages, str):
        return Problem("wrong_messages", messages, row.number, column)
    while messages and messages[-1]["role"] != "assistant":
        messages = messages[:-1]  # nothing follows that could be learned
    if len(messages) < 2 or not messages[-1]["content"].strip():  # noqa: PLR2004 - asked, answered
        message = "there is no answer to learn: an assistant's message must follow another one"
        return Problem("no_answer", message, row.number, column)
    return Example(
        row.number, {"messages": messages[:-1]}, Answer("messages", messages[-1]["content"])
    )


def _completion(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    prompt, answer = (row.values.get(columns[role]) for role in ("prompt", "completion"))
    for role, value in (("prompt", prompt), ("completion", answer)):
        if not isinstance(value, str) or not value.strip():
            message = (
                f"the {role} is empty" if value in (None, "") else f"the {role} must be a text"
            )
            return Problem("empty_text", message, row.number, columns[role])
    return Example(
        row.number, {"prompt": _with_input(str(prompt), row, columns)}, Answer("completion", str(answer))
    )  # fmt: skip


def _with_input(prompt: str, row: Row, columns: Mapping[str, str]) -> str:
    more = row.values.get(columns["input"]) if "input" in columns else None
    return f"{prompt}\n\n{more}" if isinstance(more, str) and more.strip() else prompt


def _text(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    text = row.values.get(columns["text"])
    if not isinstance(text, str) or not text.strip():
        return Problem("empty_text", "the text is empty", row.number, columns["text"])
    return Example(row.number, {"text": text}, Answer("text"))


def _preference(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    """Read a pair of answers, as texts, as messages, or as whole chats that share their beginning."""
    inputs = _asked(row, columns)
    if isinstance(inputs, Problem):
        return inputs
    sides: list[str] = []
    for role in ("chosen", "rejected"):
        answer = row.values.get(columns[role])
        if isinstance(answer, list | dict):
            messages = messages_of(cast("Any", answer))
            if isinstance(messages, str):
                return Problem("wrong_messages", messages, row.number, columns[role])
            inputs = {"messages": messages[:-1]} if len(messages) > 1 else inputs
            answer = messages[-1]["content"]
        if not isinstance(answer, str) or not answer.strip():
            return Problem("empty_text", f"{role} is empty", row.number, columns[role])
        sides.append(answer)
    if not inputs:
        message = "the pair has no prompt: name a column prompt or messages"
        return Problem("no_prompt", message, row.number, columns["chosen"])
    if sides[0] == sides[1]:
        message = "chosen and rejected are the same: there is nothing to prefer"
        return Problem("same_answers", message, row.number, columns["rejected"])
    return Example(row.number, inputs, Answer("preference", *sides))


def _asked(row: Row, columns: Mapping[str, str]) -> dict[str, Any] | Problem:
    """Return what both answers answer; empty when there is no column of it."""
    role = next((role for role in ("messages", "prompt") if role in columns), None)
    if role is None:
        return {}
    given = row.values.get(columns[role])
    if isinstance(given, str) and given.strip():
        return {"prompt": _with_input(given, row, columns)}
    messages = messages_of(given)
    if isinstance(messages, str):
        return Problem("wrong_messages", messages, row.number, columns[role])
    return {"messages": messages}


def texts_of(example: Example) -> list[str]:
    """Return every text of an example."""
    chat: list[Message] = example.inputs.get("messages", [])
    texts = [message["content"] for message in chat]
    texts += [value for key, value in example.inputs.items() if key != "messages"]
    if example.target is not None:
        texts += [text for text in (example.target.text, example.target.rejected) if text]
    return texts


def describe(rows: int, examples: Sequence[Example]) -> DataReport:
    """Count turns and lengths; warn of what is doubled, or teaches length rather than quality."""
    answers = sorted(len(example.target.text) for example in examples)
    chats = [example.inputs["messages"] for example in examples if "messages" in example.inputs]
    statistics: dict[str, Any] = {
        "answer_characters": {"p50": answers[len(answers) // 2], "max": answers[-1]} if answers else {},
        "messages": max(map(len, chats), default=0),
    }  # fmt: skip
    warnings: list[str] = []
    seen = {(str(example.inputs), str(example.target)) for example in examples}
    if len(seen) < len(examples):
        warnings.append(f"{len(examples) - len(seen)} rows repeat another one word for word")
    pairs = [e.target for e in examples if e.target.rejected is not None]
    longer = sum(len(pair.text) > len(pair.rejected or "") for pair in pairs)
    if pairs:
        statistics["chosen_is_longer"] = round(longer / len(pairs), 4)
        if len(pairs) >= 50 and not 0.25 <= longer / len(pairs) <= 0.75:  # noqa: PLR2004
            what = "longer" if longer * 2 > len(pairs) else "shorter"
            warnings.append(
                f"the chosen answer is mostly the {what} one: length alone tells them apart, "
                "and the model will learn that"
            )
    if rows > len(examples):
        warnings.append(f"{rows - len(examples)} of {rows} rows cannot be used")
    return DataReport(rows, len(examples), warnings, statistics)
