"""Pretrain on texts without labels, share the model, fine-tune it on few labels.

    attune up --detach
    python examples/pretraining/three_stages.py

The texts are the questions of `examples/banking` without their intents; further corpora can be named.
Beside it the same network learns the same labels from fresh weights.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx2

BANKING = Path(__file__).resolve().parents[1] / "banking"
NETWORK = {"kind": "bert", "hidden_size": 128, "num_layers": 2, "num_heads": 2, "max_length": 128}


def client() -> httpx2.Client:
    """Return a client of the server that `attune up` started."""
    home = Path(os.environ.get("ATTUNE_HOME", Path.home() / ".attune"))
    credentials = json.loads((home / "credentials.json").read_text())
    return httpx2.Client(
        base_url=os.environ.get("ATTUNE_URL", credentials["url"]),
        headers={"Authorization": f"Bearer {os.environ.get('ATTUNE_API_KEY', credentials['key'])}"},
        timeout=120.0,
    )


def upload(http: httpx2.Client, name: str, content: bytes) -> str:
    """Upload a file and return its id."""
    files = {"file": (name, content)}
    answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files=files)
    answer.raise_for_status()
    return str(answer.json()["id"])


def run(http: httpx2.Client, **spec: Any) -> dict[str, Any]:
    """Run a job to its end."""
    answer = http.post("/v1/jobs", json=spec)
    if answer.is_error:
        raise SystemExit(answer.text)
    job = answer.json()
    while job["state"] in {"queued", "running"}:
        time.sleep(1.0)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    if job["state"] != "succeeded":
        raise SystemExit(json.dumps(job["error"], indent=2))
    return job


def few(rows: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Return the first so many rows of each label."""
    taken: dict[str, int] = {}
    kept: list[dict[str, str]] = []
    for row in rows:
        taken[row["label"]] = taken.get(row["label"], 0) + 1
        if taken[row["label"]] <= count:
            kept.append(row)
    return kept


def accuracy(job: dict[str, Any]) -> str:
    """Return the accuracy on the test rows, with its interval."""
    found = job["report"]["evaluation"]["test"]
    low, high = found["intervals"]["accuracy"]
    return f"{found['metrics']['accuracy']:.3f} [{low:.3f}, {high:.3f}]"


def pretrained(http: httpx2.Client, corpus: list[str], data: dict[str, str], epochs: int) -> str:
    """Train a network on the texts; return its id."""
    job = run(
        http, kind="pretrain", model=NETWORK, objective="masked_lm", data={"train": corpus},
        tokenizer={"kind": "wordpiece", "vocabulary_size": 4000, "lowercase": True},
        probe={"data": data}, optimization={"epochs": epochs, "max_length": 64},
    )  # fmt: skip
    report = job["report"]
    print("perplexity", report["pretraining"]["perplexity"])
    for when in ("before", "after"):
        found = report["probe"][when]["test"]
        low, high = found["intervals"]["accuracy"]
        print(f"probe {when} {found['metrics']['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
    return str(job["model_id"])


def main() -> None:
    """Run the three stages, and the second way from the same network without its weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--corpus", type=Path, nargs="*", default=[], help="further text files")
    parser.add_argument("--labels", type=int, default=10, help="labelled rows of each intent")
    parser.add_argument("--epochs", type=int, default=40, help="of the pretraining")
    parser.add_argument("--model", help="an earlier run's first stage, to go on from")
    parser.add_argument("--seed", type=int, default=0, help="of the last stage")
    options = parser.parse_args()
    http = client()
    rows = [json.loads(line) for line in (BANKING / "train.jsonl").read_text("utf-8").splitlines()]
    texts = "\n".join(" ".join(row["text"].split()) for row in rows)
    corpus = [upload(http, "questions.txt", texts.encode())]
    corpus += [upload(http, path.name, path.read_bytes()) for path in options.corpus]
    labelled = "\n".join(json.dumps(row) for row in few(rows, options.labels))
    data = {
        "train": upload(http, "few.jsonl", labelled.encode()),
        "test": upload(http, "test.jsonl", (BANKING / "test.jsonl").read_bytes()),
    }

    # 1. Texts without labels. 2. The model has an id, by which any job of the tenant can start from it.
    shared = options.model or pretrained(http, corpus, data, options.epochs)
    print("shared as", shared, "for", http.get(f"/v1/models/{shared}").json()["task"], flush=True)

    # 3. Few labels; and the same network, tokenizer and rows from fresh weights.
    for title, transfer in (("pretrained", "parameters"), ("fresh weights", "structure")):
        job = run(
            http, kind="fine_tune", model=shared, task="text-classification", data=data,
            transfer=transfer, optimization={"epochs": 40, "learning_rate": 5e-4},
            runtime={"seeds": 1, "seed": options.seed, "baselines": False},
        )  # fmt: skip
        print(f"{title:14} accuracy {accuracy(job)}", flush=True)


if __name__ == "__main__":
    main()
