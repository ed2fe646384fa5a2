"""Writes a block's program: its recorded calls in their order, each chain as one.

A program looks like this; it is compiled with the lines of the model's own code, so that a warning
about one of its calls names the line that made it:

    def forward(self, args):
        m0 = self                                    # every module, and whether it is what it was
        if not (...): return UNFIT
        m1 = m0._modules.get("conv1")
        if not (...): return UNFIT
        ...
        x0 = args[0]
        protection = step_out()                      # nothing in bninv's own calls is to be caught
        try:
            x1 = m1.fused_forward(x0, m2, None, "relu", 0.01)
            if x1 is None:                           # the separate calls, where they do not fit
                ...
            protection = step_in(protection)         # a call of the model's own: caught as before
            x2 = f0(x1, (2, 3))
            protection = step_out()
            return x2
        finally:
            step_in(protection)
"""

from __future__ import annotations

import ast
import threading
from types import CodeType
from typing import Any

from torch.fx import Node

from bninv._protection import step_in, step_out
from bninv.dispatch import table
from bninv.fusing.chains import Chain, target_of
from bninv.fusing.programs import UNFIT, Program
from bninv.fusing.recording import HOOKS, MISSING, NORMALIZE, Recording
from bninv.fusing.same import is_missing, same
from bninv.nn.base import Patched


def generate(recording: Recording, chains: list[Chain], code: CodeType) -> Program:
    """The program of a block whose forward has the code `code`."""
    for chain in chains:
        for node in chain.nodes:
            if node.op == "call_module":
                recording.whole(node.meta["path"])
    with _lock:
        return _Writer(recording, chains, code).write()


# Python's `ast` is not made for several threads at once.
_lock = threading.Lock()
_HOOKED = " or ".join(f"d[{name!r}]" for name in HOOKS)
_FRAME = """
def forward(self, args):
    protection = step_out()
    try:
        pass
    finally:
        step_in(protection)
"""


class _Writer:
    def __init__(self, recording: Recording, chains: list[Chain], code: CodeType) -> None:
        self.recording = recording
        self.code = code
        self.names: dict[str, Any] = {
            "UNFIT": UNFIT,
            "MISSING": MISSING,
            "is_missing": is_missing,
            "same": same,
            "step_in": step_in,
            "step_out": step_out,
        }
        self.modules = {path: f"m{i}" for i, path in enumerate(recording.members)}
        self.values: dict[Node, str] = {}
        self.chain_of = {node: chain for chain in chains for node in chain.nodes}
        self.lines: list[tuple[str, int]] = []  # a statement, and its line in the model's code
        self.line = code.co_firstlineno
        self.inside = False  # whether calls are being caught where the statements have come to

    # ---- The whole -------------------------------------------------------------------------------

    def write(self) -> Program:
        self._guards()
        guards, self.lines = self.lines, []
        self._body()
        tree = ast.parse(_FRAME)
        for node in ast.walk(tree):
            _place(node, self.code.co_firstlineno)
        function: Any = tree.body[0]
        start, block = function.body
        block.body = [_parse(text, line) for text, line in self.lines]
        function.body = [*(_parse(text, line) for text, line in guards), start, block]
        exec(compile(tree, self.code.co_filename, "exec"), self.names)
        program: Program = self.names["forward"]
        return program

    def _add(self, text: str) -> None:
        self.lines.append((text, self.line))

    def _constant(self, value: Any) -> str:
        """Text for a value: itself, or a name that stands for it."""
        if value is None or value is ... or type(value) in (bool, int, str):
            return repr(value)
        for name, known in self.names.items():
            if known is value:
                return name
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name

    # ---- What has to be as it was recorded -------------------------------------------------------

    def _guards(self) -> None:
        for owner, name, value in self.recording.globals_read:
            self._need_same(f"{self._constant(owner)}.get({name!r}, MISSING)", value)
        for path, member in self.recording.members.items():
            m = self.modules[path]
            if path:
                outer = self.modules[path[:-1]]
                self._add(f"{m} = {outer}._modules.get({path[-1]!r})")
                self._need(f"type({m}) is {self._constant(type(member.module))}")
            else:
                self._add(f"{m} = self")
            if member.whole:
                self._add(f"d = {m}.__dict__")
                self._need("not d['training']")
                if path:  # the call of the block itself was the caller's
                    self._need(f"not ({_HOOKED} or 'forward' in d)")
            if member.children is not None:
                self._need(f"tuple({m}._modules) == {self._constant(member.children)}")
        for (path, name), value in self.recording.attributes.items():
            m = self.modules[path]
            if value is MISSING:
                self._need(f"is_missing({m}, {name!r})")
            else:
                self._need_same(f"{m}.__dict__.get({name!r}, MISSING)", value)
        for (path, name), value in self.recording.inherited.items():
            self._need_same(f"getattr(type({self.modules[path]}), {name!r}, MISSING)", value)
        for node in self.recording.graph.nodes:
            if node.op == "get_attr":
                m, name = self.modules[node.meta["path"]], node.meta["attribute"]
                self._need(f"getattr({m}, {name!r}, None) is not None")
        for path in self.recording.hooked:  # without hooks there may be more to fuse
            self._add(f"d = {self.modules[path]}.__dict__")
            self._need(f"{_HOOKED} or 'forward' in d")
        for path, name in self.recording.nothing:
            self._need(f"getattr({self.modules[path]}, {name!r}, MISSING) is None")

    def _need_same(self, found: str, value: Any) -> None:
        if value is None or type(value) is bool or callable(value):
            self._need(f"{found} is {self._constant(value)}")
        else:
            self._need(f"same({found}, {self._constant(value)})")

    def _need(self, condition: str) -> None:
        self._add(f"if not ({condition}): return UNFIT")

    # ---- The calls -------------------------------------------------------------------------------

    def _body(self) -> None:
        last_use = self._last_uses()
        for node in self.recording.graph.nodes:
            self._set_line(node)
            chain = self.chain_of.get(node)
            if node.op == "placeholder":
                self._add(f"{self._name(node)} = {node.meta['place']}")
            elif node.op == "output":
                self._add(f"return {self._text(node.args[0])}")
            elif chain is None:
                self._call(node, self._name(node))
            elif node is chain.last:
                self._run_chain(chain)
            for used in last_use.get(node, ()):
                self._add(f"del {self.values[used]}")

    def _last_uses(self) -> dict[Node, list[Node]]:
        """By the node whose statements are the last that need them: values to let go of."""
        nodes = list(self.recording.graph.nodes)
        order = {node: i for i, node in enumerate(nodes)}
        runs_at = {n: self.chain_of[n].last if n in self.chain_of else n for n in nodes}
        found: dict[Node, list[Node]] = {}
        for node in nodes:
            if runs_at[node] is node and node.op != "output":  # others are no values of their own
                users = [runs_at[user] for user in node.users] or [node]
                last = max(users, key=order.__getitem__)
                if last.op != "output":
                    found.setdefault(last, []).append(node)
        return found

    def _set_line(self, node: Node) -> None:
        file, line = node.meta.get("line", ("", 0))
        if file == self.code.co_filename:
            self.line = line

    def _name(self, node: Node) -> str:
        return self.values.setdefault(node, f"x{len(self.values)}")

    def _text(self, value: Any) -> str:
        if isinstance(value, Node):
            return self.values[value]
        if isinstance(value, (list, tuple)):
            items = "".join(f"{self._text(item)}, " for item in value)
            return f"[{items}]" if isinstance(value, list) else f"({items})"
        if isinstance(value, dict):
            items = "".join(f"{k!r}: {self._text(v)}, " for k, v in value.items())
            return f"{{{items}}}"
        if isinstance(value, slice):
            parts = (self._text(part) for part in (value.start, value.stop, value.step))
            return f"{self._constant(slice)}({', '.join(parts)})"
        return self._constant(value)

    def _call(self, node: Node, result: str, first: str | None = None) -> None:
        """A call by itself; `first` is in the place of its first tensor, as a chain's value."""
        values = {} if first is None else {self._previous(node): first}
        self.values.update(values)
        args = [self._text(arg) for arg in node.args]
        args += [f"{name}={self._text(value)}" for name, value in node.kwargs.items()]
        if node.op == "get_attr":
            owner, attribute = self.modules[node.meta["path"]], node.meta["attribute"]
            text, is_own = f"{owner}.{attribute}", True
        elif node.op == "call_module":
            module = self.recording.members[node.meta["path"]].module
            method = ".normalize" if node.meta["part"] == NORMALIZE else ""
            text = f"{self.modules[node.meta['path']]}{method}({', '.join(args)})"
            is_own = isinstance(module, Patched) and module.is_kind
        elif node.op == "call_method":
            text, is_own = f"{args[0]}.{node.target}({', '.join(args[1:])})", _passes(node)
        else:
            text, is_own = f"{self._constant(node.target)}({', '.join(args)})", _passes(node)
        self._inside(not is_own)
        self._add(f"{result} = {text}")

    def _previous(self, node: Node) -> Node:
        chain = self.chain_of[node]
        return chain.nodes[chain.nodes.index(node) - 1]

    def _inside(self, wanted: bool) -> None:
        if wanted != self.inside:
            self._add(f"protection = {'step_in(protection)' if wanted else 'step_out()'}")
        self.inside = wanted

    def _run_chain(self, chain: Chain) -> None:
        self._inside(False)
        head, result = self.modules[chain.head.meta["path"]], self._name(chain.last)
        x = self._text(chain.head.args[0])
        norm = self.modules[chain.norm.meta["path"]] if chain.norm is not None else "None"
        residual = self._text(chain.residual)
        slope = "0.0"
        act = chain.activation_node
        if act is not None and chain.activation == "leaky_relu":
            slope = f"{self.modules[act.meta['path']]}.negative_slope"
        arguments = f"{x}, {norm}, {residual}, {chain.activation!r}, {slope}"
        self._add(f"{result} = {head}.fused_forward({arguments})")
        statements, self.lines = self.lines, []
        self._call(chain.head, result)
        for node in chain.nodes[1:]:
            self._set_line(node)
            self._call(node, result, first=result)
        self._inside(False)
        separate, self.lines = self.lines, statements
        body = "\n".join(f"  {text}" for text, _ in separate)
        self._add(f"if {result} is None:\n{body}")


def _passes(node: Node) -> bool:
    """Whether a function never needs to be caught: it asks, or makes views."""
    if node.target is getattr:
        return True
    row = table.row_of(target_of(node))
    return row is not None and row.passes


def _parse(text: str, line: int) -> ast.stmt:
    statement = ast.parse(text).body[0]
    for node in ast.walk(statement):
        _place(node, line)
    return statement


def _place(node: ast.AST, line: int) -> None:
    if "lineno" in node._attributes:
        node.lineno = node.end_lineno = line  # type: ignore[attr-defined]
        node.col_offset = node.end_col_offset = 0  # type: ignore[attr-defined]
