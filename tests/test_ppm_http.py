"""The HTTP scorer against a real server on a local port that answers as vLLM's does."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from http_server import Crowd, Handler, Reply, Request, Server, Waits, as_json, refusal, serve

import rstar_fast
from rstar_fast import steps
from rstar_fast.ppm.http import HttpScorer
from rstar_fast.types import InvalidInput, Partial, PartialTooLong, Problem, ScorerError

# Logits stand in the solutions: "1.5" has the logit 1.5.
PROBLEM = Problem("What is 2 + 3?", id="two-plus-three")
LOGITS = (0.0, -7.25, 3.5, 12.0, 0.5, -0.1)
TOO_LONG = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the input."


def partial(logit: float, problem: Problem = PROBLEM) -> Partial:
    return Partial(problem, f"{logit}")


def logit_of(text: str) -> float:
    return float(text.rpartition("code.")[2])


def expected(*logits: float, scale: float = 5.0) -> np.ndarray:
    return np.tanh(np.array(logits) / scale).astype(np.float32)


def sigmoid(logit: float) -> float:
    """In float32, as servers compute it."""
    return float(np.float32(1) / (np.float32(1) + np.exp(np.float32(-logit))))


def classified(values: list[list[float]], **fields: Any) -> Reply:
    entries = [{"index": i, "label": "LABEL_0", "probs": row, "num_classes": len(row)} for i, row in enumerate(values)]
    return as_json({"id": "classify-1", "object": "list", "model": "tiny", "data": entries, "usage": {}, **fields})


def pooled(values: list[Any]) -> Reply:
    return as_json({"object": "list", "data": [{"index": i, "object": "pooling", "data": row} for i, row in enumerate(values)]})


def like_vllm(
    *,
    field: str | None = "use_activation",
    activation: Callable[[float], float] = sigmoid,
    path: str = "/classify",
    reply: Callable[[list[list[float]]], Reply] = classified,
) -> Handler:
    """A server that knows one path, and leaves out the activation where this field says so."""

    async def handler(request: Request) -> Reply:
        if request.path != path:
            return as_json({"detail": "Not Found"}, 404)
        applied = field is None or request.body.get(field) is not False
        logits = [logit_of(text) for text in request.body["input"]]
        return reply([[activation(logit) if applied else logit] for logit in logits])

    return handler


def score(server: Server, partials: list[Partial] | None = None, **settings: Any) -> np.ndarray:
    """One call of a new scorer, in an event loop of its own."""
    scorer = HttpScorer.from_url(server.url, **{"api_key": "", "sleep": Waits(), **settings})
    return asyncio.run(scorer.score([partial(logit) for logit in LOGITS] if partials is None else partials))


def the_error(server: Server, partials: list[Partial] | None = None, **settings: Any) -> str:
    with pytest.raises(ScorerError) as raised:
        score(server, partials, **settings)
    return str(raised.value)


# --- requests and scores ---


def test_scores_are_those_of_the_logits_in_order() -> None:
    with Server(like_vllm()).running() as server:
        scores = score(server)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected(*LOGITS))


def test_a_request_carries_the_texts_and_asks_for_logits() -> None:
    with Server(like_vllm()).running() as server:
        score(server, [partial(1.0)], activated=False, extra_body={"priority": 1})
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/classify")
    assert request.body == {
        "model": "tiny",
        "input": [steps.prompt(partial(1.0))],
        "task": "classify",
        "use_activation": False,
        "activation": False,
        "priority": 1,
    }


def test_equal_texts_are_asked_once_and_batches_are_bounded() -> None:
    partials = [partial(i % 7 + 0.25, Problem("q", id=str(i))) for i in range(50)]
    with Server(like_vllm()).running() as server:
        scores = score(server, partials, activated=False, batch_size=3)
    np.testing.assert_array_equal(scores, expected(*(i % 7 + 0.25 for i in range(50))))
    assert sorted(len(body["input"]) for body in server.bodies) == [1, 3, 3]
    assert len({text for body in server.bodies for text in body["input"]}) == 7


def tokens_read(usage: object, problems: list[Problem], **settings: Any) -> list[int]:
    """What is counted of three texts of each problem, equal ones twice."""

    def reply(values: list[list[float]]) -> Reply:
        return classified(values, usage=usage)

    async def run(url: str) -> list[int]:
        scorer = HttpScorer.from_url(url, api_key="", activated=False, **settings)
        await scorer.score([partial(logit, problem) for problem in problems for logit in (1.5, -2.5, 3.0, 1.5)])
        found = [scorer.tokens_of(problem) for problem in problems]
        for problem in problems:
            scorer.release(problem)
            assert scorer.tokens_of(problem) == 0
        await scorer.aclose()
        return found

    with Server(like_vllm(reply=reply)).running() as server:
        return asyncio.run(run(server.url))


def test_the_server_s_tokens_are_counted_by_problem() -> None:
    short, long = Problem("What is 1?", id="short"), Problem(f"What is {'1 + ' * 200}1?", id="long")
    assert tokens_read({"prompt_tokens": 100}, [short]) == [100]
    assert tokens_read({"prompt_tokens": 100}, [short], batch_size=1) == [300]
    few, many = tokens_read({"prompt_tokens": 1001}, [short, long])
    assert few + many == 1001 and 3 * few < many
    assert tokens_read({}, [short]) == tokens_read(None, [short]) == tokens_read({"prompt_tokens": "many"}, [short]) == [0]


def test_the_scale_is_a_setting() -> None:
    with Server(like_vllm()).running() as server:
        np.testing.assert_array_equal(score(server, scale=2.0), expected(*LOGITS, scale=2.0))


def test_no_logit_reaches_the_ends_of_the_range() -> None:
    with Server(like_vllm()).running() as server:
        low, high = score(server, [partial(-1e30), partial(1e4)], activated=False)
    assert -1 < low < -0.999999 and 0.999999 < high < 1


def test_answers_are_taken_by_their_index() -> None:
    entries = [{"index": 1, "probs": [2.0]}, {"index": 0, "probs": [1.0]}]
    with serve(as_json({"data": entries})) as server:
        np.testing.assert_array_equal(score(server, [partial(1), partial(2)], activated=False), expected(1, 2))


def test_no_partials_need_no_server() -> None:
    scores = asyncio.run(HttpScorer("http://127.0.0.1:1").score([]))
    assert scores.shape == (0,) and scores.dtype == np.float32


def test_lone_surrogates_do_no_harm() -> None:
    problem = Problem("q\udfff")
    with Server(like_vllm()).running() as server:
        np.testing.assert_array_equal(score(server, [partial(2.0, problem)], activated=False), expected(2.0))
    assert server.bodies[0]["input"] == [steps.prompt(partial(2.0, Problem("q\ufffd")))]


# --- logits or probabilities ---


@pytest.mark.parametrize("field", ["use_activation", "activation"])
def test_a_server_that_does_as_asked_sends_logits(field: str, caplog: pytest.LogCaptureFixture) -> None:
    with Server(like_vllm(field=field)).running() as server, caplog.at_level(logging.WARNING, "rstar_fast"):
        scorer = HttpScorer(server.url, api_key="")
        for _ in range(2):
            scores = asyncio.run(scorer.score([partial(0.25), partial(0.75)]))
            np.testing.assert_array_equal(scores, expected(0.25, 0.75))
    assert [body["use_activation"] for body in server.bodies] == [False, True, False, False]  # it was found out once
    assert not [record for record in caplog.records if record.name.startswith("rstar_fast")]


def test_probabilities_are_turned_back_into_logits(caplog: pytest.LogCaptureFixture) -> None:
    logits = [*np.linspace(-40, 10, 101).tolist(), 14.0, 60.0]
    with Server(like_vllm(field=None)).running() as server, caplog.at_level(logging.WARNING, "rstar_fast"):
        scores = score(server, [partial(logit) for logit in logits])
    np.testing.assert_allclose(scores[:-2], expected(*logits)[:-2], atol=1e-5)
    np.testing.assert_allclose(scores[-2:], expected(*logits)[-2:], atol=3e-3)
    assert len([record for record in caplog.records if "sends probabilities" in record.getMessage()]) == 1


def test_a_server_without_an_activation_sends_logits() -> None:
    with Server(like_vllm(field=None, activation=lambda logit: logit)).running() as server:
        np.testing.assert_array_equal(score(server), expected(*LOGITS))


def test_a_text_that_does_not_tell_is_followed_by_another() -> None:
    fixed = 0.659046  # is its own sigmoid
    with Server(like_vllm(field=None)).running() as server:
        scorer = HttpScorer(server.url, api_key="")
        np.testing.assert_allclose(asyncio.run(scorer.score([partial(fixed)])), expected(fixed), atol=1e-5)
        np.testing.assert_allclose(asyncio.run(scorer.score([partial(-3.0)])), expected(-3.0), atol=1e-5)


def test_answers_may_vary_a_little_from_request_to_request() -> None:
    count = 0

    def noisy(logit: float) -> float:
        nonlocal count
        count += 1
        return sigmoid(logit + 0.02 * math.sin(count))

    with Server(like_vllm(field=None, activation=noisy)).running() as server:
        np.testing.assert_allclose(score(server), expected(*LOGITS), atol=0.01)


def test_a_softmax_over_one_label_tells_nothing() -> None:
    with Server(like_vllm(field=None, activation=lambda logit: 1.0)).running() as server:
        assert "answered 1 to each of 6 texts, a softmax over one label: use a server" in the_error(server)


def test_what_is_taken_for_probabilities_must_be_some() -> None:
    with Server(like_vllm(field=None, activation=lambda logit: logit)).running() as server:
        scorer = HttpScorer(server.url, api_key="")

        async def main() -> None:
            await scorer.score([partial(0.25)])
            with pytest.raises(ScorerError, match="answered 1.5 where it had sent probabilities.*activated=False"):
                await scorer.score([partial(0.5), partial(1.5)])

        asyncio.run(main())


def test_whether_they_are_probabilities_can_be_said() -> None:
    with Server(like_vllm(field=None)).running() as server:
        np.testing.assert_allclose(score(server, activated=True), expected(*LOGITS), atol=1e-4)
        assert len(server.requests) == 1


# --- endpoints and fields ---


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/v1/classify", classified),
        ("/pooling", pooled),
        ("/pooling", lambda values: pooled([[[9.0], [8.0], row] for row in values])),  # a row a token
    ],
)
def test_other_endpoints_are_found_once(path: str, reply: Any) -> None:
    with Server(like_vllm(path=path, reply=reply)).running() as server:
        scorer = HttpScorer(server.url, api_key="", activated=False)
        for _ in range(2):
            np.testing.assert_array_equal(asyncio.run(scorer.score([partial(1.5), partial(2)])), expected(1.5, 2))
    asked = [request.path for request in server.requests]
    assert asked.count(path) == 2 and asked.count("/classify") == 1
    assert asked[-2:] == [path] * 2


@pytest.mark.parametrize("status", [404, 501])
def test_a_server_that_does_not_classify(status: int) -> None:
    with serve(refusal("The model does not support Classification API", status)) as server:
        message = the_error(server)
    assert f"{status} Scripted: The model does not support" in message
    assert "(the same with /classify, /pooling)" in message
    assert [request.path for request in server.requests] == ["/classify", "/v1/classify", "/pooling"]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/classify", "/pooling", "/v1/classify"])
def test_forms_of_the_url(path: str) -> None:
    with Server(like_vllm()).running() as server:
        scorer = HttpScorer(f"http://127.0.0.1:{server.port}{path}#org/ppm", api_key="")
        np.testing.assert_array_equal(asyncio.run(scorer.score([partial(1.5)])), expected(1.5))
    assert {request.path for request in server.requests} == {"/classify"}
    assert {body["model"] for body in server.bodies} == {"org/ppm"}


def test_a_path_before_the_endpoints_is_kept() -> None:
    with Server(like_vllm(path="/ppm/classify")).running() as server:
        scorer = HttpScorer(f"http://127.0.0.1:{server.port}/ppm/v1#m", api_key="")
        np.testing.assert_array_equal(asyncio.run(scorer.score([partial(1.5)])), expected(1.5))


def test_the_only_model_is_found() -> None:
    classify = like_vllm()

    async def handler(request: Request) -> Reply:
        return as_json({"data": [{"id": "my-ppm"}]}) if request.path == "/v1/models" else await classify(request)

    with Server(handler).running() as server:
        asyncio.run(HttpScorer(server.url.partition("#")[0], api_key="").score([partial(1.0)]))
    assert [request.body["model"] for request in server.requests[1:]] == ["my-ppm"] * 3


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("message", ["Parameter `activation` was removed", "Extra inputs are not permitted"])
def test_rejected_fields_are_left_out_from_then_on(status: int, message: str) -> None:
    classify = like_vllm(field="use_activation" if "removed" in message else None)

    async def handler(request: Request) -> Reply:
        return refusal(message, status) if "activation" in request.body else await classify(request)

    with Server(handler).running() as server:
        np.testing.assert_allclose(score(server), expected(*LOGITS), atol=1e-4)
    assert sum("activation" in body for body in server.bodies) == 1


def test_another_rejection_is_an_error_in_the_server_s_words() -> None:
    with serve(refusal("priority scheduling is off")) as server:
        assert the_error(server).endswith("rejected the request: 400 Scripted: priority scheduling is off")
        assert len(server.requests) == 1


# --- too long ---


def test_the_partial_that_is_too_long_is_named() -> None:
    classify = like_vllm()

    async def handler(request: Request) -> Reply:
        return refusal(TOO_LONG) if any("long" in text for text in request.body["input"]) else await classify(request)

    partials = [partial(i / 4) for i in range(11)]
    partials.insert(5, partial(1.0, Problem("a long one", id="p7")))
    with Server(handler).running() as server:
        with pytest.raises(PartialTooLong) as raised:
            score(server, partials)
        assert "'p7'" in str(raised.value) and "4096" in str(raised.value) and server.url.partition("#")[0] in str(raised.value)
        np.testing.assert_array_equal(score(server, partials[:5]), expected(*(i / 4 for i in range(5))))


def test_a_batch_too_long_as_a_whole_goes_in_halves() -> None:
    classify = like_vllm()

    async def handler(request: Request) -> Reply:
        return refusal(TOO_LONG) if len(request.body["input"]) > 2 else await classify(request)

    with Server(handler).running() as server:
        np.testing.assert_array_equal(score(server), expected(*LOGITS))


# --- failures ---


@pytest.mark.parametrize("failure", [refusal("busy", 429), refusal("down", 503), Reply(b'{"data"', cut=5), Reply(b"<html>")])
def test_what_may_pass_is_tried_again(failure: Reply) -> None:
    waits = Waits()
    script = iter([failure, failure])
    classify = like_vllm()

    async def handler(request: Request) -> Reply:
        return next(script, None) or await classify(request)

    with Server(handler).running() as server:
        np.testing.assert_array_equal(score(server, sleep=waits, activated=False), expected(*LOGITS))
    assert 0.25 <= waits.seconds[0] <= 0.5 and 0.5 <= waits.seconds[1] <= 1.0


def test_what_does_not_pass_names_the_server() -> None:
    with serve(refusal("down", 500)) as server:
        message = the_error(server, retries=2)
    assert message == f"{server.url.partition('#')[0]} failed (500 Scripted: down) (tried 3 times)"


def test_a_closed_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    scorer = HttpScorer(f"http://127.0.0.1:{port}#m", api_key="", sleep=Waits(), batch_size=1)
    with pytest.raises(ScorerError, match=rf"cannot connect to http://127.0.0.1:{port}/v1 .*\(tried 2 times\)"):
        asyncio.run(scorer.score([partial(1), partial(2)]))


def test_one_failed_batch_is_the_call_s_failure_when_all_are_done() -> None:
    classify = like_vllm()

    async def handler(request: Request) -> Reply:
        return refusal("no such thing", 418) if "bad" in request.body["input"][0] else await classify(request)

    with Server(handler).running() as server:
        message = the_error(server, [partial(1), partial(1, Problem("bad")), partial(2)], activated=False, batch_size=1)
        assert len(server.requests) == 3
    assert "418" in message and "expected scores" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "expected a JSON object"),
        ({}, "without 'data'"),
        ({"data": "x"}, "without 'data'"),
        ({"data": [1.0, 2.0]}, "without 'data'"),
        ({"data": [{"probs": [1.0]}]}, "answered with 1 scores for 2 texts"),
        ({"data": [{"probs": [1.0]}] * 3}, "answered with 3 scores for 2 texts"),
        ({"data": [{"probs": [1.0], "index": 1}] * 2}, "answered with 2 scores for 2 texts"),
        ({"data": [{"probs": [1.0], "index": [0]}] * 2}, "answered with 2 scores for 2 texts"),
        ({"data": [{"embedding": [1.0]}] * 2}, "sent no number for a text"),
        ({"data": [{"probs": 1.0}] * 2}, "sent no number for a text"),
        ({"data": [{"probs": [None]}] * 2}, "sent no number for a text"),
        ({"data": [{"probs": ["1.0"]}] * 2}, "sent no number for a text"),
        ({"data": [{"probs": []}] * 2}, "sent 0 numbers for a text: serve a PPM"),
        ({"data": [{"probs": [0.25, 0.75]}] * 2}, "sent 2 numbers for a text: serve a PPM"),
        ({"data": [{"data": [[1.0], [0.25, 0.75]]}] * 2}, "sent 2 numbers for a text: serve a PPM"),
        ({"data": [{"probs": [math.nan]}] * 2}, "sent nan for a text"),
        ({"data": [{"probs": [math.inf]}] * 2}, "sent inf for a text"),
    ],
)
def test_an_answer_of_another_kind_is_not_tried_again(content: Any, complaint: str) -> None:
    with serve(as_json(content)) as server:
        assert complaint in the_error(server, [partial(1), partial(2)])
        assert len(server.requests) == 1


# --- concurrency and event loops ---


def test_no_more_requests_than_allowed_are_under_way() -> None:
    bound = 3
    crowd = Crowd(bound, like_vllm())
    with Server(crowd).running() as server:
        scores = score(server, [partial(i) for i in range(12)], activated=False, batch_size=1, max_concurrency=bound)
    np.testing.assert_array_equal(scores, expected(*range(12)))
    assert crowd.peak == bound


def test_aclose_closes_and_score_opens_again() -> None:
    with Server(like_vllm()).running() as server:
        scorer = HttpScorer(server.url, api_key="", activated=False)

        async def main() -> None:
            for _ in range(2):
                await scorer.score([partial(1)])
                await scorer.aclose()

        asyncio.run(main())
        server.wait_until_all_are_closed()
        assert server.connections == 2


# --- settings and names ---


@pytest.mark.parametrize(
    "setting",
    [{"scale": 0.0}, {"scale": math.nan}, {"batch_size": 0}, {"max_concurrency": 0}, {"timeout_s": 0.0}, {"retries": -1}],
)
def test_unusable_settings(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="give"):
        HttpScorer("http://host", **setting)


@pytest.mark.parametrize("url", ["http://", "ftp://host/v1", "http://host:port/v1"])
def test_unusable_urls(url: str) -> None:
    with pytest.raises(InvalidInput, match="the PPM's URL is"):
        HttpScorer(url)


def test_load_scorer_knows_servers() -> None:
    with Server(like_vllm()).running() as server:
        scorer: Any = rstar_fast.load_scorer(server.url, scale=2.0)
        assert isinstance(scorer, HttpScorer)
        np.testing.assert_array_equal(asyncio.run(scorer.score([partial(1.5)])), expected(1.5, scale=2.0))
    with pytest.raises(InvalidInput, match="warmth.*see HttpScorer.from_url"):
        rstar_fast.load_scorer("https://host", warmth=1)
