"""Semi-supervised learning with samples of a generator in place of unlabelled images.

The classifier, read these: ``train`` (a step), ``batch`` (its labelled images), ``samples`` (its
unlabelled images), ``augment`` and ``regularizers`` (what it learns from those), ``classifier``.
The latents of the samples: ``latents`` (a step of the map that moves them), ``mapping`` (the map),
``gaps`` and ``meta_gradient`` (the two terms of its loss), ``find`` (all steps of the map, before
the classifier is trained). The options of a run are in ``config``, the named runs in ``variants``.

Images come from ``data`` and ``generators``; ``train_source`` is the command that trains a
generator. The main command line is in ``run``: processes, resuming, tables and pictures. The
measurements over seeds are in ``study``; their outcome is in ``results/README.md``.
"""
