"""The API through the official client: shapes, streams, stop strings, seeds, usage, and every kind of refusal."""

import http.client
import json
import signal
import socket
import time

import openai
import pytest

from tests.e2e.cluster import wait_for
from tests.e2e.fleet import KEYS, Fleet, in_parallel

CHAT = [{"role": "user", "content": "Tell me something."}]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, tiny_model):
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), tiny_model)
    yield fleet
    fleet.stop()


@pytest.fixture(scope="module")
def slow(tmp_path_factory, slow_model):
    fleet = Fleet(tmp_path_factory.mktemp("slow"), slow_model)
    yield fleet
    fleet.stop()


def idle(fleet):
    """No stream runs and no block is held, anywhere."""
    return wait_for("idle engines", lambda: all(
        fleet.of_replica("shoal_replica_streams", n) == 0 and fleet.of_replica("shoal_replica_blocks_used", n) == 0
        for n in range(len(fleet.ports))), 10)


def test_models(fleet):
    models = list(fleet.client().models.list())
    assert [model.id for model in models] == ["tiny"]
    assert fleet.client().models.retrieve("tiny").object == "model"


def test_a_plain_chat(fleet):
    answer = fleet.client().chat.completions.create(model="tiny", messages=CHAT, max_tokens=12, temperature=0)
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion" and answer.model == "tiny"
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.index == 0 and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 5 and 1 <= usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens >= 0


def test_a_streamed_chat_equals_the_plain_one(fleet):
    ask = {"model": "tiny", "messages": CHAT, "max_tokens": 24, "temperature": 0}
    plain = fleet.client().chat.completions.create(**ask)
    chunks = list(fleet.client().chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == plain.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks[:-2]] == [None] * (len(chunks) - 2)
    assert chunks[-2].choices[0].finish_reason == plain.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_completion(fleet):
    answer = fleet.complete("Once upon", max_tokens=8, temperature=0)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason in ("stop", "length")
    text, finish = fleet.stream_text("Once upon", max_tokens=8, temperature=0)
    assert (text, finish) == (answer.choices[0].text, answer.choices[0].finish_reason)


def test_ids_as_prompt(fleet):
    """Ids are taken as they are: nothing is added, and what the vocabulary lacks is refused."""
    answer = fleet.complete([10, 11, 12, 13], max_tokens=4, temperature=0)
    assert answer.usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError, match="vocabulary"):
        fleet.complete([10, 10**9], max_tokens=4)


def test_a_stop_string_ends_the_text_before_it(fleet):
    whole = fleet.complete("abcdef", max_tokens=40, temperature=0, extra_body={"ignore_eos": True})
    text = whole.choices[0].text
    assert len(text) > 8
    stop = text[5:8]
    cut = text[: text.index(stop)]
    answer = fleet.complete("abcdef", max_tokens=40, temperature=0, stop=[stop], extra_body={"ignore_eos": True})
    assert answer.choices[0].text == cut and answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens < whole.usage.completion_tokens
    streamed = fleet.stream_text("abcdef", max_tokens=40, temperature=0, stop=stop, extra_body={"ignore_eos": True})
    assert streamed == (cut, "stop")
    idle(fleet)


def test_seeds_repeat_and_differ(fleet):
    def draw(seed):
        return fleet.complete("abc", max_tokens=24, temperature=1.5, seed=seed,
                              extra_body={"ignore_eos": True}).choices[0].text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1
    unseeded = {fleet.complete("abc", max_tokens=24, temperature=1.5, extra_body={"ignore_eos": True}).choices[0].text
                for _ in range(4)}
    assert len(unseeded) > 1


def test_usage_counts_what_was_made(fleet):
    answer = fleet.complete("abc", max_tokens=9, temperature=0, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 9 and answer.choices[0].finish_reason == "length"


def test_a_repeated_prompt_goes_to_its_holder(fleet):
    """The second one, because the first was away; then the first is back, idle, and would win every tie by its name."""
    prompt = "The quick brown fox jumps over the lazy dog, again and again. " * 4
    other = "Something else entirely, which nobody has seen so far. " * 4
    fleet.kill("e0", signal.SIGSTOP)
    try:
        fleet.wait_serving(1, 10)
        first = fleet.complete(prompt, max_tokens=2, temperature=0)
    finally:
        fleet.kill("e0", signal.SIGCONT)
    fleet.wait_serving(2, 10)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    full_blocks = (first.usage.prompt_tokens - 1) // 16 * 16
    for _ in range(3):
        again = fleet.complete(prompt, max_tokens=2, temperature=0)
        assert again.usage.prompt_tokens_details.cached_tokens == full_blocks > 0
        assert again.choices[0].text == first.choices[0].text
    # A longer one with the same beginning, and one with another.
    longer = fleet.complete(prompt + other, max_tokens=2, temperature=0)
    assert longer.usage.prompt_tokens_details.cached_tokens >= full_blocks - 16
    assert fleet.complete(other, max_tokens=2, temperature=0).usage.prompt_tokens_details.cached_tokens == 0


def test_tenants_share_no_cache(fleet):
    prompt = "A prompt that one tenant asks and the other repeats, word for word. " * 4
    fleet.complete(prompt, max_tokens=2, temperature=0)
    assert fleet.complete(prompt, max_tokens=2, temperature=0).usage.prompt_tokens_details.cached_tokens > 0
    other = fleet.client("other").completions.create(model="tiny", prompt=prompt, max_tokens=2, temperature=0)
    assert other.usage.prompt_tokens_details.cached_tokens == 0


# ---- refusals


def test_a_wrong_key(fleet):
    with pytest.raises(openai.AuthenticationError) as refused:
        fleet.client("sk-wrong").models.list()
    assert refused.value.status_code == 401 and refused.value.code == "invalid_api_key"


def test_an_unknown_model(fleet):
    with pytest.raises(openai.NotFoundError) as refused:
        fleet.client().chat.completions.create(model="gpt-none", messages=CHAT)
    assert refused.value.code == "model_not_found"
    assert refused.value.body["type"] == "invalid_request_error"


def test_an_unsupported_field_is_named(fleet):
    with pytest.raises(openai.BadRequestError) as refused:
        fleet.client().chat.completions.create(model="tiny", messages=CHAT, logprobs=True)
    assert refused.value.param == "logprobs"


@pytest.mark.parametrize("max_tokens", [1, 100_000])
def test_a_prompt_that_is_too_long(fleet, max_tokens):
    prompt = "x y z " * 5000 if max_tokens == 1 else "short"
    with pytest.raises(openai.BadRequestError) as refused:
        fleet.complete(prompt, max_tokens=max_tokens)
    assert refused.value.code == "context_length_exceeded"


def raw(fleet, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", fleet.router_port, timeout=10)
    connection.request(method, path, body, {"Authorization": f"Bearer {KEYS['default']}", **headers})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())["error"], answer


@pytest.mark.parametrize("body", ["{", "", "[]", '{"model": "tiny", "model": "x"}', '{"model": "\xff"}', "nul"])
def test_malformed_json(fleet, body):
    status, error, _ = raw(fleet, "POST", "/v1/chat/completions", body.encode("latin-1"),
                           **{"Content-Type": "application/json"})
    assert status == 400 and error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


def test_paths_methods_types_and_sizes(fleet):
    assert raw(fleet, "GET", "/nothing")[0] == 404
    status, _, answer = raw(fleet, "GET", "/v1/completions")
    assert status == 405 and answer.headers["Allow"] == "POST"
    assert raw(fleet, "POST", "/v1/completions", b"x", **{"Content-Type": "text/plain"})[0] == 415
    assert raw(fleet, "POST", "/v1/completions", None, **{"Content-Length": str(10**9)})[0] == 413


# ---- connections


def test_pipelined_requests_are_answered_in_order(fleet):
    head = f"Host: x\r\nAuthorization: Bearer {KEYS['default']}\r\n"
    bodies = [json.dumps({"model": "tiny", "prompt": "abc", "max_tokens": n, "ignore_eos": True}) for n in (3, 1, 2)]
    with socket.create_connection(("127.0.0.1", fleet.router_port)) as client:
        client.sendall("".join(
            f"POST /v1/completions HTTP/1.1\r\n{head}Content-Length: {len(b)}\r\n\r\n{b}" for b in bodies).encode())
        client.sendall(f"GET /v1/models HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        client.settimeout(30)
        data = b""
        while part := client.recv(65536):
            data += part
    texts = data.decode().split("HTTP/1.1 200 OK")[1:]
    made = [json.loads(text.split("\r\n\r\n", 1)[1])["usage"]["completion_tokens"] for text in texts[:3]]
    assert made == [3, 1, 2] and '"object":"list"' in texts[3]


def test_http_1_0_gets_a_stream_without_chunks(fleet):
    body = json.dumps({"model": "tiny", "prompt": "abc", "max_tokens": 4, "stream": True})
    with socket.create_connection(("127.0.0.1", fleet.router_port)) as client:
        client.sendall(f"POST /v1/completions HTTP/1.0\r\nAuthorization: Bearer {KEYS['default']}\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        client.settimeout(30)
        data = b""
        while part := client.recv(65536):
            data += part
    head, events = data.decode().split("\r\n\r\n", 1)
    assert "chunked" not in head and events.startswith("data: {") and events.endswith("data: [DONE]\n\n")


def test_clients_that_go_stop_the_engine(slow):
    """Whatever was still to be made is not made, and the blocks come back."""
    idle(slow)
    streams = in_parallel([lambda n=n: slow.client().completions.create(
        model="tiny", prompt=f"abc {n}", max_tokens=1900, stream=True, extra_body={"ignore_eos": True})
        for n in range(8)], 8)
    wait_for("eight running streams", lambda: slow.metric("shoal_replica_streams") == 8, 5)
    for stream in streams:
        stream.close()
    idle(slow)
    assert slow.metrics().get('shoal_requests_total{code="499"}', 0) == 8
    assert slow.metric("shoal_completion_tokens_total") < 8 * 1900 / 2
    assert slow.health()["open_requests"] == 0


def test_a_client_that_does_not_read_costs_no_engine(tmp_path_factory, tiny_model):
    """Its stream leaves the engine once 128 KiB wait for it, and goes on, without a gap, when it reads again."""
    fleet = Fleet(tmp_path_factory.mktemp("unread"), tiny_model, engines=1)
    try:
        ask = {"model": "tiny", "prompt": "abc", "max_tokens": 950, "temperature": 0, "ignore_eos": True}
        expected = fleet.complete("abc", max_tokens=950, temperature=0, extra_body={"ignore_eos": True})
        body = json.dumps({**ask, "stream": True})
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", fleet.router_port))
            client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
                           f"{KEYS['default']}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            wait_for("a parked stream", lambda: fleet.metric("shoal_streams_parked_total") >= 1, 60)
            idle(fleet)
            client.settimeout(60)
            data = b""
            while part := client.recv(1 << 16):
                data += part
        events = data.decode().split("data: ")[1:]
        assert "[DONE]" in events[-1]
        text = ""
        for line in data.decode().splitlines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
        assert text == expected.choices[0].text
    finally:
        fleet.stop()


def test_the_router_stays_up_through_all_of_this(fleet):
    assert fleet.processes["r1"].poll() is None
    assert fleet.health()["status"] == "ok"
    started = time.monotonic()
    assert fleet.get("/metrics").count("shoal_ttft_seconds_bucket") > 5
    assert time.monotonic() - started < 1
