"""Every small change of a function that could be a mistake.

A rule looks at one node of the syntax tree and says what else could stand there. Texts that nobody computes with are left alone:
docstrings, annotations, decorators, errors and the conditions that lead to them.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .changes import Change, Edit, definitions

#: What changes time alone, never a value: which engine, how many threads and how large a piece at a time (the cases set the sizes
#: themselves), and rows that are asked for ahead.
_ENOUGH_WORK = ("worth_compiled", "worth_a_thread", "smallest")
_WIDTH = "width"  # a constant of the compiled loop, 0 where it has none
_ENGINE = ("engine", "largest", "update")  # the engine, or a function of it
PERFORMANCE_KEYWORDS = (*_ENGINE, "n_threads", "rows_at_a_time", "block", "n_chunks", "n_groups", *_ENOUGH_WORK)
PERFORMANCE_CALLS = (
    "prefetch_row", "stack_pointer", "carray", "is_compiled", "constant_width", "training_threads", "working_threads",
    "threadpool_limits",
)  # fmt: skip
PERFORMANCE_CONSTANTS = ("_AHEAD", "_BLOCK", "_N_GROUPS", "_NARROW", "_WIDEST")
#: Calls that change where numbers lie, or how wide an index is, not what they are.
LAYOUT_CALLS = ("ascontiguousarray", "asarray", "int64")
#: Calls whose arguments may be exchanged.
COMMUTATIVE = ("min", "max", "minimum", "maximum", "allclose", "array_equal")

OTHER_OPERATOR = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.BitXor: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}  # fmt: skip
OTHER_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
OTHER_TYPE = {"float64": "float32", "int64": "int16", "int32": "int16", "uint64": "uint32"}
OTHER_ATTRIBUTE = {
    "transpose": "matrix", "matrix": "transpose", "transpose_row_bounds": "row_bounds", "row_bounds": "transpose_row_bounds"
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A node, where it stands, the statement that it belongs to, and the names and attributes that could be meant instead."""

    node: ast.AST
    parent: ast.AST
    field: str
    position: int | None
    statement: ast.stmt
    names: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]


def candidates(module: str, within: Iterable[str] | None = None) -> Iterator[Change]:
    """All changes of the functions, methods and numeric constants of a module.

    Parameters
    ----------
    module : str
    within : iterable of str, optional
        Names of definitions; all by default.
    """
    for name, definition in definitions(module).items():
        if within is None or name in within:
            yield from _of_definition(module, name, definition)


def _of_definition(module: str, name: str, definition: ast.AST) -> Iterator[Change]:
    if isinstance(definition, ast.Assign) and name in PERFORMANCE_CONSTANTS:
        return
    heads = {}  # how often the head of a statement has occurred
    seen, numbers = set(), {}
    for place in places(definition):
        statement = place.statement
        if id(statement) not in numbers:
            before = _head(statement)
            heads[before] = heads.get(before, 0) + 1
            numbers[id(statement)] = heads[before]
        number = numbers[id(statement)]
        for kind, new in _rules(place, isinstance(definition, ast.Assign)):
            edit = Edit(place.parent, place.field, place.position, new)
            text = changed_text(statement, edit) + (f"  #{number}" if number > 1 else "")
            if text not in seen and not text.startswith("(nothing)"):
                seen.add(text)
                yield Change(module, name, kind, lines_of(statement), text, definition, edit)


# ---- where ---------------------------------------------------------------------------------------------------------------
def places(definition: ast.AST) -> Iterator[Place]:
    """Every node of a definition that may be changed."""
    if isinstance(definition, ast.Assign):
        yield from _descend(definition, "value", None, definition.value, definition, (), ())
        return
    yield from _in_function(definition, (), _attributes(definition))


def _in_function(function: ast.FunctionDef, outer: tuple, attributes: tuple) -> Iterator[Place]:
    names = outer + tuple(name for name in _bound_names(function) if name not in {other for other, _ in outer})
    arguments = function.args
    last = [*arguments.posonlyargs, *arguments.args][-len(arguments.defaults) :]
    for field, named in (("defaults", last), ("kw_defaults", arguments.kwonlyargs)):
        for k, node in enumerate(getattr(arguments, field)):
            if isinstance(node, ast.Constant) and named[k].arg not in PERFORMANCE_KEYWORDS:
                yield Place(node, arguments, field, k, function, (), ())
    for k, statement in enumerate(function.body):
        if k or not _is_docstring(statement):
            yield from _descend(function, "body", k, statement, statement, names, attributes)


def _descend(parent, field, position, node, statement, names, attributes) -> Iterator[Place]:
    if _left_alone(node):
        return
    if isinstance(node, ast.stmt):
        statement = node
    bound_before = tuple(name for name, line in names if line < statement.lineno)
    if isinstance(node, ast.FunctionDef):
        yield from _in_function(node, tuple((name, 0) for name in bound_before), attributes)
        return
    which_engine = isinstance(node, (ast.If, ast.IfExp)) and _chooses_engine(node.test)
    if not which_engine:
        yield Place(node, parent, field, position, statement, bound_before, attributes)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "ctx", "op", "ops", "type_comment"):
            continue
        if which_engine and name == "test":
            continue
        for k, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.AST):
                yield from _descend(node, name, k, child, statement, names, attributes)


def _left_alone(node: ast.AST) -> bool:
    """Errors and what leads to them, texts, and what changes time alone."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)):
        return True
    if _only_raises(node):
        return True
    if isinstance(node, ast.If):
        names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
        return bool(names & set(PERFORMANCE_CONSTANTS))
    if isinstance(node, ast.keyword):
        return node.arg in (*PERFORMANCE_KEYWORDS, "strict")
    return isinstance(node, ast.Call) and _called(node) in PERFORMANCE_CALLS


def _only_raises(node: ast.AST) -> bool:
    """A condition, a loop or a call ("require ...") that does nothing but raise errors, or silences warnings."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = _called(node.value)
        return called.lstrip("_").startswith("require") or called in ("simplefilter", "check_is_fitted", "checked_values")
    if isinstance(node, (ast.If, ast.For)):
        *before, last = node.body
        local = all(isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) for part in before)
        return not node.orelse and local and (isinstance(last, ast.Raise) or _only_raises(last))
    return False


def _chooses_engine(test: ast.expr) -> bool:
    """Whether a condition asks which of several versions computes something: they compute the same, and each is checked."""
    if isinstance(test, ast.Name) and test.id == _WIDTH:
        return True
    calls = {_called(part) for part in ast.walk(test) if isinstance(part, ast.Call)}
    names = {part.id for part in ast.walk(test) if isinstance(part, ast.Name)}
    return bool(calls & set(PERFORMANCE_CALLS) or names & set(_ENOUGH_WORK))


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _bound_names(function: ast.FunctionDef) -> list[tuple[str, int]]:
    """Parameters and local names, with the line after which each is bound, in this order."""
    a = function.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs]
    found = {argument.arg: 0 for argument in every if argument.arg not in ("self", "cls", *PERFORMANCE_KEYWORDS)}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, node.lineno)
    return list(found.items())


def _attributes(function: ast.AST) -> tuple[tuple[str, str], ...]:
    """(object, attribute) as they occur, once each; not those of modules."""
    local = {name for name, _ in _bound_names(function)} | {"self"}
    pairs = [
        (node.value.id, node.attr)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local
    ]
    return tuple(pair for pair in dict.fromkeys(pairs) if pair[1] not in PERFORMANCE_KEYWORDS)


# ---- what ----------------------------------------------------------------------------------------------------------------
def _rules(place: Place, of_constant: bool) -> Iterator[tuple[str, ast.AST]]:
    node = place.node
    if of_constant:
        yield from _constants(node)
        if isinstance(node, ast.BinOp):
            yield from _operators(node)
        return
    for kinds, rule in _BY_TYPE:
        if isinstance(node, kinds):
            yield from rule(node)
    if isinstance(node, ast.Name):
        yield from _other_names(place)
    if isinstance(node, ast.Attribute):
        yield from _other_attributes(place)
    if isinstance(node, (ast.Tuple, ast.Dict)):
        yield from _orders(place)
    if isinstance(node, ast.stmt):
        yield from _deletions(place)
    yield from _minus(place)


def _operators(node: ast.BinOp):
    if type(node.op) in OTHER_OPERATOR:
        yield "operator", ast.BinOp(node.left, OTHER_OPERATOR[type(node.op)](), node.right)
    yield "operand dropped", node.left
    yield "operand dropped", node.right


def _accumulations(node: ast.AugAssign):
    if type(node.op) in OTHER_OPERATOR:
        yield "operator", ast.AugAssign(node.target, OTHER_OPERATOR[type(node.op)](), node.value)
    yield "accumulation", ast.Assign([node.target], node.value)


def _unary(node: ast.UnaryOp):
    if isinstance(node.op, ast.USub):
        yield "sign", node.operand
    if isinstance(node.op, ast.Not):
        yield "boolean", node.operand


def _minus(place: Place):
    """A minus before what is returned, assigned, added up, or put into a tuple or dictionary."""
    holder = isinstance(place.parent, (ast.Return, ast.Assign, ast.AugAssign, ast.Dict)) and place.field in ("value", "values")
    element = isinstance(place.parent, ast.Tuple) and isinstance(place.parent.ctx, ast.Load) and place.field == "elts"
    computed = isinstance(place.node, (ast.BinOp, ast.Call, ast.Name, ast.Subscript, ast.IfExp, ast.Attribute))
    if isinstance(place.node, ast.IfExp) and isinstance(place.node.body, ast.Compare):
        return  # true or not, with either sign
    if isinstance(place.node, ast.Call) and _called(place.node) in ("empty", "empty_like", "zeros", "zeros_like"):
        return
    if computed and (holder or element and isinstance(place.statement, ast.Return)):
        yield "sign", ast.UnaryOp(ast.USub(), place.node)


def _subscripts(node: ast.Subscript):
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]

    def with_part(k: int, new: ast.expr) -> ast.Subscript:
        changed = [*parts[:k], new, *parts[k + 1 :]]
        index = ast.Tuple(changed, ast.Load()) if isinstance(node.slice, ast.Tuple) else new
        return ast.Subscript(node.value, index, node.ctx)

    for k, part in enumerate(parts):
        if isinstance(part, ast.Slice):
            for new in _slices(part):
                yield "slice", with_part(k, new)
        elif not (isinstance(part, ast.Constant) and not isinstance(part.value, int)):
            yield "index", with_part(k, _plus(part, 1))
            yield "index", with_part(k, _plus(part, -1))
    if len(parts) == 2 and ast.dump(parts[0]) != ast.dump(parts[1]):
        yield "index", ast.Subscript(node.value, ast.Tuple([parts[1], parts[0]], ast.Load()), node.ctx)


def _slices(node: ast.Slice):
    low, high, step = node.lower, node.upper, node.step
    for lower in (_plus(low, 1), None) if low else (ast.Constant(1),):
        yield ast.Slice(lower, high, step)
    for upper in (_plus(high, -1), _plus(high, 1), None) if high else (ast.Constant(-1),):
        yield ast.Slice(low, upper, step)
    if step:
        yield ast.Slice(low, high, None)


def _plus(node: ast.expr, step: int) -> ast.expr:
    minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    number = node.operand if minus else node
    if isinstance(number, ast.Constant) and type(number.value) is int:
        return ast.Constant((-number.value if minus else number.value) + step)
    return ast.BinOp(node, ast.Add() if step > 0 else ast.Sub(), ast.Constant(abs(step)))


def _constants(node: ast.AST):
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int):
        for other in (value + 1, value - 1):
            yield "constant", ast.Constant(other)
    elif isinstance(value, float):
        for other in (1.01 * value, value / 2, 10 * value) if value else (1e-3,):
            yield "constant", ast.Constant(other)
    elif value in OTHER_TYPE:
        yield "type", ast.Constant(OTHER_TYPE[value])


def _comparisons(node: ast.Compare):
    if len(node.ops) == 1:
        for other in OTHER_COMPARISONS[type(node.ops[0])]:
            yield "comparison", ast.Compare(node.left, [other()], node.comparators)


def _booleans(node: ast.BoolOp):
    yield "boolean", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for k in range(len(node.values)):
        rest = [*node.values[:k], *node.values[k + 1 :]]
        yield "boolean", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _conditions(node):
    if isinstance(node, ast.IfExp):
        yield "condition", node.body
        yield "condition", node.orelse
        return
    # The negation of == and the like is a comparison's, that of "not" a boolean's.
    exact = isinstance(node.test, ast.Compare) and isinstance(node.test.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In))
    if not exact and not isinstance(node.test, ast.UnaryOp):
        yield "condition", _with(node, test=ast.UnaryOp(ast.Not(), node.test))


def _comprehensions(node: ast.comprehension):
    for k in range(len(node.ifs)):
        yield "condition", _with(node, ifs=[*node.ifs[:k], *node.ifs[k + 1 :]])


def _calls(node: ast.Call):
    arguments, named = node.args, node.keywords
    plain = not any(isinstance(argument, ast.Starred) for argument in arguments)
    if plain:
        for k in range(len(arguments) - 1):
            first, second = arguments[k : k + 2]
            if ast.dump(first) != ast.dump(second):
                if _called(node) not in COMMUTATIVE:
                    yield "argument", _with(node, args=[*arguments[:k], second, first, *arguments[k + 2 :]])
                yield "argument", _with(node, args=[*arguments[:k], second, second, *arguments[k + 2 :]])
                yield "argument", _with(node, args=[*arguments[:k], first, first, *arguments[k + 2 :]])
    for k, keyword in enumerate(named):
        if keyword.arg not in (None, "strict", *PERFORMANCE_KEYWORDS) and not _says_the_default(node, keyword):
            yield "argument", _with(node, keywords=[*named[:k], *named[k + 1 :]])
    values = [k for k, keyword in enumerate(named) if keyword.arg not in (None, *PERFORMANCE_KEYWORDS)]
    for i, j in zip(values, values[1:], strict=False):
        swapped = list(named)
        swapped[i], swapped[j] = ast.keyword(named[i].arg, named[j].value), ast.keyword(named[j].arg, named[i].value)
        yield "argument", _with(node, keywords=swapped)
    called = _called(node)
    if called in ("range", "prange"):
        last = len(arguments) - 1 if len(arguments) < 3 else 1
        yield "loop", _with(node, args=[*arguments[:last], _plus(arguments[last], -1), *arguments[last + 1 :]])
        first = [_plus(arguments[0], 1)] if len(arguments) > 1 else [ast.Constant(1), arguments[0]]
        yield "loop", _with(node, args=[*first, *arguments[1:]])
    elif called not in LAYOUT_CALLS:
        if arguments and plain:
            yield "call dropped", arguments[0]
        if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name) or _of_object(node):
            yield "call dropped", node.func.value


def _says_the_default(node: ast.Call, keyword: ast.keyword) -> bool:
    """``np.zeros(n, dtype=np.float64)`` and its like."""
    return _called(node) in ("zeros", "ones", "empty") and keyword.arg == "dtype" and ast.unparse(keyword.value) == "np.float64"


def _of_object(node: ast.Call) -> bool:
    """Whether it calls a method of a name that is not a module's."""
    return (
        isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id not in ("np", "sparse", "math", "numba", "dataclasses", "time")
    )


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _orders(place: Place):
    """Two neighbours of a tuple exchanged, be they returned, passed on or unpacked; two values of a dictionary."""
    node, parent = place.node, place.parent
    field = "elts" if isinstance(node, ast.Tuple) else "values"
    parts = getattr(node, field)
    unpacked = place.field == "targets" and isinstance(parent.value, ast.Tuple)
    told_apart = parent.value.elts if unpacked else parts  # in ``a, b = [], []`` the order of a and b means nothing
    for k in range(len(parts) - 1):
        if ast.dump(told_apart[k]) != ast.dump(told_apart[k + 1]):
            yield "order", _with(node, **{field: [*parts[:k], parts[k + 1], parts[k], *parts[k + 2 :]]})


def _other_names(place: Place):
    """A parameter or local name that stands beside this one."""
    node, names = place.node, place.names
    if isinstance(node.ctx, ast.Load):
        if node.id in names:
            k = names.index(node.id)
            for other in {names[k - 1], names[(k + 1) % len(names)]} - {node.id}:
                yield "name", ast.Name(other, ast.Load())
        if node.id in OTHER_TYPE:
            yield "type", ast.Name(OTHER_TYPE[node.id], ast.Load())


def _other_attributes(place: Place):
    node = place.node
    if not isinstance(node.ctx, ast.Load):
        return
    if node.attr in ("T", "real"):
        yield "transpose" if node.attr == "T" else "operand dropped", node.value
    if node.attr in OTHER_ATTRIBUTE:
        yield "transpose", ast.Attribute(node.value, OTHER_ATTRIBUTE[node.attr], ast.Load())
    if node.attr in OTHER_TYPE:
        yield "type", ast.Attribute(node.value, OTHER_TYPE[node.attr], ast.Load())
    if isinstance(node.value, ast.Name):
        own = [attribute for name, attribute in place.attributes if name == node.value.id]
        if node.attr in own and len(own) > 1:
            other = own[(own.index(node.attr) + 1) % len(own)]
            yield "name", ast.Attribute(node.value, other, ast.Load())


def _deletions(place: Place):
    node = place.node
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    element = isinstance(node, ast.Assign) and not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    again = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in place.names
    block = isinstance(node, (ast.If, ast.For)) and not node.orelse
    if called or element or again or block or isinstance(node, (ast.AugAssign, ast.Break, ast.Continue)):
        yield "statement", ast.Pass()
    if isinstance(node, (ast.Break, ast.Continue)):
        yield "statement", ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _with(node: ast.AST, **parts) -> ast.AST:
    """A copy, not a deep one, with other parts."""
    new = copy.copy(node)
    for name, value in parts.items():
        setattr(new, name, value)
    return new


_BY_TYPE = (
    (ast.BinOp, _operators), (ast.AugAssign, _accumulations), (ast.UnaryOp, _unary), (ast.Subscript, _subscripts),
    (ast.Constant, _constants), (ast.Compare, _comparisons), (ast.BoolOp, _booleans),
    ((ast.If, ast.While, ast.IfExp), _conditions), (ast.comprehension, _comprehensions), (ast.Call, _calls),
)  # fmt: skip


# ---- in words ------------------------------------------------------------------------------------------------------------
def changed_text(statement: ast.stmt, edit: Edit) -> str:
    """``old => new`` of the head of the statement, in one line; "(nothing)" if it is the same."""
    before = _head(statement)
    if edit.old is statement:
        after = "; ".join(_head(part) for part in (edit.new if isinstance(edit.new, list) else [edit.new]))
    else:
        with edit.made():
            after = _head(statement)
    return "(nothing)" if before == after else f"{before} => {after}"


def _head(statement: ast.stmt) -> str:
    """The statement, or the line that a block begins with."""
    if isinstance(statement, ast.FunctionDef):
        return f"def {statement.name}({ast.unparse(statement.args)})"
    text = ast.unparse(ast.fix_missing_locations(copy.copy(statement)))
    return " ".join(text.split()) if not hasattr(statement, "body") else text.partition("\n")[0]


def lines_of(statement: ast.stmt) -> range:
    """The lines of the statement, or of the head of a block."""
    body = getattr(statement, "body", None)
    return range(statement.lineno, (body[0].lineno - 1 if body else statement.end_lineno) + 1)
