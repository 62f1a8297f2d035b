"""A PPM that vLLM runs in this process: one engine, its prefix cache, and one thread that feeds it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from rstar_fast.policies.client import short
from rstar_fast.policies.vllm import start_engine
from rstar_fast.ppm.model import bias_in, is_channel, scale_in
from rstar_fast.ppm.scores import check_length, scores_of, text_of
from rstar_fast.types import InvalidInput, Partial, Problem, ScorerError


class VllmScorer:
    """A `Scorer` over `vllm.LLM.classify`, all partial solutions of a call as one batch: tanh(logit / scale).

    Calls are served one after the other. The engine keeps the prefixes of a tree in its cache: a partial solution is computed
    from where it leaves the paths seen before.

    Written against vLLM 0.31 and later. It has been tried with a stand-in for that interface only, not with vLLM itself.
    """

    def __init__(self, vllm: Any, engine: Any) -> None:
        """Wraps an engine that is already there.

        Args:
          vllm: the module, for its PoolingParams.
          engine: a `vllm.LLM` with runner="pooling" over a sequence classifier with one label. The scale of the score is
            `ppm_scale` in its config.json.

        Raises:
          InvalidInput: the model has more labels than one or reads questions back, or the scale is no number > 0.
        """
        config = engine.llm_engine.model_config
        labels = getattr(config.hf_config, "num_labels", 1)
        if labels != 1:
            raise InvalidInput(f"vLLM's model has {labels} labels: give a PPM, a sequence classifier with num_labels=1")
        if is_channel(config.hf_config):
            raise InvalidInput("the PPM reads questions back, and vLLM's pooling does not score so: give its name without 'vllm:'")
        self._engine, self._tokenizer = engine, engine.get_tokenizer()
        self._scale, self._bias = scale_in(config.hf_config), bias_in(config.hf_config)
        self._context = int(config.max_model_len)
        self._logits_only = vllm.PoolingParams(use_activation=False)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rstar_fast-vllm-ppm")
        self._computed: Counter[str] = Counter()  # tokens, by problem

    @classmethod
    def from_pretrained(cls, name: str, **engine_settings: Any) -> Self:
        """Starts an engine with a PPM; takes a minute or more.

        Args:
          name: a checkpoint's folder or its name on the hub.
          engine_settings: those of `vllm.LLM`, e.g. max_model_len=4096, or gpu_memory_utilization=0.4 where a policy is on the
            same GPU. convert="classify" is needed only where the architecture's name does not end in
            ForSequenceClassification.

        Raises:
          InvalidInput: vLLM is not installed, or could not start with this model and these settings, or it is no PPM.
        """
        return cls(*start_engine(name, "PPM", **{"runner": "pooling", **engine_settings}))

    async def score(self, partials: Sequence[Partial]) -> np.ndarray:
        """Scores partial solutions with the PPM (rStar-Math, section 3.3).

        Args:
          partials: B partial solutions, of any problems.

        Returns:
          [B] float32 in (-1, 1), in the order given.

        Raises:
          PartialTooLong: a partial exceeds the model's context; names the problem and both lengths.
          ScorerError: the engine failed, or is closed.
        """
        if self._engine is None:
            raise ScorerError("the vLLM scorer is closed: make a new one")
        if not partials:
            return np.empty(0, np.float32)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._score, list(partials))

    def release(self, problem: Problem) -> None:
        """Forgets how many tokens of a problem were computed. The engine frees its cache when it needs the room."""
        self._computed.pop(problem.id, None)

    def tokens_of(self, problem: Problem) -> int:
        """How many tokens of a problem went through the model since it was last released, those of the engine's cache left out."""
        return self._computed[problem.id]

    async def aclose(self) -> None:
        """Lets go of the engine, after the calls it was given; it frees its memory when nothing else refers to it."""
        await asyncio.to_thread(self._thread.shutdown)
        self._engine = None

    def _score(self, partials: list[Partial]) -> np.ndarray:
        texts = {text_of(partial): partial for partial in partials}
        prompts = []
        for text, partial in texts.items():
            ids = list(self._tokenizer(text).input_ids)
            check_length(partial, len(ids), self._context)
            prompts.append({"prompt_token_ids": ids})
        try:
            outputs = self._engine.classify(prompts, pooling_params=self._logits_only, use_tqdm=False)
        except Exception as error:  # vLLM's errors share no base class
            sentence = f"vLLM failed on {len(prompts)} prompts ({type(error).__name__}: {error}): see its log"
            raise ScorerError(sentence) from error
        scores = dict(zip(texts, scores_of(self._logits(outputs, prompts), self._scale, self._bias), strict=True))
        for partial, prompt, output in zip(texts.values(), prompts, outputs, strict=True):
            cached = getattr(output, "num_cached_tokens", None) or 0
            self._computed[partial.problem.id] += len(prompt["prompt_token_ids"]) - cached
        return np.array([scores[text_of(partial)] for partial in partials], np.float32)

    def _logits(self, outputs: Sequence[Any], prompts: Sequence[dict[str, Any]]) -> np.ndarray:
        """The logit for each prompt, [B] float64, finite."""
        rows = [output.outputs.probs for output in outputs]  # logits, as asked
        if len(rows) != len(prompts) or any(len(row) != 1 for row in rows):
            raise ScorerError(f"vLLM returned {short(str(rows))} for {len(prompts)} prompts: expected one logit for each")
        logits = np.array(rows, np.float64)
        if not np.isfinite(logits).all():
            unusable = logits[~np.isfinite(logits)]
            raise ScorerError(f"vLLM returned {unusable[0]} as a logit: check the checkpoint, and dtype")
        return logits[:, 0]
