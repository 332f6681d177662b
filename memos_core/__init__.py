"""The memory that agents deserve: MemCubes of plaintext and activation memory in one directory, scheduled by use.

Source: MemOS: A Memory OS for AI System, arXiv 2507.03724, section 4. Importing this loads no torch.
"""

from memos_core.carrying import Exported
from memos_core.changes import Imported
from memos_core.conflict import Relation, RelationKind
from memos_core.conflict.resolution import Conflict, OnConflict, Resolution
from memos_core.cube import (
    Access,
    Activation,
    Governance,
    Identifiers,
    MemCube,
    Origin,
    Plaintext,
    SemanticType,
    State,
    Usage,
    as_scope,
)
from memos_core.differences import Diff
from memos_core.entries import Entry
from memos_core.errors import (
    AccessDenied,
    EmbedderMismatch,
    EngineError,
    IdentityMismatch,
    InvalidInput,
    MemosError,
    MissingExtra,
    NotAvailable,
    NotFound,
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    StoreUnusable,
    VersionConflict,
)
from memos_core.explaining import Explanation
from memos_core.links import Link
from memos_core.memos import MemOS, as_memos
from memos_core.outline import outline
from memos_core.plan import Plan
from memos_core.policies import LATENCY, MEMORY, QUALITY, Policy, View
from memos_core.policy import Budget, Move, Thresholds
from memos_core.recall import Hit, Recall, Timeline
from memos_core.store.agenda import Moved
from memos_core.store.uses import ScopeUsage
from memos_core.turn import Remembered, Turn
from memos_core.worker import Worker

__all__ = [  # noqa: RUF022  in plain order
    "Access",
    "AccessDenied",
    "Activation",
    "Budget",
    "Conflict",
    "Diff",
    "EmbedderMismatch",
    "EngineError",
    "Entry",
    "Explanation",
    "Exported",
    "Governance",
    "Hit",
    "Identifiers",
    "IdentityMismatch",
    "Imported",
    "InvalidInput",
    "LATENCY",
    "Link",
    "MEMORY",
    "MemCube",
    "MemOS",
    "MemosError",
    "MissingExtra",
    "Move",
    "Moved",
    "NotAvailable",
    "NotFound",
    "OnConflict",
    "Origin",
    "Plaintext",
    "Plan",
    "Policy",
    "QUALITY",
    "Recall",
    "Relation",
    "RelationKind",
    "Remembered",
    "Resolution",
    "SchemaTooNew",
    "ScopeUsage",
    "SemanticType",
    "State",
    "StoreCorrupt",
    "StoreError",
    "StoreUnusable",
    "Thresholds",
    "Timeline",
    "Turn",
    "Usage",
    "VersionConflict",
    "View",
    "Worker",
    "as_memos",
    "as_scope",
    "outline",
]
