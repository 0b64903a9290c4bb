"""Read and check params.yaml, all of it or what one stage sees (stages.py).

params_sections.py has a class for each section. Every error is one line: the setting, what was found, what is allowed.
"""

import difflib
import json
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from posedistill.errors import UserError
from posedistill.params_sections import (  # noqa: F401  (all are imported from here)
    ROLES,
    SECTIONS,
    SIZES,
    Augment,
    Input,
    LabelRates,
    Loss,
    Params,
    Runtime,
    Section,
    SizeName,
    Source,
    Train,
    UnlistedSetting,
    Weights,
)


def setting(settings: Any, key: str) -> Any:
    """A setting by its dotted key, in sections or, as DVC records it, by leaves; None where it is missing."""
    if not isinstance(settings, Mapping):
        return None
    if key in settings:
        return settings[key]
    section, _, rest = key.partition(".")
    return setting(settings.get(section), rest) if rest else None


def read_settings(path: str | Path) -> dict[str, Any]:
    """The content of a settings file as plain values: YAML 1.2 (5e-5 is a number), or JSON if it ends in .json."""
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
        return _mapping(str(path), json.loads(content) if path.suffix == ".json" else _yaml(path, content))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # a number of thousands of digits, a date that does not exist
        reason = str(error)[:200]
    raise UserError(f"{path}: cannot be read as a settings file ({reason})")


def _yaml(path: Path, content: str) -> Any:
    try:
        from ruamel.yaml import YAML, YAMLError
    except ImportError as error:
        raise UserError(f"{path}: reading YAML needs ruamel.yaml; without it, pass the settings as JSON") from error
    try:
        return YAML(typ="safe", pure=True).load(content)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{where}: not YAML: {reason[:200]}") from error


def load_params(path: str | Path = "params.yaml") -> Params:
    """All settings of a file, checked and complete."""
    settings = read_settings(path)
    for name in SECTIONS:
        if name not in settings:
            raise UserError(f"{name}: section missing in {path}, allowed: see params.yaml of this version")
    return from_settings(settings)


def from_settings(settings: Mapping[str, Any], stage: str | None = None) -> Params:
    """Build Params from plain values.

    With a `stage`, `settings` may hold only what that stage lists, and reading another setting raises
    UnlistedSetting. Without, each section must be complete, and missing sections raise UnlistedSetting when read.
    """
    settings = _mapping("settings", settings)
    if stage is None:
        given = Params.partial(settings)
    else:
        given = settings | {name: section.partial(settings.get(name, {})) for name, section in SECTIONS.items()}
    try:
        params = Params.model_validate(given)
    except ValidationError as error:
        raise _one_line(error, settings) from None
    _check_together(params)
    return params


def to_settings(params: Section) -> dict[str, Any]:
    """The plain values of `params` (lists, dictionaries, numbers, text), which `from_settings` reads back."""
    return params.dump()


@contextmanager
def record_reads(note: Callable[[str], None] | None = None) -> Iterator[set[str]]:
    """Record which settings are read as attributes while the context lasts: a set of names like `student.size` and
    `train.ema`, in all threads of this process and those forked from it.

    A setting counts as its entry in a section: reading `augment.weak` or `train.ema`, not what is inside them. Not
    reads are `present`, `dump`, `replaced`, `to_settings`, comparing and printing. `note` is called with each name as
    it is read for the first time. Without the context, reading costs nothing.

    For other processes, the environment variable POSEDISTILL_READS names a file to which every process that imports
    this module appends a line for each setting that it reads.
    """
    reads: set[str] = set()

    def read(section: Section, name: str) -> Any:
        kind = type(section)
        key = f"{kind.__name__.lower()}.{name}"
        if key not in reads and SECTIONS.get(kind.__name__.lower()) is kind and name in kind.model_fields:
            reads.add(key)
            if note is not None:
                note(key)
        return object.__getattribute__(section, name)

    Section.__getattribute__ = read  # type: ignore[method-assign, assignment]
    try:
        yield reads
    finally:
        del Section.__getattribute__


def _append(key: str) -> None:
    with Path(os.environ["POSEDISTILL_READS"]).open("a") as file:
        file.write(f"{key}\n")


if "POSEDISTILL_READS" in os.environ:
    _recording = record_reads(_append)
    _recording.__enter__()


# Errors


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _fail(key, value, "a mapping of keys to values")
    return dict(value)


def _fail(key: str, value: Any, allowed: str) -> UserError:
    return UserError(f"{key}: found {_shown(value)}, allowed: {allowed}")


def _shown(value: Any) -> str:
    """A value as in the settings file, in at most 200 characters: references can expand a short file to gigabytes, or
    make a value contain itself."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        short = value if len(value) <= 80 else f"{value[:77]}..."
        quoted = short if short.isidentifier() else json.dumps(short, ensure_ascii=False)
        return quoted.encode(errors="backslashreplace").decode()
    bounded = reprlib.Repr()
    bounded.maxlevel, bounded.maxlist, bounded.maxdict, bounded.maxlong = 2, 4, 4, 40
    try:
        return bounded.repr(value)[:200]
    except ValueError:  # Python formats integers of up to 4,300 digits
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else "a number of too many digits"


def _unknown(section: str, name: str, known: Sequence[str]) -> UserError:
    prefix = f"{section}." if section else ""
    near = difflib.get_close_matches(name[:80], known, n=1)
    hint = f" (did you mean {prefix}{near[0]}?)" if near else ""
    return UserError(f"{prefix}{_shown(name)}: unknown key{hint}: remove it; allowed: {', '.join(known)}")


def _one_line(error: ValidationError, settings: Any) -> UserError:
    """pydantic's errors as one line: the first unknown key, or else the first wrong value."""
    problem = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    unknown, missing = problem["type"] in ("extra_forbidden", "invalid_key"), problem["type"] == "missing"
    *parents, last = problem["loc"]
    schema, key, value = _schema(), "", settings
    models = schema["$defs"]
    for part in parents if unknown else (*parents, last):
        inner = _inner(_options(schema, models), part)
        if inner is None:  # a branch of a union, or one number of a pair: reported as a whole
            break
        key = f"{key}[{part}]" if isinstance(part, int) else f"{key}.{part}".lstrip(".")
        schema, value = inner, None if missing and part is last else value[part]
    options = _options(schema, models)
    if unknown:
        return _unknown(key, str(last), [name for option in options for name in option.get("properties", ())])
    allowed = " or ".join(map(_in_words, options))
    return UserError(f"{key}: missing, allowed: {allowed}") if missing else _fail(key, value, allowed)


@cache
def _schema() -> dict[str, Any]:
    return Params.model_json_schema()


def _options(schema: dict[str, Any], models: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a JSON schema, with references followed."""
    options = schema.get("anyOf", [schema])
    return [models[option["$ref"].removeprefix("#/$defs/")] if "$ref" in option else option for option in options]


def _inner(options: list[dict[str, Any]], part: str | int) -> dict[str, Any] | None:
    """The schema of a key of a mapping or of an entry of a list."""
    for option in options:
        if isinstance(part, int) and "items" in option:
            return option["items"]
        if part in option.get("properties", ()):
            return option["properties"][part]
    return None


def _in_words(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows."""
    if "properties" in schema:
        return "a mapping {" + ", ".join(f"{name}: …" for name in schema["properties"]) + "}"
    if "description" in schema:
        return schema["description"]
    if "enum" in schema or "const" in schema:
        return " | ".join(schema.get("enum", [schema.get("const")]))
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}
    bounds = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "maximum": "<= {}", "multipleOf": "divisible by {}"}
    limits = [words.format(schema[bound]) for bound, words in bounds.items() if bound in schema]
    return " ".join([kinds.get(schema["type"], "a list with at least one entry"), " and ".join(limits)]).strip()


def _check_together(params: Params) -> None:
    """Checks across settings: files that must exist, and settings that must match."""
    files = {"teacher": ("checkpoint", "init", "backbone"), "student": ("backbone",)}
    for section, leaf in ((section, leaf) for section, leaves in files.items() for leaf in leaves):
        weights = _given(params, section).get(leaf)
        # A file under data.root comes with the data, which the pipeline may not have fetched yet.
        if weights and not Path(weights.path).is_file() and Path(weights.path).parts[:1] != ("data",):
            raise UserError(
                f"{section}.{leaf}.path: there is no file {weights.path}; allowed: a file of weights, or "
                f"{section}.{leaf}: null"
            )
    teacher = _given(params, "teacher")
    for i, weights in enumerate(teacher.get("more") or ()):
        if not Path(weights.path).is_file():
            raise UserError(f"teacher.more[{i}].path: there is no file {weights.path}; allowed: a file of weights")
    sizes = [dict(section) for section in (teacher.get("input"), _given(params, "input")) if section]
    if len(sizes) == 2 and sizes[0]["height"] * sizes[1]["width"] != sizes[0]["width"] * sizes[1]["height"]:
        found, own = (f"{size['height']}×{size['width']}" for size in sizes)
        raise UserError(f"teacher.input: found {found}, allowed: height and width in the ratio of input ({own})")
    if teacher.get("keypoints") and not teacher.get("checkpoint", True):
        raise UserError("teacher.keypoints: only a given teacher (teacher.checkpoint) has others; allowed: null")
    if teacher.get("init") and teacher.get("backbone"):
        raise UserError("teacher.init and teacher.backbone: both are given; allowed: one of them, the other null")
    data = _given(params, "data")
    for split in ("train", "val"):
        names: set[str] = set()
        for i, source in enumerate(data.get(split, ())):
            key = f"data.{split}[{i}]"
            _check_source(key, source)
            if source.name in names:
                raise _fail(f"{key}.name", source.name, "a name that no other source of the list has")
            names.add(source.name)
            if split == "val" and source.labels is not None:
                raise UserError(f"{key}.labels: validation labels stay complete; allowed: null, or no such key")
            by_detector = split == "val" and data.get("boxes") == "detections" and source.source == "coco_wholebody"
            if by_detector and source.detections is None:
                raise _fail(f"{key}.detections", None, "a file of detections, since data.boxes is detections")


def _given(params: Params, section: str) -> dict[str, Any]:
    return dict(dict(params).get(section, ()))


def _check_source(key: str, source: Source) -> None:
    """Check that a source has the keys of its kind."""
    required, optional = source.KEYS[source.source]
    known = ("source", "name", *required, *optional)
    for name in source.model_fields_set:
        if name not in known:
            raise _unknown(key, name, known)
    for name in required:
        if getattr(source, name) is None:
            raise UserError(f"{key}.{name}: missing, a source of kind {source.source} needs it")
    kind, allowed = (int, "a whole number >= 1") if source.source == "synthetic" else (str, "text that is not empty")
    if source.images is not None and not isinstance(source.images, kind):
        raise _fail(f"{key}.images", source.images, allowed)
