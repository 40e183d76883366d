"""What several runs in one process have in common; each of these is made once and kept."""

from functools import lru_cache

from examples.metapseudo import find
from examples.metapseudo.classifier import Classifier
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target, load_target
from examples.metapseudo.generators.source import Source, load_source


@lru_cache(maxsize=1)
def target(data: str | None, labels_per_class: int, seed: int) -> Target:
    """Return the target of a run, see ``load_target``.

    Args:
        data: Folder or zip of images, or None for the built-in ones.
        labels_per_class: Labelled images of every class.
        seed: Seed of the run.
    """
    return load_target(data, labels_per_class=labels_per_class, seed=seed)


@lru_cache(maxsize=2)
def source(generator: str) -> Source:
    """Return a generator with its classifier, see ``load_source``.

    Args:
        generator: Its name, or the file of its weights.
    """
    return load_source(generator)


@lru_cache(maxsize=2)  # One with and one without labels that are kept for validation.
def labelled_classifier(config: RunConfig, num_validation: int) -> Classifier:
    """Return a classifier that was trained on labels alone.

    Args:
        config: The options that decide it, ``RunConfig.of_labels``.
        num_validation: Number of labelled images of a class that are left out.
    """
    known = target(config.data, config.labels_per_class, config.seed)
    return find.labelled_classifier(config, known, num_validation)


@lru_cache(maxsize=2)
def found_map(config: RunConfig) -> find.FoundMap:
    """Return the map of the latents of a run, found with a classifier of the labels alone.

    Args:
        config: The options that decide it, ``RunConfig.of_map``.
    """
    known = target(config.data, config.labels_per_class, config.seed)
    model = labelled_classifier(config.of_labels(), config.num_validation)
    return find.find_map(config, known, source(config.generator), model)
