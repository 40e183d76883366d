"""MP-SSL: one trunk learns several pretext tasks mixed in the same input (arXiv 1912.11603).

To understand the method, read ``pretext`` (the tasks), ``inputs`` (a batch), ``train`` (a step and
an epoch), ``presets`` (a run's options) and ``evaluate`` (what a trunk has learned).

``run`` is the command line: resuming, logs, tables, pictures. ``study`` has the experiments over
several seeds and the changes of the method that they test; ``results/README.md`` has their outcome.
"""
