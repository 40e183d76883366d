"""Predicts eight descriptors of a molecule from its fingerprint: many targets of unequal scale.

The molecules are the first ones of the 10,000 of WEHI's screening library (Baell and Holloway 2010)
in RDKit's data folder. RDKit computes their descriptors, whose standard deviations range from 0.14
to 210, so squared errors in raw units spread over six orders of magnitude. The input is a Morgan
fingerprint of radius 2: how often each circular substructure occurs, as log(1 + n).

With missing labels, each training label of the k-th target is absent with probability k / 8,
starting from k = 0: the first target lacks no labels, and the last one lacks seven in eight.
"""

import csv
import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.tasks.supervised import Labelled, Number, Supervised

NUM_STEPS = 250
PARTS = {"train": 1_200, "validation": 300, "test": 500}
NUM_BITS = 256
WIDTH = 48
# From the largest squared error in raw units to the smallest.
TARGETS = (
    "BertzCT",
    "MolWt",
    "TPSA",
    "NumRotatableBonds",
    "MolLogP",
    "BalabanJ",
    "FractionCSP3",
    "qed",
)


def suite(*, raw: bool, missing: bool = False) -> Supervised:
    """The suite, with losses in raw units or standardised, and with or without missing labels.

    Raises:
        ImportError: RDKit is not installed.
    """
    inputs, labels = _molecules(sum(PARTS.values()))
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    everything = Labelled(inputs, dict(zip(TARGETS, labels, strict=True)))
    ends = list(itertools.accumulate(PARTS.values()))[:-1]
    train, validation, test = map(everything.chosen, torch.tensor_split(order, ends))
    if missing:
        train = _with_missing(train)
    return Supervised(
        {target: Number.of(train.labels[target], raw=raw) for target in TARGETS},
        train,
        {"validation": validation, "test": test},
        trunk=lambda: nn.Sequential(
            *(nn.Linear(NUM_BITS, 64), nn.ReLU(), nn.Linear(64, WIDTH), nn.ReLU())
        ),
        width=WIDTH,
        num_steps=NUM_STEPS,
    )


def _molecules(number: int) -> tuple[Tensor, Tensor]:
    """Fingerprints [N, bits] and descriptors [targets, N]."""
    try:
        from rdkit import Chem, RDConfig
        from rdkit.Chem import Descriptors, rdFingerprintGenerator
    except ImportError as error:
        raise ImportError("it needs RDKit: pip install -c constraints.txt rdkit") from error

    path = Path(RDConfig.RDDataDir) / "Pains" / "test_data" / "wehi_mols.csv"
    with path.open(newline="") as file:
        rows = itertools.islice(csv.reader(file), number)
        molecules = [Chem.MolFromSmiles(row[0]) for row in rows]
    fingerprints = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=NUM_BITS)
    counts: list[NDArray[np.uint32]] = [
        fingerprints.GetCountFingerprintAsNumPy(molecule) for molecule in molecules
    ]
    labels = [[getattr(Descriptors, name)(m) for m in molecules] for name in TARGETS]
    return (
        torch.from_numpy(np.log1p(np.stack(counts).astype(np.float32))),
        torch.tensor(labels, dtype=torch.float32),
    )


def _with_missing(train: Labelled) -> Labelled:
    generator = torch.Generator().manual_seed(0)
    labels = {}
    for place, (target, values) in enumerate(train.labels.items()):
        absent = torch.rand(len(values), generator=generator) < place / len(TARGETS)
        labels[target] = values.masked_fill(absent, float("nan"))
    return Labelled(train.inputs, labels)
