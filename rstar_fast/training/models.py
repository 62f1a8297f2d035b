"""The models that are trained, as they are before their training."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from rstar_fast.config import PolicyTrainingConfig, PpmKind, PpmTrainingConfig
from rstar_fast.policies.checkpoint import load_model, quiet
from rstar_fast.ppm.model import channel_from_policy, from_policy
from rstar_fast.training.markers import embed
from rstar_fast.types import InvalidInput

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import TrainingArguments


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a checkpoint's weights: that in which what it is trained to is written."""
    return AutoConfig.from_pretrained(name).dtype or torch.float32


def outline(name: str) -> PreTrainedModel:
    """A policy without its weights, on torch's meta device: tells before any work what can be trained, and how large it is.

    Raises:
      InvalidInput: the checkpoint is of no causal language model.
    """
    return _outline(AutoModelForCausalLM, name, "is no causal language model")


def outline_of_ppm(name: str) -> PreTrainedModel:
    """The PPM that `ppm.model.from_policy` would make of a policy, without its weights, as `outline`.

    Raises:
      InvalidInput: transformers has no model with a head of the policy's architecture.
    """
    return _outline(AutoModelForSequenceClassification, name, "cannot be the body of a PPM", num_labels=1)


def _outline(auto_class: Any, name: str, lack: str, **settings: Any) -> PreTrainedModel:
    try:
        with quiet(), torch.device("meta"):
            return auto_class.from_config(AutoConfig.from_pretrained(name, **settings))
    except Exception as error:  # the hub and each model's code have exceptions of their own
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InvalidInput(f"the policy {name!r} {lack}: give one such as Qwen2, Llama or Phi-3 ({told})") from None


def make_policy(name: str, new: list[int], *, in_half: bool = False, lora: LoraConfig | None = None) -> Any:
    """A policy on the CPU.

    Args:
      name: folder or hub name.
      new: tokens that its tokenizer has got; see `markers.embed`.
      in_half: weights in bfloat16, else in float32: what is added to a weight in an update is too small for bfloat16.
      lora: adapters to put on it.
    """
    model = load_model(AutoModelForCausalLM, name, "policy", "cpu", torch.bfloat16 if in_half else torch.float32)
    embed(model, new)
    return with_adapters(model, lora)


def make_ppm(name: str, config: PpmTrainingConfig, *, in_half: bool = False, lora: LoraConfig | None = None) -> Any:
    """A PPM of a policy's weights on the CPU, with a new head where it has one; see `ppm.model` and `make_policy`."""
    dtype = torch.bfloat16 if in_half else torch.float32
    if config.kind is PpmKind.CHANNEL:
        return with_adapters(channel_from_policy(name, scale=config.scale, bias=config.bias, dtype=dtype), lora)
    return with_adapters(from_policy(name, scale=config.scale, seed=config.seed, dtype=dtype), lora)


def in_half(arguments: TrainingArguments, config: PolicyTrainingConfig | PpmTrainingConfig) -> bool:
    """Whether the weights under adapters, which do not change, are held in bfloat16.

    In one process only: FSDP may want the weights of a layer in one dtype.
    """
    return arguments.bf16 and config.lora and arguments.world_size == 1


def with_adapters(model: PreTrainedModel, lora: LoraConfig | None, seed: int = 0) -> Any:
    """The model with adapters put on it, or as it is.

    Args:
      seed: of the adapters' weights.
    """
    if lora is None:
        return model
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT asks transformers for it under a name that is going to go.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(seed)
        adapted = get_peft_model(model, lora)
    if lora.trainable_token_indices:
        # TRL's fused loss asks the head for weight and bias, and PEFT's wrapper has the weight only; not to be registered again.
        head = adapted.get_output_embeddings()
        vars(head)["bias"] = head.original_module.bias
    for weight in adapted.parameters():
        if weight.requires_grad:  # a head or embeddings too
            weight.data = weight.data.float()
    return adapted


def lora_of(
    model: PreTrainedModel, config: PolicyTrainingConfig | PpmTrainingConfig, new: list[int] | None = None
) -> LoraConfig | None:
    """Adapters of all linear layers (Hu et al. 2021), where the config asks for them; the embeddings of new tokens are trained too.

    Args:
      new: tokens whose embeddings nobody has trained. None for a PPM, whose head is trained as a whole.
    """
    if not config.lora:
        return None
    from peft import LoraConfig

    whole: list[str] | None = None
    tied = model.config.get_text_config().tie_word_embeddings
    if new and not tied:
        embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
        whole = [name for name, layer in model.named_modules() if any(layer is embedding for embedding in embeddings)]
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_rank,
        target_modules="all-linear",
        modules_to_save=whole,
        # Where they are tied, a whole copy would part them: PEFT trains the new rows alone, in one place for both.
        trainable_token_indices=new if new and tied else None,
        task_type="SEQ_CLS" if new is None else "CAUSAL_LM",
    )


def check_packing(model: PreTrainedModel) -> None:
    """Whether packed sequences do not see each other.

    transformers builds the mask that keeps them apart from their positions, for models whose attention it chooses.

    Raises:
      InvalidInput: they would.
    """
    if not getattr(model.base_model, "_supports_attention_backend", False):
        raise InvalidInput(
            f"the policy is a {type(model).__name__}, whose packed sequences would see each other: give packing=False"
        )
