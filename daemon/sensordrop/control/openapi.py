"""The routes' description in OpenAPI 3.1, made of their table."""

from __future__ import annotations

from typing import Any

from sensordrop.control.answers import ANSWERS, REFUSAL
from sensordrop.control.refusal import STATUS, Reason
from sensordrop.control.routes import OPENAPI, ROUTES, Form, Parameter, Place, Route
from sensordrop.version import VERSION

Schema = dict[str, Any]


def description() -> Schema:
    """Give the whole description. Pure."""
    paths: dict[str, Schema] = {
        OPENAPI: {
            "get": {
                "operationId": "openapi",
                "summary": "This description.",
                "responses": {"200": _answer("The description.", {"type": "object"})},
            }
        }
    }
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sensordropd",
            "version": VERSION,
            "description": "What the daemon can be asked and told at its control socket.",
        },
        "servers": [{"url": "http://localhost", "description": "over the unix socket"}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {"Refusal": REFUSAL, **ANSWERS}},
    }


def _operation(route: Route) -> Schema:
    outside = [each for each in route.parameters if route.place_of(each) is not Place.BODY]
    inside = [each for each in route.parameters if route.place_of(each) is Place.BODY]
    told: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"For the role {route.role.value} and above.",
        "responses": {
            "200": _answer("Done.", {"$ref": f"#/components/schemas/{route.name}"}),
            **{
                str(status): _answer(words, {"$ref": "#/components/schemas/Refusal"})
                for status, words in _REFUSALS.items()
            },
        },
    }
    if outside:
        told["parameters"] = [
            {
                "name": each.name,
                "in": route.place_of(each).value,
                "required": each.required,
                "description": each.meaning,
                "schema": _schema(each),
            }
            for each in outside
        ]
    if inside:
        told["requestBody"] = {
            "required": any(each.required for each in inside),
            "content": {"application/json": {"schema": _body(inside)}},
        }
    return told


_REFUSALS = {
    STATUS[Reason.USAGE]: "What was asked for is no sense, or names what is not there.",
    STATUS[Reason.NOT_PERMITTED]: "Not permitted.",
    STATUS[Reason.UNKNOWN]: "Nobody knows of it.",
    STATUS[Reason.BUG]: "A mistake in sensordrop.",
    STATUS[Reason.NO_LEDGER]: "The ledger can't be reached, or too much is asked at once.",
}


def _answer(words: str, schema: Schema) -> Schema:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _body(parameters: list[Parameter]) -> Schema:
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            each.name: {**_schema(each), "description": each.meaning} for each in parameters
        },
    }
    if required := [each.name for each in parameters if each.required]:
        schema["required"] = required
    return schema


def _schema(parameter: Parameter) -> Schema:
    schema: Schema = {"type": parameter.form.value}
    match parameter.form:
        case Form.TEXT:
            schema["maxLength"] = parameter.longest
        case Form.WHOLE:
            schema |= {"minimum": parameter.least, "maximum": parameter.most}
        case Form.NUMBER:
            schema |= {"exclusiveMinimum": 0, "maximum": parameter.most}
        case Form.TEXTS:
            items = {"type": "string", "maxLength": parameter.longest}
            schema |= {"minItems": 1, "maxItems": parameter.most, "items": items}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.default is not None:
        schema["default"] = parameter.default
    return schema
