"""The memory that agents deserve: MemCubes of plaintext and activation memory in one directory, scheduled by use.

Source: MemOS: A Memory OS for AI System, arXiv 2507.03724, section 4. Importing this loads no torch.
"""

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
)
from memos_core.differences import Diff
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
from memos_core.links import Link
from memos_core.memos import MemOS
from memos_core.outline import outline
from memos_core.plan import Plan
from memos_core.policy import Budget, Move, Thresholds
from memos_core.recall import Hit, Recall, Timeline
from memos_core.turn import Remembered, Turn

__all__ = [
    "Access",
    "AccessDenied",
    "Activation",
    "Budget",
    "Conflict",
    "Diff",
    "EmbedderMismatch",
    "EngineError",
    "Governance",
    "Hit",
    "Identifiers",
    "IdentityMismatch",
    "InvalidInput",
    "Link",
    "MemCube",
    "MemOS",
    "MemosError",
    "MissingExtra",
    "Move",
    "NotAvailable",
    "NotFound",
    "OnConflict",
    "Origin",
    "Plaintext",
    "Plan",
    "Recall",
    "Relation",
    "RelationKind",
    "Remembered",
    "Resolution",
    "SchemaTooNew",
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
    "outline",
]
