"""Physics-informed networks: a plain sum of the losses fails, a balanced one does not.

Read these: ``problems/`` (equations and their losses), ``network.py`` (values with derivatives),
``methods.py`` (what stands for the sum), ``optimizers.py`` (the balanced step of Adam, then L-BFGS)
and ``train.py`` (a run). The command is ``cli.py``, with its progress and pictures; ``study/``
compares many methods over seeds, and ``results/`` is what came of that.
"""
