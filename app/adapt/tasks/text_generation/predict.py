"""From a predict request's input to an example, and from what was written to the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field

from app.adapt.generation import GenerationParameters
from app.adapt.task import Example
from app.adapt.tasks.text_generation.data import messages_of
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

BETA = 0.1


class ChatParameters(GenerationParameters):
    """Options of a predict call."""

    return_full_text: bool = Field(default=False, description="The prompt, then the answer.")


def parse_input(value: Any, index: int, *, is_chat: bool) -> Example:
    """Take a text, `{"prompt": ...}`, `{"text": ...}` or `{"messages": [...]}`."""
    where = f"inputs.{index}"
    if isinstance(value, dict):
        entry = cast("dict[str, Any]", value)
        if set(entry) not in ({"messages"}, {"prompt"}, {"text"}):
            message = (
                f'{where}: send a text, {{"prompt": ...}}, {{"text": ...}} or {{"messages": [...]}}'
            )
            raise InvalidRequest(message, param=where)
        (name,) = entry
        value = entry[name]
        is_chat = name == "messages" or (is_chat and name != "text")
    if isinstance(value, list):
        messages = messages_of(value)
        if isinstance(messages, str):
            raise InvalidRequest(f"{where}: {messages}", param=where)
        return Example(index, {"messages": messages})
    if not isinstance(value, str) or not value.strip():
        message = f"{where}: a non-empty text or a list of messages is needed"
        raise InvalidRequest(message, param=where)
    if is_chat:
        return Example(index, {"messages": [{"role": "user", "content": value}]})
    return Example(index, {"prompt": value})


def preference_loss(rewards_2: Scores) -> float:
    """Return -log sigmoid(beta (r_chosen - r_rejected)) with DPO's usual beta; see the loss `dpo`."""
    return float(np.logaddexp(0.0, -BETA * (float(rewards_2[0]) - float(rewards_2[1]))))


def decode(scores: Any, encoded: Encoded, parameters: ChatParameters) -> Any:
    """Return the text, or a list of them where several were asked for."""
    prompt = encoded.extra.get("prompt", "") if parameters.return_full_text else ""
    answers = [
        {"generated_text": prompt + found.text, "finish_reason": found.finish_reason}
        for found in scores
    ]
    return answers[0] if len(answers) == 1 else answers
