"""Transformers' Trainer with PEFT's LoRA: balances the losses of two heads on the adapters.

First ``pip install transformers peft``, then run ``python -m examples.short.with_trainer_lora``.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return, no-untyped-call"

import tempfile
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

import gradbalance as gb

NUM_STEPS, NUM_ROWS, LENGTH, VOCABULARY = 150, 512, 8, 32


class Classifier(transformers.PreTrainedModel):
    """A small BERT that is not pretrained, with one head for the topic and one for the tone."""

    config_class = transformers.BertConfig
    accepts_loss_kwargs = False  # so the Trainer divides losses by the accumulation steps

    def __init__(self, config: transformers.BertConfig) -> None:
        super().__init__(config)
        self.encoder = transformers.BertModel(config, add_pooling_layer=False)
        self.topic, self.tone = nn.Linear(config.hidden_size, 4), nn.Linear(config.hidden_size, 2)
        self.balancer = gb.Balancer(gb.UPGrad(), scale="norm")
        self.post_init()

    def forward(self, input_ids: Tensor, topic: Tensor, tone: Tensor) -> dict[str, Tensor]:
        """Return each task's loss."""
        z = self.encoder(input_ids).last_hidden_state.mean(dim=1)
        loss = nn.functional.cross_entropy
        return {"topic": loss(self.topic(z), topic), "tone": loss(self.tone(z), tone)}


class Trainer(transformers.Trainer):
    """A Trainer for a model that returns several losses."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Tensor:
        """Return the balanced loss instead of the sum."""
        return self.accelerator.unwrap_model(model).balancer(model(**inputs))


def make_rows() -> list[dict[str, Tensor]]:
    """Return sentences: the topic sets the words, the tone makes even or odd words more likely."""
    topics, tones = torch.randint(4, (NUM_ROWS,)), torch.randint(2, (NUM_ROWS,))
    other_tone = torch.rand(NUM_ROWS, LENGTH) < 0.2
    words = 2 * torch.randint(4, (NUM_ROWS, LENGTH)) + (tones[:, None] ^ other_tone)
    ids = 8 * topics[:, None] + words
    return [
        {"input_ids": row, "topic": topic, "tone": tone}
        for row, topic, tone in zip(ids, topics, tones, strict=True)
    ]


def main() -> None:
    """Train adapters and heads; show the number of trained parameters, and the last report."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    lora = LoraConfig(
        r=8, target_modules=["query", "value", "dense"], modules_to_save=["topic", "tone"]
    )
    model = get_peft_model(Classifier(config), lora)
    model.print_trainable_parameters()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            max_steps=NUM_STEPS,
            per_device_train_batch_size=32,
            learning_rate=1e-2,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=make_rows()).train()
    print(model.balancer.report)


if __name__ == "__main__":
    main()
