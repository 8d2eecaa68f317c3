"""Types of request parameters: strict, bounded in the work a wrong value causes, and named in the error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_STOPS = 4
MAX_BIASES = 1024
_MAX_BIAS = 100
_NULLS: dict[str, Any] = {"additionalProperties": {"type": "null"}}


def refuse(param: str, message: str, code: str | None = None) -> PydanticCustomError:
    """Return the error of one parameter; `refusals` reads its name and code."""
    # pydantic fills braces in the template, and a client chooses what is in the message.
    return PydanticCustomError("refused", "{message}", {"param": param, "message": message, "code": code})


def example(body: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a body that shows an example in the OpenAPI document."""
    return ConfigDict(json_schema_extra=_NULLS | {"examples": [body]})


def _encodable(text: str) -> str:
    """Refuse lone surrogates: UTF-8 and hence the tokenizer cannot spell them."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not valid Unicode at character {error.start}") from None
    return text


class Strict(BaseModel):
    """No coercion ("5" is not 5), no NaN, null means not given, unknown names are refused by name."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra=_NULLS,
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        unknown = [name for name, value in data.items() if value is not None and name not in cls.model_fields]
        if unknown:
            raise PydanticCustomError("unknown_parameter", "unknown parameter", {"names": unknown[:5]})
        return {name: value for name, value in data.items() if value is not None}


def _one_is_a_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_encodable)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31, json_schema_extra={"format": "token-id"})]
_Stop = Annotated[Text, Field(min_length=1, max_length=256)]
_StopList = Annotated[list[_Stop], Field(fail_fast=True, max_length=MAX_STOPS)]
_STOP = {"type": "string", "minLength": 1, "maxLength": 256}
Stops = Annotated[
    _StopList,
    BeforeValidator(_one_is_a_list),
    WithJsonSchema({"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}]}),
]


def _shape(value: object) -> str:
    """Name the branch of a prompt by its first element, so that an error speaks of what was meant."""
    if not isinstance(value, list):
        return "as-text"
    first = value[0] if value else ""
    return "as-lists" if isinstance(first, list) else "as-texts" if isinstance(first, str) else "as-tokens"


_Tokens = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]
Prompt = Annotated[
    Annotated[Text, Tag("as-text")]
    | Annotated[list[Text], Field(fail_fast=True, min_length=1), Tag("as-texts")]
    | Annotated[_Tokens, Tag("as-tokens")]
    | Annotated[list[_Tokens], Field(fail_fast=True, min_length=1), Tag("as-lists")],
    Discriminator(_shape),
]


class TextPart(Strict):
    """One part of a message given as a list."""

    type: Literal["text"]
    text: Text


MessageContent = Annotated[
    Annotated[Text, Tag("as-text")] | Annotated[list[TextPart], Field(fail_fast=True), Tag("as-parts")],
    Discriminator(lambda value: "as-parts" if isinstance(value, list) else "as-text"),
]


class ResponseFormat(BaseModel):
    """What the answer must look like."""

    model_config = ConfigDict(json_schema_extra={"properties": {"type": {"const": "text"}}, "required": ["type"]})

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> object:  # noqa: ANN401
        kind = value.get("type") if isinstance(value, dict) else value
        if kind != "text":
            raise refuse(
                "response_format", 'response_format is unsupported except for {"type": "text"}', "unsupported_value"
            )
        return value


def _bias(value: object) -> object:
    """Check all entries here: a wrong body with many entries must not cost an error object for each."""
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise ValueError(f"an object of at most {MAX_BIASES} token ids")
    for key, bias in value.items():
        if not (key.isascii() and key.isdigit() and len(key) <= len(str(1 << 31))):
            raise ValueError("keys are token ids: digits in a string")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -_MAX_BIAS <= bias <= _MAX_BIAS:
            raise ValueError(f"values are numbers from -{_MAX_BIAS} to {_MAX_BIAS}")
    return value


LogitBias = Annotated[
    dict[str, float],
    BeforeValidator(_bias),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]{1,10}$"},
            "additionalProperties": {"type": "number", "minimum": -_MAX_BIAS, "maximum": _MAX_BIAS},
            "maxProperties": MAX_BIASES,
        }
    ),
]
