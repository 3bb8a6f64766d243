"""Mutation fuzzing of every parser that reads what others wrote: `python -m tests.fuzz --count N`.

Add a parser by adding a `Target` to `tests.fuzz.targets.TARGETS`.
"""
