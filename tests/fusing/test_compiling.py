"""torch.compile(backend="bninv") and bninv.fuse: chains in graphs of operators, with equal bits."""

from __future__ import annotations

import collections
import copy
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, note, settings
from torch import Tensor, nn

import bninv
from bninv.compiling import backend
from bninv.testing import assert_bitwise_equal
from tests.support.fusing_blocks import X, operators
from tests.support.places import ROOT
from tests.support.random_blocks import block_of, forwards, run

pytestmark = pytest.mark.usefixtures("one_thread")


class Noting:
    """The backend, and the operators in the graphs that it has made."""

    def __init__(self) -> None:
        self.graphs: list[collections.Counter[str]] = []

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        forward = backend(module, inputs)
        self.graphs.append(counted(module.graph))
        return forward


def counted(graph: torch.fx.Graph) -> collections.Counter[str]:
    found = (n.target for n in graph.nodes if isinstance(n.target, torch._ops.OpOverload))
    return collections.Counter(t._opname for t in found if t.namespace == "bninv")


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    torch._dynamo.reset()


def test_the_backend_has_a_name(tmp_path: Path) -> None:
    """torch.compile finds it by the package's entry point."""
    text = (ROOT / "pyproject.toml").read_text()
    line = 'bninv = "bninv.compiling:backend"'
    assert f"[project.entry-points.torch_dynamo_backends]\n{line}" in text
    installed = tmp_path / "bninv-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bninv\nVersion: 0\n")
    entry = line.replace('"', "")
    (installed / "entry_points.txt").write_text(f"[torch_dynamo_backends]\n{entry}\n")
    code = (
        "import torch, bninv; m = bninv.patch(torch.nn.Conv2d(2, 2, 1).eval()); "
        "x = torch.ones(1, 2, 1, 1); "
        "assert torch.equal(torch.compile(m, backend='bninv', fullgraph=True)(x), m(x))"
    )
    names = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    subprocess.run([sys.executable, "-c", code], env=names, check=True)
    with pytest.raises(TypeError, match="`options` has mode"):
        backend(torch.fx.symbolic_trace(nn.ReLU()), [], mode="fast")


def test_code_that_nobody_vouches_for_fuses(net: nn.Module) -> None:
    """And one graph serves every batch of two and more."""
    model, unfused = bninv.patch(copy.deepcopy(net)), bninv.patch(net, fuse=False)
    noting = Noting()
    compiled = torch.compile(model, backend=noting, dynamic=True, fullgraph=True)
    batches = [torch.cat([X, X])[:n].clone() for n in (2, 6, 5)]  # not 3, which are the channels
    with torch.no_grad():
        for x in batches:
            assert_bitwise_equal(compiled(x), unfused(x))
        assert noting.graphs == [{"conv2d_fused": 6, "mean": 1, "linear": 1}]
        assert_bitwise_equal(compiled(X[:1].clone()), unfused(X[:1]))
    assert_bitwise_equal(compiled(X).detach(), unfused(X).detach())
    assert noting.graphs[-1]["conv2d_fused"] == 6


def test_autocast(net: nn.Module) -> None:
    stem = net.stem
    assert isinstance(stem, nn.Module)
    model = bninv.patch(stem)
    noting = Noting()
    compiled = torch.compile(model, backend=noting, fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert_bitwise_equal(compiled(X), model(X))
    assert noting.graphs == [{"conv2d_fused": 1}]


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += x.to(y.dtype)
        return y


def test_a_sum_in_place_under_autocast() -> None:
    """Whose dtypes are asked for, by which it is rounded once or twice."""
    model = bninv.patch(Adds().eval())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(X)
        assert_bitwise_equal(torch.compile(model, backend=backend, fullgraph=True)(X), expected)


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        pytest.param("mobilenetv3_small_050", marks=pytest.mark.exhaustive),
        pytest.param("resnetv2_18", marks=pytest.mark.exhaustive),
    ],
)
def test_networks(name: str) -> None:
    torch.manual_seed(0)
    model = bninv.patch(timm.create_model(name).eval())
    x = torch.randn(3, 3, 64, 64)
    noting = Noting()
    compiled = torch.compile(model, backend=noting, fullgraph=True)
    with torch.inference_mode():
        expected = model(x)
        assert_bitwise_equal(compiled(x), expected)
        assert noting.graphs == [operators(model, x)]
    batch = {"x": {0: torch.export.Dim("batch", min=2, max=64)}}
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=batch)
        assert bninv.fuse(program) is program
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of torch.export's own
            torch.export.save(program, file)
            file.seek(0)
            loaded = torch.export.load(file).module()
        assert counted(loaded.graph) == operators(model, x)
        assert_bitwise_equal(loaded(x), expected)
        assert_bitwise_equal(loaded(x[:2]), expected[:2])


def test_what_is_no_program() -> None:
    with pytest.raises(TypeError, match="`program` is ReLU"):
        bninv.fuse(nn.ReLU())  # type: ignore[type-var]


@pytest.mark.parametrize("route", ["export", "compile"])
def test_random_blocks(route: str) -> None:
    counts = []

    @settings(max_examples=20 if route == "export" else 12)
    @given(source=forwards())
    def compare(source: str) -> None:
        note(source)
        block = bninv.patch(block_of(source), fuse=False)
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
        expected = run(block, x)
        torch._dynamo.reset()
        noting = Noting()
        with torch.no_grad():
            if route == "export":
                program = torch.export.export(block, (x.clone(),))
                fused: Any = bninv.fuse(program).module()
                graphs = [counted(program.graph)]
            else:
                fused, graphs = torch.compile(block, backend=noting), noting.graphs
            changed = x.clone()
            results: tuple[Tensor, ...] = (*fused(changed), changed)
        counts.append(sum(graph["conv2d_fused"] + graph["linear_fused"] for graph in graphs))
        for i, (one, other) in enumerate(zip(results, expected, strict=True)):
            assert_bitwise_equal(one, other, f"result {i}")

    compare()
    assert any(counts)
