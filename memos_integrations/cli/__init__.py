"""The `memos` command: a memory at the terminal. `memos --help` lists what it can do; everything has `--json`.

Nothing of the core is imported before a command needs it, and no model before a text is to be embedded: `memos --help` is quick.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Exit codes: 0 done, 1 it could not be done, 2 it was called in a way that it does not understand."""
    try:
        from memos_integrations.cli.app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.exit("memos: the command line needs the extra 'cli': pip install 'memos-integrations[cli]'")
    import memos_integrations.cli.keeping
    import memos_integrations.cli.looking
    import memos_integrations.cli.upkeep  # noqa: F401  each of the three adds its commands

    app(prog_name="memos")
