"""The base of every answer: exact numbers, nothing unknown, absent members stay absent."""

from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

Number = int | Decimal  # JSON numbers with their exact digits (C16)


class AnswerModel(BaseModel):
    """A body that we send. native() gives it back as it was made."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    def native(self) -> dict[str, Any]:
        """The body, without the members that were not given."""
        return self.model_dump(by_alias=True, exclude_unset=True)
