"""The scheduler at the door: ticks, by hand or by a worker; what was moved and why; what is used, and what the caller says of it."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from weakref import WeakSet

from memos_core.access import may_enter, require, rules
from memos_core.bound import ActorLike, ScopeLike
from memos_core.changes import Judge
from memos_core.cube import (
    LOCAL_OWNER,
    Activation,
    ActivationForm,
    CubeId,
    Parameter,
    Payload,
    Scope,
    as_scope,
    as_text,
    as_time,
    dumps,
)
from memos_core.errors import AccessDenied, InvalidInput
from memos_core.explaining import Explanation, explained
from memos_core.forms import Forms
from memos_core.house import House
from memos_core.lifespan import as_planned
from memos_core.policies import Policy
from memos_core.policy import Move, Thresholds
from memos_core.revise import as_ids
from memos_core.store import agenda, uses
from memos_core.store.agenda import Moved
from memos_core.store.uses import ScopeUsage
from memos_core.turn import Turn
from memos_core.worker import Worker


class Scheduling(Forms):
    """Memory that regulates itself: use is observed, its value estimated, and each cube held in the form that pays."""

    def __init__(self, house: House, thresholds: Thresholds, policy: Policy | None = None) -> None:
        super().__init__(house, thresholds, policy)
        self._workers: WeakSet[Worker] = WeakSet()

    # ------------------------------------------------------------------ ticks
    def tick(
        self, now: datetime | None = None, *, budget_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> list[Move]:
        """Let the scheduler move memory by its use: expire, archive what is over budget, prefill what is hot, drop what does not fit, distil
        what is queued. It reads what is due and nothing else. Returns the moves with reasons; `moves` has them all.

        At one `now`, a second tick does nothing. budget_s: seconds of `clock` after which no further move is started; the next tick goes on
        from there, also after a kill. While another process ticks this directory, it waits, for as long as budget_s allows.
        Only the local owner may; raises AccessDenied, InvalidInput, EngineError or StoreError.
        """
        self._owner()
        clock_time = as_planned(as_time(now, "now"))
        if budget_s is None:
            return self._scheduler.tick(clock_time)
        if isinstance(budget_s, bool) or not isinstance(budget_s, (int, float)) or not budget_s >= 0:
            raise InvalidInput(f"budget_s must be a number of seconds from 0, got {budget_s!r}")
        end = clock() + budget_s
        return self._scheduler.tick(clock_time, lambda: clock() < end)

    def worker(self, *, every_s: float = 60.0, budget_s: float | None = 5.0) -> Worker:
        """A thread that ticks every `every_s` seconds, each for about `budget_s`, whenever no turn is between begin and commit and the model is
        not at work. Not started yet: use it as a context manager, or call start() and stop(); `close` stops it.

        A move that is under way when a request arrives is finished, a training stopped at its next step. Only the local owner may.
        Raises AccessDenied or InvalidInput, and StoreUnusable when the memory has been closed.
        """
        self._owner()
        with self._store.read():  # while it is open
            pass

        def busy() -> bool:
            return self._house.traffic.in_flight(self._house.engine)

        made = Worker(lambda go_on: self._scheduler.tick(datetime.now(UTC), go_on), busy, every_s, budget_s)
        self._workers.add(made)
        return made

    def _owner(self) -> None:
        who = self._actor or LOCAL_OWNER
        if who != LOCAL_OWNER:
            raise AccessDenied(
                f"{'/'.join(who)} may not maintain the whole memory: only the local owner may, who holds the directory; call it on the memory "
                "as it was opened, not on one from as_actor"
            )

    def prefetch(self, scope: ScopeLike, *, actor: ActorLike = None, now: datetime | None = None) -> int:
        """Bring the KV that a scope's next turn will reuse from its file into RAM; bytes that were read: 0 where it is there already, there is
        none, or computing it would be quicker, by the rates measured here. `tick` does it for scopes that have just had a turn.

        Raises InvalidInput or AccessDenied.
        """
        place, clock = as_scope(scope), as_time(now, "now")
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        return self._scheduler.prefetch(place, clock)

    # ------------------------------------------------------------------ the record
    def moves(self, scope: ScopeLike | None = None, *, since: datetime | str | None = None, actor: ActorLike = None) -> list[Moved]:
        """What the scheduler has moved, oldest first, of a scope and all below it, or of everything; what the actor holds of it.

        Each with its reason, the seconds that it was expected to save, and those that have been saved since. Of a memory that has been
        forgotten nothing is told.
        """
        place = None if scope is None else as_scope(scope)
        who, begin = self._who(actor, place), None if since is None else as_time(since, "since")
        with self._house.view() as view:
            return [move for move in agenda.moves(view, place, begin) if rules(who, move.scope)]

    def explain(self, id: CubeId, *, task: str | None = None, actor: ActorLike = None, now: datetime | None = None) -> Explanation:
        """Why a cube is where it is, what it is worth, and what would move it: its numbers against every threshold, and what is missing.

        It rests on what the next tick would decide on, so that a policy function is asked about the cube's scope, too.
        Only who holds the cube's scope may ask, since it tells of others in it. task: the one at hand, for its value. Raises InvalidInput,
        NotFound or AccessDenied, and what the policy function raises.
        """
        clock, who = as_planned(as_time(now, "now")), self._who(actor, None)
        cube = self._permitted(id, "read", who, clock)
        require(may_enter(who, cube.governance.scope), who, "read", f"the record of cube {id}")
        number = None if task is None else self._task(cube.governance.scope, as_text(task, "task"))
        return explained(self._house, self._scheduler, cube, clock, number, self._in_ram(cube.payload))

    def _in_ram(self, payload: Payload) -> bool:
        """Whether this process holds the tensors of a cube now."""
        if isinstance(payload, Parameter):
            return payload.blob in self._modules.in_ram
        if not isinstance(payload, Activation) or payload.form is not ActivationForm.KV or not self._house.reuses:
            return False
        return bool(self._house.engine.resident(payload.prefix_key))

    # ------------------------------------------------------------------ usage
    def usage(self, scope: ScopeLike, *, actor: ActorLike = None) -> ScopeUsage:
        """How the turns of exactly one scope have used memory, in numbers. A cube's own: `cube.usage`. Raises InvalidInput or AccessDenied."""
        place = as_scope(scope)
        who = self._who(actor, place)
        require(may_enter(who, place), who, "read", f"scope {'/'.join(place)}")
        with self._house.view() as view:
            number = view.scope_number(place)
            return ScopeUsage() if number is None else uses.of_scope(view, number)

    def feedback(
        self, what: Turn | CubeId | Sequence[CubeId], success: bool = True, *, actor: ActorLike = None, now: datetime | None = None
    ) -> None:
        """Say whether it went well: a committed turn, for what its answer came from (where that cannot be told, all that it recalled), or
        memories, for the latest turn that each was recalled in; of one that no turn has recalled, nothing is counted. Counted once per memory
        and turn in `usage.successes`; False takes it back.

        Raises InvalidInput, NotFound or AccessDenied.
        """
        clock, who = as_time(now, "now"), self._who(actor, what.scope if isinstance(what, Turn) else None)
        if not isinstance(success, bool):
            raise InvalidInput(f"success must be True or False, got {success!r}")
        if isinstance(what, Turn):
            if not what.committed:
                raise InvalidInput("this turn has not been committed yet: call turn.commit(reply) first")
            require(may_enter(who, what.scope), who, "write", f"scope {'/'.join(what.scope)}")
            ids = tuple(dict.fromkeys(id for id, _ in what.plan.uses))
            self._store.commit([Judge(ids, success, what.session, what.key)])
            return
        ids = as_ids(what)
        for each in ids:
            self._permitted(each, "read", who, clock)
        self._store.commit([Judge(ids, success)])

    def _task(self, place: Scope, name: str) -> int:
        """The number of a task: of the hierarchy's, where one goes by that name, else a keyed hash, from which nobody can guess the name."""
        with self._store.read() as view:
            number = view.scope_number(place)
            known = None if number is None else view.task_named(number, name)
        if known is not None:
            return known
        digest = hmac.digest(self._store.secret, dumps(["task", *place, name.strip().lower()]).encode(), "sha256")
        return int.from_bytes(digest[:8], "little") >> 2 or 1
