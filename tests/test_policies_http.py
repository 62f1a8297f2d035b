"""The HTTP policy against a real server on a local port, whose answers each test scripts."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import logging
import socket
import threading
import time
from typing import Any

import pytest
from http_server import Crowd, Reply, Request, Server, Waits, as_json, refusal, serve

from rstar_fast import steps
from rstar_fast.policies.http import HttpPolicy, LeafSeeds, split_at_stop
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong, PolicyError, Problem

PROBLEM = Problem("What is 2 + 3?", id="two-plus-three")
ROOT = Partial(PROBLEM)
OPEN_ANSWER = Partial(PROBLEM, "<code>\nprint(5)\n<end_of_code>\n<output>5<end_of_output>\n")


def choice(text: str, stop: str | None = None, **fields: Any) -> dict[str, Any]:
    """A choice as vLLM gives it: the stop string is not in the text but in `stop_reason`."""
    return {"text": text, "finish_reason": "stop", "stop_reason": stop, **fields}


def completion(*choices: dict[str, Any], **fields: Any) -> Reply:
    return as_json({"object": "text_completion", "choices": [{"index": i, **c} for i, c in enumerate(choices)], **fields})


OK = completion(choice("# add\n", steps.END_OF_STEP))


def propose(server: Server, partials: list[Partial] | None = None, n: int = 1, **settings: Any) -> list[Any]:
    """One call of a new policy, in an event loop of its own."""
    policy = HttpPolicy.from_url(server.url, **{"api_key": "", "sleep": Waits(), **settings})
    return asyncio.run(policy.propose(partials or [ROOT], n))


def the_error(result: list[Any], kind: type = PolicyError) -> str:
    assert [type(entry) for entry in result] == [kind], result
    return str(result[0])


# --- requests and candidates ---


def test_a_request_carries_the_prompt_and_the_settings() -> None:
    with serve(OK) as server:
        result = propose(server, n=3, temperature=0.7, top_p=0.9, max_step_tokens=77, extra_body={"min_p": 0.1})
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/completions")
    assert "authorization" not in request.headers
    seed = request.body.pop("seed")
    assert isinstance(seed, int) and 0 <= seed < 2**31
    assert request.body == {
        "model": "tiny",
        "prompt": steps.prompt(ROOT),
        "n": 3,
        "max_tokens": 77,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["<end_of_step>", "<end_of_code>", "<end_of_answer>"],
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "min_p": 0.1,
    }
    assert result == [[Candidate("# add\n", steps.END_OF_STEP)]]  # fewer than n are taken


def test_each_partial_gets_its_own_candidates_in_order() -> None:
    async def handler(request: Request) -> Reply:
        question = request.body["prompt"].split("\n")[1]
        return completion(choice(f"{question} a", steps.END_OF_CODE, index=1), choice(f"{question} b", index=0))

    partials = [Partial(Problem(f"q{i}")) for i in range(20)]
    with Server(handler).running() as server:
        result = propose(server, partials, n=2)
    assert result == [[Candidate(f"q{i} b"), Candidate(f"q{i} a", steps.END_OF_CODE)] for i in range(20)]


def test_calls_may_overlap() -> None:
    assert HttpPolicy("http://127.0.0.1:1").merges_calls


def test_no_partials_need_no_server() -> None:
    assert asyncio.run(HttpPolicy("http://127.0.0.1:1").propose([], 4)) == []


def test_more_choices_than_asked_for_are_cut() -> None:
    with serve(completion(choice("a"), choice("b"), choice("c"))) as server:
        assert propose(server, n=2) == [[Candidate("a"), Candidate("b")]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (choice("x", steps.END_OF_CODE), Candidate("x", steps.END_OF_CODE)),
        ({"text": "x", "finish_reason": "stop", "matched_stop": steps.END_OF_STEP}, Candidate("x", steps.END_OF_STEP)),
        (choice("x", None), Candidate("x")),  # the end of text
        ({"text": "x", "finish_reason": "stop", "stop_reason": 151643}, Candidate("x")),  # a stop token
        ({"text": "x", "finish_reason": "length"}, Candidate("x")),
        ({"text": "x<end_of_step>", "finish_reason": "stop"}, Candidate("x", steps.END_OF_STEP)),
        ({"text": "x<end_of_step>y<end_of_code>", "finish_reason": "length"}, Candidate("x", steps.END_OF_STEP)),
    ],
)
def test_the_stop_string_is_exact(given: dict[str, Any], expected: Candidate) -> None:
    with serve(completion(given)) as server:
        assert propose(server) == [[expected]]
    assert len(server.requests) == 1


def test_tokens_and_logprobs_are_set_where_the_server_tells_them() -> None:
    lists = {"tokens": ["x", "y"], "token_logprobs": [-0.5, -1.25]}
    with serve(completion(choice("xy", logprobs=lists), choice("z"), usage={"completion_tokens": 9})) as server:
        assert propose(server, n=2, logprobs=True) == [[Candidate("xy", None, 2, -1.75), Candidate("z")]]
        assert server.bodies[0]["logprobs"] == 1
    with serve(completion(choice("xy"), usage={"completion_tokens": 9})) as server:
        assert propose(server) == [[Candidate("xy", None, 9)]]


def test_lone_surrogates_do_no_harm() -> None:
    assert steps.without_surrogates("a\ud800b\ud83d\ude00") == "a\ufffdb\U0001f600"
    with serve(Reply(b'{"choices": [{"text": "x\\ud800y", "finish_reason": "length"}]}')) as server:
        assert propose(server, [Partial(Problem("q\udfff"), "s\ud83d\ude00 \u00e9")]) == [[Candidate("x\ufffdy")]]
    assert server.bodies[0]["prompt"] == steps.prompt(Partial(Problem("q\ufffd"), "s\U0001f600 \u00e9"))


def test_the_earliest_stop_string_splits() -> None:
    assert split_at_stop("a<end_of_answer>b<end_of_step>") == ("a", steps.END_OF_ANSWER, "b<end_of_step>")
    assert split_at_stop("a<end_of_") == ("a<end_of_", None, "")


# --- servers that do not tell the stop string ---


def silent(text: str) -> dict[str, Any]:
    return {"text": text, "finish_reason": "stop"}


def test_a_silent_server_is_asked_to_keep_the_stop_string() -> None:
    async def handler(request: Request) -> Reply:
        kept = steps.END_OF_CODE if request.body.get("include_stop_str_in_output") else ""
        return completion(silent(f"print(1){kept}"))

    with Server(handler).running() as server:
        assert propose(server, [ROOT, OPEN_ANSWER], max_concurrency=1) == [[Candidate("print(1)", steps.END_OF_CODE)]] * 2
    first, second, again = server.bodies
    assert again == {**first, "include_stop_str_in_output": True, "no_stop_trim": True}
    assert second.keys() == again.keys()  # what the first learnt, the second knows


def test_an_end_of_text_is_told_from_a_kept_stop_string() -> None:
    silence = completion(silent("a"))
    with serve(silence, completion(silent("a<end_of_step>"), silent("b"))) as server:
        assert propose(server, n=2) == [[Candidate("a", steps.END_OF_STEP), Candidate("b")]]


def test_where_the_stop_string_is_always_dropped_the_text_is_cut_here(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Reply:
        behind = "" if "stop" in request.body else "<end_of_step>\n# and more<end_of_code>"
        lists = {"token_logprobs": [-1.0, -1.0]}
        return completion({"text": f"x = 1\n{behind}", "finish_reason": "stop", "logprobs": lists})

    with Server(handler).running() as server, caplog.at_level(logging.WARNING):
        result = propose(server, [ROOT, Partial(PROBLEM, "<code>\n")], max_concurrency=1, logprobs=True)
    assert result == [[Candidate("x = 1\n", steps.END_OF_STEP, 2, None)]] * 2  # the log-probability would be of more text
    assert ["stop" in body for body in server.bodies] == [True, True, False, False]
    assert [record.getMessage() for record in caplog.records if "does not tell" in record.getMessage()]
    assert len(caplog.records) - sum(record.name == "httpx" for record in caplog.records) == 1


def test_a_late_reply_does_not_undo_what_was_learnt() -> None:
    learnt = asyncio.Event()

    async def handler(request: Request) -> Reply:
        late = "late" in request.body["prompt"]
        if "stop" not in request.body:
            learnt.set()
            return completion(silent("x<end_of_step>"))
        if late:
            await learnt.wait()
        return completion(silent("x"))

    with Server(handler).running() as server:
        result = propose(server, [ROOT, Partial(Problem("late"))], max_concurrency=2)
    assert result == [[Candidate("x", steps.END_OF_STEP)]] * 2
    asked = ["stop" in body for body in server.bodies if "late" in body["prompt"]]
    assert asked == [True, False]


def test_an_end_without_stop_strings_is_the_end_of_text() -> None:
    with serve(completion(silent("x"))) as server:
        assert propose(server) == [[Candidate("x")]]
    assert len(server.requests) == 3


def test_an_open_answer_ends_in_one_way_only() -> None:
    with serve(completion(silent("<answer>\\boxed{5}"))) as server:
        assert propose(server, [OPEN_ANSWER]) == [[Candidate("<answer>\\boxed{5}", steps.END_OF_ANSWER)]]
    assert len(server.requests) == 1


# --- servers that reject fields ---


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("message", ["Unrecognized argument: skip_special_tokens", "Extra inputs are not permitted"])
def test_rejected_extensions_are_left_out_from_then_on(status: int, message: str) -> None:
    async def handler(request: Request) -> Reply:
        return refusal(message, status) if "skip_special_tokens" in request.body else OK

    with Server(handler).running() as server:
        result = propose(server, [ROOT, Partial(PROBLEM, "a"), Partial(PROBLEM, "b")], max_concurrency=1)
    assert result == [[Candidate("# add\n", steps.END_OF_STEP)]] * 3
    assert sum("skip_special_tokens" in body for body in server.bodies) == 1


def test_a_rejected_seed_is_left_out() -> None:
    with serve(refusal("'seed' is not supported"), OK) as server:
        assert propose(server) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    assert ["seed" in body for body in server.bodies] == [True, False]
    assert "skip_special_tokens" in server.bodies[1]


def test_where_n_is_rejected_samples_are_requested_one_by_one() -> None:
    async def handler(request: Request) -> Reply:
        if request.body["n"] > 1:
            return refusal("n must be 1")
        return completion(choice(str(request.body["seed"])), usage={"completion_tokens": 4})

    with Server(handler).running() as server:
        (candidates,) = propose(server, n=3)
    assert len({candidate.text for candidate in candidates}) == 3  # other seeds
    assert [candidate.tokens for candidate in candidates] == [4, 4, 4]


def test_one_failed_single_sample_does_not_lose_the_others() -> None:
    script = iter([refusal("n must be 1"), completion(choice("a")), refusal("no"), completion(choice("b"))])

    async def handler(request: Request) -> Reply:
        return next(script)

    with Server(handler).running() as server:
        assert propose(server, n=3, max_concurrency=1) == [[Candidate("a"), Candidate("b")]]


def test_another_rejection_is_an_error_in_the_server_s_words() -> None:
    with serve(refusal("temperature must be at most 2")) as server:
        message = the_error(propose(server, temperature=3.0))
    assert message.endswith("rejected the request: 400 Scripted: temperature must be at most 2")
    assert len(server.requests) == 1


TOO_LONG = "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens."


def test_where_the_context_is_short_less_is_asked_for() -> None:
    async def handler(request: Request) -> Reply:
        return OK if request.body["max_tokens"] <= 128 else refusal(TOO_LONG)

    with Server(handler).running() as server:
        assert propose(server, max_step_tokens=512) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    assert [body["max_tokens"] for body in server.bodies] == [512, 128]


def test_a_partial_too_long_is_an_error_of_its_own() -> None:
    async def handler(request: Request) -> Reply:
        return refusal(TOO_LONG) if "long" in request.body["prompt"] else OK

    with Server(handler).running() as server:
        good, bad = propose(server, [ROOT, Partial(Problem("a long one", id="p7"))], max_step_tokens=300)
    assert good == [Candidate("# add\n", steps.END_OF_STEP)]
    assert isinstance(bad, PartialTooLong)
    assert "'p7'" in str(bad) and "4096" in str(bad) and "4200" in str(bad)


# --- failures ---


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    waits = Waits()
    with serve(refusal("busy", status), refusal("busy", status), OK) as server:
        assert propose(server, sleep=waits) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    assert 0.25 <= waits.seconds[0] <= 0.5 and 0.5 <= waits.seconds[1] <= 1.0
    assert server.bodies[0] == server.bodies[1] == server.bodies[2]  # the same seed


def test_the_waits_grow_to_a_limit_and_are_a_function_of_the_seed() -> None:
    first, second, other = Waits(), Waits(), Waits()
    with serve(refusal("down", 503)) as server:
        message = the_error(propose(server, sleep=first, retries=9))
        propose(server, sleep=second, retries=9)
        propose(server, sleep=other, retries=9, seed=1)
    assert "failed (503 Scripted: down) (tried 10 times)" in message
    for attempt, seconds in enumerate(first.seconds):
        longest = min(0.5 * 2**attempt, 30.0)
        assert longest / 2 <= seconds <= longest
    assert first.seconds == second.seconds != other.seconds
    assert len(first.seconds) == 9


def test_retry_after_is_honoured() -> None:
    waits = Waits()
    date = email.utils.formatdate(time.time() + 50, usegmt=True)
    old = email.utils.formatdate(0, usegmt=True)
    replies = [Reply(b"slow down", 429, {"Retry-After": value}) for value in ("7", date, "soon", "1000", old, "nan")]
    with serve(*replies, OK) as server:
        assert propose(server, sleep=waits, timeout_s=100.0) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    seven, until_date, not_understood, too_long, past, not_a_number = waits.seconds
    assert (seven, too_long, past) == (7.0, 100.0, 0.0)
    assert 0 < until_date <= 50
    assert not_understood <= 2.0 and not_a_number <= 16.0


def test_429_to_the_end_names_the_remedy() -> None:
    with serve(refusal("rate limit", 429)) as server:
        message = the_error(propose(server, retries=2))
    assert "is asked too often (429 Scripted: rate limit): give a smaller max_concurrency (tried 3 times)" in message


def test_no_retries() -> None:
    with serve(refusal("down", 500), OK) as server:
        assert "(tried once)" in the_error(propose(server, retries=0))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_tried_again(status: int) -> None:
    with serve(refusal("bad key", status)) as server:
        without = the_error(propose(server))
        with_key = the_error(propose(server, api_key="sk-secret"))
    assert "refused a request without an API key" in without and "OPENAI_API_KEY" in without
    assert "refused the API key it was given" in with_key and "sk-secret" not in with_key
    assert len(server.requests) == 2
    assert server.requests[1].headers["authorization"] == "Bearer sk-secret"


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-env\n")
    with serve(OK) as server:
        propose(server, api_key=None)
        propose(server, api_key="")
    assert server.requests[0].headers["authorization"] == "Bearer sk-env"
    assert "authorization" not in server.requests[1].headers


def test_an_unknown_model_is_named() -> None:
    with serve(refusal("The model `tiny` does not exist.", 404)) as server:
        message = the_error(propose(server))
    assert "the model 'tiny'" in message and "does not exist" in message


def test_a_redirect_is_an_error() -> None:
    with serve(Reply(b"", 301, {"Location": "https://elsewhere/"})) as server:
        assert "301" in the_error(propose(server))


def test_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    waits = Waits()
    policy = HttpPolicy(f"http://127.0.0.1:{port}/v1#tiny", sleep=waits)
    result = asyncio.run(policy.propose([ROOT, OPEN_ANSWER], 1))
    for error in result:
        assert isinstance(error, PolicyError)
        assert f"cannot connect to http://127.0.0.1:{port}/v1" in str(error) and "(tried 2 times)" in str(error)
    assert len(waits.seconds) == 2  # each once: it never answered


def test_a_server_that_answered_before_is_waited_for() -> None:
    waits = Waits()
    with serve(OK) as server:
        policy = HttpPolicy(server.url, sleep=waits, retries=4)

        async def before() -> list[Any]:
            return await policy.propose([ROOT], 1)

        assert asyncio.run(before()) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    assert "(tried 5 times)" in the_error(asyncio.run(policy.propose([ROOT], 1)))
    assert len(waits.seconds) == 4


def test_a_truncated_body_is_tried_again() -> None:
    cut = Reply(OK.body, 200, cut=20)
    with serve(cut, OK) as server:
        assert propose(server) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    with serve(cut) as server:
        assert "broke off before its answer was complete" in the_error(propose(server, retries=2))
    assert len(server.requests) == 3


@pytest.mark.parametrize("body", [b"<html>no</html>", b"\xff\xfe{", b""])
def test_what_is_not_json_is_tried_again(body: bytes) -> None:
    with serve(Reply(body), OK) as server:
        assert propose(server) == [[Candidate("# add\n", steps.END_OF_STEP)]]
    with serve(Reply(body)) as server:
        assert "what is not JSON" in the_error(propose(server, retries=1))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], "expected a JSON object"),
        ({}, "without 'choices'"),
        ({"choices": []}, "without 'choices'"),
        ({"choices": "x"}, "without 'choices'"),
        ({"choices": [{"message": {"content": "x"}}]}, "without 'text'"),
        ({"choices": [None]}, "without 'text'"),
    ],
)
def test_an_answer_of_another_kind_is_not_tried_again(content: Any, expected: str) -> None:
    with serve(as_json(content)) as server:
        assert expected in the_error(propose(server))
    assert len(server.requests) == 1


def test_a_server_that_does_not_answer_in_time() -> None:
    async def handler(request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    with Server(handler).running() as server:
        message = the_error(propose(server, timeout_s=0.2))
    assert "did not answer within 0.2 s" in message and "(tried 2 times)" in message


def test_one_failed_partial_does_not_lose_the_others() -> None:
    async def handler(request: Request) -> Reply:
        return refusal("no such thing", 418) if "bad" in request.body["prompt"] else OK

    with Server(handler).running() as server:
        first, second, third = propose(server, [ROOT, Partial(Problem("bad")), OPEN_ANSWER])
    assert first == third == [Candidate("# add\n", steps.END_OF_STEP)]
    assert isinstance(second, PolicyError) and "418" in str(second)


# --- concurrency and event loops ---


def test_no_more_requests_than_allowed_are_under_way() -> None:
    bound, total = 3, 12

    async def answer(request: Request) -> Reply:
        return OK

    crowd = Crowd(bound, answer)
    with Server(crowd).running() as server:
        result = propose(server, [Partial(PROBLEM, str(i)) for i in range(total)], max_concurrency=bound)
    assert result == [[Candidate("# add\n", steps.END_OF_STEP)]] * total
    assert crowd.peak == bound
    assert server.connections <= bound  # and they are used again


def test_event_loops_in_sequence_and_in_threads() -> None:
    with serve(OK) as server:
        policy = HttpPolicy(server.url)
        expected = [[Candidate("# add\n", steps.END_OF_STEP)]]
        assert asyncio.run(policy.propose([ROOT], 1)) == expected
        server.wait_until_all_are_closed()  # without aclose
        assert asyncio.run(policy.propose([ROOT], 1)) == expected
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(asyncio.run(policy.propose([ROOT], 1)))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [expected] * 3
        server.wait_until_all_are_closed()
        assert server.connections == 5
        assert not policy._client._sessions
    del policy
    gc.collect()  # a connection left open would warn now


def test_aclose_closes_and_propose_opens_again() -> None:
    with serve(OK) as server:
        policy = HttpPolicy(server.url)

        async def main() -> None:
            await policy.aclose()
            for _ in range(2):
                await policy.propose([ROOT], 1)
                await policy.aclose()
                await policy.aclose()
                assert not policy._client._sessions

        asyncio.run(main())
        server.wait_until_all_are_closed()
        assert server.connections == 2


def test_a_cancelled_call_leaves_the_policy_usable() -> None:
    arrived = threading.Event()

    async def handler(request: Request) -> Reply:
        if request.body["n"] == 1:
            arrived.set()
            await asyncio.Event().wait()
        return OK

    with Server(handler).running() as server:
        policy = HttpPolicy(server.url, max_concurrency=1)

        async def main() -> Any:
            task = asyncio.create_task(policy.propose([ROOT, OPEN_ANSWER], 1))
            await asyncio.to_thread(arrived.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await policy.propose([ROOT], 2)

        assert asyncio.run(main()) == [[Candidate("# add\n", steps.END_OF_STEP)]]


# --- the model, the URL, the settings, the seeds ---


def discover(*names: str, status: int = 200) -> tuple[list[Any], list[Request]]:
    async def handler(request: Request) -> Reply:
        return as_json({"object": "list", "data": [{"id": name} for name in names]}, status) if request.method == "GET" else OK

    with Server(handler).running() as server:
        policy = HttpPolicy(server.url.partition("#")[0], api_key="", sleep=Waits())
        return asyncio.run(policy.propose([ROOT, OPEN_ANSWER], 1)), server.requests


def test_the_only_model_is_found_once() -> None:
    result, requests = discover("Qwen/Qwen2.5-Math-7B")
    assert result == [[Candidate("# add\n", steps.END_OF_STEP)]] * 2
    assert [request.path for request in requests] == ["/v1/models", "/v1/completions", "/v1/completions"]
    assert {request.body["model"] for request in requests[1:]} == {"Qwen/Qwen2.5-Math-7B"}


@pytest.mark.parametrize(("names", "expected"), [((), "lists no models"), (("a", "b"), "lists 2 models (a, b), not one")])
def test_without_the_only_model_one_must_be_named(names: tuple[str, ...], expected: str) -> None:
    result, requests = discover(*names)
    assert len(result) == 2 and all(isinstance(error, PolicyError) and expected in str(error) for error in result)
    assert len(requests) == 1


@pytest.mark.parametrize("status", [400, 404])
def test_a_server_without_a_list_of_models(status: int) -> None:
    result, _ = discover(status=status)
    assert all(isinstance(error, PolicyError) and "models" in str(error) for error in result)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:{}", *(f"http://127.0.0.1:{{}}{path}" for path in ("", "/", "/v1", "/v1/", "/v1/completions"))],
)
def test_forms_of_the_url(url: str) -> None:
    with serve(OK) as server:
        asyncio.run(HttpPolicy(url.format(server.port) + "#org/model", api_key="").propose([ROOT], 1))
        asyncio.run(HttpPolicy(url.format(server.port), model="org/model", api_key="").propose([ROOT], 1))
    assert [request.path for request in server.requests] == ["/v1/completions"] * 2
    assert [body["model"] for body in server.bodies] == ["org/model"] * 2


def test_a_path_and_a_query_are_kept_and_credentials_are_not_shown() -> None:
    with serve(refusal("no", 418)) as server:
        policy = HttpPolicy(f"http://me:hidden@127.0.0.1:{server.port}/api/v3?version=2#m", api_key="")
        message = the_error(asyncio.run(policy.propose([ROOT], 1)))
    assert server.requests[0].path == "/api/v3/completions?version=2"
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert "hidden" not in message


@pytest.mark.parametrize("url", ["", "http://", "ftp://host/v1", "http://host:port/v1"])
def test_unusable_urls(url: str) -> None:
    with pytest.raises(InvalidInput, match="the policy's URL is"):
        HttpPolicy(url)


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_k": -1},
        {"max_step_tokens": 0},
        {"max_concurrency": 0},
        {"timeout_s": 0.0},
        {"retries": -1},
        {"api_key": "sk \u00e9"},
    ],
)
def test_unusable_settings(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="give"):
        HttpPolicy("http://host", **setting)


def test_n_must_be_positive() -> None:
    with pytest.raises(InvalidInput, match="n is 0"):
        asyncio.run(HttpPolicy("http://host").propose([ROOT], 0))


def seeds_of(seed: int) -> list[int]:
    """The seeds two calls send for two partials, by partial."""
    with serve(OK) as server:
        policy = HttpPolicy(server.url, seed=seed, max_concurrency=1)
        for partials in ([ROOT, OPEN_ANSWER], [OPEN_ANSWER, ROOT]):
            asyncio.run(policy.propose(partials, 1))
    return [body["seed"] for body in sorted(server.bodies, key=lambda body: len(body["prompt"]))]


def test_seeds_differ_by_leaf_and_by_call_and_repeat_by_policy() -> None:
    first = seeds_of(0)
    assert len(set(first)) == 4
    assert seeds_of(0) == first
    assert not set(seeds_of(1)) & set(first)


def test_seeds_of_a_leaf_do_not_depend_on_other_leaves() -> None:
    alone, among = LeafSeeds(3), LeafSeeds(3)
    expected = [alone.next(ROOT) for _ in range(3)]
    found = []
    for step in range(3):
        among.next(Partial(PROBLEM, str(step)))
        found.append(among.next(ROOT))
    assert found == expected


def test_the_memory_of_leaf_seeds_is_bounded() -> None:
    seeds = LeafSeeds(0, remembered=2)
    first = seeds.next(ROOT)
    seeds.next(OPEN_ANSWER)
    assert seeds.next(ROOT) != first
    for step in range(2):
        seeds.next(Partial(PROBLEM, str(step)))
    assert seeds.next(ROOT) == first  # forgotten
