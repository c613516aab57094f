"""Read a run's results.json and refuse what the report could not show.

The layout is `results.schema.json` beside this file. Only what the report relies on is checked
here (types, required fields, allowed values); the tests hold the whole schema against samples.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from polyclinic.errors import RunError

SCHEMA_ID = "polyclinic.results/1"
RESULTS = "results.json"
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def results_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of results.json."""
    text = files("polyclinic.report").joinpath("results.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def read_results(run: Path) -> dict[str, Any]:
    """Read `run/results.json`; NaN and infinity become None.

    Raises `RunError` when the run or the file is missing, is not JSON, or has another layout.
    """
    if not run.is_dir():
        raise RunError(f"{run}: no such run directory; give the folder that `polyclinic run` wrote")
    path = run / RESULTS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(
            f"{run}: has no {RESULTS}; the run has not got that far, resume it (a server: start it "
            "again) and try again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); check the file") from None
    try:
        results = json.loads(text, parse_constant=lambda _: None)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunError(f"{path}: not valid JSON ({error}); run again to rewrite it") from None
    found = results.get("schema") if isinstance(results, dict) else None
    if found != SCHEMA_ID:
        raise RunError(
            f"{path}: expected schema {SCHEMA_ID!r}, got {found!r}; "
            "use the version of polyclinic that wrote it"
        )
    schema = results_schema()
    problem = _problem(results, schema, schema, "")
    if problem:
        raise RunError(f"{path}: {problem}; see docs/results.md for the layout")
    checked: dict[str, Any] = results
    return checked


def _problem(value: Any, rule: dict[str, Any], schema: dict[str, Any], where: str) -> str:
    """The first difference between `value` and `rule`, or an empty string."""
    if "$ref" in rule:
        rule = schema["$defs"][rule["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in rule:
        problems = [_problem(value, one, schema, where) for one in rule["anyOf"]]
        return "" if "" in problems else problems[0]
    place = where or "the file"
    if "const" in rule and value != rule["const"]:
        return f"{place}: expected {rule['const']!r}, got {value!r}"
    if "enum" in rule and value not in rule["enum"]:
        return f"{place}: expected one of {', '.join(map(str, rule['enum']))}; got {value!r}"
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{place}: expected {' or '.join(kinds)}, got {type(value).__name__}"
    if isinstance(value, dict):
        for key in rule.get("required", []):
            if key not in value:
                return f"{place}: `{key}` is missing"
        for key, inner in rule.get("properties", {}).items():
            if key in value:
                problem = _problem(value[key], inner, schema, f"{where}.{key}".lstrip("."))
                if problem:
                    return problem
    if isinstance(value, list) and "items" in rule:
        for index, item in enumerate(value):
            problem = _problem(item, rule["items"], schema, f"{where}[{index}]")
            if problem:
                return problem
    return ""


def _is(value: Any, kind: str) -> bool:
    # In Python a bool is an int; in JSON it is not.
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
