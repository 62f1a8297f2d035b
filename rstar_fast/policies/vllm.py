"""A policy that runs vLLM in this process: one engine, its prefix cache, and one thread that feeds it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from rstar_fast import steps
from rstar_fast.policies.http import LeafSeeds, split_at_stop
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong, PolicyError, RstarError


def start_engine(name: str, noun: str, **settings: Any) -> tuple[Any, Any]:
    """The module vLLM and an engine with prefix caching; takes a minute or more.

    Args:
      name: a checkpoint's folder or its name on the hub.
      noun: what errors call it, e.g. "policy".
      settings: those of `vllm.LLM`.

    Raises:
      InvalidInput: vLLM is not installed, or could not start with this model and these settings.
    """
    try:
        vllm = importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise InvalidInput(f"vLLM cannot be imported ({error}): mend its installation") from error
        raise InvalidInput(f"the {noun} 'vllm:{name}' needs vLLM: pip install 'rstar_fast[vllm]'") from None
    except Exception as error:  # a build that fits neither this torch nor this driver fails in many ways
        raise InvalidInput(f"vLLM cannot be imported ({error}): mend its installation") from error
    try:
        return vllm, vllm.LLM(**{"model": name, "enable_prefix_caching": True, **settings})
    except Exception as error:  # whatever keeps the engine from starting is the input's or the machine's fault
        raise InvalidInput(f"vLLM could not start with {name!r} ({error}): check the name and the settings") from error


class VllmPolicy:
    """Proposes steps with `vllm.LLM.generate`, all partial solutions of a call as one batch.

    Calls are served one after the other, so larger batches, not more calls, keep the GPU busy. The engine keeps the prefixes
    of a tree in its cache: a leaf's prompt is computed from where it leaves the paths seen before.

    Written against vLLM 0.31 and later. It has been tried with a stand-in for that interface only, not with vLLM itself.
    """

    def __init__(
        self,
        vllm: Any,
        engine: Any,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_step_tokens: int = 512,
        logprobs: bool = False,
    ) -> None:
        """Wraps an engine that is already there; see `from_pretrained` for the settings.

        Args:
          vllm: the module, for its SamplingParams.
          engine: a `vllm.LLM`.
        """
        if temperature < 0 or not 0 < top_p <= 1 or top_k < 0:
            given = f"temperature={temperature!r}, top_p={top_p!r}, top_k={top_k!r}"
            raise InvalidInput(f"the sampling settings are {given}: give temperature >= 0, 0 < top_p <= 1 and top_k >= 0")
        if max_step_tokens < 1:
            raise InvalidInput(f"max_step_tokens is {max_step_tokens!r}: give an integer >= 1")
        self._vllm = vllm
        self._engine = engine
        self._tokenizer = engine.get_tokenizer()
        self._context = int(engine.llm_engine.model_config.max_model_len)
        self._seeds = LeafSeeds(seed)
        self._max_step_tokens = max_step_tokens
        self._settings: dict[str, Any] = {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "logprobs": 0 if logprobs else None,  # 0: of the sampled tokens alone
            "stop": list(steps.STOPS),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rstar_fast-vllm")

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_step_tokens: int = 512,
        logprobs: bool = False,
        **engine_settings: Any,
    ) -> Self:
        """Starts an engine with a model; takes a minute or more.

        Args:
          name: a checkpoint's folder or its name on the hub.
          seed: the samples are a function of it; how exactly they repeat is the engine's matter.
          temperature: >= 0; 0 is greedy.
          top_p: in (0, 1].
          top_k: >= 0; 0 for no limit.
          max_step_tokens: most tokens of a step, >= 1, whatever the checkpoint says of it. Less is asked for where the context has
            less room.
          logprobs: set the candidates' `logprob`, at a small cost.
          engine_settings: those of `vllm.LLM`, e.g. tensor_parallel_size=2, max_model_len=4096.

        Raises:
          InvalidInput: vLLM is not installed, or could not start with this model and these settings.
        """
        vllm, engine = start_engine(name, "policy", seed=seed, **engine_settings)
        sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
        return cls(vllm, engine, seed=seed, max_step_tokens=max_step_tokens, logprobs=logprobs, **sampling)

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate] | RstarError]:
        """Samples n next steps for each of B partial solutions.

        Args:
          partials: B partial solutions.
          n: samples of each, >= 1.

        Returns:
          B entries in the order given: the candidates, or the error that befell this partial alone: PartialTooLong, or
          PolicyError for all that were given to an engine that failed.
        """
        if n < 1:
            raise InvalidInput(f"n is {n!r}: give an integer >= 1")
        if self._engine is None:
            raise PolicyError("the vLLM policy is closed: make a new one")
        if not partials:
            return []
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._propose, list(partials), n)

    async def aclose(self) -> None:
        """Lets go of the engine, after the calls it was given; it frees its memory when nothing else refers to it."""
        await asyncio.to_thread(self._thread.shutdown)
        self._engine = None

    def _propose(self, partials: list[Partial], n: int) -> list[list[Candidate] | RstarError]:
        results: dict[int, list[Candidate] | RstarError] = {}
        prompts, sampling, rows = [], [], []
        for row, partial in enumerate(partials):
            seed = self._seeds.next(partial)
            ids = self._tokenizer(steps.without_surrogates(steps.prompt(partial))).input_ids
            room = self._context - len(ids)
            if room < 1:
                results[row] = PartialTooLong(
                    f"the partial solution of problem {partial.problem.id!r} has {len(ids)} tokens with its prompt: "
                    f"the model's context of {self._context} leaves no room for a step"
                )
                continue
            max_tokens = min(self._max_step_tokens, room)
            prompts.append({"prompt_token_ids": list(ids)})
            sampling.append(self._vllm.SamplingParams(n=n, seed=seed, max_tokens=max_tokens, **self._settings))
            rows.append(row)
        if rows:
            results |= dict(zip(rows, self._generate(prompts, sampling), strict=True))
        return [results[row] for row in range(len(partials))]

    def _generate(self, prompts: list[dict[str, Any]], sampling: list[Any]) -> list[list[Candidate] | RstarError]:
        try:
            outputs = self._engine.generate(prompts, sampling, use_tqdm=False)
        except Exception as error:  # vLLM's errors share no base class
            failure = PolicyError(f"vLLM failed on {len(prompts)} prompts ({type(error).__name__}: {error}): see its log")
            failure.__cause__ = error
            return [failure] * len(prompts)
        if len(outputs) != len(prompts):
            return [PolicyError(f"vLLM returned {len(outputs)} results for {len(prompts)} prompts")] * len(prompts)
        return [[self._candidate(sample) for sample in output.outputs] for output in outputs]

    def _candidate(self, sample: Any) -> Candidate:
        text, stop, _ = split_at_stop(steps.without_surrogates(sample.text))
        tokens = list(sample.token_ids)
        if stop is None and sample.finish_reason == "stop" and tokens:
            # Ended by a token of its own, the end of text: as stop strings are kept in the text, so is it.
            text = text.removesuffix(self._tokenizer.decode(tokens[-1:], skip_special_tokens=False))
        return Candidate(text, stop, len(tokens), sample.cumulative_logprob)
