"""A tree of memories as text: tasks, concepts and how much they hold. Pure."""

from __future__ import annotations

import networkx as nx


def outline(tree: nx.DiGraph[str], samples: int = 0, width: int = 100) -> str:
    """The tree that `memos.tree` gives, indented, the largest first. samples: so many facts of each concept are shown."""
    lines = []
    for task in [node for node in tree if tree.nodes[node]["kind"] == "task"]:
        lines.append(f"{tree.nodes[task]['label']}  ({tree.nodes[task]['count']})")
        for concept in tree.successors(task):
            lines.append(f"    {tree.nodes[concept]['label']}  ({tree.nodes[concept]['count']})")
            for fact in list(tree.successors(concept))[:samples]:
                text = " ".join(tree.nodes[fact]["label"].split())
                lines.append(f"        - {text if len(text) <= width else text[: width - 1] + '…'}")
    return "\n".join(lines)
