"""Hugging Face's Trainer: `compute_loss` returns `balancer(losses)`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradbalance as gb
from tests.distributed.processes import as_one_process_of_many, run
from tests.distributed.test_out_of_step import error_of
from tests.integrations.plain import as_arrays, as_tensors, assert_same, values_of, with_state

transformers = pytest.importorskip("transformers", reason="pip install '.[integrations]'")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

TASKS = ("sentiment", "topic", "length")
BATCH_SIZE = 6


class Encoder3(transformers.PreTrainedModel):
    """A small BERT with three heads, randomly initialised; its output is the losses."""

    config_class = transformers.BertConfig
    supports_gradient_checkpointing = True

    def __init__(self, config: Any, balancer: Any = with_state) -> None:
        super().__init__(config)
        self.encoder = transformers.BertModel(config, add_pooling_layer=False)
        self.heads = nn.ModuleDict({task: nn.Linear(config.hidden_size, 3) for task in TASKS})
        self.balancer = balancer(self)
        self.post_init()

    def forward(self, input_ids: Tensor, **labels: Tensor) -> dict[str, Tensor]:
        z = self.encoder(input_ids).last_hidden_state[:, 0]
        return {
            task: nn.functional.cross_entropy(head(z), labels[task])
            for task, head in self.heads.items()
        }


def model_of(
    balancer: Callable[[Any], gb.Balancer] = with_state, kind: type[Encoder3] = Encoder3
) -> Encoder3:
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(config, balancer)


def batches(number: int = 4) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(number):
        ids = torch.randint(30, (BATCH_SIZE, 5), generator=generator)
        labels = torch.randint(3, (len(TASKS), BATCH_SIZE), generator=generator)
        found.append({"input_ids": ids, **dict(zip(TASKS, labels, strict=True))})
    return found


class Trainer(transformers.Trainer):
    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any
    ) -> Any:
        losses = model(**inputs)
        loss = self.accelerator.unwrap_model(model).balancer(losses)
        return (loss, losses) if return_outputs else loss

    def _get_train_sampler(self, dataset: Any) -> Any:
        return torch.utils.data.SequentialSampler(dataset)


def train(
    model: Any,
    folder: Path,
    found: list[dict[str, Tensor]] | None = None,
    *,
    resume: str | None = None,
    **options: Any,
) -> Any:
    arguments = transformers.TrainingArguments(
        folder,
        **{
            "optim": "sgd",
            "learning_rate": 0.1,
            "lr_scheduler_type": "constant",
            "num_train_epochs": 1,
            "per_device_train_batch_size": BATCH_SIZE,
            "per_device_eval_batch_size": BATCH_SIZE,
            "remove_unused_columns": False,
            "max_grad_norm": 0.0,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "logging_steps": 1,
            **options,
        },
    )
    rows = [
        {key: value[row] for key, value in batch.items()}
        for batch in found or batches()
        for row in range(BATCH_SIZE)
    ]
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def loop(
    model: Any,
    found: list[dict[str, Tensor]] | None = None,
    *,
    accumulate: int = 1,
    clip: float | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """The same by hand."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for index, inputs in enumerate(found or batches()):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            losses = model(**inputs)
        (model.balancer(losses) / accumulate).backward()
        if (index + 1) % accumulate == 0:
            if clip is not None:
                nn.utils.clip_grad_norm_(trained, clip)
            optimizer.step()
            optimizer.zero_grad()
    return values_of(model)


def test_it_takes_the_steps_of_a_plain_loop(tmp_path: Path) -> None:
    model = model_of()
    train(model, tmp_path)
    assert_same(values_of(model), loop(model_of()))


def test_accumulation_and_clipping(tmp_path: Path) -> None:
    model = model_of()
    train(model, tmp_path, gradient_accumulation_steps=2, max_grad_norm=0.5)
    assert_same(values_of(model), loop(model_of(), accumulate=2, clip=0.5), exact=False)


def test_bfloat16(tmp_path: Path) -> None:
    model = model_of()
    train(model, tmp_path, bf16=True)
    assert_same(values_of(model), loop(model_of(), dtype=torch.bfloat16), exact=False)


def test_gradient_checkpointing(tmp_path: Path) -> None:
    model = model_of()
    options = {"gradient_checkpointing": True}
    train(model, tmp_path, **options, gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(values_of(model), loop(model_of()))
    with pytest.raises(ValueError, match="gradient_checkpointing_kwargs"):
        train(
            model_of(), tmp_path, **options, gradient_checkpointing_kwargs={"use_reentrant": True}
        )


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    train(model_of(), tmp_path, save_strategy="steps", save_steps=1, max_steps=4)
    for step in (1, 3):
        model = model_of()
        train(model, tmp_path / "again", resume=str(tmp_path / f"checkpoint-{step}"), max_steps=4)
        assert_same(values_of(model), loop(model_of()))


def test_save_pretrained_keeps_the_balancer(tmp_path: Path) -> None:
    model = model_of()
    train(model, tmp_path)
    model.save_pretrained(tmp_path / "saved")
    again = Encoder3.from_pretrained(tmp_path / "saved")
    assert_same(values_of(again), values_of(model))
    assert torch.equal(again.balancer.get_extra_state(), model.balancer.get_extra_state())
    assert_same(loop(again), loop(model))


def test_the_encoders_output_is_a_representation(tmp_path: Path) -> None:
    def over_output(model: Any) -> gb.Balancer:
        return gb.Balancer(gb.MGDA(), gb.Representation(model.encoder))

    model = model_of(over_output)
    train(model, tmp_path)
    assert_same(values_of(model), loop(model_of(over_output)))
    assert model.balancer.report.measures_gramian


def test_lora(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="pip install '.[integrations]'")

    def adapted() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = peft.LoraConfig(
                target_modules=["query", "value"],
                modules_to_save=list(TASKS),
                init_lora_weights=False,
            )
            return peft.get_peft_model(model_of(), config)

    model = adapted()
    before = values_of(model)
    train(model, tmp_path)
    assert_same(values_of(model), loop(adapted()))
    changed = {name for name, value in values_of(model).items() if not value.equal(before[name])}
    assert changed
    assert all("lora" in name or "heads" in name for name in changed)
    assert model.balancer.report.measures_gramian


def named(model: Any) -> gb.Balancer:
    return gb.Balancer(gb.UPGrad(), gb.SharedParameters(model.encoder))


def on_a_process(folder: Path) -> tuple[dict[str, Any], str]:
    with as_one_process_of_many():
        model, other = model_of(named), model_of(lambda model: gb.Balancer(gb.UPGrad()))
        train(model, folder)
        # The Trainer has DDP look for unused parameters, which hides what the tasks share.
        error = error_of(lambda: train(other, folder))
        train(other, folder, ddp_find_unused_parameters=False)
    assert_same(values_of(other), values_of(model), exact=False)
    return as_arrays(values_of(model)), error


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    pairs = zip(batches()[::2], batches()[1::2], strict=True)
    together = [{key: torch.cat([one[key], two[key]]) for key in one} for one, two in pairs]
    expected = loop(model_of(named), together)
    for found, error in run(2, on_a_process, tmp_path):
        assert_same(as_tensors(found), expected, exact=False)
        assert "Name it: SharedParameters(model.trunk)" in error


class WithLabels(Encoder3):
    """As most models have it: an input that is called labels, and further arguments."""

    accepts_loss_kwargs = False

    def forward(self, input_ids: Tensor, labels: Tensor, **others: Any) -> dict[str, Tensor]:
        of_task = dict(zip(TASKS, labels.unbind(1), strict=True))
        return super().forward(input_ids, **of_task)


def test_accumulated_losses_are_divided_where_the_model_says_that_it_does_not(
    tmp_path: Path,
) -> None:
    found = [
        {"input_ids": b["input_ids"], "labels": torch.stack([b[task] for task in TASKS], dim=1)}
        for b in batches()
    ]
    model, other = model_of(kind=WithLabels), model_of(kind=WithLabels)
    trainer = train(model, tmp_path, found, gradient_accumulation_steps=2)
    assert_same(values_of(model), loop(other, found, accumulate=2), exact=False)
    trainer.eval_dataset = trainer.train_dataset
    with torch.no_grad():
        sums = [float(sum(model(**batch).values())) for batch in found]
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(sum(sums) / len(sums), rel=1e-5)


def test_what_peft_leaves_out_is_saved_beside_it(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="pip install '.[integrations]'")
    config = peft.LoraConfig(target_modules=["query", "value"], modules_to_save=list(TASKS))
    model = peft.get_peft_model(model_of(), config)
    train(model, tmp_path)
    model.save_pretrained(tmp_path / "adapters")
    torch.save(model.balancer.state_dict(), tmp_path / "balancer.pt")
    again = peft.PeftModel.from_pretrained(model_of(), tmp_path / "adapters", is_trainable=True)
    again.balancer.load_state_dict(torch.load(tmp_path / "balancer.pt", weights_only=True))
    assert_same(loop(again), loop(model))
