"""`python -m tools.reference`: draw docs/recipes.md and docs/commands.md anew from the recipe's class and from the commands themselves.

Both are written by hand but for what stands between `<!-- NAME -->` and `<!-- end -->`: the function NAME of this module gives it.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import click

from job.cli import cli
from job.cli.recipes import packaged
from job.core.recipe import KEYS, Recipe, from_toml

DOCS = Path(__file__).parents[1] / "docs"
DOCUMENTS = (DOCS / "recipes.md", DOCS / "commands.md")
BLOCK = re.compile(r"(<!-- (keys|recipes|commands) -->\n).*?(<!-- end -->)", re.DOTALL)


def keys() -> str:
    """Every key of a recipe: what may be given, the default, and what the docstring under it says."""
    about, default, hints = docstrings(), Recipe().as_dict(), get_type_hints(Recipe)
    rows = [f"| `{key}` | {worded(hints[key])} | `{json.dumps(default[key])}` | {about[key]} |" for key in KEYS]
    return "\n".join(["| key | value | default | what it does |", "|---|---|---|---|", *rows])


def docstrings() -> dict[str, str]:
    """Key → the text under it in the source."""
    (node,) = ast.parse(inspect.getsource(Recipe)).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for line, following in zip(node.body, node.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found[ast.unparse(line.target)] = " ".join(str(following.value.value).split())
    return found


def worded(kind: object) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    return {int: "whole number", float: "number", bool: "`true`, `false`"}.get(kind, "text")  # type: ignore[call-overload, no-any-return]


def recipes() -> str:
    """Every recipe of the package: what its file says first, and what it sets."""
    usual = Recipe().as_dict()
    rows = []
    for name in packaged():
        text = resources.files("job").joinpath("recipes", f"{name}.toml").read_text("utf-8")
        comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
        changed = {key: value for key, value in from_toml(text, name).as_dict().items() if value != usual[key] and key != "name"}
        rows.append(f"| `{name}` | {comment} | {', '.join(f'`{key} = {json.dumps(value)}`' for key, value in changed.items())} |")
    return "\n".join(["| recipe | what for | what it changes |", "|---|---|---|", *rows])


def commands() -> str:
    """Every command: its usage, its help and a table of its options."""
    return "\n\n".join(section(context) for context in contexts(click.Context(cli, info_name="alexnet")))


def contexts(above: click.Context) -> Iterator[click.Context]:
    """Of each command below a group, in the order of the help."""
    assert isinstance(above.command, click.Group)
    for name in above.command.list_commands(above):
        command = above.command.get_command(above, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=above)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield context
        if isinstance(command, click.Group):
            yield from contexts(context)


def section(context: click.Context) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## {context.command_path}", f"    {context.command_path} {usage}", inspect.cleandoc(command.help or "")]
    if rows := [row(option) for option in command.params if isinstance(option, click.Option)]:
        parts.append("\n".join(["| option | variable | default | what it does |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.make_metavar(click.Context(cli))}"
    about, _, variable = (option.help or "").partition("  [env var: ")
    variable = str(option.envvar or variable.removesuffix("]"))
    default = option.show_default if isinstance(option.show_default, str) else option.default if option.show_default is True else ""
    cells = (f"`{option.opts[0]}{value}`", variable and f"`{variable}`", default if default == "" else f"`{default}`", about)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def drawn(text: str) -> str:
    """The document with its parts as the source has them now."""
    return BLOCK.sub(lambda block: f"{block[1]}{globals()[block[2]]()}\n{block[3]}", text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(drawn(document.read_text(encoding="utf-8")), encoding="utf-8")
