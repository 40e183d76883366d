"""Options that the command and the study share."""

from typing import Annotated

import typer

from examples.pinn.problems import PROBLEMS

Problem = Annotated[str, typer.Option(help=f"One of {', '.join(PROBLEMS)}.")]
Solver = Annotated[
    str | None,
    typer.Option(help="Any gradbalance solver to compare with the plain sum, such as PCGrad."),
]
Scale = Annotated[str, typer.Option(help="Scale of --solver's weights: none, sum or norm.")]
DType = Annotated[str, typer.Option(help="float64 or float32.")]
AdamSteps = Annotated[int, typer.Option(help="Steps of Adam.")]
LbfgsSteps = Annotated[int, typer.Option(help="Iterations of L-BFGS, with fixed weights.")]
Lr = Annotated[float, typer.Option(help="Learning rate of Adam, at the start of its schedule.")]
Width = Annotated[int, typer.Option(help="Width of the hidden layers.")]
