"""The demo model behind a real cluster's API: the texts of `shoal run`, the references' token counts, and good answers
to the prompts that the documents show."""

import openai
import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.offline import read_jsonl, run_lines, shared
from tests.e2e.test_goldens import DEMO_NAMES, DEMO_PROMPTS

TOKENS = 24


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, demo_model):
    folder = tmp_path_factory.mktemp("goldens")
    cluster = Cluster(folder, demo_model, "--nodes", 1, "--coordinators", 1).up()
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def client(cluster):
    with openai.OpenAI(base_url=cluster.url, api_key=cluster.api_key, max_retries=0, timeout=120) as client:
        yield client


def ask_api(client, cluster, line, tokens, **more):
    """Text, finish_reason and usage of a chat or a raw prompt."""
    common = {"model": cluster.model_name, "max_tokens": tokens, **more}
    if "messages" in line:
        answer = client.chat.completions.create(messages=line["messages"], **common)
        return answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage
    answer = client.completions.create(prompt=line["prompt"], **common)
    return answer.choices[0].text, answer.choices[0].finish_reason, answer.usage


def test_references_prompts_through_the_api(client, cluster, demo_model):
    """Chats and raw prompts: the text that `shoal run` gives, and as many prompt tokens as the reference counts."""
    chosen = ["o-hello", "o-multiturn3", "o-emptysystem", "o-chinese", "o-emoji", "o-code-comment", "o-raw-code",
              "o-raw-count", "o-raw-html"]
    lines = [line for line in read_jsonl(shared("models/smollm2-135m/greedy.jsonl")) if line["id"] in chosen]
    assert len(lines) == len(chosen)
    asks = [{"id": line["id"], "max_tokens": TOKENS, **{k: line[k] for k in ("messages", "prompt") if k in line}}
            for line in lines]
    for line, local in zip(lines, run_lines(demo_model, asks)):
        text, finish, usage = ask_api(client, cluster, line, TOKENS, temperature=0)
        assert (text, finish) == (local["text"], local["finish_reason"]), line["id"]
        assert usage.prompt_tokens == len(line["prompt_ids"]), line["id"]
        assert usage.completion_tokens == len(local["ids"]), line["id"]


def test_prompt_tokens_of_every_reference(client, cluster):
    for line in read_jsonl(shared("models/smollm2-135m/greedy.jsonl")):
        assert ask_api(client, cluster, line, 1)[2].prompt_tokens == len(line["prompt_ids"]), line["id"]


def test_seeded_sampling_through_the_api(client, cluster, demo_model):
    messages = [{"role": "user", "content": "Tell me about the sea."}]
    lines = [{"id": seed, "messages": messages, "seed": seed, "temperature": 0.8, "top_p": 0.95, "max_tokens": TOKENS}
             for seed in (1, 2, 3)]
    local = run_lines(demo_model, lines)
    assert len({answer["text"] for answer in local}) == 3
    for line, answer in zip(lines, local):
        text, _, _ = ask_api(client, cluster, line, TOKENS, seed=line["seed"], temperature=0.8, top_p=0.95)
        assert text == answer["text"]


@pytest.mark.parametrize("prompt", DEMO_PROMPTS, ids=DEMO_NAMES)
def test_demo_prompts_are_answered_sensibly(client, cluster, prompt):
    stream = client.chat.completions.create(model=cluster.model_name, messages=[{"role": "user", "content": prompt}],
                                            max_tokens=TOKENS, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.startswith(DEMO_PROMPTS[prompt]), text
