"""bninv's table of autocast's policies against PyTorch's own lists."""

from __future__ import annotations

import pytest
import torch

from bninv._autocast import policy_of
from bninv._autocast_lists import LISTS
from bninv.dispatch import covered
from bninv.operators import SCHEMAS
from tests.support import stock_autocast

DEVICES = ["cpu", "cuda"]
KNOWN = "2.11."  # the version whose lists these are

# What bninv stands for, by ATen's names.
NAMESAKES = {
    *(name.removesuffix("_fused") for name in SCHEMAS),
    *covered.ATEN,
    *covered.REPAIRS,
    *covered._CAST_AS.values(),
}


def listed(device: str) -> dict[str, str]:
    return {name: policy for policy, names in LISTS[device].items() for name in names}


@pytest.mark.skipif(not torch.__version__.startswith(KNOWN), reason=f"lists of torch {KNOWN}x")
@pytest.mark.parametrize("device", DEVICES)
def test_the_lists_are_pytorchs(device: str) -> None:
    own = listed(device)
    assert own.keys() == set(stock_autocast.names(device))
    stock = {name: stock_autocast.policy(name, device) for name in own}
    assert {n: p for n, p in own.items() if stock[n] is not None} == {
        n: p for n, p in stock.items() if p is not None
    }


@pytest.mark.parametrize("device", DEVICES)
def test_what_bninv_stands_for_has_pytorchs_policy(device: str) -> None:
    """In every version of PyTorch, in which other operators may come and go."""
    stock: dict[str, set[str | None]] = {}
    for overload in stock_autocast.names(device):
        name = overload.partition(".")[0]
        if name in NAMESAKES:
            stock.setdefault(name, set()).add(stock_autocast.policy(overload, device))
    assert stock["linear"] == {"lower_precision_fp"}, "nothing was read off"
    for name in NAMESAKES:
        expected = stock.get(name, set()) - {None}
        assert {policy_of(name, device)} == (expected or {None}), name


@pytest.mark.parametrize("device", DEVICES)
def test_a_name_has_one_policy(device: str) -> None:
    """Policies are looked up without the overload."""
    found: dict[str, set[str]] = {}
    for overload, policy in listed(device).items():
        found.setdefault(overload.partition(".")[0], set()).add(policy)
    assert all(len(policies) == 1 for policies in found.values())
    assert sum(map(len, LISTS[device].values())) == len(listed(device)), "a name is on two lists"
