"""Physics-informed networks: the losses of a differential equation, summed or balanced.

The method, read these: ``problems`` (equations and their losses), ``network`` (values with
derivatives), ``methods`` (what replaces the sum), ``optimizers`` (the balanced step of Adam, then
L-BFGS) and ``train`` (a run, whose options are in ``config``).

The command line is ``cli``, with its ``options``, ``progress``, ``pictures`` and the processes of
``side_by_side``. ``study`` compares many methods over seeds; ``results/README.md`` has the outcome.
"""
