"""A small change of the code, given by a definition and its syntax tree, and how it is put in and taken out.

The changed definition is compiled and takes the place of the original *inside* the function object, so that it is found wherever
the function was imported. A changed constant is assigned in every module that has it. Caches of the module are cleared.
"""

from __future__ import annotations
import __future__

import ast
import copy
import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from .interpreted import PACKAGE, is_interpreted


@dataclass(frozen=True)
class Edit:
    """Another node in the place of one, ``parent.field``, or another or several in that of ``parent.field[position]``."""

    parent: ast.AST
    field: str
    position: int | None
    new: ast.AST | list[ast.AST]

    @property
    def old(self) -> ast.AST:
        value = getattr(self.parent, self.field)
        return value if self.position is None else value[self.position]

    @contextmanager
    def made(self) -> Iterator[None]:
        """The tree with the edit in it."""
        before = getattr(self.parent, self.field)
        after = self.new
        if self.position is not None:
            several = self.new if isinstance(self.new, list) else [self.new]
            after = [*before[: self.position], *several, *before[self.position + 1 :]]
        setattr(self.parent, self.field, after)
        try:
            yield
        finally:
            setattr(self.parent, self.field, before)


@dataclass(frozen=True)
class Change:
    """One change of one definition.

    Attributes
    ----------
    module, name : str
        Module, and the function (``bpr_backward``), method (``Triples.by_user``) or constant (``_BLOCK``) in it.
    kind : str
        What sort of change.
    lines : range
        Of the changed statement, or of the head of a changed block.
    text : str
        ``old => new``, of that statement.
    definition : ast.AST
        The whole function or assignment.
    edit : Edit
        Of that tree.
    """

    module: str
    name: str
    kind: str
    lines: range
    text: str
    definition: ast.AST
    edit: Edit

    @property
    def place(self) -> str:
        return f"{self.module.removeprefix(PACKAGE + '.')}.{self.name}"

    @property
    def folder(self) -> str:
        return self.place.partition(".")[0]

    @property
    def file(self) -> str:
        return sys.modules[self.module].__file__

    @property
    def of_constant(self) -> bool:
        return isinstance(self.definition, ast.Assign)


@cache
def definitions(module: str) -> dict[str, ast.AST]:
    """The functions and methods of a module and its assignments of constants, by name."""
    found: dict[str, ast.AST] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}": part for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            several = isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(node.targets[0].elts, node.value.elts, strict=True) if several else [(node.targets[0], node.value)]
            for target, value in pairs:
                if isinstance(target, ast.Name):
                    found[target.id] = ast.copy_location(ast.Assign([target], value), node)
    return found


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(Path(importlib.import_module(module).__file__).read_text(encoding="utf-8"))


@contextmanager
def applied(change: Change) -> Iterator[None]:
    """The program with the change in it; as it was, afterwards.

    Raises
    ------
    RuntimeError
        If it is a change of a compiled kernel: they can be changed only where Numba does not compile.
    """
    undo = put_in(change)
    try:
        yield
    finally:
        for step in reversed(undo):
            step()


def put_in(change: Change) -> list:
    """Make the change; what to call, last first, to take it out again."""
    module = sys.modules[change.module]
    undo = [lambda: _clear_caches(module)]
    with change.edit.made():
        if change.of_constant:
            for holder, name in _holders(change):
                undo.append(_set(holder, name, _evaluated(change.definition.value, module)))
            for name, definition in definitions(change.module).items():
                uses = isinstance(definition, ast.FunctionDef) and _mentions(definition.args, change.name)
                undo += _set_defaults(_function(module, name), definition) if uses else []
        else:
            function = _function(module, change.name)
            undo.append(_set(function, "__code__", _compiled(change)))
            undo += _set_defaults(function, change.definition)
    _clear_caches(module)
    return undo


def changed_function(change: Change, name: str) -> FunctionType:
    """The module's function `name` as it would be with the change, which may be one of a function that it calls.

    The module stays as it is: the function has a copy of its names.
    """
    module = sys.modules[change.module]
    names = dict(vars(module))
    own = {each: value for each, value in names.items() if isinstance(value, FunctionType) and value.__globals__ is vars(module)}
    with change.edit.made():
        for each, function in own.items():
            code = _compiled(change) if each == change.name else function.__code__
            names[each] = new = FunctionType(code, names, each, function.__defaults__, function.__closure__)
            new.__kwdefaults__ = function.__kwdefaults__
        _set_defaults(names[change.name], change.definition)
    return names[name]


def _set(holder, name: str, value):
    before = getattr(holder, name)
    setattr(holder, name, value)
    return lambda: setattr(holder, name, before)


def _function(module, name: str) -> FunctionType:
    """The function that holds the code, without what is wrapped around it."""
    owner, _, method = name.rpartition(".")
    found = vars(getattr(module, owner))[method] if owner else getattr(module, name)
    for holder, part in ((property, "fget"), (cached_property, "func"), ((classmethod, staticmethod), "__func__")):
        found = getattr(found, part) if isinstance(found, holder) else found
    found = inspect.unwrap(found)
    if not isinstance(found, FunctionType) or (module.__name__.startswith(f"{PACKAGE}.kernels.") and not is_interpreted()):
        raise RuntimeError(f"{module.__name__}.{name} is compiled; it can be changed only where NUMBA_DISABLE_JIT=1 is set")
    return found


def _compiled(change: Change) -> CodeType:
    owner, _, _ = change.name.rpartition(".")
    body = change.definition
    if owner:  # within its class, for the sake of super() and of private names
        body = ast.ClassDef(owner, bases=[], keywords=[], body=[body], decorator_list=[], type_params=[])
    tree = ast.fix_missing_locations(copy.deepcopy(ast.Module([body], type_ignores=[])))
    whole = compile(tree, change.file, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    waiting = [whole]
    for code in waiting:
        if code.co_qualname == change.name:
            return code
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]
    raise LookupError(change.name)


def _set_defaults(function: FunctionType, definition: ast.FunctionDef) -> list:
    arguments, module = definition.args, sys.modules[function.__module__]
    undo = []
    if arguments.defaults:
        undo.append(_set(function, "__defaults__", tuple(_evaluated(node, module) for node in arguments.defaults)))
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    named = {argument.arg: _evaluated(node, module) for argument, node in named if node is not None}
    if named:
        undo.append(_set(function, "__kwdefaults__", named))
    return undo


def _evaluated(node: ast.expr, module):
    tree = ast.fix_missing_locations(copy.deepcopy(ast.Expression(node)))
    return eval(compile(tree, module.__file__, "eval"), vars(module))  # noqa: S307


def _holders(change: Change) -> list[tuple]:
    """The modules that have the constant, each with its name there."""
    found = [(sys.modules[change.module], change.name)]
    for module in _package_modules():
        for node in ast.walk(_tree(module.__name__)):
            if isinstance(node, ast.ImportFrom) and change.module.endswith("." + (node.module or "")):
                own = [alias.asname or alias.name for alias in node.names if alias.name == change.name]
                found += [(module, alias) for alias in own if hasattr(module, alias)]
    return found


def _package_modules() -> list[ModuleType]:
    loaded = [module for name, module in list(sys.modules.items()) if name.startswith(PACKAGE + ".")]
    return [module for module in loaded if getattr(module, "__file__", None)]


def _mentions(node: ast.AST, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def users_of(change: Change) -> dict[str, set[int]]:
    """The lines, by file, in which a changed constant is used: by its name, or as an attribute of its module."""
    changed, lines = sys.modules[change.module], {}
    for module, name in _holders(change):
        for node in ast.walk(_tree(module.__name__)):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                lines.setdefault(module.__file__, set()).update(range(node.lineno, node.end_lineno + 1))
    for module in _package_modules():
        aliases = {name for name, value in vars(module).items() if value is changed}
        for node in ast.walk(_tree(module.__name__)) if aliases else ():
            if isinstance(node, ast.Attribute) and node.attr == change.name and getattr(node.value, "id", None) in aliases:
                lines.setdefault(module.__file__, set()).update(range(node.lineno, node.end_lineno + 1))
    return lines


def _clear_caches(module) -> None:
    """Forget what functions of the module have made, such as kernels for one width."""
    for value in list(vars(module).values()):
        if callable(getattr(value, "cache_clear", None)):
            value.cache_clear()
