"""Bodies that the OpenAPI page tells of: their schemas, each model once among the components.

A schema describes; it refuses nothing. What a door reads through a model is in bodies.py.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, SkipJsonSchema
from pydantic_core import core_schema

Absent = SkipJsonSchema[None]  # of a member that may be absent, and null nowhere
_REF: Final = "#/components/schemas/{model}"


class Described(BaseModel):
    """A body, or a part of one, that is only told of: whoever reads it holds its rules."""

    model_config = ConfigDict(extra="forbid")


class Open(Described):
    """The same, where members that are not told of are passed over."""

    model_config = ConfigDict(extra="ignore")


class _Schemas(GenerateJsonSchema):
    """Without titles, which repeat names, and without null for what is absent."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Return that no field has a title."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return a schema; None stands for a member that is absent."""
        made = super().default_schema(schema)
        return made if made.get("default") is not None else _without_default(made)


def _without_default(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {name: held for name, held in schema.items() if name != "default"}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a reference to a model, and in `$defs` what hoist() puts among the components."""
    made = model.model_json_schema(ref_template=_REF, schema_generator=_Schemas)
    parts = {**made.pop("$defs", {}), model.__name__: made}
    return {"$ref": _REF.format(model=model.__name__), "$defs": parts}


def examples_of(model: type[BaseModel]) -> list[Any]:
    """Return a model's examples."""
    extra: Any = model.model_config["json_schema_extra"]
    examples: list[Any] = extra["examples"]
    return examples


def hoist(page: dict[str, Any]) -> None:
    """Put what describes the bodies of an OpenAPI page among its components."""
    schemas = page["components"]["schemas"]
    for operations in page["paths"].values():
        for operation in operations.values():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                for name, schema in body["schema"].pop("$defs", {}).items():
                    assert schemas.setdefault(name, schema) == schema, f"two schemas {name}"
