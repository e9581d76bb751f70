"""Good rows of every task, and rows that are wrong in one way, with what must be said of each."""

from __future__ import annotations

from typing import Any, NamedTuple

CLASSES, TAGS, ANSWERS = "text-classification", "token-classification", "question-answering"
SUMMARIES, TRANSLATIONS, WRITING = "summarization", "translation", "text-generation"
LIKENESS, MASKS, ANY_TEXT = "sentence-similarity", "fill-mask", "text2text-generation"
LETTERS = "abcdefghijkl"
Rows = list[dict[str, Any]]

GOOD: dict[str, Rows] = {
    CLASSES: [{"text": f"text {letter}", "label": "xy"[at % 2]} for at, letter in enumerate(LETTERS)],
    "pairs": [
        {"text": letter, "sentence2": "b", "label": "xy"[at % 2]} for at, letter in enumerate(LETTERS)
    ],
    "numbers": [{"text": letter, "label": at / 8} for at, letter in enumerate(LETTERS, 1)],
    TAGS: [{"tokens": ["Ada", letter], "tags": ["B-PER", "O"]} for letter in LETTERS],
    "spans": [
        {"text": f"Ada met {letter}", "spans": [{"start": 0, "end": 3, "label": "PER"}]}
        for letter in LETTERS
    ],
    ANSWERS: [
        {"question": f"Who {a}?", "context": f"Ada met {a}",
         "answers": {"text": ["Ada"], "answer_start": [0]}}
        for a in LETTERS
    ],
    SUMMARIES: [{"document": f"long text {a}", "summary": a} for a in LETTERS],
    TRANSLATIONS: [{"source": f"a man {a}", "target": f"ein mann {a}"} for a in LETTERS],
    ANY_TEXT: [{"input_text": f"say {a}", "target_text": a} for a in LETTERS],
    "nested": [{"translation": {"en": f"a man {a}", "de": f"ein mann {a}"}} for a in LETTERS],
    WRITING: [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": "yes"}]}
        for a in LETTERS
    ],
    "completions": [{"prompt": a, "completion": "yes"} for a in LETTERS],
    "preferences": [{"prompt": a, "chosen": "yes", "rejected": "no"} for a in LETTERS],
    "texts": [{"text": f"once {a}"} for a in LETTERS],
    LIKENESS: [{"anchor": a, "positive": a + a} for a in LETTERS],
    "triplets": [{"anchor": a, "positive": a + a, "negative": "no"} for a in LETTERS],
    "scores": [
        {"sentence1": a, "sentence2": "b", "score": at % 4} for at, a in enumerate(LETTERS)
    ],
    "labelled": [{"text": f"t {a}", "label": "xy"[at % 2]} for at, a in enumerate(LETTERS)],
    MASKS: [{"text": f"some text {a}"} for a in LETTERS],
}  # fmt: skip
TASK_OF = {
    "pairs": CLASSES, "numbers": CLASSES, "spans": TAGS, "nested": TRANSLATIONS,
    "completions": WRITING, "preferences": WRITING, "texts": WRITING,
    "triplets": LIKENESS, "scores": LIKENESS, "labelled": LIKENESS,
}  # fmt: skip
ODD: list[Any] = [
    None, "", " ", 0, -1, 1.5, 1e308, True, 2**62, "\0", "\u202e", "[1, 2]", "a" * 3000,
    [], {}, [None], [[]], [{}], [1], ["a"], ["a", None], [["a"], ["b"]], [[0, 1]], [[0, 1, "X"]],
    {"text": None}, {"text": "a"}, {"text": ["a"], "answer_start": ["x"]},
    {"text": "a", "answer_start": 0.5},
    [{"text": 1}], [{"start": 0, "end": 1, "label": {}}], [{"start": None, "end": 1, "label": "X"}],
    [{"start": True, "end": 1, "label": "X"}], [{"role": None}], [{"role": ["a"], "content": "x"}],
    [{"role": "user", "content": []}, "b"], [{"role": "assistant", "content": {}}], {"en": 1, "de": 2},
    {"de": "a", "en": "b"}, {"a": {"b": {"c": [1]}}},
]  # fmt: skip
NEXT = len(LETTERS) + 1  # the row of the one that is added


class Fault(NamedTuple):
    """A row that is added to good ones, and what must be said of it."""

    task: str
    good: str
    row: dict[str, Any]
    code: str
    column: str
    words: str


def span(start: Any, end: Any, **fields: Any) -> dict[str, Any]:
    item = {"start": start, "end": end, "label": "PER"} | fields
    return {"text": "Ada met Bob", "spans": [item]}


def asked(**fields: Any) -> dict[str, Any]:
    return {"question": "Who?", "context": "Ada met Bob, and Ada left.", **fields}


def chat(*messages: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": said, **fields} for role, said in messages]}


FAULTS = [
    Fault(CLASSES, CLASSES, {"text": " ", "label": "x"}, "empty_text", "text", "is empty"),
    Fault(CLASSES, CLASSES, {"label": "x"}, "empty_text", "text", "is missing"),
    Fault(CLASSES, CLASSES, {"text": ["a"], "label": "x"}, "wrong_type", "text", "not list"),
    Fault(CLASSES, CLASSES, {"text": "a", "label": ""}, "empty_label", "label", "is empty"),
    Fault(CLASSES, CLASSES, {"text": "a", "label": {"a": 1}}, "wrong_type", "label", "a list"),
    Fault(CLASSES, CLASSES, {"text": "a", "label": [None]}, "wrong_type", "label", "strings"),
    Fault(CLASSES, "pairs", {"text": "a", "sentence2": "", "label": "x"}, "empty_text", "sentence2",
          "the second text of the pair is empty"),
    Fault(CLASSES, "pairs", {"text": "a", "label": "x"}, "empty_text", "sentence2", "is missing"),
    Fault(CLASSES, "numbers", {"text": "a", "label": 1e40}, "out_of_range", "label", "scale"),
    Fault(TAGS, TAGS, {"tokens": ["a", "b"], "tags": ["O"]}, "length_mismatch", "tags",
          "2 tokens and 1 tags"),
    Fault(TAGS, TAGS, {"tokens": "a b", "tags": ["O"]}, "wrong_type", "tokens", "CSV holds no lists"),
    Fault(TAGS, TAGS, {"tokens": ["a", ""], "tags": ["O", "O"]}, "wrong_type", "tokens", "token 1"),
    Fault(TAGS, TAGS, {"tokens": [], "tags": []}, "empty_text", "tokens", "no tokens"),
    Fault(TAGS, TAGS, {"tokens": ["a"], "tags": [None]}, "wrong_type", "tags", "'B-PER' or 'O'"),
    Fault(TAGS, TAGS, {"tokens": ["a"], "tags": ["B-"]}, "wrong_type", "tags", "names no label"),
    Fault(TAGS, TAGS, {"tokens": ["a"], "tags": [3]}, "wrong_type", "tags", "task.tag_names"),
    Fault(TAGS, "spans", span(0, 99), "span_outside_text", "spans", "11 characters"),
    Fault(TAGS, "spans", span(-1, 3), "span_outside_text", "spans", "outside of the text"),
    Fault(TAGS, "spans", span(3, 3), "empty_span", "spans", "is empty"),
    Fault(TAGS, "spans", span(3, 4), "empty_span", "spans", "spaces only"),
    Fault(TAGS, "spans", span(4, 2), "reversed_span", "spans", "ends before it begins"),
    Fault(TAGS, "spans", span("0", "3"), "wrong_type", "spans", "not '0' and '3'"),
    Fault(TAGS, "spans", span(0, 3, label=""), "wrong_type", "spans", "no label"),
    Fault(TAGS, "spans", span(8, 10, text="Bob"), "span_text_differs", "spans", "that is at 8-11"),
    Fault(TAGS, "spans", {"text": "Ada met Bob", "spans": [[0, 7, "PER"], [4, 11, "ORG"]]},
          "overlapping_spans", "spans", "0-7 (PER) and 4-11 (ORG)"),
    Fault(TAGS, "spans", {"text": "Ada"}, "wrong_type", "spans", "an empty one says"),
    Fault(TAGS, "spans", {"text": "在巴黎", "spans": [[3, 9, "LOC"]]}, "span_outside_text", "spans",
          "are these bytes?"),
    Fault(ANSWERS, ANSWERS, asked(answers="Grace"), "answer_not_found", "answers", "does not occur"),
    Fault(ANSWERS, ANSWERS, asked(answers="ada  MET"), "answer_not_found", "answers",
          "it has 'Ada met' at 0"),
    Fault(ANSWERS, ANSWERS, asked(answers=7), "wrong_type", "answers", "type int"),
    Fault(ANSWERS, ANSWERS, asked(answers={"text": ["Ada", "Bob"], "answer_start": [0]}), "wrong_type",
          "answers", "2 answers and 1 places"),
    Fault(ANSWERS, ANSWERS, asked(answers={"text": ["Ada"], "answer_start": ["x"]}), "wrong_type",
          "answers", "whole number of characters"),
    Fault(ANSWERS, ANSWERS, {"question": "?", "context": "", "answers": "a"}, "empty_text", "context",
          "is empty"),
    Fault(ANSWERS, ANSWERS, {"question": 1, "context": "a", "answers": "a"}, "wrong_type", "question",
          "a string"),
    Fault(SUMMARIES, SUMMARIES, {"document": "a", "summary": ""}, "empty_text", "summary", "is empty"),
    Fault(SUMMARIES, SUMMARIES, {"document": "a"}, "empty_text", "summary", "is empty"),
    Fault(SUMMARIES, SUMMARIES, {"document": "a", "summary": ["b", ""]}, "empty_text", "summary",
          "text 2 of the summary is empty"),
    Fault(SUMMARIES, SUMMARIES, {"document": ["a", 1], "summary": "b"}, "wrong_type", "document",
          "text 2 of the document must be a text, not int"),
    Fault(ANY_TEXT, ANY_TEXT, {"input_text": "a", "target_text": " "}, "empty_text", "target_text",
          "is empty"),
    Fault(ANY_TEXT, ANY_TEXT, {"input_text": 4, "target_text": "b"}, "wrong_type", "input_text",
          "must be a text, not int"),
    Fault(TRANSLATIONS, TRANSLATIONS, {"source": "a"}, "empty_text", "target", "is empty"),
    Fault(TRANSLATIONS, "nested", {"translation": {"en": "a"}}, "missing_side", "translation",
          "no 'de'"),
    Fault(TRANSLATIONS, "nested", {"translation": None}, "missing_side", "translation", "no 'en'"),
    Fault(WRITING, WRITING, chat(("user", "a")), "no_answer", "messages", "no answer to learn"),
    Fault(WRITING, WRITING, chat(("assistant", "a")), "no_answer", "messages", "must follow another"),
    Fault(WRITING, WRITING, chat(("user", "a"), ("robot", "b")), "wrong_messages", "messages",
          "message 2: the role must be one of system, user, assistant, tool, not 'robot'"),
    Fault(WRITING, WRITING, chat(("user", "a"), ("assistant", " ")), "no_answer", "messages",
          "message 2 (assistant) is empty"),
    Fault(WRITING, WRITING, chat(("user", ""), ("assistant", "a")), "empty_text", "messages",
          "message 1 (user) is empty"),
    Fault(WRITING, WRITING, chat(("user", "a"), ("assistant", None), tool_calls=[]), "wrong_messages",
          "messages", "calls of tools"),
    Fault(WRITING, WRITING, {"prompt": "a", "completion": "b"}, "wrong_messages", "messages",
          "the row has ['prompt', 'completion']"),
    Fault(WRITING, "completions", {"prompt": "a", "completion": ""}, "empty_text", "completion",
          "is empty"),
    Fault(WRITING, "completions", {"prompt": "a", "completion": "b", "input": 3}, "wrong_type", "input",
          "not int"),
    Fault(WRITING, "preferences", {"prompt": "a", "chosen": "b", "rejected": "b "}, "same_answers",
          "rejected", "nothing to prefer"),
    Fault(WRITING, "preferences", {"prompt": "a", "chosen": "b"}, "empty_text", "rejected", "is empty"),
    Fault(WRITING, "preferences", {"prompt": "", "chosen": "b", "rejected": "c"}, "empty_text",
          "prompt", "the prompt is empty"),
    Fault(WRITING, "preferences",
          {"chosen": chat(("user", "a"), ("assistant", "b"))["messages"],
           "rejected": chat(("user", "z"), ("assistant", "c"))["messages"]},
          "different_prompts", "rejected", "different chats"),
    Fault(WRITING, "preferences", {"chosen": chat(("user", "a"))["messages"], "rejected": "c"},
          "no_answer", "chosen", "must be the assistant's"),
    Fault(WRITING, "texts", {"text": ""}, "empty_text", "text", "is empty"),
    Fault(LIKENESS, LIKENESS, {"anchor": "a", "positive": ""}, "empty_text", "positive", "is empty"),
    Fault(LIKENESS, LIKENESS, {"positive": "a"}, "empty_text", "anchor", "is empty"),
    Fault(LIKENESS, "triplets", {"anchor": "a", "positive": "b"}, "empty_text", "negative", "is empty"),
    Fault(LIKENESS, "triplets", {"anchor": "a", "positive": "b", "negative": "b"}, "same_texts",
          "negative", "same text"),
    Fault(LIKENESS, "scores", {"sentence1": "a", "sentence2": "b", "score": "high"}, "not_a_number",
          "score", "a number"),
    Fault(LIKENESS, "scores", {"sentence1": "a", "sentence2": "b", "score": True}, "not_a_number",
          "score", "a number"),
    Fault(LIKENESS, "scores", {"sentence1": "a", "sentence2": "b"}, "not_a_number", "score",
          "a number"),
    Fault(LIKENESS, "labelled", {"text": "a", "label": ["x"]}, "wrong_type", "label", "one value"),
    Fault(LIKENESS, "labelled", {"text": "a", "label": " "}, "empty_label", "label", "is empty"),
    Fault(MASKS, MASKS, {"text": ""}, "empty_text", "text", "is empty"),
    Fault(MASKS, MASKS, {"text": 4}, "wrong_type", "text", "a string"),
]  # fmt: skip


def naughty(task: str, text: str, at: int) -> dict[str, Any]:
    """Return a row of a task with the text wherever a text can be."""
    more = f"{text}{at}"
    return {
        CLASSES: {"text": more, "label": text},
        TAGS: {"tokens": [text, "in", f"c{at}"], "tags": [f"B-{text}", "O", "B-LOC"]},
        ANSWERS: {"question": text, "context": f"{text} it is {at}", "answers": text},
        SUMMARIES: {"document": more, "summary": text},
        TRANSLATIONS: {"source": more, "target": text},
        ANY_TEXT: {"input_text": more, "target_text": text},
        WRITING: chat(("user", more), ("assistant", text)),
        LIKENESS: {"anchor": more, "positive": text},
        MASKS: {"text": more},
    }[task]
