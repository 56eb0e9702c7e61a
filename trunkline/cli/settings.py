"""Turns a settings class (dataclass or pydantic) into options: a new setting has its flag without an edit.

Only what was given on the command line is passed on: defaults and environment stay the settings class's own.
Tuples are written as "a,b" (or a JSON list, for names with commas), mappings as repeated "name=value".
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

Required = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: `hint` is its type without "| None"; `default` is `Required` where one must be given."""

    name: str
    hint: Any
    default: Any
    text: str
    panel: str

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


def settings_of(cls: type[Any]) -> list[Setting]:
    """The settings of a dataclass or a pydantic model.

    Help and panel, the heading on the help page, are in a field's metadata, or in its description and extra.
    """
    hints = get_type_hints(cls)
    if dataclasses.is_dataclass(cls):
        listed = [
            (f.name, _default(f.default, f.default_factory), f.metadata["help"], f.metadata["panel"])
            for f in dataclasses.fields(cls)
        ]
    else:
        listed = [
            (name, f.default, f.description, f.json_schema_extra["panel"])
            for name, f in cls.model_fields.items()
        ]
    return [
        Setting(name, _bare(hints[name]), default, f"{text}.", panel) for name, default, text, panel in listed
    ]


def given_values(settings: Sequence[Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line gave, in the types of the settings class.

    Raises typer.BadParameter for a list or a "name=value" that cannot be read.
    """
    return {s.name: _value(s, given[s.name]) for s in settings if given[s.name] not in (None, [])}


def with_options(
    command: Callable[..., None], settings: Sequence[Setting], extra: Sequence[inspect.Parameter] = ()
) -> Callable[..., None]:
    """`command`, showing typer one keyword parameter for each setting, then `extra`."""
    shown = inspect.Signature([*map(_parameter, settings), *extra])
    command.__signature__ = shown  # type: ignore[attr-defined]  # functions take it; typeshed does not say so
    command.__annotations__ = {}
    return command


def _parameter(setting: Setting) -> inspect.Parameter:
    kind = _option_type(setting.hint)
    flags = f"{setting.flag}/--no-{setting.flag[2:]}" if kind is bool else setting.flag
    option = typer.Option(
        flags,
        help=setting.text + _told_default(setting),
        rich_help_panel=setting.panel,
        show_default=False,
        metavar=_metavar(setting.hint),
    )
    required = setting.default is Required
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[kind if required else kind | None, option],
    )


def _option_type(hint: Any) -> Any:
    """What typer parses: a number or switch as it is, a mapping as a list of texts, all else as a text."""
    if hint in (bool, int, float):
        return hint
    return list[str] if _is_mapping(hint) else str


def _bare(hint: Any) -> Any:
    """The type without "| None" and without annotations."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return _bare(next(arm for arm in get_args(hint) if arm is not type(None)))
    return hint


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_list(hint: Any) -> bool:
    return (get_origin(hint) or hint) in (tuple, list)


def _metavar(hint: Any) -> str | None:
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    if _is_mapping(hint):
        return "NAME=VALUE"
    return "A,B,…" if _is_list(hint) else None


def _default(default: Any, factory: Any) -> Any:
    return default if factory is dataclasses.MISSING else factory()


def _told_default(setting: Setting) -> str:
    """The default, in words; nothing where it is "the method's own", nothing, or empty."""
    if setting.default is Required or setting.default is None or setting.default in ("", (), {}):
        return ""
    if isinstance(setting.default, bool):
        return f" Default: {'on' if setting.default else 'off'}."
    return f" Default: {setting.default}."


def _value(setting: Setting, given: Any) -> Any:
    if _is_mapping(setting.hint):
        return named_values(setting.flag, given)
    return _listed(setting, given) if _is_list(setting.hint) else given


def _listed(setting: Setting, text: str) -> tuple[str, ...]:
    if not text.lstrip().startswith("["):
        return tuple(part.strip() for part in text.split(","))
    try:
        return tuple(str(part) for part in json.loads(text))
    except ValueError as error:
        raise typer.BadParameter(f"{setting.flag} is not a JSON list: {error}") from None


def named_values(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """Several "name=value", see `named_value`. Raises typer.BadParameter for a name that is there twice."""
    values: dict[str, Any] = {}
    for text in texts:
        name, value = named_value(flag, text)
        if name in values:
            raise typer.BadParameter(f"{flag} gives {name} twice; give it once")
        values[name] = value
    return values


def named_value(flag: str, text: str) -> tuple[str, Any]:
    """A "name=value" of the option `flag`: the value is JSON where it can be, else text.

    "layers=4-11" → ("layers", "4-11"); "rank=8" → ("rank", 8); "layers=[0,1]" → ("layers", [0, 1]).
    Raises typer.BadParameter without a name or "=".
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{flag} takes NAME=VALUE, not {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
