"""YAML text from outside: what no loader may be given."""

from typing import Any

import yaml

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C one is ten times as fast, and as safe once the depth was checked."""
MAX_DEPTH = 64


def check_depth(text: str | bytes, limit: int = MAX_DEPTH) -> None:
    """Raises MarkedYAMLError, with the line, where collections are nested deeper, or the text is no
    YAML.

    The C loader makes a tree of its events by recursion without any bound, and some thousand
    brackets end the process. The events themselves are read without recursion.
    """
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > limit:
                mark: Any = event.start_mark
                problem = f"nested more than {limit} levels deep"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
