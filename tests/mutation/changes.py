"""Small faults: where a module can have one, and what the module then is."""

import ast
import builtins
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_OTHER: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_PAIRS = (("min", "max"), ("any", "all"), ("argmin", "argmax"), ("sum", "mean"), ("floor", "ceil"))
_OTHER_NAME = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_ANNOTATIONS = {"annotation", "returns", "decorator_list"}
_REMOVED = (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)


@dataclass(frozen=True)
class Mutant:
    """A module with one change: `where`, a line and column in it; `what` stood there, and what does now."""

    where: tuple[int, int]
    what: str
    source: str


@dataclass(frozen=True)
class _Place:
    """A node that can be changed, and where it hangs: in a field of another one, which may be a list."""

    parent: ast.AST
    field: str
    index: int | None
    node: Any
    changed: tuple[ast.AST | None, ...]

    def put(self, node: ast.AST | None) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def count_places(source: str) -> int:
    """In how many places a module can be changed: in its code, not in annotations, docstrings and formatted texts."""
    return sum(1 for _ in _places(ast.parse(source)))


def mutant(source: str, place: int, rng: random.Random) -> Mutant:
    """The module with that place changed, in one of the ways it can be."""
    tree = ast.parse(source)
    found = list(_places(tree))[place]
    before = ast.unparse(found.parent if isinstance(found.node, ast.operator | ast.boolop | ast.cmpop) else found.node)
    changed = rng.choice(found.changed)
    found.put(changed)
    shown = found.parent if isinstance(found.node, ast.operator | ast.boolop | ast.cmpop) else changed
    after = ast.unparse(shown) if shown else "(nothing)"
    at = found.node if hasattr(found.node, "lineno") else found.parent
    what = " -> ".join(" ".join(text.split())[:90] for text in (before, after))
    return Mutant((at.lineno, at.col_offset), what, ast.unparse(ast.fix_missing_locations(tree)))


def _places(parent: ast.AST) -> Iterator[_Place]:
    for field, value in ast.iter_fields(parent):
        if field in _ANNOTATIONS or isinstance(value, ast.JoinedStr):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr) or _is_docstring(node):
                continue
            if changed := tuple(_changed(node, parent, field)):
                yield _Place(parent, field, index, node, changed)
            yield from _places(node)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changed(node: Any, parent: ast.AST, field: str) -> Iterator[ast.AST | None]:
    """What a node can become."""
    yield from (other() for other in _OTHER.get(type(node), ()))
    if isinstance(node, _REMOVED) or (isinstance(node, ast.Assign) and not _names_something(node.targets[0])):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and not (node.value is None or _is_none(node.value)):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _other_constants(node.value))
    elif isinstance(node, ast.Call):
        yield from _changed_call(node)
    elif isinstance(node, ast.Slice):
        yield from (ast.Slice(**{**vars(node), end: None}) for end in ("lower", "upper") if getattr(node, end))
    elif isinstance(node, ast.expr) and field in ("test", "ifs"):
        yield ast.UnaryOp(ast.Not(), node)
        yield ast.Constant(True)


def _other_constants(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    return [value + 1, value / 2] if isinstance(value, float) else []


def _changed_call(call: ast.Call) -> Iterator[ast.AST]:
    """A call of the opposite function, with two arguments swapped, or with one left out that has a name."""
    func, args = call.func, call.args
    if isinstance(func, ast.Name) and hasattr(builtins, _OTHER_NAME.get(func.id, "")):
        yield ast.Call(ast.Name(_OTHER_NAME[func.id]), args, call.keywords)
    if isinstance(func, ast.Attribute) and func.attr in _OTHER_NAME:
        yield ast.Call(ast.Attribute(func.value, _OTHER_NAME[func.attr]), args, call.keywords)
    if len(args) > 1 and not isinstance(args[0], ast.Starred) and not isinstance(args[1], ast.Starred):
        yield ast.Call(func, [args[1], args[0], *args[2:]], call.keywords)
    yield from (ast.Call(func, args, [k for k in call.keywords if k is not left_out]) for left_out in call.keywords)


def _names_something(target: ast.expr) -> bool:
    """Whether a name is made, without which all ends at once."""
    return any(isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) for node in ast.walk(target))


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
