"""What a model was asked for its samples, out of the `evaluation.json` that came with it."""

from collections.abc import Mapping
from typing import Any


def recorded_prompts(evaluation: Mapping[str, Any]) -> list[str]:
    """What the model of an `evaluation.json`, which a stranger may have written, was asked for its
    samples; of a chat's user what they said first. None if it does not tell."""
    found = evaluation.get("prompts") or [evaluation.get("prompt")]
    prompts = found if isinstance(found, list) else [found]
    return [prompt for prompt in prompts if isinstance(prompt, str) and prompt.strip()]


def read_as_asked(evaluation: Mapping[str, Any]) -> list[str]:
    """The same as people read it: where more than that was said before the answer, each turn with
    its role."""
    prompts, turns = recorded_prompts(evaluation), evaluation.get("turns")
    if not isinstance(turns, list) or len(turns) != len(prompts):
        return prompts
    return [_spoken(said) or prompt for prompt, said in zip(prompts, turns, strict=True)]


def _spoken(turns: Any) -> str | None:
    """Several turns, one under the other; None for a single one, and for what is none."""
    if not isinstance(turns, list) or len(turns) < 2:
        return None
    lines = [
        f"{turn.get('role')}: {turn.get('content')}" for turn in turns if isinstance(turn, dict)
    ]
    return "\n".join(lines) if len(lines) == len(turns) else None
