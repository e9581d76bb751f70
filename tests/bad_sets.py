"""Whole data sets that cannot train, or can with a warning, and what must be said of each."""

from __future__ import annotations

from typing import Any

from tests.bad_rows import (
    ANSWERS,
    CLASSES,
    GOOD,
    LETTERS,
    LIKENESS,
    MASKS,
    SUMMARIES,
    TAGS,
    TRANSLATIONS,
    WRITING,
    asked,
    chat,
)


def sets(train: Any, validation: Any = None, **task: Any) -> dict[str, Any]:
    made = {"train": train} if validation is None else {"train": train, "validation": validation}
    return made | task


REFUSED = [
    # what cannot teach anything
    (CLASSES, sets([{"text": a, "label": a} for a in LETTERS]), "cannot_split", "data.split",
     "each of the 12 labels has one text only"),
    (CLASSES, sets([{"text": f"{n}", "label": n} for n in range(120)]), "too_many_labels",
     "data.columns.label", "120 of them are numbers: to predict a number, set task.problem"),
    (CLASSES, sets([{"text": a, "label": "x"} for a in LETTERS]), "one_label", "data.train",
     "at least two"),
    (CLASSES, sets([{"text": "same", "label": "xy"[n % 2]} for n in range(9)]), "cannot_split",
     "data.split", "all 9 training rows have the same text"),
    (CLASSES, sets([{"text": a, "label": 0.5} for a in LETTERS]), "one_value", "data.train", "same number"),
    (CLASSES, sets([*GOOD["numbers"], {"text": "a", "label": "NaN"}]), "mixed_labels",
     "data.columns.label", "row 13: the label 'NaN' is not a number"),
    (CLASSES, sets(GOOD[CLASSES], labels=["q", "r"]), "unknown_label", "data.train",
     "row 1, column 'label': the label 'x' is not among those that are learned (q, r)"),
    (TAGS, sets([{"tokens": ["a"], "tags": ["O"]}] * 3), "no_spans", "data.train", "marks nothing"),
    (TAGS, sets([{"tokens": ["a", "b"], "tags": ["PER-B", "PER-I"]}] * 3), "unknown_scheme",
     "data.columns.tags", "B-PER, I-PER"),
    (ANSWERS, sets([asked(answers=None)] * 3), "no_answers", "data.train", "nothing to find"),
    (SUMMARIES, sets([{"document": a, "summary": "s"} for a in LETTERS]), "one_target", "data.train",
     "same summary"),
    (TRANSLATIONS, sets([{"source": a, "target": a} for a in LETTERS]), "copies", "data.train",
     "the source unchanged"),
    (LIKENESS, sets([{"anchor": "a", "positive": b} for b in LETTERS]), "too_few_pairs", "data.train",
     "1 text only"),
    (LIKENESS, sets([{"sentence1": a, "sentence2": "b", "score": 1} for a in LETTERS]), "one_score",
     "data.train", "same score"),
    (LIKENESS, sets([{"text": a, "label": a} for a in LETTERS]), "labels_do_not_pair", "data.train",
     "12 labels, each in one row"),
    (LIKENESS, sets(GOOD["scores"], score_range=[5, 0]), "invalid_spec", "task", "the lower number first"),
    (MASKS, sets([{"text": "one"}]), "cannot_split", "data.split", "only one training row"),
    # held-out sets
    (CLASSES, sets(GOOD[CLASSES], [{"text": "a", "label": "z"}]), "unknown_label", "data.validation",
     "row 1, column 'label': the label 'z'"),
    (CLASSES, sets(GOOD["pairs"], GOOD[CLASSES]), "column_not_found", "data.columns.text_pair",
     "no second text column"),
    (TAGS, sets(GOOD[TAGS], [{"tokens": ["a"], "tags": ["B-ORG"]}]), "unknown_label", "data.validation",
     "row 1, column 'tags': 'ORG' is not among the kinds of spans that are learned (PER)"),
    (ANSWERS, sets(GOOD[ANSWERS], [asked(answers=None)]), "no_answer", "data.validation",
     "row 1, column 'answers'"),
    (LIKENESS, sets(GOOD["scores"], [{"sentence1": "a", "sentence2": "b", "score": 9}]), "out_of_range",
     "data.validation", "row 1, column 'score': the score 9 is not within 0 to 3"),
    (WRITING, sets(GOOD[WRITING], GOOD["completions"]), "column_not_found", "data.columns",
     "messages: messages"),
    # columns
    (TRANSLATIONS, sets([{"en": a, "de": b} for a, b in zip(LETTERS, LETTERS[::-1], strict=True)]),
     "column_not_found", "data.columns.source", '"source_language": "en", "target_language": "de"'),
    (TRANSLATIONS, sets([{"translation": {"en": "a", "de": "b", "fr": "c"}}] * 2), "which_languages",
     "data.train", "['en', 'de', 'fr']"),
    (CLASSES, sets(("a good film,1\na bad one.,0\n", "rows.csv")), "column_not_found",
     "data.columns.text", "is the first line a header?"),
]  # fmt: skip

WARNED = [
    (CLASSES, sets([{"text": f"{a}{n}", "label": a} for a in "abc" for n in range(2)],
                   [{"text": "new", "label": "a"}]),
     "train: labels with fewer than 8 rows: 'a', 'b', 'c'"),
    (CLASSES, sets(GOOD[CLASSES], labels=["x", "y", "z"]),
     "train: 1 label has no training row, and will not be learned: 'z'"),
    (CLASSES, sets([*GOOD[CLASSES], {"text": "q", "label": ["x"]}], GOOD[CLASSES]),
     "train: 1 label is a list and the others are not: that makes it multi-label (row 13)"),
    (CLASSES, sets([*GOOD[CLASSES], {"text": "q", "label": "nan"}], GOOD[CLASSES]),
     "train: 1 label looks like a missing value, such as 'nan' (row 13)"),
    (CLASSES, sets([*GOOD[CLASSES], {"text": "text a", "label": "y"}], GOOD[CLASSES]),
     "train: 1 text has different labels in different rows (the first: rows 1, 13)"),
    (CLASSES, sets(GOOD[CLASSES], GOOD[CLASSES][:2]),
     "validation: 2 rows have the same text as a training row (rows 1, 2)"),
    (TAGS, sets(GOOD[TAGS], [{"tokens": ["a", "b"], "tags": ["O", "I-PER"]}]),
     "validation: 1 tag out of sequence (row 1): what goes on in a span that has not begun begins it, as"),
    (TAGS, sets([*GOOD[TAGS], {"tokens": ["a", "b"], "tags": ["B-PER", "I-ORG"]}], GOOD[TAGS]),
     "train: 1 tag out of sequence (row 13): what goes on in a span that has not begun begins it, as in"),
    (TAGS, sets(GOOD["spans"], [{"text": "Ada", "spans": [[0, 3, "PER"], [0, 3, "PER"]]}]),
     "validation: 1 span is given twice, and taken once (row 1)"),
    (TAGS, sets([*GOOD["spans"], {"text": "where is it", "spans": [[0, 3, "PER"]]}], GOOD["spans"]),
     "train: 1 row with spans that begin or end inside of a token: the model learns and finds whole"),
    (ANSWERS, sets([*GOOD[ANSWERS], asked(answers={"text": ["Ada"], "answer_start": [15]})], GOOD[ANSWERS]),
     "train: 1 answer is not where answer_start says; the nearest place is taken (row 13)"),
    (ANSWERS, sets(GOOD[ANSWERS], [asked(answers="Ada")]),
     "validation: 1 answer occurs several times, and answer_start is missing; the first is taken (row 1)"),
    (SUMMARIES, sets([*GOOD[SUMMARIES], {"document": "q", "summary": "q"}], GOOD[SUMMARIES]),
     "train: 1 summary is its document unchanged (row 13)"),
    (SUMMARIES, sets([*GOOD[SUMMARIES], {"document": "q", "summary": "much more"}], GOOD[SUMMARIES]),
     "train: 1 summary is longer than what it sums up (row 13)"),
    (SUMMARIES, sets(GOOD[CLASSES], GOOD[CLASSES]),
     "train: the 12 summaries are only 2 different ones: text-classification learns such data better"),
    (WRITING, sets(GOOD[WRITING], [chat(("user", "a"), ("assistant", "b"), ("user", "c"))]),
     "validation: 1 chat ends with messages that nobody answers; they are left out (row 1)"),
    (WRITING, sets(GOOD[WRITING], [chat(("user", "a"), ("assistant", "b"), weight=0)]),
     "validation: 1 chat has messages with fields that are not read: 'weight' (row 1)"),
    (WRITING, sets([*GOOD[WRITING], chat(("user", "a"), ("user", "b"), ("assistant", "c"))], GOOD[WRITING]),
     "train: 1 chat does not go back and forth between user and assistant; some chat templates refuse"),
    (LIKENESS, sets([*GOOD[LIKENESS], {"anchor": "q", "positive": "q"}], GOOD[LIKENESS]),
     "train: 1 pair is the same text twice, and teach nothing (row 13)"),
    (LIKENESS, sets(GOOD["labelled"], [{"text": "q", "label": "x"}]),
     "validation: 1 text has a label that no other text of the set has (row 1)"),
]  # fmt: skip

LONG = "good bad new old one two three " * 12
TOO_LONG = [
    (CLASSES, {"text": LONG}, {"label": "x"}, "is cut"),
    (TAGS, {"tokens": LONG.split()}, {"tags": ["B-PER"] * len(LONG.split())}, "is read in several windows"),
    (ANSWERS, {"context": LONG}, {"question": "one?", "answers": "new"}, "is read in several windows"),
    (SUMMARIES, {"document": LONG}, {"summary": "q"}, "is cut"),
    (TRANSLATIONS, {"source": "q"}, {"target": LONG}, "is cut"),
    ("completions", {"prompt": LONG}, {"completion": "q"},
     "loses the beginning of its prompt, then the end of its answer"),
    ("texts", {"text": LONG}, {}, "becomes several rows"),
    (LIKENESS, {"positive": LONG}, {"anchor": "q"}, "is cut"),
    (MASKS, {"text": LONG}, {}, "becomes several rows"),
]  # fmt: skip

READ_BY_BOTH = {
    (CLASSES, WRITING),  # the texts
    (CLASSES, MASKS),
    (CLASSES, SUMMARIES),  # labels as very short summaries, with a warning
    (CLASSES, TRANSLATIONS),
    (CLASSES, LIKENESS),  # the labelled form
    (SUMMARIES, WRITING),  # documents
    (SUMMARIES, MASKS),
    (TRANSLATIONS, SUMMARIES),
}
