"""What docs/cli.md and docs/configuration.md are generated from: the code itself (`make docs`)."""

import ast
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from federation import settings

from filters.registry import plugins
from gsch.cli import main
from scheduler.config import configuration

WIDTH = 100


def commands() -> str:
    """Every command with its help, as Markdown."""
    return "\n".join(_command(main, "gsch", None))


def _command(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH)
    path = context.command_path
    if parent is not None:
        yield f"## {path}\n"
        yield f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            if subcommand is not None:
                yield from _command(subcommand, child, context)


def fields() -> str:
    """Every struct of the configuration, as Markdown tables, and the arguments of plugins."""
    lines = ["## GschConfiguration\n", *_structs(configuration.Configuration)]
    lines += ["## GlobalConfiguration\n", *_structs(settings.GlobalConfiguration)]
    lines.append("## Arguments of plugins\n")
    for name, plugin in sorted(plugins().items()):
        for struct in _argument_structs(plugin):
            lines += [f"### {name}: {struct.__name__}\n", *_struct(struct)]
    return "\n".join(lines)


def _structs(first: type[msgspec.Struct]) -> Iterator[str]:
    """A struct, and all that its fields lead to, each once."""
    yield from _struct(first)
    pending, seen = list(_nested(first)), {first}
    while pending:
        struct = pending.pop(0)
        if struct not in seen:
            seen.add(struct)
            pending += _nested(struct)
            yield f"## {struct.__name__}\n"
            yield from _struct(struct)


def _struct(struct: type[msgspec.Struct]) -> Iterator[str]:
    yield f"{inspect.getdoc(struct)}\n"
    meanings = docs_of(struct)
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in msgspec.structs.fields(struct):
        meaning = " ".join(meanings.get(field.name, "").split()).replace("|", "\\|")
        yield (f"| `{field.encode_name}` | {_type(field.type)} | {_default(field)} | {meaning} |")
    yield ""


def docs_of(struct: type) -> dict[str, str]:
    """By field, the string that stands below it in the code."""
    docs: dict[str, str] = {}
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    name = ""
    for node in typing.cast(ast.ClassDef, tree).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs[name] = str(node.value.value)
            name = ""
        else:
            name = ""
    return docs


def _nested(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for field in msgspec.structs.fields(struct):
        yield from _structs_in(field.type)


def _structs_in(kind: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for argument in typing.get_args(kind):
        yield from _structs_in(argument)


def _argument_structs(plugin: Any) -> Iterator[type[msgspec.Struct]]:
    module = inspect.getmodule(plugin)
    for member in vars(module).values() if module else ():
        own = isinstance(member, type) and getattr(member, "__module__", "") == module.__name__
        if (
            own
            and issubclass(member, msgspec.Struct)
            and member.__name__.startswith(plugin.__name__)
        ):
            yield member
            yield from (s for s in _nested(member) if s.__module__ == module.__name__)


def _type(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    arguments = [a for a in typing.get_args(kind) if a is not Ellipsis]
    if typing.get_origin(kind) is tuple:
        return f"list of {_type(arguments[0])}"
    if typing.get_origin(kind) is dict:
        return "object"
    if type(None) in arguments:
        return f"{_type(next(a for a in arguments if a is not type(None)))} or null"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(kind, "any")


def _default(field: Any) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "its own"
    if isinstance(value, tuple):
        return ", ".join(_name_of(item) for item in value) or "none"
    if value == "":
        return "empty"
    return f"`{msgspec.json.encode(value).decode()}`"


def _name_of(item: Any) -> str:
    name = getattr(item, "scheduler_name", None) or getattr(item, "name", None)
    return f"`{name or item}`"
