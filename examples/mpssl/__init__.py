"""MP-SSL: one trunk learns several pretext tasks mixed in the same input (arXiv 1912.11603).

The method, read these: ``pretext`` (the tasks), ``inputs`` (a batch), ``train`` (a step and an
epoch), ``presets`` (a run's options), and ``evaluate`` (what a trunk has learned).

The command line is in ``run``: resuming, logs, tables, pictures. The measurements over seeds are in
``study``, with what they change about the method; their outcome is in ``results/README.md``.
"""
