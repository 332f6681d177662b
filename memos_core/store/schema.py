"""The database's shape: an append-only list of migrations, each committed together with its record."""

from __future__ import annotations

import sqlite3
import time

from memos_core.errors import SchemaTooNew

_INITIAL = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- A scope and all above it have a row each; `length` and `hash` are the head of its audit chain.
CREATE TABLE scopes (scope INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, length INTEGER NOT NULL DEFAULT 0, hash BLOB NOT NULL DEFAULT x'');

-- Heads. `seq` is the audit entry of the last change; the index catches up by it. `key` is the cube's own: erasure destroys it, so that
-- what stays in the chains cannot be guessed at by hashing candidates. `identity`: keyed digest of the message it came from.
CREATE TABLE cubes (
  row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, scope INTEGER NOT NULL, seq INTEGER NOT NULL, version INTEGER NOT NULL,
  state TEXT NOT NULL, kind TEXT NOT NULL, session TEXT, role TEXT, occurred_at REAL NOT NULL, expires_at REAL, priority REAL NOT NULL,
  blob TEXT, body BLOB NOT NULL, key BLOB NOT NULL, identity BLOB);
CREATE UNIQUE INDEX cubes_identity ON cubes (identity) WHERE identity IS NOT NULL;
CREATE INDEX cubes_seq ON cubes (seq);
CREATE INDEX cubes_scope_session ON cubes (scope, session);
CREATE INDEX cubes_expiry ON cubes (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX cubes_derived ON cubes (kind, scope) WHERE kind <> 'plaintext';

-- The hash-linked history of each cube. `body` is the committed content, gone after erasure; the rest stays.
CREATE TABLE versions (
  id TEXT NOT NULL, version INTEGER NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, body BLOB,
  commitment BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (id, version)) WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, scope INTEGER NOT NULL, position INTEGER NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL,
  action TEXT NOT NULL, id TEXT, version INTEGER, commitment BLOB, detail TEXT NOT NULL, hash BLOB NOT NULL);
CREATE UNIQUE INDEX audit_chain ON audit (scope, position);

CREATE TABLE tombstones (id TEXT PRIMARY KEY, row INTEGER NOT NULL, seq INTEGER NOT NULL, scope INTEGER NOT NULL, at REAL NOT NULL,
  actor TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX tombstones_seq ON tombstones (seq);

-- In a table without rowid the key's columns come first: SQLite 3.40's integrity check reports false NULLs otherwise.
CREATE TABLE lineage (child TEXT NOT NULL, parent TEXT NOT NULL, relation TEXT NOT NULL, parent_version INTEGER NOT NULL,
  PRIMARY KEY (child, parent, relation)) WITHOUT ROWID;
CREATE INDEX lineage_parent ON lineage (parent);

CREATE TABLE vectors (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, vector BLOB NOT NULL, terms BLOB NOT NULL);
CREATE VIRTUAL TABLE lexical USING fts5 (terms, tokenize = "ascii tokenchars '_'", detail = none);

CREATE TABLE grants (grantee TEXT NOT NULL, action TEXT NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (grantee, action, row)) WITHOUT ROWID;
CREATE INDEX grants_row ON grants (row);

CREATE TABLE turns (scope INTEGER NOT NULL, session TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, system TEXT,
  PRIMARY KEY (scope, session, key)) WITHOUT ROWID;
CREATE INDEX turns_recent ON turns (scope, at);
CREATE TABLE placements (scope INTEGER NOT NULL, session TEXT NOT NULL, turn TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL,
  version INTEGER NOT NULL, PRIMARY KEY (scope, session, turn, position)) WITHOUT ROWID;
CREATE INDEX placements_id ON placements (id);

CREATE TABLE usage_events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, scope INTEGER NOT NULL, session TEXT NOT NULL, turn TEXT NOT NULL,
  form TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX usage_events_id ON usage_events (id, session);
CREATE TABLE usage (id TEXT PRIMARY KEY, scope INTEGER NOT NULL, recalls INTEGER NOT NULL, sessions INTEGER NOT NULL, last_used_at REAL NOT NULL,
  heat_log2 REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX usage_heat ON usage (scope, heat_log2);

-- Blob files whose last cube was erased or dropped in a committed change, until they are unlinked.
CREATE TABLE doomed (blob TEXT PRIMARY KEY) WITHOUT ROWID;
"""

_HIERARCHY = """
-- Tasks (without a parent) and concepts (below one). `label` is '' until one has been read from the facts, or again after an erasure.
CREATE TABLE concepts (concept INTEGER PRIMARY KEY, scope INTEGER NOT NULL, parent INTEGER NOT NULL, given INTEGER NOT NULL,
  label TEXT NOT NULL, labelled INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL);
CREATE INDEX concepts_scope ON concepts (scope, parent);
CREATE INDEX concepts_given ON concepts (seq) WHERE given = 1;
ALTER TABLE cubes ADD COLUMN concept INTEGER NOT NULL DEFAULT 0;
CREATE INDEX cubes_concept ON cubes (concept) WHERE concept <> 0;
ALTER TABLE vectors ADD COLUMN features BLOB NOT NULL DEFAULT x'';
"""

_LIFE = """
-- When a memory was true; the columns say what the body says.
ALTER TABLE cubes ADD COLUMN valid_from REAL;
ALTER TABLE cubes ADD COLUMN valid_to REAL;
CREATE INDEX cubes_changed ON cubes (scope) WHERE version > 1;

-- What two cubes have to do with each other and what was made of it. Gone with either of them.
CREATE TABLE relations (older TEXT NOT NULL, newer TEXT NOT NULL, kind TEXT NOT NULL, confidence REAL NOT NULL, why TEXT NOT NULL,
  resolution TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (older, newer)) WITHOUT ROWID;
CREATE INDEX relations_newer ON relations (newer);

-- Messages that said what a cube says already: verbatim, as the cube each would have been. `seq`: the audit entry of the merge, which
-- holds the commitment. `after`: the last row when it was merged, for the order of a conversation.
CREATE TABLE merged (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, identity BLOB, scope INTEGER NOT NULL, session TEXT, after INTEGER NOT NULL,
  body BLOB NOT NULL, commitment BLOB NOT NULL);
CREATE INDEX merged_id ON merged (id);
CREATE UNIQUE INDEX merged_identity ON merged (identity) WHERE identity IS NOT NULL;
CREATE INDEX merged_session ON merged (scope, session);

-- Plaintext that an earlier version made searchable, to be read anew.
CREATE INDEX vectors_bare ON vectors (row) WHERE features = x'';

-- Images of memories, in whatever version of them: their blobs stay as long as one of these does.
CREATE TABLE images (row INTEGER NOT NULL, blob TEXT NOT NULL, PRIMARY KEY (row, blob)) WITHOUT ROWID;
CREATE INDEX images_blob ON images (blob);

-- What each memory is filed under: keyed hashes of its words and claims.
CREATE TABLE keys (scope INTEGER NOT NULL, key INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (scope, key, row)) WITHOUT ROWID;
CREATE INDEX keys_row ON keys (row);

-- Words are looked for in the terms that the index holds: reading a full-text index took longer than scanning them.
DROP TABLE lexical;

-- How much a scope and all below it may hold; NULL for no limit.
CREATE TABLE budgets (scope INTEGER PRIMARY KEY, facts INTEGER, bytes INTEGER, strength REAL, erase_after REAL);
"""

_USES = """
-- Whether the answer came from what was recalled.
ALTER TABLE usage ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_events ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
"""

_MODULES = """
-- Modules that were retired since a source of theirs was erased or has changed: what is left to make them of again. Ids alone.
CREATE TABLE retraining (number INTEGER PRIMARY KEY, scope INTEGER NOT NULL, form TEXT NOT NULL, ids TEXT NOT NULL);
"""

_SCHEDULE = """
-- What use has brought. tasks: distinct ones, known_tasks: their numbers, at most 64; successes: turns that the caller said went well;
-- what was saved, by the machine's own rates.
ALTER TABLE usage ADD COLUMN successes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN tasks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN known_tasks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE usage ADD COLUMN tokens_saved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN seconds_saved REAL NOT NULL DEFAULT 0;
-- task: its number; a keyed hash where the caller named it; 0 for none.
ALTER TABLE usage_events ADD COLUMN task INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_events ADD COLUMN success INTEGER NOT NULL DEFAULT 0;
CREATE INDEX usage_events_turn ON usage_events (scope, session, turn);
-- The same per scope, of its turns: numbers alone.
CREATE TABLE scope_usage (scope INTEGER PRIMARY KEY, turns INTEGER NOT NULL, recalls INTEGER NOT NULL, uses INTEGER NOT NULL,
  successes INTEGER NOT NULL, tokens_saved INTEGER NOT NULL, seconds_saved REAL NOT NULL, last_used_at REAL NOT NULL);
CREATE INDEX scope_usage_live ON scope_usage (last_used_at);

-- When the scheduler has to look at what of a scope again; 0 for at once. `asked` grows with every demand, so that none is lost.
CREATE TABLE reviews (kind TEXT NOT NULL, scope INTEGER NOT NULL, at REAL NOT NULL, asked INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (kind, scope)) WITHOUT ROWID;
CREATE INDEX reviews_at ON reviews (at);
DELETE FROM meta WHERE key = 'habits';

-- Why what is queued is to be distilled, where use asks for it, and what that is expected to save.
ALTER TABLE retraining ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE retraining ADD COLUMN seconds REAL NOT NULL DEFAULT 0;

-- What the scheduler moved, and why. made: the cube that came of it, whose use since is what the move has gained.
CREATE TABLE moves (number INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, scope INTEGER NOT NULL, reason TEXT NOT NULL,
  made TEXT, estimated REAL NOT NULL);
CREATE INDEX moves_scope ON moves (scope, at);
CREATE TABLE moved (id TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (id, number)) WITHOUT ROWID;
CREATE INDEX moved_number ON moved (number);

-- What is archived is not due any more, and what has a file is found without reading the rest.
DROP INDEX cubes_expiry;
CREATE INDEX cubes_due ON cubes (expires_at) WHERE expires_at IS NOT NULL AND state NOT IN ('archived', 'rejected');
CREATE INDEX cubes_blob ON cubes (blob) WHERE blob IS NOT NULL;
"""

_ENTRIES = """
-- What the caller keeps an entry under; the column says what the body says.
ALTER TABLE cubes ADD COLUMN entry_key TEXT;
CREATE UNIQUE INDEX cubes_entry ON cubes (scope, entry_key) WHERE entry_key IS NOT NULL;
"""

MIGRATIONS: tuple[tuple[int, str, str], ...] = (
    (1, "the first schema", _INITIAL),
    (2, "the hierarchy, and features for ranking", _HIERARCHY),
    (3, "validity, relations, merged messages and budgets", _LIFE),
    (4, "what answers came from", _USES),
    (5, "modules that are to be made again", _MODULES),
    (6, "what use brings, what is due when, and what was moved", _SCHEDULE),
    (7, "entries under keys of the caller", _ENTRIES),
)
VERSION = MIGRATIONS[-1][0]


def current(db: sqlite3.Connection) -> int:
    """The version a database is at; 0 for an empty one."""
    known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone()
    return int(db.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0]) if known else 0


def migrate(db: sqlite3.Connection, place: str) -> None:
    """Bring a database up to VERSION, one transaction per migration. Raises SchemaTooNew rather than guess."""
    at = current(db)
    if at > VERSION:
        raise SchemaTooNew(
            f"{place} was written with schema {at}; this version knows up to {VERSION}. Upgrade memos-integrations to open it"
        )
    if at == VERSION:
        return
    for version, name, script in MIGRATIONS:
        db.execute("BEGIN IMMEDIATE")
        try:
            if current(db) < version:  # another process may have been first
                db.execute(
                    "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)"
                )
                for statement in _statements(script):
                    db.execute(statement)
                db.execute("INSERT INTO migrations VALUES (?, ?, ?)", (version, name, time.time()))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    """A script's statements one by one: `executescript` would commit before it starts."""
    found, pending = [], ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return [statement for statement in found if statement != ";"]
