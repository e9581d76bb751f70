"""From rows to examples: chats, prompts with completions, texts, preference pairs. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example
from app.kit.counting import counted, in_rows, listed

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
READ = {"role", "from", "content", "value"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The target: what the prompt is to be followed by; with `rejected`, rather than by that.

    Of a chat, `unanswered` says that messages after the last answer were left out, `takes_turns` that
    user and assistant alternate, and `unread` which fields of its messages were not read.
    """

    form: Form
    text: str = ""
    rejected: str | None = None
    unanswered: bool = False
    takes_turns: bool = True
    unread: tuple[str, ...] = ()


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
            calls = (
                "; calls of tools cannot be learned"
                if {"tool_calls", "function_call"} & {*entry}
                else ""
            )
            return f"message {number} ({role}): the content must be a text{calls}"
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


def input_value(given: Mapping[str, Any]) -> Any:
    """Return an element of a predict call's `inputs` of one row's values by role."""
    value = dict(given)
    more = value.pop("input", None)
    prompt = value.get("prompt")
    if isinstance(prompt, str) and isinstance(more, str) and more.strip():
        value["prompt"] = f"{prompt}\n\n{more}"
    return value


def asked(example: Example) -> Example:
    """Return an example without its answers: what is asked last comes last."""
    messages: list[Message] = list(example.inputs.get("messages", []))
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    inputs = {**example.inputs, "messages": messages} if messages else example.inputs
    return replace(example, inputs=inputs, target=None)


def expected(answer: Answer) -> Any:
    """Return the right answer as JSON has it; nothing of a text that is learned as a whole."""
    if answer.form == "text":
        return None
    if answer.rejected is not None:
        return {"chosen": answer.text, "rejected": answer.rejected}
    return answer.text


def _chat(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    column = columns["messages"]
    given = row.values.get(column)
    if given is None:
        others = [name for name, value in row.values.items() if value is not None]
        message = f"there are no messages; the row has {others}, and all rows must be of one form"
        return Problem("wrong_messages", message, row.number, column)
    whole = messages_of(given)
    if isinstance(whole, str):
        return Problem("wrong_messages", whole, row.number, column)
    messages = whole
    while messages and messages[-1]["role"] != "assistant":
        messages = messages[:-1]  # nothing follows that could be learned
    if len(messages) < 2:  # noqa: PLR2004 - asked, answered
        message = "there is no answer to learn: an assistant's message must follow another one"
        return Problem("no_answer", message, row.number, column)
    for number, said in enumerate(messages, 1):
        if not said["content"].strip():
            is_last = number == len(messages)
            message = f"message {number} ({said['role']}) is empty"
            message += ": there is no answer to learn" if is_last else ""
            return Problem("no_answer" if is_last else "empty_text", message, row.number, column)
    items = cast("list[dict[str, Any]]", [given] if isinstance(given, dict) else given)
    answer = Answer(
        "messages",
        messages[-1]["content"],
        unanswered=len(messages) < len(whole),
        takes_turns=_takes_turns(messages),
        unread=tuple(sorted({name for item in items for name in item} - READ)),
    )
    return Example(row.number, {"messages": messages[:-1]}, answer)


def _takes_turns(messages: Sequence[Message]) -> bool:
    """Say whether user and assistant alternate, after a system's message if there is one."""
    roles = [message["role"] for message in messages if message["role"] != "tool"]
    roles = roles[1:] if roles[0] == "system" else roles
    return all(role == ("user", "assistant")[at % 2] for at, role in enumerate(roles))


def _completion(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    prompt, answer = (row.values.get(columns[role]) for role in ("prompt", "completion"))
    for role, value in (("prompt", prompt), ("completion", answer)):
        fault = _text_fault(f"the {role}", value)
        if fault is not None:
            return Problem(*fault, row.number, columns[role])
    joined = _with_input(str(prompt), row, columns)
    if isinstance(joined, Problem):
        return joined
    return Example(row.number, {"prompt": joined}, Answer("completion", str(answer)))


def _text_fault(name: str, value: Any) -> tuple[str, str] | None:
    if value is not None and not isinstance(value, str):
        return "wrong_type", f"{name} must be a text, not {type(value).__name__}"
    return None if value and value.strip() else ("empty_text", f"{name} is empty")


def _with_input(prompt: str, row: Row, columns: Mapping[str, str]) -> str | Problem:
    more = row.values.get(columns["input"]) if "input" in columns else None
    if more is not None and not isinstance(more, str):
        message = f"the input must be a text, not {type(more).__name__}"
        return Problem("wrong_type", message, row.number, columns["input"])
    return f"{prompt}\n\n{more}" if more and more.strip() else prompt


def _text(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    text = row.values.get(columns["text"])
    fault = _text_fault("the text", text)
    if fault is not None:
        return Problem(*fault, row.number, columns["text"])
    return Example(row.number, {"text": text}, Answer("text"))


def _preference(row: Row, columns: Mapping[str, str]) -> Example | Problem:
    """Read a pair of answers, as texts, as messages, or as whole chats that share their beginning."""
    sides: list[tuple[list[Message], str]] = []
    for role in ("chosen", "rejected"):
        side = _side(row, columns[role], role)
        if isinstance(side, Problem):
            return side
        sides.append(side)
    (begun, chosen), (other, rejected) = sides
    if begun and other and begun != other:
        message = "chosen and rejected are answers to different chats"
        return Problem("different_prompts", message, row.number, columns["rejected"])
    if chosen.strip() == rejected.strip():
        message = "chosen and rejected are the same: there is nothing to prefer"
        return Problem("same_answers", message, row.number, columns["rejected"])
    begun = begun or other
    inputs = {"messages": begun} if begun else _asked(row, columns)
    if isinstance(inputs, Problem):
        return inputs
    return Example(row.number, inputs, Answer("preference", chosen, rejected))


def _side(row: Row, column: str, role: str) -> tuple[list[Message], str] | Problem:
    """Return the chat that an answer follows, where it is part of the answer, and the answer's text."""
    answer: Any = row.values.get(column)
    begun: list[Message] = []
    if isinstance(answer, list | dict) and answer:
        messages = messages_of(cast("Any", answer))
        if isinstance(messages, str):
            return Problem("wrong_messages", messages, row.number, column)
        if messages[-1]["role"] != "assistant":
            message = f"the last message of {role} must be the assistant's answer"
            return Problem("no_answer", message, row.number, column)
        begun, answer = messages[:-1], messages[-1]["content"]
    fault = _text_fault(role, answer)
    return (begun, str(answer)) if fault is None else Problem(*fault, row.number, column)


def _asked(row: Row, columns: Mapping[str, str]) -> dict[str, Any] | Problem:
    """Return what both answers answer."""
    role = next((role for role in ("messages", "prompt") if role in columns), None)
    if role is None:
        message = "the pair has no prompt: name a column prompt or messages"
        return Problem("no_prompt", message, row.number, columns["chosen"])
    given = row.values.get(columns[role])
    if isinstance(given, list | dict):
        messages = messages_of(cast("Any", given))
        if isinstance(messages, str):
            return Problem("wrong_messages", messages, row.number, columns[role])
        return {"messages": messages}
    fault = _text_fault("the prompt", given)
    if fault is not None:
        return Problem(*fault, row.number, columns[role])
    joined = _with_input(str(given), row, columns)
    return joined if isinstance(joined, Problem) else {"prompt": joined}


def texts_of(example: Example) -> list[str]:
    """Return every text of an example."""
    chat: list[Message] = example.inputs.get("messages", [])
    texts = [message["content"] for message in chat]
    texts += [value for key, value in example.inputs.items() if key != "messages"]
    if example.target is not None:
        texts += [text for text in (example.target.text, example.target.rejected) if text]
    return texts


def sequences_of(example: Example) -> list[list[str]]:
    """Return the texts that are read in one go; of a pair twice, with one answer each."""
    texts = texts_of(example)
    if example.target is None or example.target.rejected is None:
        return [texts]
    *asked, chosen, rejected = texts
    return [[*asked, chosen], [*asked, rejected]]


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
        count = counted(len(examples) - len(seen), "row repeats", "rows repeat")
        warnings.append(f"{count} another one word for word")
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
    odd = [example.row for example in examples if not example.target.takes_turns]
    if odd:
        count = counted(len(odd), "chat does", "chats do")
        warnings.append(
            f"{count} not go back and forth between user and assistant; some chat templates refuse that "
            f"({in_rows(odd)})"
        )
    return DataReport(rows, len(examples), warnings, statistics, _repairs(examples))


def _repairs(examples: Sequence[Example]) -> list[str]:
    repairs: list[str] = []
    ended = [example.row for example in examples if example.target.unanswered]
    if ended:
        count = counted(len(ended), "chat ends", "chats end")
        repairs.append(
            f"{count} with messages that nobody answers; they are left out ({in_rows(ended)})"
        )
    unread = [example for example in examples if example.target.unread]
    if unread:
        names = sorted({name for example in unread for name in example.target.unread})
        count = counted(len(unread), "chat has", "chats have")
        where = in_rows([example.row for example in unread])
        repairs.append(f"{count} messages with fields that are not read: {listed(names)} ({where})")
    return repairs
