"""What answering with a resident adapter needs, from its file and its place on the device."""

from __future__ import annotations

from adapters_store import Manifest
from adapters_store.manifest import Outline
from modeling import HeadSpec, Placement, kind_of, readout_of

from ..engine.request import Input, ServingCard

MAX_FORM_CHARS = 500
MAX_NOTED_FIELDS = 100


def card_of(manifest: Manifest | Outline, spec: HeadSpec, placement: Placement) -> ServingCard:
    return ServingCard(
        spec=spec,
        kind=kind_of(spec),
        readout=readout_of(spec),
        placement=placement,
        max_tokens=manifest.input.max_tokens,
        fields=tuple(manifest.input.fields),
        method=manifest.method.name,
        example=_example(manifest, choices=kind_of(spec).choices),
        reads=_reads(manifest),
    )


def _reads(manifest: Manifest | Outline) -> dict[str, object] | None:
    """Which fields of rows inputs are made of, as the trainer noted it; None where nothing sound is noted.

    A file's provenance is anything its writer liked: what is passed on has the form and size that a trainer
    gives it.
    """
    noted = manifest.provenance.config
    found: dict[str, object] = {}
    for name in ("text_fields", "choice_fields"):
        if _are_names(noted.get(name)):
            found[name] = noted[name]
    form = noted.get("text_to_text")
    made = form.get("formatter") if isinstance(form, dict) else None
    if isinstance(made, dict) and _are_names(made.get("fields")):
        kept = {name: made.get(name) for name in ("name", "prefix", "targets")}
        if all(isinstance(value, str) and len(value) <= MAX_FORM_CHARS for value in kept.values()):
            found["formatter"] = {
                **kept,
                "fields": made["fields"],
                "official_code": bool(made.get("official_code")),
            }
    return found or None


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_NOTED_FIELDS
        and all(isinstance(name, str) and 0 < len(name) <= MAX_FORM_CHARS for name in value)
    )


def _example(manifest: Manifest | Outline, *, choices: bool) -> Input:
    """The form of an input, with names of fields in braces: what stands there is never a text of the data.

    Where sources are written out of fields, it is their form as the trainer noted it.
    """
    fields = [f"{{{name}}}" for name in manifest.input.fields]
    if choices:
        return {"text": fields[0], "choices": ["{choice 0}", "{choice 1}"]}
    noted = manifest.provenance.config.get("text_to_text")
    form = noted.get("source_form") if isinstance(noted, dict) else None
    if isinstance(form, str) and len(form) <= MAX_FORM_CHARS:
        return form
    return fields[0] if len(fields) == 1 else {"text": fields[0], "text_pair": fields[1]}
