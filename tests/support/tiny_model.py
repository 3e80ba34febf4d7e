#!/usr/bin/env python3
"""A tiny Llama model from a seed, in every file format that shoal reads.

    tiny_model.py OUT [--seed 1] [--type Q4_0] [--gguf-version 2] [--shards 3] [--dim 64] ...

OUT is a .gguf file or a folder (Hugging Face). The weights are random, but shaped so that greedy text keeps moving,
ends by itself now and then, and decides by margins that arithmetic noise does not turn; the tokenizer is a real one
(byte-level BPE, or SentencePiece-style with byte fallback) with ChatML's control tokens and template. The same seed
gives the same function in every format, up to the rounding of the weights. Needs numpy and the standard library only.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import model_files  # noqa: E402
from model_files import F32, U32, Floats, Ints, Strings  # noqa: E402

# Ids 0 to 4, as (piece, type in a GGUF): 2 unknown, 3 control, 4 user-defined, which match in client text.
SPECIALS = {
    "bpe": [("<|endoftext|>", 3), ("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool_call>", 4), ("</tool_call>", 4)],
    "spm": [("<unk>", 2), ("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool_call>", 4), ("</tool_call>", 4)],
}
BOS, EOS = 1, 2
MARK = "\u2581"

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# What the merges are learned from.
CORPUS = """
The small fish swim together, because a shoal sees more than any one of them. When one turns, the others turn; when a
shadow falls over the water, they are all somewhere else before it has landed. Nobody leads for long. The one that is in
front now will be at the side in a moment, and the shoal goes on as if nothing had happened. In the morning they feed on
the light side of the reef, and in the evening they rest in the dark under the stones. There is always something that
wants to eat them, and there are always enough of them left. What happens to one of them is an accident; what happens to
the shoal is the weather. If you ask which fish remembers the way, the answer is that the way is remembered by the water
between them. def turn(shoal, angle): return [fish.turn(angle) for fish in shoal]
for (int i = 0; i < count; i++) { total += shoal[i].weight; }
"""


@dataclasses.dataclass
class Shape:
    dim: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    ffn: int = 96
    merges: int = 160
    alphabet: int = 256  # base bytes; fewer make smaller files, for fuzzing
    padding: int = 0  # rows of the embedding beyond the tokenizer's ids
    context: int = 2048
    tied: bool = False
    rope_base: float = 10000.0
    rope: str = "none"
    tokenizer: str = "bpe"


CHOICES = {"rope": ["none", "linear", "llama3"], "tokenizer": list(SPECIALS)}


def byte_characters():
    """The GPT-2 alphabet: one printable character a byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def split_words(tokenizer):
    """The corpus in words, each a tuple of first symbols, with their counts."""
    table = byte_characters()
    if tokenizer == "bpe":
        pieces = Counter(re.findall(r" ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+", CORPUS))
        return {tuple(table[b] for b in word.encode()): n for word, n in pieces.items()}
    return {tuple(MARK + word): n for word, n in Counter(re.findall(r"[A-Za-z]+|[^\sA-Za-z]+", CORPUS)).items()}


def learn_merges(words, count):
    """Byte-pair encoding (Sennrich et al., 2016); ties by the pair itself."""
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            raise ValueError(f"the corpus gives {len(merges)} merges only")
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {_merge(word, best): n for word, n in words.items()}
    return merges


def _merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


class TinyModel:
    """tensors: Hugging Face names -> float32 arrays; tokens: pieces by id; merges: pairs of pieces."""

    def __init__(self, seed=1, shape=None):
        self.seed, self.shape = seed, shape or Shape()
        s = self.shape
        words = split_words(s.tokenizer)
        table = byte_characters()
        if s.alphabet < 256:  # letters first, so that a small alphabet is still text
            base = [table[ord(" ")]] + [chr(ord("a") + i) for i in range(s.alphabet - 1)]
            self.merges = list(zip(base, base[1:]))[: s.merges]
        else:
            base, self.merges = [table[b] for b in range(256)], learn_merges(words, s.merges)
        pieces = [(piece, 1) for piece in base]
        if s.tokenizer == "spm":
            letters = sorted({letter for word in words for letter in word})
            pieces = [(f"<0x{b:02X}>", 6) for b in range(256)] + [(letter, 1) for letter in letters]
        pieces = SPECIALS[s.tokenizer] + pieces + [(a + b, 1) for a, b in self.merges]
        self.tokens, self.kinds = [piece for piece, _ in pieces], [kind for _, kind in pieces]
        self.vocab = len(self.tokens) + s.padding
        self.tensors = self._weights(np.random.default_rng([seed, 0x5F0A1]))

    def _output_scales(self):
        """How loud each token is: readable text speaks, raw bytes and control tokens whisper, the end of the text
        comes up once in a while."""
        scales = np.full(self.vocab, 0.15)
        for i, (piece, kind) in enumerate(zip(self.tokens, self.kinds)):
            if kind == 1 and all(0x21 <= ord(c) < 0x7F or c in "\u0120" + MARK for c in piece):
                scales[i] = 1.0
        scales[EOS] = 1.25
        return scales[:, None]

    def _weights(self, rng):
        s = self.shape
        normal = lambda rows, columns, gain=1.0: rng.standard_normal((rows, columns)) * (gain / np.sqrt(columns))
        norm = lambda: rng.uniform(0.7, 1.3, s.dim)
        out = {"model.embed_tokens.weight": rng.standard_normal((self.vocab, s.dim))}
        for layer in range(s.layers):
            p = f"model.layers.{layer}."
            out[p + "input_layernorm.weight"] = norm()
            # Sharp attention: which earlier token counts changes from step to step, so greedy text doesn't circle.
            out[p + "self_attn.q_proj.weight"] = normal(s.heads * s.head_dim, s.dim, 1.7)
            out[p + "self_attn.k_proj.weight"] = normal(s.kv_heads * s.head_dim, s.dim, 1.7)
            out[p + "self_attn.v_proj.weight"] = normal(s.kv_heads * s.head_dim, s.dim, 1.5)
            out[p + "self_attn.o_proj.weight"] = normal(s.dim, s.heads * s.head_dim, 1.5)
            out[p + "post_attention_layernorm.weight"] = norm()
            out[p + "mlp.gate_proj.weight"] = normal(s.ffn, s.dim, 1.5)
            out[p + "mlp.up_proj.weight"] = normal(s.ffn, s.dim, 1.5)
            out[p + "mlp.down_proj.weight"] = normal(s.dim, s.ffn, 1.5)
        out["model.norm.weight"] = norm()
        if s.tied:
            # A quiet embedding under a loud last norm: otherwise each token would answer with itself.
            out["model.embed_tokens.weight"] *= 0.1 * self._output_scales()
            out["model.norm.weight"] *= 5
        else:
            out["lm_head.weight"] = normal(self.vocab, s.dim, 4.0) * self._output_scales()
        return {name: array.astype(np.float32) for name, array in out.items()}

    # Hugging Face -----------------------------------------------------------------------------------------------

    def config(self, dtype):
        s = self.shape
        scaling = {
            "none": None,
            "linear": {"rope_type": "linear", "factor": 2.0},
            "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": 64},
        }[s.rope]
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": s.dim, "intermediate_size": s.ffn, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
            "max_position_embeddings": s.context, "rms_norm_eps": 1e-5, "rope_theta": s.rope_base,
            "rope_scaling": scaling, "tie_word_embeddings": s.tied, "vocab_size": self.vocab,
            "bos_token_id": BOS, "eos_token_id": EOS, "attention_bias": False, "mlp_bias": False,
            "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
        }

    def tokenizer_json(self):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        added = [{"id": i, "content": piece, **flags, "special": kind != 4}
                 for i, (piece, kind) in enumerate(SPECIALS[self.shape.tokenizer])]
        rules = self._spm_rules() if self.shape.tokenizer == "spm" else self._bpe_rules()
        spm = self.shape.tokenizer == "spm"
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **rules,
            "post_processor": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>" if spm else None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": spm,
                      "byte_fallback": spm, "ignore_merges": False,
                      "vocab": {piece: i for i, piece in enumerate(self.tokens)},
                      "merges": [f"{a} {b}" for a, b in self.merges]},
        }

    def _bpe_rules(self):
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        digits = {"type": "Digits", "individual_digits": True}
        return {"normalizer": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, level]},
                "decoder": level}

    def _spm_rules(self):
        replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
        prepend = {"type": "Prepend", "prepend": MARK}
        strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        return {"normalizer": {"type": "Sequence", "normalizers": [prepend, replace(" ", MARK)]}, "pre_tokenizer": None,
                "decoder": {"type": "Sequence", "decoders": [replace(MARK, " "), {"type": "ByteFallback"},
                                                             {"type": "Fuse"}, strip]}}

    def write_hf(self, folder, dtype="F32", shards=1):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write = lambda name, value: (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=1))
        write("config.json", self.config(dtype))
        write("generation_config.json", {"bos_token_id": BOS, "eos_token_id": [EOS]})
        write("tokenizer.json", self.tokenizer_json())
        write("tokenizer_config.json", {"add_bos_token": False, "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
                                        "chat_template": TEMPLATE, "model_max_length": self.shape.context})
        if shards > 1:
            model_files.write_sharded_safetensors(folder, self.tensors, dtype, shards)
        else:
            model_files.write_safetensors(folder / "model.safetensors", self.tensors, dtype)

    # GGUF -------------------------------------------------------------------------------------------------------

    def metadata(self):
        s = self.shape
        padding = [f"[PAD{i}]" for i in range(s.padding)]
        out = {
            "general.architecture": "llama", "general.name": f"tiny {self.seed}",
            "llama.block_count": U32(s.layers), "llama.context_length": U32(s.context),
            "llama.embedding_length": U32(s.dim), "llama.feed_forward_length": U32(s.ffn),
            "llama.attention.head_count": U32(s.heads), "llama.attention.head_count_kv": U32(s.kv_heads),
            "llama.attention.key_length": U32(s.head_dim), "llama.attention.value_length": U32(s.head_dim),
            "llama.attention.layer_norm_rms_epsilon": F32(1e-5), "llama.rope.dimension_count": U32(s.head_dim),
            "llama.rope.freq_base": F32(s.rope_base), "llama.vocab_size": U32(self.vocab),
            "tokenizer.ggml.tokens": Strings(self.tokens + padding),
            "tokenizer.ggml.token_type": Ints(self.kinds + [5] * s.padding),
            "tokenizer.ggml.bos_token_id": U32(BOS), "tokenizer.ggml.eos_token_id": U32(EOS),
            "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": TEMPLATE,
        }
        if s.tokenizer == "bpe":
            out.update({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
                        "tokenizer.ggml.merges": Strings(f"{a} {b}" for a, b in self.merges)})
        else:  # the earlier a piece was merged, the higher its score
            first = len(self.tokens) - len(self.merges)
            scores = [float(min(0, first - 1 - i)) for i in range(self.vocab)]
            out.update({"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
                        "tokenizer.ggml.unknown_token_id": U32(0), "tokenizer.ggml.scores": Floats(scores)})
        if s.rope == "linear":
            out["llama.rope.scaling.type"] = "linear"
            out["llama.rope.scaling.factor"] = F32(2.0)
        return out

    def _gguf_name(self, name):
        whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                 "lm_head.weight": "output.weight"}
        parts = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
                 "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                 "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                 "mlp.down_proj": "ffn_down"}
        if name in whole:
            return whole[name]
        layer, part = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.weight", name).groups()
        return f"blk.{layer}.{parts[part]}.weight"

    def _pairs(self, array):
        """Rows of each head from halves (i, i + d/2) to interleaved pairs (2i, 2i + 1)."""
        d = self.shape.head_dim
        return array.reshape(-1, 2, d // 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)

    def gguf_tensors(self, kind):
        out = {}
        for name, array in self.tensors.items():
            if ".q_proj." in name or ".k_proj." in name:
                array = self._pairs(array)
            use = kind
            if array.ndim == 1:
                use = "F32"
            elif kind[0] == "Q" and array.shape[1] % model_files.BLOCK:
                use = "F16"  # what converters do with rows that no block fits
            elif kind in ("Q4_0", "Q4_1") and array.shape[0] == self.vocab:
                use = "Q8_0"
            out[self._gguf_name(name)] = (array, use)
        if self.shape.rope == "llama3":
            out["rope_freqs.weight"] = (self.rope_factors(), "F32")
        return out

    def rope_factors(self):
        """Llama 3.1's frequency scaling as divisors: none above a wavelength, all below, a ramp between."""
        c = self.config("F32")["rope_scaling"]
        d = self.shape.head_dim
        wavelength = 2 * np.pi * self.shape.rope_base ** (np.arange(0, d, 2) / d)
        old = c["original_max_position_embeddings"]
        ramp = (old / wavelength - c["low_freq_factor"]) / (c["high_freq_factor"] - c["low_freq_factor"])
        ramp = ramp.clip(0, 1)
        return (1 / ((1 - ramp) / c["factor"] + ramp)).astype(np.float32)

    def write_gguf(self, path, kind="F32", version=3, alignment=32):
        model_files.write_gguf(path, self.metadata(), self.gguf_tensors(kind), version, alignment)

    def write(self, out, kind="F32", version=3, shards=1):
        """OUT ending in .gguf is a GGUF, anything else a folder."""
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        if str(out).endswith(".gguf"):
            self.write_gguf(out, kind, version)
        else:
            self.write_hf(out, kind, shards)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="a .gguf file or a folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--type", default="F32", choices=list(model_files.GGUF_TYPES), help="of the weights")
    parser.add_argument("--gguf-version", type=int, default=3, choices=[2, 3])
    parser.add_argument("--shards", type=int, default=1, help="safetensors files of a folder")
    for field in dataclasses.fields(Shape):
        name = "--" + field.name.replace("_", "-")
        if field.type is bool:
            parser.add_argument(name, action="store_true")
        elif field.name in CHOICES:
            parser.add_argument(name, default=field.default, choices=CHOICES[field.name])
        else:
            parser.add_argument(name, type=field.type, default=field.default)
    args = parser.parse_args()
    if not args.out.endswith(".gguf") and args.type[0] == "Q":
        parser.error(f"a folder can't hold {args.type}: safetensors are F32, F16 or BF16")
    shape = Shape(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Shape)})
    TinyModel(args.seed, shape).write(args.out, args.type, args.gguf_version, args.shards)


if __name__ == "__main__":
    main()
