"""Which requests are answered with texts that the decoder writes, and how long those may be.

Knows requests and the kinds of tasks; it runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from failures import Failure

from ..engine.request import ServingCard
from ..errors import InvalidInput
from ..residency.cache import Resident
from . import schemas


def check_generate(
    ask: schemas.PredictRequest, residents: Sequence[Resident[ServingCard]], limit: int
) -> int:
    """How many tokens may be generated per input; 0 if the request asks for scores.

    Tasks without labels write their answers, asked or not. Raises InvalidInput for more than the limit, for
    tasks that do not write their answers, and for a mixture of tasks of which only some do.
    """
    free = [one.task for one in residents if one.card.readout.writes]
    if not ask.generate and not free:
        return 0
    if not ask.generate:
        _check_alike(ask, free, [one.task for one in residents if one.task not in free])
    _check_kinds(residents)
    asked = _own_limit(residents, limit) if ask.max_new_tokens is None else ask.max_new_tokens
    if asked > limit:
        remedy = (
            "ask for fewer, with generate and max_new_tokens, or raise the server's setting max_new_tokens"
        )
        found = Failure("max_new_tokens", str(asked), f"1 to {limit}", remedy)
        raise InvalidInput(f"max_new_tokens: got {asked}, allowed: 1 to {limit}; {remedy}", [found])
    return asked


def _check_alike(ask: schemas.PredictRequest, free: Sequence[str], others: Sequence[str]) -> None:
    """Without `generate`, tasks that write are asked by themselves, and not for scores."""
    names = ", ".join(free)
    if others:
        remedy = f"ask {', '.join(others)} in another request"
        found = Failure("tasks", names, "only tasks with labels, or only tasks without", remedy)
        raise InvalidInput(f"tasks: {names} answer with any text, the others with labels; {remedy}", [found])
    for field, given in (("top_k", ask.top_k is not None), ("raw", ask.raw)):
        if given:
            found = Failure(
                field, str(getattr(ask, field)), "nothing for a task without labels", "leave it out"
            )
            raise InvalidInput(f"{field}: {names} answers with any text and has no scores", [found])


def _own_limit(residents: Sequence[Resident[ServingCard]], limit: int) -> int:
    """The longest answer that the tasks say, which must be one for all: it may not depend on the request."""
    default = min(schemas.DEFAULT_NEW_TOKENS, limit)
    limits = {one.task: one.card.spec.max_new_tokens or default for one in residents}
    if len(set(limits.values())) > 1:
        shown = ", ".join(f"{task}: {number}" for task, number in limits.items())
        remedy = "say max_new_tokens (with generate), or ask in several requests"
        found = Failure("max_new_tokens", "nothing", "one number for all these tasks", remedy)
        raise InvalidInput(
            f"these tasks write answers of different lengths ({shown} tokens); {remedy}", [found]
        )
    return next(iter(limits.values()))


def _check_kinds(residents: Sequence[Resident[ServingCard]]) -> None:
    """Raise InvalidInput for tasks that cannot write."""
    wrong = [
        Failure(
            "generate", f"{one.task}: {one.card.spec.kind}", "tasks of the kind text_to_text", "leave it out"
        )
        for one in residents
        if not one.card.readout.decodes
    ]
    if wrong:
        names = ", ".join(problem.got for problem in wrong)
        message = f"generate is for text_to_text tasks, not for {names}; leave it out to have them answered"
        raise InvalidInput(message, wrong, code="generate_not_allowed")
