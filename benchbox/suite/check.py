"""How a suite is checked: pydantic's validators, with errors in our words and at their own place.

Validators raise ValidationError with places relative to the value they were given; pydantic puts what is
around it before. So one pass over a suite finds all that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from benchbox import plugins
from benchbox.suite.source import kind

UNKNOWN_KEY = "unknown_key"
"""The type of an error that is about a key, not about its value."""

MISSING = "missing"
"""The type of an error that is about a key which is not there."""

_WRONG = "wrong"


def wrong(message: str, *loc: str | int, of: str = _WRONG) -> InitErrorDetails:
    """One error, at `loc` below the value that is being validated."""
    return InitErrorDetails(type=PydanticCustomError(of, "{text}", {"text": message}), loc=loc, input=None)


def refuse(*details: InitErrorDetails) -> NoReturn:
    """Ends a validator with these errors; pydantic puts the place of the validated value before their own."""
    raise ValidationError.from_exception_data("suite", list(details))


def said_of_error(error: Mapping[str, Any]) -> str:
    """What a pydantic error says, in our words."""
    context = error.get("ctx", {})
    if error["type"] in {_WRONG, UNKNOWN_KEY, MISSING}:
        return str(error["msg"]) if error.get("ctx") else "is missing; this field is required"
    if error["type"] in _SAYS:
        text = _SAYS[error["type"]]
        return text.format(value=kind(error["input"]), **{k: v for k, v in context.items() if k != "value"})
    if error["type"] in {"literal_error", "enum"}:
        allowed = re.findall(r"'([^']*)'", context["expected"])
        return plugins.unknown(cut_text(error["input"]), allowed, what="word")
    if error["type"] == "value_error":
        return str(context["error"])
    return f"{error['msg'].removeprefix('Input ')}, not {kind(error['input'])}"


_SAYS = {
    "int_type": "should be a whole number, not {value}",
    "float_type": "should be a number, not {value}",
    "bool_type": "should be true or false, not {value}",
    "string_type": "should be a text, not {value}",
    "list_type": "should be a list, not {value}",
    "tuple_type": "should be a list, not {value}",
    "dict_type": "should be a mapping, not {value}",
    "model_type": "should be a mapping, not {value}",
    "dataclass_type": "should be a mapping, not {value}",
    "too_short": "needs at least one item",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
}


@dataclass(frozen=True)
class Between:
    """Bounds of a number, both included, which the message states together."""

    low: float
    high: float

    def check(self, value: float) -> float:
        """The value itself; raises a pydantic error where it is out of bounds."""
        if not self.low <= value <= self.high:
            raise custom(f"{value} is out of range. Allowed: {self.low:g} to {self.high:.15g}.")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        return {**handler(schema), "minimum": self.low, "maximum": self.high}


class Form(BaseModel):
    """A mapping of named fields; unknown ones are reported with the nearest that exists."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, data: Any, handler: ModelWrapValidatorHandler[Form]) -> Any:
        if not isinstance(data, dict):
            return handler(data)
        allowed = tuple(cls.model_fields)
        details = unknown_keys(data, allowed)
        try:
            form = handler({key: value for key, value in data.items() if key in allowed})
        except ValidationError as error:
            details += errors_below(error)
        if details:
            refuse(*details)
        return form


def unknown_keys(
    data: Mapping[str, Any], allowed: Sequence[str], *, what: str = "field"
) -> list[InitErrorDetails]:
    """An error for each key that is not allowed."""
    return [
        wrong(plugins.unknown(cut_text(key), allowed, what=what), key, of=UNKNOWN_KEY)
        for key in data
        if key not in allowed
    ]


def errors_below(error: ValidationError, *before: str | int) -> list[InitErrorDetails]:
    """The errors of a failed validation, to be raised anew together with others, below `before`."""
    return [_anew(e, *before) for e in error.errors(include_url=False)]


def _anew(error: Mapping[str, Any], *before: str | int) -> InitErrorDetails:
    loc = (*before, *error["loc"])
    if loc[-1:] == ("[key]",):  # pydantic's mark for the key of a dict
        return wrong(said_of_error(error), *loc[:-1], of=UNKNOWN_KEY)
    of = error["type"] if error["type"] in {UNKNOWN_KEY, MISSING} else _WRONG
    return wrong(said_of_error(error), *loc, of=of)


def custom(message: str) -> PydanticCustomError:
    """An error at the value that is being validated."""
    return PydanticCustomError(_WRONG, "{text}", {"text": message})


def cut_text(value: Any) -> str:
    """A text that fits into a message."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
