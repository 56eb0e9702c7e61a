"""`methods`, `inspect`, `check`: what a method costs, what a file holds, whether it fits. No server used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.boundary import FAILED, guarded, print_error
from trunkline.cli.options import AdapterPath, AsJson
from trunkline.cli.printing import labels_of, note, plain, print_facts, print_json, print_table, shorten, size
from trunkline.cli.settings import named_values

if TYPE_CHECKING:
    from adapters_store import AdapterFile, Manifest
    from modeling import MethodCount

TEXT_TO_TEXT_NOTE = (
    'text to text: "with head" counts the output layer, which stays frozen unless train_output_layer is set; '
    "files hold no head, and --labels does not apply (--form head counts a head instead)"
)
FORMS = {"head": "head", "text-to-text": "text_to_text"}
EXAMPLE_CHARACTERS = 160


def register(app: typer.Typer) -> None:
    for command in (methods, inspect, check):
        app.command(rich_help_panel="Look at methods and files")(command)


@guarded
def methods(
    backbone: Annotated[
        str,
        typer.Option(help="Architecture (bert-base, roberta-large, …), minilm, or a local model directory."),
    ] = "minilm",
    method: Annotated[str | None, typer.Option(help="Only this method.")] = None,
    method_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A setting of that method, as in `train`; repeat for several."
        ),
    ] = None,
    labels: Annotated[
        int, typer.Option(min=1, help="Labels of the task, for the size of head and file.")
    ] = 2,
    form: Annotated[
        str | None,
        typer.Option(help="head, or text-to-text (T5 and BART); text-to-text on T5 when not given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count each method's parameters, its share of the backbone and its file, from the architecture alone.

    Example: trunkline methods --backbone t5-base --method compacter --method-config division=8
    """
    if method_config and not method:
        raise typer.BadParameter("--method-config needs --method: say whose setting it is")
    if form is not None and form not in FORMS:
        raise typer.BadParameter(f"--form is {form!r}; allowed: {', '.join(FORMS)}")
    kind = None if form is None else FORMS[form]
    config = named_values("--method-config", method_config or ())
    rows = _count(backbone, method, config, labels, kind)
    told = _note(backbone, kind)
    if as_json:
        print_json([{"backbone": backbone, **_method_facts(row), "note": told} for row in rows])
    else:
        _print_methods(backbone, rows, told)


def _count(
    backbone: str, method: str | None, config: Mapping[str, Any], labels: int, form: str | None
) -> list[MethodCount]:
    """A row for each method with its defaults, or one row for `method` with `config`."""
    from modeling import METHODS, MethodError, UnknownNameError, methods_table

    if method is None:
        return methods_table(backbone, labels=labels, form=form)
    try:
        chosen = METHODS[method].from_config(dict(config))
    except (UnknownNameError, MethodError) as error:  # wrong usage, as in `train`
        raise typer.BadParameter(str(error)) from None

    from modeling.counts import architecture, count, empty_model

    shape = architecture(backbone)
    return [count(chosen, shape, empty_model(shape), labels, form)]


def _note(backbone: str, form: str | None) -> str:
    """What the columns mean where tasks answer text to text; nothing where they have a head."""
    from modeling.counts import answers_text, architecture

    return TEXT_TO_TEXT_NOTE if answers_text(architecture(backbone), form) else ""


def _print_methods(backbone: str, rows: list[MethodCount], told: str) -> None:
    title = f"{backbone}: {rows[0].backbone_parameters:,} parameters" if rows else backbone
    columns = ["method", "parameters>", "share>", "with head>", "tensors in file>", "paper"]
    print_table(columns, [_method_cells(row) for row in rows], title=title)
    if told:
        typer.echo(told)


def _method_facts(row: MethodCount) -> dict[str, Any]:
    """All that is known of one method; parameters also with the head."""
    return {**plain(row), "parameters_with_head": row.parameters + row.head_parameters}


def _method_cells(row: MethodCount) -> tuple[str, ...]:
    """The cells of one method; where its defaults do not fit, why stands in the place of the paper."""
    if row.problem:
        return row.method, "", "", "", "", f"needs other options here: {row.problem}"
    return (
        row.method,
        f"{row.parameters:,}",
        f"{row.share_percent:.4f} %",
        f"{row.parameters + row.head_parameters:,}",
        size(row.file_bytes),
        row.paper,
    )


@guarded
def inspect(file: AdapterPath, as_json: AsJson = False) -> None:
    """Show what an adapter file holds; refuses a broken one with every reason.

    Example: trunkline inspect intent.safetensors --json
    """
    from proof.candidate import read_file

    adapter = read_file(file)
    if as_json:
        print_json(_inspected(adapter))
        return
    print_facts(fact for fact in _facts(adapter) if fact[1])
    rows = [
        (name, list(tensor.shape), f"{tensor.numel():,}") for name, tensor in sorted(adapter.tensors.items())
    ]
    print_table(["tensor", "shape", "numbers>"], rows)


def _inspected(adapter: AdapterFile) -> dict[str, Any]:
    return {
        "digest": adapter.digest,
        "size_bytes": adapter.size_bytes,
        "manifest": adapter.manifest.model_dump(mode="json"),
        "label_names": _label_names(adapter.manifest),
        "example": _example(adapter.manifest),
        "tensors": {name: list(tensor.shape) for name, tensor in sorted(adapter.tensors.items())},
    }


def _facts(adapter: AdapterFile) -> list[tuple[str, object]]:
    manifest, backbone = adapter.manifest, adapter.manifest.backbone
    head, measured = manifest.head, manifest.metrics
    num_head = sum(t.numel() for name, t in adapter.tensors.items() if name.startswith("head/"))
    num_body = sum(t.numel() for t in adapter.tensors.values()) - num_head
    metrics = {name: f"{value:.4f}" for name, value in measured.values.items()} if measured else None
    return [
        ("task", manifest.task),
        ("description", manifest.description),
        ("method", manifest.method.name),
        ("settings", manifest.method.config),
        ("backbone", f"{backbone.name} ({backbone.family}, weights {backbone.weights_digest[:19]}…)"),
        ("head", f"{head.kind}, {head.pooling} pooling, {_outputs(manifest)}"),
        ("labels", labels_of(_labels(manifest))),
        ("scores", _scores(manifest)),
        ("example", shorten(_example(manifest) or "", EXAMPLE_CHARACTERS)),
        ("input", f"{' + '.join(manifest.input.fields)}, at most {manifest.input.max_tokens} tokens"),
        ("metrics", metrics),
        ("measured on", f"{measured.rows} {measured.split} rows" if measured else None),
        ("parameters", f"{num_body:,} and {num_head:,} in the head"),
        ("probes", len(manifest.probes)),
        (
            "created",
            f"{manifest.created}, code {manifest.provenance.code_version}, seed {manifest.provenance.seed}",
        ),
        ("size", size(adapter.size_bytes)),
        ("digest", adapter.digest),
    ]


def _scores(manifest: Manifest) -> str | None:
    """How scores are calibrated, and under which a label is withheld."""
    head, found = manifest.head, []
    if head.temperature is not None:
        found.append(f"logits over a temperature of {head.temperature:.3g}")
    if head.abstain is not None:
        found.append(
            f"no label under {head.abstain.threshold:.4f} (held-out: {head.abstain.coverage:.1%} of "
            f"{head.abstain.rows:,} rows answered, {head.abstain.error:.1%} of them wrong)"
        )
    return "; ".join(found) or None


def _outputs(manifest: Manifest) -> str:
    head = manifest.head
    if head.max_new_tokens is not None:
        return f"answers of at most {head.max_new_tokens} tokens"
    if not head.labels:
        return "the cosine of two texts, the embedding of one"
    return f"{len(head.labels)} outputs"


def _labels(manifest: Manifest) -> list[str]:
    """The labels, and what the data calls those that are strings without a meaning of their own."""
    names = _label_names(manifest)
    return [f"{label} = {names[label]}" if label in names else label for label in manifest.head.labels]


def _label_names(manifest: Manifest) -> dict[str, str]:
    """Text to text: the name of the class that each label string means, where it is another string."""
    kept = manifest.provenance.config.get("text_to_text")
    names = kept.get("names") if isinstance(kept, Mapping) else None
    if manifest.head.pooling != "none" or not isinstance(names, list | tuple):
        return {}
    if len(names) != len(manifest.head.labels):  # numbers have strings and no names
        return {}
    pairs = zip(manifest.head.labels, map(str, names), strict=True)
    return {label: name for label, name in pairs if label != name}


def _example(manifest: Manifest) -> str | None:
    """Text to text: the shortest source of a probe, so that a caller sees how sources are written."""
    if manifest.head.pooling != "none":
        return None
    return min((probe.text for probe in manifest.probes), key=len, default=None)


@guarded
def check(
    file: AdapterPath,
    backbone: Annotated[str, typer.Option(help="minilm, a local model directory, or a hub id.")] = "minilm",
    as_json: AsJson = False,
) -> None:
    """Check a file as the server would at upload: format, fit to the backbone, and its probes replayed.

    Example: trunkline check intent.safetensors --backbone minilm
    """
    from modeling import load_backbone
    from proof.check import check_file
    from proof.errors import Refused

    try:
        report = check_file(file.read_bytes(), load_backbone(backbone))
    except Refused as refused:
        if any(problem.field.startswith("manifest.backbone.") for problem in refused.failures):
            print_error(refused)
            note(f"it was checked against {backbone}: name the backbone of the file with --backbone")
            raise SystemExit(FAILED) from None
        raise
    if as_json:
        print_json(report)
        return
    print_facts(
        [
            ("task", f"{report.task} ({report.method}, {report.kind})"),
            ("labels", labels_of(report.labels)),
            ("size", size(report.size_bytes)),
            ("digest", report.digest),
            ("probes", f"{report.probes.count} agree, largest difference {report.probes.max_difference:.1e}"),
        ]
    )
