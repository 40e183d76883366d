"""An error about a value that is not finite names the run and what to lower."""

import math

import pytest
import torch

import gradbalance as gb
from examples.common.divergence import finite, tells_divergence

RATES = {"--lr": 0.5, "--meta-lr": 1e30}


@pytest.mark.parametrize("found", ["loss", "gradient"])
def test_what_the_balancer_finds_is_named(found: str) -> None:
    x = torch.zeros(2, requires_grad=True)
    loss = x.sum() * math.nan if found == "loss" else x.sqrt().sum()
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters([x]))
    message = (
        rf"'run' diverged at step 3: the {found} .*; lower --lr \(0.5\) or --meta-lr \(1e\+30\)$"
    )
    with pytest.raises(ValueError, match=message), tells_divergence("run", "at step 3", RATES):
        balancer.backward({"a": loss, "b": x.sum()})


def test_other_errors_pass_as_they_are() -> None:
    error = ValueError("the solver does not go with this source")
    with pytest.raises(ValueError, match="solver") as found, tells_divergence("run", "", RATES):
        raise error
    assert found.value is error


def test_a_number_is_returned() -> None:
    assert finite("the gap", 0.5) == 0.5
    with pytest.raises(ValueError, match="the gap is not finite; found nan"):
        finite("the gap", math.nan)
