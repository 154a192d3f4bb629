"""`recount audit`: every cell compared with an independent recount, while the stream runs."""

from .auditor import Auditor
from .findings import Findings
from .processes import audit_in_processes

__all__ = ["Auditor", "Findings", "audit_in_processes"]
