#!/usr/bin/env python3
"""The oracle: a Llama forward pass in numpy float64, with readers of its own for GGUF and Hugging Face folders.

    reference.py MODEL --ids 1,2,3 --steps 20 [--activations int8] [--logits] [--ignore-eos]
    reference.py MODEL --jsonl FILE          # lines of {"id", "ids", "steps"}; or "follow": ids to be fed back
    reference.py MODEL --ids 1,2,3 --nll     # log-probability of each id after the first

It shares no code with the engine nor with the writers of test models, so an error would have to be made twice to go
unseen. One JSON line a step: {"step", "id", "margin", "top"}; with --jsonl one line a prompt: {"id", "ids", "margins",
"finish"}.

--activations f64 computes with the exactly dequantised weights. --activations int8 is what the engine's contract says
for weights in integer formats: activations are rounded to int8 in blocks of 32 (d = max |x| / 127, then x times 1 / d to
nearest even), dot products are exact integers, and blocks are added in ascending order by fused multiply-adds in
float32. The rest stays in float64, so results equal the engine's but for the roundings of norms, attention and
activations in between.
"""

import argparse
import json
import struct
import sys
from pathlib import Path

import numpy as np

BLOCK = 32


def fma32(a, b, c):
    """float32 a * b + c with one rounding. The product is exact in float64; the sum is rounded to odd there, which
    makes the second rounding harmless (Boldo and Melquiond, 2008)."""
    p = a.astype(np.float64) * b.astype(np.float64)
    c = c.astype(np.float64)
    s = p + c
    t = s - p
    error = (p - (s - t)) + (c - t)
    even = (s.view(np.int64) & 1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    return np.where((error != 0) & even, np.nextafter(s, toward), s).astype(np.float32)


class Matrix:
    """Weights [rows, columns]; q, d, m hold the blocks of an integer format, plain the numbers of any other."""

    def __init__(self, plain=None, q=None, d=None, m=None):
        self.plain, self.q, self.d, self.m = plain, q, d, m
        self._dense = None

    def rows(self, index):
        pick = lambda x: None if x is None else x[index]
        return Matrix(pick(self.plain), pick(self.q), pick(self.d), pick(self.m))

    def dense(self):
        """float64, exactly what the file says."""
        if self.plain is not None:
            if self._dense is None:
                self._dense = self.plain.astype(np.float64)
            return self._dense
        if self._dense is None:
            x = self.q.astype(np.float64) * self.d.astype(np.float64)[..., None]
            if self.m is not None:
                x += self.m.astype(np.float64)[..., None]
            self._dense = x.reshape(len(self.q), -1)
        return self._dense

    def times(self, x, int8):
        """[tokens, columns] -> [tokens, rows]."""
        if not int8 or self.q is None:
            return x @ self.dense().T
        return self._times_int8(x.astype(np.float32)).astype(np.float64)

    def _times_int8(self, x):
        blocks = x.reshape(len(x), -1, BLOCK)
        d = np.abs(blocks).max(axis=2) / np.float32(127)
        inverse = np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)
        a = np.rint(blocks * inverse[..., None])  # both in float32; nearest even
        out = np.zeros((len(x), len(self.q)), np.float32)
        for b in range(blocks.shape[1]):
            # |sum| <= 32 * 127 * 128 < 2^24: exact in float32.
            dot = a[:, b] @ self.q[:, b].astype(np.float32).T
            scale = self.d[:, b].astype(np.float32)[None] * d[:, b, None]
            out = fma32(scale, dot, out)
            if self.m is not None:
                total = d[:, b, None] * a[:, b].sum(axis=1, dtype=np.float32)[:, None]
                out = fma32(np.broadcast_to(self.m[:, b].astype(np.float32)[None], out.shape),
                            np.broadcast_to(total, out.shape), out)
        return out


# GGUF ---------------------------------------------------------------------------------------------------------------

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        self.at = 0
        magic, self.version = self.take("4s"), self.take("I")
        if magic != b"GGUF" or self.version not in (2, 3):
            raise ValueError(f"{path}: not a GGUF of version 2 or 3")
        tensors, values = self.take("Q"), self.take("Q")
        self.meta = {}
        for _ in range(values):
            key = self.string()
            self.meta[key] = self.value(self.take("I"))
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            dims = [self.take("Q") for _ in range(self.take("I"))]
            self.tensors[name] = (dims[::-1], self.take("I"), self.take("Q"))
        alignment = self.meta.get("general.alignment", 32)
        self.start = (self.at + alignment - 1) // alignment * alignment

    def take(self, form):
        size = struct.calcsize("<" + form)
        (value,) = struct.unpack("<" + form, self.data[self.at : self.at + size].tobytes())
        self.at += size
        return value

    def string(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].tobytes().decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            inner, count = self.take("I"), self.take("Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(SCALARS[kind])

    def matrix(self, name):
        if name not in self.tensors:
            return None
        shape, kind, offset = self.tensors[name]
        count = int(np.prod(shape))
        at = self.start + offset
        plain = {0: "<f4", 1: "<f2"}
        if kind in plain:
            size = count * np.dtype(plain[kind]).itemsize
            return Matrix(self.data[at : at + size].view(plain[kind]).reshape(shape))
        if kind == 30:
            return Matrix(bf16(self.data[at : at + 2 * count].view("<u2")).reshape(shape))
        size = {2: 18, 3: 20, 8: 34}[kind]
        raw = np.asarray(self.data[at : at + count // BLOCK * size]).reshape(-1, size)
        half = lambda i: raw[:, i : i + 2].copy().view("<f2")[:, 0].reshape(shape[0], -1)
        if kind == 8:
            q, m = raw[:, 2:].view(np.int8), None
        else:
            low = raw[:, 4 if kind == 3 else 2 :]
            q = np.concatenate([low & 15, low >> 4], axis=1).astype(np.int8)
            m = half(2) if kind == 3 else None
            q = q - np.int8(8) if kind == 2 else q
        return Matrix(q=q.reshape(shape[0], -1, BLOCK), d=half(0), m=m)


def bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def gguf_model(path):
    g = Gguf(path)
    get = lambda key, otherwise=None: g.meta.get("llama." + key, otherwise)
    heads = get("attention.head_count")
    head_dim = get("attention.key_length", get("embedding_length") // heads)
    config = {
        "layers": get("block_count"), "heads": heads, "kv_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim, "eps": get("attention.layer_norm_rms_epsilon"), "base": get("rope.freq_base", 10000.0),
        "rope_dim": get("rope.dimension_count", head_dim), "scaling": None,
        "eos": sorted({g.meta[k] for k in g.meta if k in ("tokenizer.ggml.eos_token_id",
                      "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")}),
    }
    if get("rope.scaling.type") == "linear":
        config["scaling"] = {"rope_type": "linear", "factor": get("rope.scaling.factor")}
    factors = g.matrix("rope_freqs.weight")
    config["factors"] = None if factors is None else factors.dense()

    def halves(matrix, count):
        """Rows of interleaved pairs back into halves; only the rotated part of a head is interleaved."""
        r = config["rope_dim"]
        head = np.concatenate([np.arange(0, r, 2), np.arange(1, r, 2), np.arange(r, head_dim)])
        return matrix.rows((np.arange(count)[:, None] * head_dim + head[None]).reshape(-1))

    layers = []
    for i in range(config["layers"]):
        part = lambda name: g.matrix(f"blk.{i}.{name}.weight")
        layers.append({
            "norm1": part("attn_norm"), "q": halves(part("attn_q"), heads),
            "k": halves(part("attn_k"), config["kv_heads"]), "v": part("attn_v"), "o": part("attn_output"),
            "norm2": part("ffn_norm"), "gate": part("ffn_gate"), "up": part("ffn_up"), "down": part("ffn_down"),
        })
    embedding = g.matrix("token_embd.weight")
    return config, layers, embedding, g.matrix("output_norm.weight"), g.matrix("output.weight") or embedding


# Hugging Face -------------------------------------------------------------------------------------------------------


def safetensors(path):
    data = np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8 : 8 + length].tobytes())
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        raw = np.asarray(data[begin:end])
        kinds = {"F32": lambda r: r.view("<f4"), "F16": lambda r: r.view("<f2"), "BF16": lambda r: bf16(r.view("<u2"))}
        out[name] = Matrix(kinds[entry["dtype"]](raw.copy()).reshape(entry["shape"]))
    return out


def hf_model(folder):
    folder = Path(folder)
    c = json.loads((folder / "config.json").read_text())
    eos = c.get("eos_token_id")
    if (folder / "generation_config.json").exists():
        eos = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id", eos)
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(safetensors(file))
    heads = c["num_attention_heads"]
    head_dim = c.get("head_dim") or c["hidden_size"] // heads
    scaling = c.get("rope_scaling") or c.get("rope_parameters")
    config = {
        "layers": c["num_hidden_layers"], "heads": heads, "kv_heads": c.get("num_key_value_heads") or heads,
        "head_dim": head_dim, "eps": c["rms_norm_eps"], "scaling": scaling, "factors": None,
        "base": c.get("rope_theta") or (scaling or {}).get("rope_theta") or 10000.0,
        "rope_dim": int(head_dim * c.get("partial_rotary_factor", 1)),
        "eos": eos if isinstance(eos, list) else [] if eos is None else [eos],
    }
    layers = []
    for i in range(config["layers"]):
        part = lambda name: tensors[f"model.layers.{i}.{name}.weight"]
        layers.append({
            "norm1": part("input_layernorm"), "q": part("self_attn.q_proj"), "k": part("self_attn.k_proj"),
            "v": part("self_attn.v_proj"), "o": part("self_attn.o_proj"), "norm2": part("post_attention_layernorm"),
            "gate": part("mlp.gate_proj"), "up": part("mlp.up_proj"), "down": part("mlp.down_proj"),
        })
    embedding = tensors["model.embed_tokens.weight"]
    output = embedding if c.get("tie_word_embeddings") else tensors["lm_head.weight"]
    return config, layers, embedding, tensors["model.norm.weight"], output


# The model ----------------------------------------------------------------------------------------------------------


class Reference:
    def __init__(self, path, activations="f64"):
        load = gguf_model if str(path).endswith(".gguf") else hf_model
        self.config, self.layers, self.embedding, self.norm, self.output = load(path)
        self.int8 = activations == "int8"
        self.frequencies = self._frequencies()
        self.reset()

    def reset(self):
        self.cache = [(None, None)] * self.config["layers"]
        self.position = 0

    def _frequencies(self):
        c = self.config
        r = c["rope_dim"]
        f = c["base"] ** (-np.arange(0, r, 2, dtype=np.float64) / r)
        if c["factors"] is not None:
            return f / c["factors"].reshape(-1)
        s = c["scaling"] or {}
        kind = s.get("rope_type") or s.get("type") or "default"
        if kind == "linear":
            return f / s["factor"]
        if kind == "llama3":
            wavelength = 2 * np.pi / f
            old = s["original_max_position_embeddings"]
            low, high = old / s["low_freq_factor"], old / s["high_freq_factor"]
            blend = (old / wavelength - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
            middle = (1 - blend) * f / s["factor"] + blend * f
            return np.where(wavelength < high, f, np.where(wavelength > low, f / s["factor"], middle))
        if kind != "default":
            raise ValueError(f"rope scaling {kind}")
        return f

    def _rms(self, x, weight):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["eps"]) * weight.dense()

    def _rotate(self, x, positions):
        """[tokens, heads, head_dim]; pairs are (i, i + rope_dim / 2)."""
        half = self.config["rope_dim"] // 2
        angle = positions[:, None, None] * self.frequencies
        a, b = x[..., :half], x[..., half : 2 * half]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([a * cos - b * sin, a * sin + b * cos, x[..., 2 * half :]], axis=-1)

    def _attention(self, x, index, layer, positions):
        c = self.config
        shape = lambda y, count: y.reshape(len(x), count, c["head_dim"])
        q = self._rotate(shape(layer["q"].times(x, self.int8), c["heads"]), positions)
        k = self._rotate(shape(layer["k"].times(x, self.int8), c["kv_heads"]), positions)
        v = shape(layer["v"].times(x, self.int8), c["kv_heads"])
        old_k, old_v = self.cache[index]
        if old_k is not None:
            k, v = np.concatenate([old_k, k]), np.concatenate([old_v, v])
        self.cache[index] = (k, v)
        group = c["heads"] // c["kv_heads"]
        scores = np.einsum("thd,shd->hts", q, np.repeat(k, group, axis=1)) / np.sqrt(c["head_dim"])
        scores = np.where(np.arange(len(k))[None, None] <= positions[None, :, None], scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", scores, np.repeat(v, group, axis=1)).reshape(len(x), -1)
        return layer["o"].times(mixed, self.int8)

    def _feed_forward(self, x, layer):
        gate, up = layer["gate"].times(x, self.int8), layer["up"].times(x, self.int8)
        return layer["down"].times(gate / (1 + np.exp(-gate)) * up, self.int8)

    def forward(self, ids, all_positions=False):
        """Feeds ids behind what is in the cache; logits of the last position, or of each."""
        positions = np.arange(self.position, self.position + len(ids))
        x = self.embedding.rows(np.array(ids)).dense()
        for i, layer in enumerate(self.layers):
            x = x + self._attention(self._rms(x, layer["norm1"]), i, layer, positions)
            x = x + self._feed_forward(self._rms(x, layer["norm2"]), layer)
        self.position += len(ids)
        x = x if all_positions else x[-1:]
        logits = self.output.times(self._rms(x, self.norm), self.int8)
        return logits if all_positions else logits[0]

    def steps(self, ids, count, ignore_eos=False, follow=None):
        """Yields (id, margin between the two highest logits, logits). With `follow`, these ids are fed back instead
        of the chosen ones."""
        self.reset()
        logits = self.forward(ids)
        for step in range(count):
            best = int(np.argmax(logits))
            second = np.partition(logits, -2)[-2]
            yield best, float(logits[best] - second), logits
            fed = best if follow is None else follow[step]
            if (best in self.config["eos"] and not ignore_eos and follow is None) or step + 1 == count:
                return
            logits = self.forward([fed])

    def log_probabilities(self, ids):
        """ln p of each id after the first."""
        self.reset()
        logits = self.forward(ids[:-1], all_positions=True)
        peak = logits.max(axis=1, keepdims=True)
        total = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=1))
        return logits[np.arange(len(ids) - 1), ids[1:]] - total


def print_steps(model, args):
    for step, (best, margin, logits) in enumerate(model.steps(args.ids, args.steps, args.ignore_eos)):
        top = np.argsort(-logits, kind="stable")[:5]
        line = {"step": step, "id": best, "margin": margin, "top": [[int(i), float(logits[i])] for i in top]}
        if args.logits:
            line["logits"] = logits.tolist()
        print(json.dumps(line), flush=True)


def print_prompts(model, args):
    for text in open(args.jsonl):
        line = json.loads(text)
        follow = line.get("follow")
        count = len(follow) if follow else line.get("steps", args.steps)
        got = [(i, m) for i, m, _ in model.steps(line["ids"], count, args.ignore_eos, follow)]
        stopped = bool(got) and got[-1][0] in model.config["eos"]
        print(json.dumps({"id": line.get("id"), "ids": [i for i, _ in got], "margins": [m for _, m in got],
                          "finish": "stop" if stopped else "length"}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a .gguf file or a Hugging Face folder")
    parser.add_argument("--ids", type=lambda text: [int(i) for i in text.split(",")])
    parser.add_argument("--jsonl")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--activations", choices=["f64", "int8"], default="f64")
    parser.add_argument("--logits", action="store_true")
    parser.add_argument("--nll", action="store_true")
    parser.add_argument("--ignore-eos", action="store_true")
    args = parser.parse_args()
    if (args.ids is None) == (args.jsonl is None):
        parser.error("give either --ids or --jsonl")
    model = Reference(args.model, args.activations)
    if args.jsonl:
        print_prompts(model, args)
    elif args.nll:
        print(json.dumps({"logprobs": model.log_probabilities(args.ids).tolist()}))
    else:
        print_steps(model, args)


if __name__ == "__main__":
    sys.exit(main())
