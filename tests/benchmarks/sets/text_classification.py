from __future__ import annotations

from pathlib import Path

from tests.benchmarks.sets import PublishedSet
from tests.published import DATA

FOLDER = DATA / "text_classification"
SAMPLES = Path(__file__).resolve().parents[3] / "examples" / "banking"
TASK = {"task": "text-classification"}


def _with_header(name: str) -> bytes:
    return b"text\tlabel\n" + (FOLDER / name).read_bytes()


SETS = {
    "banking77": PublishedSet(
        "text_classification/banking77/train.csv",
        "text_classification/banking77/test.csv",
        {**TASK, "optimization": {"epochs": 5}},
    ),
    "emotion": PublishedSet(
        "text_classification/tweeteval_emotion/train.jsonl",
        "text_classification/tweeteval_emotion/test.jsonl",
        TASK,
        validation="text_classification/tweeteval_emotion/val.jsonl",
    ),
    "offensive": PublishedSet(
        "text_classification/tweeteval_offensive/train.jsonl",
        "text_classification/tweeteval_offensive/test.jsonl",
        TASK,
        validation="text_classification/tweeteval_offensive/val.jsonl",
    ),
    "banking": PublishedSet(str(SAMPLES / "train.jsonl"), str(SAMPLES / "test.jsonl"), TASK),
    "sst2": PublishedSet(
        lambda: _with_header("sst2/train.tsv"),
        lambda: _with_header("sst2/dev.tsv"),
        TASK,
        name="sst2.tsv",
    ),
    "trec": PublishedSet(
        "text_classification/trec/train.jsonl",
        "text_classification/trec/test.jsonl",
        {**TASK, "data": {"split": {"validation": 0.05}}, "optimization": {"epochs": 5}},
    ),
    "htl_zh": PublishedSet(
        "text_classification/chnsenticorp_htl_zh/train.csv",
        "text_classification/chnsenticorp_htl_zh/test.csv",
        {
            **TASK,
            "data": {"on_bad_rows": "skip"},
            "optimization": {"epochs": 2, "max_length": 192},
        },
    ),
    "thucnews_zh": PublishedSet(
        lambda: _with_header("thucnews_titles_zh/train.tsv"),
        lambda: _with_header("thucnews_titles_zh/test.tsv"),
        TASK,
        name="thucnews.tsv",
    ),
}
