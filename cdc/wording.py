"""What is wrong with a setting, in words of people instead of pydantic's. Pure.

Never the value that was given: it may be a password.
"""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_WORDS = {
    "extra_forbidden": "is not a setting",
    "int_parsing": "has to be a whole number",
    "int_parsing_size": "has to be a smaller number",
    "int_from_float": "has to be a whole number",
    "int_type": "has to be a whole number",
    "float_parsing": "has to be a number",
    "float_type": "has to be a number",
    "string_type": "has to be text",
    "list_type": 'has to be a list, such as ["credit"]',
    "model_type": "has to be a section",
    "path_type": "has to be a path",
    "literal_error": "has to be {expected}",
    "greater_than": "has to be more than {gt:g}",
    "greater_than_equal": "has to be at least {ge:g}",
    "less_than_equal": "has to be at most {le:g}",
    "value_error": "cannot be used: {error}",
}


def explained(error: ValidationError, origins: Mapping[str, str], forms: Mapping[str, str]) -> str:
    """Return what is wrong with which settings.

    `origins` says where each is from; `forms` what a text has to look like that has a pattern.
    """
    return "; ".join(
        f"{_name(detail, origins)} {_worded(detail, forms)}"
        for detail in error.errors(include_input=False, include_url=False)
    )


def _name(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    """Return a setting's name, with its variable, and the file that it is from."""
    section, *names = (str(part) for part in detail["loc"] if part != "[key]")
    name = ".".join([section, *names])
    if section == "tables" and names:
        name = ".".join([section, f'"{names[0]}"', *names[1:]])
    origin = origins.get(".".join([section, *names[:1]]), "")
    variable = f"CDC_{section}_{names[0]}".upper() if names and section != "tables" else ""
    if origin == "environment":
        return f"{variable} ({name})"
    known = variable and detail["type"] != "extra_forbidden"
    return f"{name}{f' ({variable})' if known else ''}{f' in {origin}' if origin else ''}"


def _worded(detail: ErrorDetails, forms: Mapping[str, str]) -> str:
    """Return what it has to be instead."""
    kind, context = detail["type"], detail.get("ctx", {})
    form = forms.get(".".join(map(str, detail["loc"])))
    if kind == "string_pattern_mismatch" and form is not None:
        return f"has to be {form}"
    if kind in {"string_too_short", "too_short"}:
        least = context.get("min_length")
        return "must not be empty" if least == 1 else f"has to have at least {least} characters"
    words = _WORDS.get(kind)
    return words.format(**context) if words is not None else detail["msg"].lower()
