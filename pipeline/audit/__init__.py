"""`recount audit`: every cell compared with an independent recount, while the stream runs."""

from .auditor import Auditor
from .findings import Findings

__all__ = ["Auditor", "Findings"]
