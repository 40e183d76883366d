"""A run of which only the map of the latents is found; no classifier is trained on its samples."""

from pathlib import Path

import torch

from examples.common.run_folder import RunFolder
from examples.metapseudo.config import RunConfig
from examples.metapseudo.run import shared
from examples.metapseudo.run.runs import Result, done_before


def find_only(config: RunConfig, out: Path) -> Result:
    """Find the map of a run, unless that was done before.

    Args:
        config: The options of the run, whose samples are optimised.
        out: The folder of all runs.

    Returns:
        The configuration of the run, and the evaluations of its latents in order.
    """
    folder = RunFolder(out / config.name)
    done = done_before(config, folder)
    if done is not None:
        return done
    torch.set_num_threads(config.threads or 1)
    found = shared.found_map(config.of_map())
    folder.start(config, resume=False)
    for record in found.records:
        folder.log(record)
    latents = [record for record in found.records if record["kind"] == "latents"]
    result: Result = {"config": config.as_dict(), "evaluations": [], "latents": latents}
    folder.save_results(result)
    return result
