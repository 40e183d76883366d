"""Run by `make wheel` in an environment with the wheel alone: it imports, types and works."""

import importlib.metadata
import importlib.resources
import pathlib

import torch

import gradbalance as gb

checkout = pathlib.Path(__file__).resolve().parents[1]
installed = pathlib.Path(gb.__file__).resolve()
assert not installed.is_relative_to(checkout / "gradbalance"), f"imported {installed}"
assert (importlib.resources.files("gradbalance") / "py.typed").is_file()

trunk, heads = torch.nn.Linear(3, 4), torch.nn.ModuleList(torch.nn.Linear(4, 1) for _ in range(2))
balancer = gb.Balancer(gb.MGDA())
z = trunk(torch.randn(8, 3))
report = balancer.backward({str(i): head(z).square().mean() for i, head in enumerate(heads)})
assert trunk.weight.grad is not None
print(report)
print(f"gradbalance {importlib.metadata.version('gradbalance')}: the wheel works")
