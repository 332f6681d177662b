"""Archives: one file with everything of some scopes, to keep or to carry elsewhere. `shapes` says what is in it, `container` how it is written."""

from memos_core.archive.checking import Contents, checked
from memos_core.archive.container import Progress, Reader, Writer, as_file

__all__ = ["Contents", "Progress", "Reader", "Writer", "as_file", "checked"]
