"""One adapter for several tasks: shared, as a start for new ones, or in Compacter's shared rule.

Of the source tasks: an adapter each; one Hadamard body for all of them with a head each, trained together;
and that body tuned further for each by itself. Of new tasks, with few rows and with many: from the paper's
start, from the shared body, and with the shared body held as it is (a head, and no body of its own).
Compacter: a rule each, one rule for all source tasks, and for new tasks that rule held as it is. All scores
are of validation rows that chose nothing.

    python -m benchmarks.research_sharing --data ../shared/data --device cuda --workers 16   # resumes
    python -m benchmarks.research_sharing --table                                # only print what there is
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks import research_pool, tables
from benchmarks.research_bench import Bench, Given, copied, frozen, in_turn, placed, run
from benchmarks.research_tables import by_seed, difference, mean_and_spread, not_measured, told
from modeling import Adapter, Backbone

NAME = "research_sharing"
SOURCES = ("sst5", "trec", "cola")
NEW = ("review_sentences", "stackoverflow20", "snips")
TASKS = NEW  # what --task may choose: the sources belong together
FEW_ROWS, FEW_EPOCHS = 100, 40
HADAMARD, COMPACTER, RULE = "hadamard", "compacter", "shared/phm_rule"
OPTIONS: dict[str, Any] = {}  # of Compacter
BYTES = 4  # of a number in a file


def groups(
    given: Given, seeds: Sequence[int], tasks: Sequence[str] | None
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Keys `hadamard/sources/seed`, `hadamard/TASK/seed` and `compacter/rules/seed`, each a group."""
    each, few = given.epochs * given.rows / 32, FEW_EPOCHS * FEW_ROWS / 32
    for seed in seeds:
        if not tasks:
            yield (f"{HADAMARD}/sources/{seed}",), len(SOURCES) * 3 * each
            yield (f"{COMPACTER}/rules/{seed}",), (2 * len(SOURCES) + 2 * len(NEW)) * each
        for task in tasks or NEW:
            yield (f"{HADAMARD}/{task}/{seed}",), (len(SOURCES) + 3) * each + 3 * few


def cells(
    backbone: Backbone, given: Given, keys: Sequence[str]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for key in keys:
        method, what, seed = key.split("/")
        benches = [Bench(backbone, given, task, int(seed)) for task in SOURCES]
        if method == COMPACTER:
            yield key, partial(rules, benches)
        elif what == "sources":
            yield key, partial(sources, benches)
        else:
            yield key, partial(new_task, benches, what)


def one_body(benches: Sequence[Bench]) -> list[Adapter]:
    """An adapter for each task: one body for all of them, a head each, trained together."""
    (first, hyper), *rest = [bench.adapter(HADAMARD) for bench in benches]
    adapters = [first]
    for other, _ in rest:
        adapters.append(Adapter(other.method, other.spec, first.body, other.head, first.shared))
    learners = [bench.learner(one, hyper) for bench, one in zip(benches, adapters, strict=True)]
    with first.attached(benches[0].backbone):
        run(in_turn(learners, benches[0].seed), hyper)
    return adapters


def sources(benches: Sequence[Bench]) -> dict[str, Any]:
    """The source tasks by themselves, in one body, and from that body tuned by themselves."""
    shared = one_body(benches)
    found: dict[str, Any] = {"seed": benches[0].seed, "tasks": {}}
    for bench, one in zip(benches, shared, strict=True):
        own = bench.trained(HADAMARD)
        adapter, hyper = bench.adapter(HADAMARD)
        tuned = bench.train(copied(one, adapter, head=True), hyper)
        found["tasks"][bench.task] = {
            "metric": bench.metric.name,
            "head alone": bench.score(bench.probe(), bench.judge),
            "separate": bench.score(own, bench.judge),
            "one body": bench.score(one, bench.judge),
            "from the one body": bench.score(tuned, bench.judge),
            "head_parameters": one.num_head_parameters,
        }
    found["body_parameters"] = shared[0].num_body_parameters
    return found


def new_task(benches: Sequence[Bench], task: str) -> dict[str, Any]:
    """A task that the shared body has not seen: with few rows, and with as many as the others."""
    shared, first = one_body(benches)[0], benches[0]
    found: dict[str, Any] = {"task": task, "seed": first.seed, "rows": {}}
    sizes = ((FEW_ROWS, FEW_EPOCHS), (first.given.rows, first.given.epochs))
    for rows, epochs in sizes:
        bench = Bench(first.backbone, first.given, task, first.seed, rows)
        start, hyper = bench.adapter(HADAMARD, epochs)
        held, _ = bench.adapter(HADAMARD, epochs)
        found["metric"] = bench.metric.name
        found["rows"][str(rows)] = {
            "head alone": bench.score(bench.probe(), bench.judge),
            "separate": bench.score(bench.trained(HADAMARD, epochs), bench.judge),
            "from the shared body": bench.score(bench.train(copied(shared, start), hyper), bench.judge),
            "shared body held": bench.score(bench.train(frozen(copied(shared, held)), hyper), bench.judge),
        }
    return found


def rules(benches: Sequence[Bench]) -> dict[str, Any]:
    """Compacter with a rule for each task, with one for all, and with that one held for new tasks."""
    made = [bench.adapter(COMPACTER, **OPTIONS) for bench in benches]
    hyper, adapters = made[0][1], [adapter for adapter, _ in made]
    rule = adapters[0].shared["phm_rule"]
    for other in adapters[1:]:
        other.shared["phm_rule"].data = rule.data  # the same numbers in memory: every task's step moves them
    backbone = benches[0].backbone
    learners = [
        placed(bench.learner(one, hyper), one, backbone) for bench, one in zip(benches, adapters, strict=True)
    ]
    run(in_turn(learners, benches[0].seed), hyper)
    found: dict[str, Any] = {"seed": benches[0].seed, "tasks": {}, "rule_parameters": rule.numel()}
    for bench, one in zip(benches, adapters, strict=True):
        found["tasks"][bench.task] = _both(bench, one)
    for task in NEW:
        bench = Bench(backbone, benches[0].given, task, benches[0].seed)
        held, numbers = bench.adapter(COMPACTER, **OPTIONS)
        held.shared["phm_rule"].data.copy_(rule.data)
        frozen(held, lambda name: name != RULE)
        found["tasks"][task] = _both(bench, bench.train(held, numbers))
    found["body_parameters"] = adapters[0].num_body_parameters
    return found


def _both(bench: Bench, one: Adapter) -> dict[str, Any]:
    return {
        "metric": bench.metric.name,
        "head alone": bench.score(bench.probe(), bench.judge),
        "separate": bench.score(bench.trained(COMPACTER, **OPTIONS), bench.judge),
        "one rule": bench.score(one, bench.judge),
    }


SOURCE_COLUMNS = ("head alone", "separate", "one body", "from the one body")
NEW_COLUMNS = ("head alone", "separate", "from the shared body", "shared body held")
RULE_COLUMNS = ("head alone", "separate", "one rule")


def shared(found: dict[str, Any]) -> str:
    """The source tasks: a row each, and the bytes of all their files together (numbers alone, float32)."""
    records = by_seed(found, f"{HADAMARD}/sources")
    if not records:
        return not_measured()
    rows = [
        [task, *(mean_and_spread([r["tasks"][task][c] for r in records]) for c in SOURCE_COLUMNS)]
        for task in SOURCES
    ]
    body, last = records[0]["body_parameters"], records[0]["tasks"]
    heads = sum(last[task]["head_parameters"] for task in SOURCES)
    bodies = (0, len(SOURCES), 1, len(SOURCES))
    rows.append(["kB for all", *(f"{BYTES * (number * body + heads) / 1000:.1f}" for number in bodies)])
    return tables.table(["task", *SOURCE_COLUMNS], rows)


def start(found: dict[str, Any]) -> str:
    """New tasks: a row for each and number of rows."""
    rows = []
    for task in NEW:
        records = by_seed(found, f"{HADAMARD}/{task}")
        for size in records[0]["rows"] if records else ():
            values = [[r["rows"][size][column] for r in records] for column in NEW_COLUMNS]
            rows.append([task, f"{int(size):,}", *map(mean_and_spread, values)])
    head = ["task", "rows", *NEW_COLUMNS]
    return tables.table(head, rows, num_names=2) if rows else not_measured()


def rule(found: dict[str, Any]) -> str:
    """Compacter: source tasks, whose one rule was trained with them, then new ones, for which it was held."""
    records = by_seed(found, f"{COMPACTER}/rules")
    if not records:
        return not_measured()
    rows = []
    for task in (*SOURCES, *NEW):
        how = "trained with it" if task in SOURCES else "held"
        values = [[r["tasks"][task][column] for r in records] for column in RULE_COLUMNS]
        rows.append([task, how, *map(mean_and_spread, values)])
    own, body = records[0]["rule_parameters"], records[0]["body_parameters"]
    rows.append(["numbers a task", "", "0", f"{body:,}", f"{body - own:,}"])
    return tables.table(["task", "the one rule is", *RULE_COLUMNS], rows, num_names=2)


def answer(found: dict[str, Any]) -> str:
    """Everything shared against an adapter for each task, over tasks and seeds."""
    own = by_seed(found, f"{HADAMARD}/sources")
    facts = [
        (f"source tasks, {way}", _against([r["tasks"][task] for r in own for task in SOURCES], way))
        for way in SOURCE_COLUMNS[2:]
    ]
    records = [record for task in NEW for record in by_seed(found, f"{HADAMARD}/{task}")]
    for size in records[0]["rows"] if records else ():
        cells_of = [record["rows"][size] for record in records]
        facts += [
            (f"new tasks, {int(size):,} rows, {way}", _against(cells_of, way)) for way in NEW_COLUMNS[2:]
        ]
    ruled = by_seed(found, f"{COMPACTER}/rules")
    for name, tasks in (("source tasks, one rule", SOURCES), ("new tasks, that rule held", NEW)):
        cells_of = [record["tasks"][task] for record in ruled for task in tasks]
        facts.append((f"Compacter, {name}", _against(cells_of, "one rule")))
    return told(facts) if own or records or ruled else not_measured()


def _against(cells_of: Sequence[dict[str, Any]], way: str) -> str:
    return difference([(one["separate"], one[way]) for one in cells_of])


def report(found: dict[str, Any]) -> str:
    """All tables, one below the other."""
    return "\n\n".join([shared(found), start(found), rule(found), answer(found)])


def main() -> int:
    return research_pool.main(sys.modules[__name__], __doc__)


if __name__ == "__main__":
    sys.exit(main())
