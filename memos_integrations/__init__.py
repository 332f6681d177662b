"""Doors for agent frameworks, one each: `langchain`, `langgraph`, `langchain_classic`, `llamaindex`; and for people: `cli`, the `memos` command.

Importing this package imports no framework; importing a module whose framework is missing raises MissingExtra with the command to run.
"""
