"""`python -m tools.formats`: draw the tables of docs/formats.md anew from `job.core.records` and its neighbours.

The document is written by hand but for what stands between `<!-- fields of NAME -->` and `<!-- end -->`: the fields of the TypedDict NAME.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "job" / "core" / name for name in ("resource_records.py", "identity_records.py", "records.py", "acceptance_records.py")]
DOCUMENT = ROOT / "docs" / "formats.md"
BLOCK = re.compile(r"(<!-- fields of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
JSON = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true or false",
    "None": "null",
    "RecipeValue": "value",
    "Seconds": "object: seconds by purpose",
    "Digest": "64 hexadecimal digits",
    "ShortDigest": "16 hexadecimal digits",
    "Mode": "`bf16`, `tf32` or `fp32`",
    "Level": "`pass`, `suspect` or `fail`",
    "AttemptName": "text",
    "CheckpointFolder": "text",
    "ModelKey": "text",
}
"""Python's name of a type → JSON's, for people"""


class Field(NamedTuple):
    name: str
    annotation: ast.expr
    optional: bool
    about: str


def classes() -> dict[str, ast.ClassDef]:
    """Every TypedDict, in the order of the source."""
    trees = [ast.parse(source.read_text(encoding="utf-8")) for source in SOURCES]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def fields(name: str, known: dict[str, ast.ClassDef]) -> Iterator[Field]:
    """Those of its bases first."""
    node = known[name]
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in known:
            yield from fields(base.id, known)
    partial = any(keyword.arg == "total" for keyword in node.keywords)
    for line, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            told = following.value.value if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) else ""
            kind, optional = line.annotation, partial
            if isinstance(kind, ast.Subscript) and (marker := ast.unparse(kind.value)) in ("NotRequired", "Later"):
                kind, optional = kind.slice, optional or marker == "NotRequired"
            yield Field(line.target.id, kind, optional, " ".join(str(told).split()))


def worded(kind: ast.expr) -> str:
    """A type for people who know JSON."""
    if isinstance(kind, ast.BinOp):
        return f"{worded(kind.left)} or {worded(kind.right)}"
    if isinstance(kind, ast.Subscript):
        outer, inner = ast.unparse(kind.value), kind.slice
        if outer == "Literal":
            return f"`{ast.literal_eval(inner)}`"
        if outer == "tuple":
            return f"list of {len(inner.elts)}: {worded(inner.elts[0])}"  # type: ignore[attr-defined]
        return f"list of {worded(inner)}" if outer == "list" else f"object: {worded(inner.elts[1])} by name"  # type: ignore[attr-defined]
    name = ast.unparse(kind)
    return JSON.get(name) or f"[{name}](#{name.lower()})"


def table(name: str, known: dict[str, ast.ClassDef]) -> str:
    rows = [f"| `{f.name}` | {worded(f.annotation)}{'; may be absent' if f.optional else ''} | {f.about} |" for f in fields(name, known)]
    return "\n".join(["| field | type | what it is |", "|---|---|---|", *rows])


def drawn(text: str) -> str:
    """The document with its tables as the source has them now.  Raises KeyError for a table of a type that is not there."""
    known = classes()
    return BLOCK.sub(lambda block: f"{block[1]}{table(block[2], known)}\n{block[3]}", text)


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
