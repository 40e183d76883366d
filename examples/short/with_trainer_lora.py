"""Transformers' Trainer with PEFT's LoRA: the losses of two heads are balanced on the adapters.

Run it with ``python -m examples.short.with_trainer_lora``; ``pip install transformers peft`` first.
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
    """A small BERT, not pretrained, with a head for the topic and one for the tone."""

    config_class = transformers.BertConfig
    accepts_loss_kwargs = False  # so that the Trainer divides accumulated losses

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
    """A Trainer of a model that returns several losses."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Tensor:
        """Return the balanced loss, where it was the sum."""
        return self.accelerator.unwrap_model(model).balancer(model(**inputs))


def make_rows() -> list[dict[str, Tensor]]:
    """Return sentences of a topic's words, of which the even or the odd ones are more likely."""
    topics, tones = torch.randint(4, (NUM_ROWS,)), torch.randint(2, (NUM_ROWS,))
    other_tone = torch.rand(NUM_ROWS, LENGTH) < 0.2
    words = 2 * torch.randint(4, (NUM_ROWS, LENGTH)) + (tones[:, None] ^ other_tone)
    ids = 8 * topics[:, None] + words
    return [
        {"input_ids": row, "topic": topic, "tone": tone}
        for row, topic, tone in zip(ids, topics, tones, strict=True)
    ]


def main() -> None:
    """Train adapters and heads, and show how many parameters that are and what the losses do."""
    torch.set_num_threads(1)  # more do not help a network of this size
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
