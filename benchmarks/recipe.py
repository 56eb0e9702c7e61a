"""What stage two should be, with the head that is fitted before and after it: recipes on the same drawn rows.

Every recipe starts from the convex head on the frozen backbone and trains an adapter beside it for a fixed
number of epochs, whose last state counts. It is scored with the head as stage two left it, and with a head
fitted again on what the adapter gives, both beside the first head alone. The rows that score are those of
the validation files: no state was chosen by them, but the defaults of `training.settings` were.

    python -m benchmarks.recipe --data ../shared/data --device cuda --workers 15 --minutes 9   # resumes
    python -m benchmarks.recipe --table                                    # only print what there is

The stored cells were made by the script that this one grew out of: its rows are the first of a shuffled train
file, not those of `benchmarks.draws`, and its head chose among seven strengths, not nine, on other folds;
`made_by` says so in each. `--name` puts new cells into a file of their own.
"""

import functools
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks import contest, record, tables
from benchmarks.contest import Contender, Entry, Job, Place
from benchmarks.draws import Case, Drawn, draw
from benchmarks.intervals import Mean, mean
from benchmarks.recipe_cases import COMPARISONS, METHODS_COMPARED, Comparison, Recipe
from modeling import METHODS, Adapter, Backbone, HeadSpec, Wanted, readout_of
from training.loop.batches import training_batches
from training.loop.encode import Rows, encode_items
from training.loop.fitted import HeadFit, Sample, fit_head
from training.loop.optim import Group, build_optimizer, clip, schedule_factor, set_learning_rate
from training.loop.passes import features
from training.loop.states import States

NAME = "recipe"
Cells = dict[str, Any]
_MAX_TOKENS, _BATCH_TOKENS, _WARMUP = 128, 4096, 0.1


def entries() -> list[Entry]:
    """Seed by seed and case by case; what two comparisons have in common once."""
    wanted = [
        Entry(case, Contender(recipe.name, functools.partial(measure, recipe)), seed)
        for comparison in COMPARISONS
        for seed in comparison.seeds
        for case in comparison.cases
        for recipe in comparison.recipes
    ]
    return list({entry.key: entry for entry in wanted}.values())


class Bench:
    """The rows of one case and seed, what the frozen backbone gives of them, and the head fitted on that."""

    def __init__(self, drawn: Drawn, backbone: Backbone, seed: int) -> None:
        self.backbone, self.seed = backbone, seed
        self.spec = HeadSpec("single_label", drawn.names, "unit")
        self.readout = readout_of(self.spec)
        self.labels = [int(row["label"]) for row in drawn.train]
        self.wanted = Wanted(torch.tensor(self.labels, device=backbone.device))
        self.train, self.test = (self._encoded(drawn, rows) for rows in (drawn.train, drawn.test))
        self.frozen = self.states(self.train)
        self.fitted = self.fit(self.frozen)
        self.alone = self.answers(self.states(self.test), self.fitted.weight, self.fitted.bias)

    def _encoded(self, drawn: Drawn, rows: Sequence[dict[str, Any]]) -> Rows:
        read = [drawn.texts(row) for row in rows]
        items = [texts[0] if len(texts) == 1 else (texts[0], texts[1]) for texts in read]
        return encode_items(self.backbone, items, min(_MAX_TOKENS, self.backbone.max_tokens))

    def states(self, rows: Rows) -> States:
        """What a head reads of the rows, with whatever is attached; on the CPU."""
        found = features(self.backbone, rows, self.spec, lambda: None)
        return States(found.values.float().cpu(), found.counts.cpu())

    def fit(self, states: States, strength: float | None = None) -> HeadFit:
        sample = Sample(self.readout, self.spec, states, self.wanted.on_cpu(), self.labels)
        return fit_head(sample, len(self.spec.labels), strength=strength, seed=self.seed)

    def answers(self, states: States, weight: Tensor, bias: Tensor) -> Tensor:
        """Probabilities [N, L]; on the CPU."""
        return linear(states.values, weight.detach().cpu(), bias.detach().cpu()).softmax(1)

    def adapter(self, recipe: Recipe) -> tuple[Adapter, float]:
        """At its start, and the decay that its head has."""
        method = METHODS[recipe.method].from_config(recipe.options)
        adapter = Adapter.create(self.backbone, method, self.spec, seed=self.seed)
        assert adapter.head is not None, "a class without a head: this is a bug"
        fitted = self.fitted if recipe.strength is None else self.fit(self.frozen, recipe.strength)
        fitted.put_into(adapter.head)
        if recipe.strength is None:
            for parameter in adapter.head.parameters():
                parameter.data.mul_(recipe.start)
        size = float(self.frozen.values.square().sum(1).mean())
        return adapter, recipe.head_decay * size / (fitted.C * len(self.labels))

    def run(self, recipe: Recipe, adapter: Adapter, l2: float) -> None:
        """All epochs; the adapter must be attached."""
        assert adapter.head is not None, "a class without a head: this is a bug"
        body, head = tuple(adapter.body_parameters()), tuple(adapter.head.parameters())
        optimizer = build_optimizer([Group(body, recipe.lr), Group(head, recipe.head_lr)])
        plan = [rows for epoch in range(1, recipe.epochs + 1) for rows in self._batches(recipe, epoch)]
        for step, rows in enumerate(plan):
            set_learning_rate(optimizer, schedule_factor((step + 0.5) / len(plan), _WARMUP))
            batch = self.backbone.pack(self.train.take(rows), adapter.virtual_tokens)
            wanted = self.wanted.take(rows)
            loss = self.readout.loss(self.backbone, batch, self.spec, adapter.head, wanted)
            optimizer.zero_grad()
            total = loss + l2 / 2 * adapter.head.weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]  # torch's own
            clip([*body, *head])
            optimizer.step()

    def _batches(self, recipe: Recipe, epoch: int) -> list[list[int]]:
        return training_batches(
            self.train.lengths,
            batch_tokens=_BATCH_TOKENS,
            batch_size=recipe.batch_size,
            seed=self.seed,
            epoch=epoch,
        )


@functools.lru_cache(maxsize=1)
def _bench(case: Case, seed: int, place: Place) -> Bench:
    """A process meets the recipes of one case one after the other."""
    return Bench(draw(case, place.data, seed), contest.open_backbone(place.backbone, place.device), seed)


def measure(recipe: Recipe, job: Job) -> Cells:
    """The record of a recipe on one case: with the head fitted again, as it was trained, and before."""
    bench, started = _bench(job.case, job.seed, job.place), time.monotonic()
    adapter, l2 = bench.adapter(recipe)
    with adapter.attached(bench.backbone):
        bench.run(recipe, adapter, l2)
        trained, tested = bench.states(bench.train), bench.states(bench.test)
    seconds = time.monotonic() - started
    assert adapter.head is not None, "a class without a head: this is a bug"
    left, again = bench.answers(tested, adapter.head.weight, adapter.head.bias), bench.fit(trained)

    def score(answers: Tensor) -> dict[str, float]:
        return contest.scores(job.drawn, answers.argmax(1).tolist())

    metric = job.case.metric
    return {
        "values": score(bench.answers(tested, again.weight, again.bias)),
        "as_trained": score(left)[metric],
        "averaged": score(left + bench.alone)[metric],
        "head_alone": score(bench.alone)[metric],
        "C": bench.fitted.C,
        "made_by": "benchmarks.recipe",
        "seconds": round(seconds, 1),
    }


def gains(cells: Cells, of: Comparison, recipe: Recipe, what: str = "value") -> dict[tuple[str, int], float]:
    """Points over the head alone by case and seed, for cells that there are.

    `what`: `value` (the head fitted again), `as_trained`, or `averaged` (its answers and those of the head
    alone).
    """
    found = {}
    for case in of.cases:
        for seed in of.seeds:
            cell = cells.get(f"{case.name}/{recipe.name}/{seed}")
            if cell is not None:
                found[case.name, seed] = 100 * (cell[what] - cell["head_alone"])
    return found


def behind(cells: Cells, of: Comparison, recipe: Recipe, other: Recipe, what: str = "value") -> Mean:
    """How many points the other has over the recipe: over the cases and seeds that both have."""
    mine, others = (gains(cells, of, one, what) for one in (recipe, other))
    return mean([others[place] - mine[place] for place in mine.keys() & others.keys()])


def average(cells: Cells, of: Comparison, recipe: Recipe, what: str = "value") -> float:
    """Points over the head alone on average; NaN without a cell."""
    found = gains(cells, of, recipe, what)
    return statistics.fmean(found.values()) if found else math.nan


def best_rate(cells: Cells, method: str) -> Recipe:
    """The recipe of a method whose rate gained most with the head fitted again."""
    tried = [one for one in METHODS_COMPARED.rates if one.method == method]
    return max(_made(cells, METHODS_COMPARED, tried), key=lambda one: average(cells, METHODS_COMPARED, one))


def table(cells: Cells) -> str:
    """Methods and their rates; the best rate of each, with the head fitted again, in bold."""
    of, rows = METHODS_COMPARED, []
    for one in _made(cells, of, of.rates):
        best = best_rate(cells, one.method)
        rate = f"**{one.lr:g}**" if one == best else f"{one.lr:g}"
        apart = "" if one == best else behind(cells, of, one, best).shown(sign=True)
        rows.append([f"`{one.method}`", rate, *_gains(cells, of, one, apart)])
    head = ["method", "rate", "as trained", "fitted again", "best rate over it"]
    return tables.table([*head, *(case.name for case in of.cases)], rows, num_names=2)


def starts(cells: Cells) -> str:
    """The heads that stage two may start from."""
    return _listed(cells, [(of, [(one.begins, one) for one in of.starts]) for of in COMPARISONS])


def changes(cells: Cells) -> str:
    """Epochs, rates, layers and more, beside the usual recipe of each comparison."""
    named = [(of, [(one.beside(of.usual), one) for one in of.changes]) for of in COMPARISONS]
    return _listed(cells, named)


def _made(cells: Cells, of: Comparison, recipes: Iterable[Recipe]) -> list[Recipe]:
    """Those that have cells."""
    return [one for one in recipes if gains(cells, of, one)]


def _listed(cells: Cells, comparisons: Sequence[tuple[Comparison, list[tuple[str, Recipe]]]]) -> str:
    """A table for each comparison that has cells, below its title."""
    texts = []
    for of, named in comparisons:
        made = _made(cells, of, [one for _, one in named])
        rows = [[name, *_gains(cells, of, one)] for name, one in named if one in made]
        alone = ["head alone, its score", "", "", *(_alone(cells, of, case) for case in of.cases)]
        head = ["", "as trained", "fitted again", *(case.name for case in of.cases)]
        if rows:
            title = f"{of.title} (usual: {of.usual.name}; {len(of.seeds)} seeds):"
            texts.append(f"{title}\n\n{tables.table(head, [alone, *rows])}")
    return "\n\n".join(texts)


def _gains(cells: Cells, of: Comparison, recipe: Recipe, *more: str) -> list[str]:
    """On average as trained and fitted again, then both of each case."""
    whats = ("as_trained", "value")
    left, again = (gains(cells, of, recipe, what) for what in whats)
    both = [f"{average(cells, of, recipe, what):+.1f}" for what in whats]
    pairs = [(_of(left, case), _of(again, case)) for case in of.cases]
    return [*both, *more, *(" / ".join(filter(None, pair)) for pair in pairs)]


def _of(found: dict[tuple[str, int], float], case: Case) -> str:
    own = [value for (name, _), value in found.items() if name == case.name]
    return f"{statistics.fmean(own):+.1f}" if own else ""


def _alone(cells: Cells, of: Comparison, case: Case) -> str:
    keys = [[f"{case.name}/{one.name}/{seed}" for one in of.recipes] for seed in of.seeds]
    known = [next((cells[key] for key in own if key in cells), None) for own in keys]
    scores = [100 * cell["head_alone"] for cell in known if cell is not None]
    return f"{statistics.fmean(scores):.1f}" if scores else ""


def described(cells: Cells) -> str:
    """Where the cells come from."""
    origins = [cell["origin"] for cell in cells.values()]
    commits = ", ".join(sorted({origin["commit"] for origin in origins}))
    machines = ", ".join(sorted({origin["gpu"] or origin["processor"] for origin in origins}))
    makers = ", ".join(sorted({cell["made_by"] for cell in cells.values()}))
    return f"{len(cells)} cells, commit {commits}, {machines}, made by {makers}."


def main() -> int:
    wanted = entries()
    cases = list({entry.case: None for entry in wanted})
    contenders = list({entry.contender.name: entry.contender for entry in wanted}.values())
    parser = contest.options(__doc__, cases, contenders)
    args = parser.parse_args()
    name, failed = args.name or NAME, 0
    if not args.table:
        chosen = [
            entry
            for entry in wanted
            if (not args.case or entry.case.name in args.case)
            and (not args.contender or entry.contender.name in args.contender)
        ]
        failed = contest.run(name, chosen, contest.place_of(args), args.workers, args.minutes)
    cells = record.read(name)
    print(f"{table(cells)}\n\n{starts(cells)}\n\n{changes(cells)}" if cells else "Not measured yet.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
