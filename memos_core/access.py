"""Who may do what to a cube: default deny. Pure.

Source: MemOS §4.2, governance attributes (access control); the rules are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memos_core.cube import LOCAL_OWNER, Actor, MemCube, Scope, contains
from memos_core.errors import AccessDenied

Action = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer with its reason; true when allowed."""

    allowed: bool
    reason: str

    def __bool__(self) -> bool:
        return self.allowed


def rules(actor: Actor, scope: Scope) -> bool:
    """Whether the actor holds everything in the scope: it is the local owner, the scope itself, or one above it."""
    return actor == LOCAL_OWNER or contains(actor, scope)


def granted(actor: Actor, grants: tuple[Actor, ...]) -> bool:
    """Whether a grant names the actor or a group that contains it."""
    return any(contains(grantee, actor) for grantee in grants)


def may(cube: MemCube, actor: Actor, action: Action) -> Decision:
    """Decide. Private to the scope unless granted; a write grant does not imply reading, nor the reverse."""
    governance = cube.governance
    if rules(actor, governance.scope):
        return Decision(True, "the actor holds the scope")
    if granted(actor, getattr(governance.access, action)):
        return Decision(True, f"{action} granted")
    return Decision(False, f"nothing grants {action}")


def may_enter(actor: Actor, scope: Scope, what: str = "add to it") -> Decision:
    """Whether the actor may do something to a scope as a whole. what: such as write new memory into it."""
    if rules(actor, scope):
        return Decision(True, "the actor holds the scope")
    return Decision(False, f"only the scope itself, one above it or the local owner may {what}")


def may_all(actor: Actor) -> Decision:
    """Whether the actor may act on the whole memory."""
    return Decision(actor == LOCAL_OWNER, "only the local owner, who holds the directory, may; name a scope")


def require(decision: Decision, actor: Actor, action: str, target: str) -> None:
    """Raise AccessDenied unless allowed. The message names the target by id or scope, never by content."""
    if not decision:
        grant = f"ask its owner for a grant: memos.update(id, {action}=[actor])"
        hint = grant if target.startswith("cube ") else "actor= says who acts"
        raise AccessDenied(f"{'/'.join(actor)} may not {action} {target}: {decision.reason}; {hint}")
