"""Physics-informed networks: the losses of a differential equation, summed or balanced.

To understand the method, read ``problems/`` (equations and their losses), ``network.py`` (values
with derivatives), ``methods.py`` (what replaces the sum), ``optimizers.py`` (the balanced step of
Adam, then L-BFGS) and ``train.py`` (a run). ``cli.py`` is the command, with its progress and
pictures. ``study/`` compares many methods over seeds, and ``results/`` has the outcome.
"""
