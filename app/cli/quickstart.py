"""`attune quickstart`: from nothing to a fine-tuned, served model, over HTTP all the way."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.context import Context, of
from app.cli.exits import Code, Failure
from app.cli.output import duration
from app.kit.clock import monotonic

if TYPE_CHECKING:
    from app.cli.stack import Stack, Started
    from app.settings import Settings

HOME = Path(".attune")
DATA = Path("examples") / "banking"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
QUESTIONS = (
    "my new card was supposed to be here on monday, where is it?",
    "you took the same payment from me two times",
    "I'd like to choose another PIN",
    "someone grabbed my phone on the train",
)


def quickstart(
    context: typer.Context,
    home: Annotated[Path, typer.Option(help="Folder for all state.")] = HOME,
    data: Annotated[Path, typer.Option(help="Folder with train.jsonl and test.jsonl.")] = DATA,
    model: Annotated[str, typer.Option(help="Base model.")] = MODEL,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any field, e.g. optimization.epochs=1.")
    ] = None,
    keep_up: Annotated[
        bool, typer.Option("--keep-up", help="Leave it running until Ctrl-C.")
    ] = False,
) -> None:
    """Start everything, fine-tune a real model on real sentences, ask it, and stop again."""
    from app.cli.instance import Instance
    from app.cli.stack import prepare_home

    here = of(context)
    for name in ("train.jsonl", "test.jsonl"):
        if not (data / name).is_file():
            raise Failure(f"there is no {data / name}; run this in the repository", Code.DATA)
    tour = Tour(here, data, model, set_ or [], home=home)
    with tour.step("start broker, worker and API"):
        settings = prepare_home(home)
        running = Instance(settings.home).running()
        session = None if running else Session(here, settings)
        if session is not None:
            session.start()
    try:
        tour.connect(settings)
        tour.walk()
        if keep_up and session is not None:
            here.out.say("up until Ctrl-C")
            session.wait()
    except KeyboardInterrupt:
        raise Failure("interrupted", Code.INTERRUPTED) from None
    except Failure as failure:
        if failure.code != Code.INTERRUPTED:
            _show_logs(here, settings)
        raise
    finally:
        if session is not None:
            session.stop()
    tour.goodbye(is_up=running is not None)


class Session:
    """The stack in a thread of its own, for as long as the tour takes."""

    def __init__(self, here: Context, settings: Settings) -> None:
        from app.cli.stack import Stack

        self._stopped = threading.Event()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._stack: Stack = Stack(settings, settings.host, 0, say=here.out.say)
        self._thread = threading.Thread(target=self._run, name="stack")

    def start(self) -> None:
        """Start everything and wait until it answers.

        Raises:
            Failure: something does not come up; nothing is left running.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        self._thread.start()
        try:
            while not self._ready.wait(0.1):
                pass
        except KeyboardInterrupt:
            self.stop()
            raise Failure("interrupted", Code.INTERRUPTED) from None
        if self._error is not None:
            self._thread.join()
            raise self._error

    def wait(self) -> None:
        """Wait until the user has seen enough."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        """Stop everything; a second Ctrl-C hurries."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._thread.join(0.2)
            except KeyboardInterrupt:
                self._stack.hurry.set()

    def _run(self) -> None:
        try:
            self._stack.run(self._stopped, self._started)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._ready.set()

    def _started(self, _: Started) -> None:
        self._ready.set()


@dataclass
class Tour:
    """The steps, each shown with the call that a program would make, and timed."""

    here: Context
    data: Path
    model: str
    sets: list[str]
    times: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    job: dict[str, Any] = field(default_factory=dict[str, Any])
    home: Path = HOME

    @property
    def is_default_home(self) -> bool:
        """Say whether the commands that follow find the home without being told."""
        return self.home.absolute() == HOME.absolute()

    @contextmanager
    def step(self, title: str) -> Generator[None]:
        """Say what begins and how long it took."""
        self.here.out.say(f"\n{len(self.times) + 1}. {title[0].upper()}{title[1:]}", style="bold")
        started = monotonic()
        yield
        seconds = monotonic() - started
        self.times.append((title, seconds))
        self.here.out.say(f"   {duration(seconds)}", style="dim")

    def connect(self, settings: Settings) -> None:
        """Use this machine's server and key, whatever the environment names."""
        from app.cli.client import Client
        from app.cli.credentials import load

        credentials = load(settings.home)
        if credentials is None:
            raise Failure(f"{settings.home} holds no credentials; is it another user's?")
        self.here.client = Client(credentials)
        self.here.out.say(f"   {credentials.url}; key in {settings.home / 'credentials.json'}")
        self.here.out.say(f"   export ATTUNE_URL={credentials.url} ATTUNE_API_KEY=...", style="dim")

    def walk(self) -> None:
        """Upload, check, train, ask."""
        with self.step("upload the data"):
            train, test = self._upload("train.jsonl"), self._upload("test.jsonl")
        body = self._spec(train, test)
        with self.step("check the job without running it"):
            from app.cli.check import show_check

            self._curl("/v1/jobs/check", body)
            show_check(self.here, self.here.client.post("/v1/jobs/check", body))
        with self.step("fine-tune"):
            self._curl("/v1/jobs", body)
            job_id = self.here.client.post("/v1/jobs", body)["id"]
            self.here.out.say(f"   {job_id}")
            self._train(job_id)
        with self.step("ask the model"):
            self._ask()

    def goodbye(self, *, is_up: bool) -> None:
        """Say how long everything took and how to go on."""
        out = self.here.out
        total = duration(sum(seconds for _, seconds in self.times))
        out.say(f"\nDone in {total}.", style="bold green")
        if out.is_json:
            times = {title: round(seconds, 3) for title, seconds in self.times}
            out.json({"job": self.job, "url": self.here.client.url, "seconds": times})
        if is_up:
            out.say(f"go on at {self.here.client.url}")
        else:
            out.say("Everything is stopped; the model is kept. To go on with it:")
            out.say(
                f"  make up\n  attune predict {self.job['model_id']} {json.dumps(QUESTIONS[0])}"
            )

    def _upload(self, name: str) -> str:
        path = self.data / name
        self._show(f"curl $ATTUNE_URL/v1/files {AUTH} -F purpose=fine-tune -F file=@{path}")
        uploaded = self.here.client.upload(path)
        summary: dict[str, Any] = uploaded.get("summary") or {}
        rows = f"{summary['rows']} rows" if "rows" in summary else f"{uploaded['bytes']} bytes"
        self.here.out.say(f"   {uploaded['id']}  {name}, {rows}")
        return str(uploaded["id"])

    def _spec(self, train: str, test: str) -> dict[str, Any]:
        from app.cli.spec import assign

        body: dict[str, Any] = {
            "kind": "fine_tune",
            "model": self.model,
            "task": "text-classification",
            "data": {"train": train, "test": test},
            "suffix": "banking",
        }
        for item in self.sets:
            assign(body, item)
        return body

    def _train(self, job_id: str) -> None:
        from app.cli.watch import follow

        try:
            self.job = follow(self.here, job_id)
        except Failure as failure:
            if failure.code != Code.INTERRUPTED:
                raise
            # Left alone it would go on with the next start, in the way of the next quickstart.
            self.here.client.post(f"/v1/jobs/{job_id}/cancel")
            raise Failure("interrupted; the job is cancelled", Code.INTERRUPTED) from None
        if self.job["state"] != "succeeded":
            raise Failure(f"the job has {self.job['state']}")

    def _ask(self) -> None:
        from app.cli.client import encode
        from app.cli.predict import best_of, results_of

        path = f"/v1/models/{encode(self.job['model_id'])}/predict"
        body = {"inputs": list(QUESTIONS)}
        self._curl(path, {"inputs": [QUESTIONS[0], "..."]})
        answer = self.here.client.post(path, body)
        rows: list[list[Any]] = []
        for question, result in zip(QUESTIONS, results_of(answer), strict=True):
            label, score = best_of(result)
            rows.append([question, label, None if score is None else f"{score:.3f}"])
        if not self.here.out.is_json:
            self.here.out.table(["never seen in training", "intent", "probability"], rows)

    def _curl(self, path: str, body: dict[str, Any]) -> None:
        self._show(f"curl $ATTUNE_URL{path} {AUTH} --json '{json.dumps(body)}'")

    def _show(self, command: str) -> None:
        self.here.out.say(f"   $ {command}", style="cyan")


AUTH = '-H "Authorization: Bearer $ATTUNE_API_KEY"'


def _show_logs(here: Context, settings: Settings) -> None:
    from app.cli.supervisor import tail

    for name in ("worker", "api"):
        log = settings.home / "logs" / f"{name}.log"
        here.out.say(f"the end of {log}:\n{tail(log, 8)}\n", style="dim")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
