"""Products of several matrices: in one order, whatever the sizes; and products of batches."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as TF
from torch import Tensor, nn

import bninv
import bninv.functional as F
from bninv.testing import assert_bitwise_equal
from tests.support.properties import normal

A, B = normal("order a", 60, 20), normal("order b", 20, 33)
C = normal("order c", 33, 9)
# One row is cheapest from the left, many rows from the right.
X = normal("order x", 80, 60)
BATCH = normal("order batch", 7, 6, 5)


def left_to_right(x: Tensor) -> Tensor:
    return F.matmul(F.matmul(F.matmul(x, A), B), C)


CHAINS: dict[str, Callable[[Tensor], Tensor]] = {
    "multi_dot": lambda x: torch.linalg.multi_dot([x, A, B, C]),
    "multi_dot of a tuple": lambda x: torch.linalg.multi_dot((x, A, B, C)),
    "chain_matmul": lambda x: torch.chain_matmul(x, A, B, C),
    "aten": lambda x: torch.ops.aten.linalg_multi_dot([x, A, B, C]),
    "einsum": lambda x: torch.einsum("ni,ij,jk,kl->nl", x, A, B, C),
    "einsum of a list": lambda x: torch.einsum("ni,ij,jk,kl->nl", [x, A, B, C]),
    "einsum by numbers": lambda x: torch.einsum(x, [0, 1], A, [1, 2], B, [2, 3], C, [3, 4], [0, 4]),
}


class CheapestFirst:
    """What torch.einsum uses of opt_einsum, with an order that depends on the number of rows."""

    @staticmethod
    def contract_path(equation: str, *operands: Tensor, optimize: Any) -> tuple[list[Any], None]:
        few = operands[0].shape[0] < 20
        return ([(0, 1), (0, 2), (0, 1)] if few else [(2, 3), (1, 2), (0, 1)]), None


@pytest.fixture(autouse=True)
def opt_einsum(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = torch.backends.opt_einsum
    monkeypatch.setattr(backend, "is_available", lambda: True)
    monkeypatch.setattr(backend, "get_opt_einsum", lambda: CheapestFirst)
    monkeypatch.setattr(backend, "enabled", True)
    monkeypatch.setattr(backend, "strategy", "auto")


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_multiplied_from_left_to_right(name: str, strict: bool, grad_mode: Any) -> None:
    with grad_mode(), bninv.invariant(strict=strict) as scope:
        for rows in (1, 2, 80):
            assert_bitwise_equal(CHAINS[name](X[:rows]), left_to_right(X[:rows]))
    assert scope.uncovered == []


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("name", ["multi_dot", "chain_matmul", "einsum"])
def test_stock_chooses_by_the_number_of_rows(name: str) -> None:
    with torch.no_grad():
        assert not torch.equal(CHAINS[name](X)[:1], CHAINS[name](X[:1]))


def test_vectors_at_the_ends_of_a_chain() -> None:
    v, w = normal("order v", 60), normal("order w", 20)
    with torch.no_grad(), bninv.invariant(strict=True):
        assert torch.linalg.multi_dot([v, A, B]).shape == (33,)
        assert torch.linalg.multi_dot([v, A, w]).shape == ()
        assert_bitwise_equal(torch.linalg.multi_dot([X, A, w]), F.matmul(F.matmul(X, A), w))


def test_a_chain_that_pytorch_refuses_is_refused() -> None:
    with bninv.invariant(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="at least 2 tensors"):
            torch.linalg.multi_dot([X])
        with pytest.raises(RuntimeError, match="2D"):
            torch.linalg.multi_dot([X, A[0], B])


# Other sums of products, whose parts do not see their order or have no operator.
REPORTED: dict[str, Callable[[], Any]] = {
    "bilinear": lambda: TF.bilinear(X[:, :5], X[:, :6], A[:30].view(20, 5, 6)[:3]),
    "addbmm": lambda: torch.addbmm(X[:, :20], X[None], A[None]),
}


@pytest.mark.parametrize("name", REPORTED)
def test_what_has_no_order_of_its_own_is_reported(name: str) -> None:
    with torch.no_grad(), bninv.invariant() as scope, pytest.warns(bninv.NotInvariantWarning):
        REPORTED[name]()
    assert scope.uncovered
    with pytest.raises(bninv.NotInvariantError), bninv.invariant(strict=True):
        REPORTED[name]()


def test_what_is_made_of_products_in_a_fixed_order() -> None:
    with torch.no_grad(), bninv.invariant(strict=True):
        assert_bitwise_equal(torch.tensordot(X, A, 1), F.matmul(X, A))
        square = A[:20]
        cube = F.matmul(F.matmul(square, square), square)
        assert_bitwise_equal(torch.linalg.matrix_power(square, 3), cube)


# ---- einsum of two operands ----

U, V = normal("einsum u", 3, 4, 5, 6), normal("einsum v", 3, 4, 6, 7)
EQUATIONS: dict[str, tuple[Tensor, Tensor, Callable[[], Tensor]]] = {
    "bhik,bhkj->bhij": (U, V, lambda: F.matmul(U, V)),
    "bhik, bhkj -> bihj": (U, V, lambda: F.matmul(U, V).transpose(1, 2)),
    "ik,kj": (U[0, 0], V[0, 0], lambda: F.matmul(U[0, 0], V[0, 0])),
    "ki,kj->ji": (U[0, 0].T, V[0, 0], lambda: F.matmul(U[0, 0], V[0, 0]).T),
    "nc,c->n": (U[0, 0], V[0, 0, :, 0], lambda: F.matmul(U[0, 0], V[0, 0, :, 0])),
    "c,c->": (U[0, 0, 0], V[0, 0, :, 0], lambda: F.matmul(U[0, 0, 0], V[0, 0, :, 0])),
    "bnck,kcd->bnd": (
        U,
        V[0, 0].reshape(6, 1, 7).expand(6, 5, 7),
        lambda: F.matmul(U.flatten(2), V[0, 0].repeat(5, 1)),
    ),
    "abik,klm->abilm": (
        U,
        V[0, 0].view(6, 1, 7),
        lambda: F.matmul(U, V[0, 0]).unsqueeze(3),
    ),
    "i,j->ji": (U[0, 0, 0], V[0, 0, 0], lambda: torch.outer(V[0, 0, 0], U[0, 0, 0])),
    "bi,bj->bij": (U[0, 0], V[0, 0, :5], lambda: U[0, 0][:, :, None] * V[0, 0, :5, None]),
    "ij,ij->ij": (U[0, 0], U[0, 1], lambda: U[0, 0] * U[0, 1]),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_of_two_operands_is_one_product(equation: str) -> None:
    a, b, expected = EQUATIONS[equation]
    stock = torch.einsum(equation, a, b)
    with torch.no_grad(), bninv.invariant(strict=True) as scope:
        found = torch.einsum(equation, a, b)
        assert_bitwise_equal(found, expected())
        assert_bitwise_equal(torch.einsum(equation, [a, b]), found)
    assert scope.uncovered == []
    torch.testing.assert_close(found, stock)


class Mixer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bik,bjk->bij", x, x)


def test_einsum_of_two_operands_is_in_every_graph() -> None:
    mixer = bninv.patch(Mixer().eval())
    with torch.no_grad():
        assert_bitwise_equal(mixer(BATCH), F.matmul(BATCH, BATCH.mT))
        assert_serves_every_batch(torch.jit.trace(mixer, BATCH[:2]), mixer)
    compiled = torch.compile(mixer, backend="eager", fullgraph=True, dynamic=True)
    assert_serves_every_batch(compiled, mixer)


# What two operands have besides is looked at operator by operator.
OTHER_EQUATIONS = {"ii,ij->j": (A[:20], A[:20]), "...k,kj->...j": (X, A), "ij,kj->i": (A, A)}


@pytest.mark.parametrize("equation", OTHER_EQUATIONS)
def test_other_equations_are_seen_by_their_parts(equation: str) -> None:
    operands = OTHER_EQUATIONS[equation]
    stock = torch.einsum(equation, *operands)
    with torch.no_grad(), bninv.invariant(strict=True):
        torch.testing.assert_close(torch.einsum(equation, *operands), stock)


# ---- Products with factors ----

FACTORS: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
    "addmm": (
        lambda: torch.addmm(B[0], X[:, :20], B, beta=0.5, alpha=2),
        lambda: F.baddbmm(B[0], X[None, :, :20], B[None], beta=0.5, alpha=2)[0],
    ),
    "addmm of a row": (
        lambda: torch.addmm(B[0], X[:, :20], B),
        lambda: F.linear(X[:, :20], B.T, B[0]),
    ),
    "addmm of a matrix": (
        lambda: torch.addmm(X[:, :33], X[:, :20], B),
        lambda: F.baddbmm(X[:, :33], X[None, :, :20], B[None])[0],
    ),
    "Tensor.addmm_": (
        lambda: X[:, :33].clone().addmm_(X[:, :20], B, beta=3),
        lambda: F.baddbmm(X[:, :33], X[None, :, :20], B[None], beta=3)[0],
    ),
    "addmv": (
        lambda: torch.addmv(X[:, 0], X[:, :20], B[:, 0], alpha=0.1),
        lambda: F.baddbmm(X[:, :1], X[None, :, :20], B[None, :, :1], alpha=0.1)[0, :, 0],
    ),
    "addr": (
        lambda: torch.addr(A[:20, :9], A[:20, 0], C[0], beta=0.1),
        lambda: F.baddbmm(A[:20, :9], A[None, :20, :1], C[None, :1], beta=0.1)[0],
    ),
    "baddbmm": (
        lambda: torch.baddbmm(BATCH[:, :, :1], BATCH, BATCH.mT, alpha=5**-0.5),
        lambda: F.baddbmm(BATCH[:, :, :1], BATCH, BATCH.mT, alpha=5**-0.5),
    ),
    "Tensor.baddbmm_": (
        lambda: F.matmul(BATCH, BATCH.mT).baddbmm_(BATCH, BATCH.mT, beta=0),
        lambda: F.matmul(BATCH, BATCH.mT),
    ),
}


@pytest.mark.parametrize("name", FACTORS)
def test_products_with_factors(name: str) -> None:
    called, expected = FACTORS[name]
    stock = called()
    with torch.no_grad(), bninv.invariant(strict=True):
        found = called()
    assert_bitwise_equal(found, expected())
    torch.testing.assert_close(found, stock)


def test_outer_products_are_exact() -> None:
    with torch.no_grad(), bninv.invariant(strict=True):
        for outer in (torch.outer, torch.ger):
            assert_bitwise_equal(outer(X[0], A[0]), X[0][:, None] * A[0])


# ---- Products of batches -------------------------------------------------------------------------


class Similarity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2)).softmax(-1) @ x


@pytest.fixture
def similarity() -> nn.Module:
    return bninv.patch(Similarity().eval())


def assert_serves_every_batch(graph: Any, model: nn.Module) -> None:
    with torch.no_grad():
        expected = model(BATCH)
        for begin, end in ((0, 7), (0, 1), (2, 4)):
            assert_bitwise_equal(graph(BATCH[begin:end]), expected[begin:end])


@pytest.mark.parametrize("traced_with", [1, 2, 3])
def test_a_traced_product_of_batches_takes_other_batches(
    similarity: nn.Module, traced_with: int
) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(similarity, BATCH[:traced_with])
    assert_serves_every_batch(traced, similarity)


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_product_of_batches_takes_other_batches(
    similarity: nn.Module, strict: bool
) -> None:
    shapes = ({0: torch.export.Dim("batch")},)
    with torch.no_grad():
        program = torch.export.export(similarity, (BATCH,), dynamic_shapes=shapes, strict=strict)
    assert_serves_every_batch(program.module(), similarity)


def test_a_compiled_product_of_batches_takes_other_batches(similarity: nn.Module) -> None:
    compiled = torch.compile(similarity, backend="eager", fullgraph=True, dynamic=True)
    assert_serves_every_batch(compiled, similarity)


def test_a_product_of_batches_is_its_samples_products() -> None:
    torch.library.opcheck(torch.ops.bninv.bmm.default, (BATCH, BATCH.mT, "ieee"))
    product = torch.ops.bninv.bmm(BATCH, BATCH.mT)
    for sample, x in itertools.zip_longest(product, BATCH):
        assert_bitwise_equal(sample, F.linear(x, x))


def test_batches_that_do_not_fit_are_refused_by_name() -> None:
    with pytest.raises(RuntimeError, match=r"`input` has shape \[6, 5\]; it may be \[batch, rows"):
        torch.ops.bninv.bmm(BATCH[0], BATCH)
    with pytest.raises(RuntimeError, match=r"`mat2` has shape \[7, 6, 5\].* be \[7, 5, columns"):
        torch.ops.bninv.bmm(BATCH, BATCH)


def test_a_product_of_batches_has_no_backward() -> None:
    x = BATCH.clone().requires_grad_()
    with pytest.raises(NotImplementedError, match=r"bninv.bmm has no backward yet"):
        F.matmul(x, x.mT).backward(torch.ones(7, 6, 6))
