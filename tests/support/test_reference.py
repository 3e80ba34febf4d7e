#!/usr/bin/env python3
"""Checks the checkers: the float64 reference and the writer of tiny models, against each other, against exact
arithmetic, against Hugging Face's tokenizer library and, where they are, against stories260K's published numbers."""

import json
import os
import sys
import tempfile
import unittest
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import model_files  # noqa: E402
import reference  # noqa: E402
from reference import Reference  # noqa: E402
from tiny_model import EOS, Shape, TinyModel  # noqa: E402

PROMPT = [40, 77, 300, 5, 260, 199, 411]


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def logits(self, model, name, *args, activations="f64"):
        model.write(self.folder / name, *args)
        return Reference(self.folder / name, activations).forward(PROMPT)


class Formats(Files):
    """One seed is one function, whatever it is written as."""

    def test_gguf_and_folder_agree(self):
        for shape in (Shape(), Shape(tied=True), Shape(dim=48, heads=6, kv_heads=3, head_dim=10, ffn=50, padding=7)):
            model = TinyModel(3, shape)
            a = self.logits(model, "a.gguf", "F32")
            b = self.logits(model, "hf", "F32")
            self.assertLess(np.abs(a - b).max(), 1e-6)  # a GGUF's epsilon is a float32
            self.assertTrue(np.array_equal(b, self.logits(model, "hf-shards", "F32", 3, 4)))

    def test_versions_differ_in_their_number_only(self):
        model = TinyModel(3)
        for version in (2, 3):
            model.write(self.folder / f"v{version}.gguf", "Q4_0", version)
        two, three = ((self.folder / f"v{version}.gguf").read_bytes() for version in (2, 3))
        self.assertEqual((two[4], three[4]), (2, 3))
        self.assertEqual(two[8:], three[8:])

    def test_rope_scaling_agrees(self):
        plain = self.logits(TinyModel(3), "none.gguf", "F32")
        for rope in ("linear", "llama3"):
            model = TinyModel(3, Shape(rope=rope))
            a, b = self.logits(model, f"{rope}.gguf", "F32"), self.logits(model, f"hf-{rope}", "F32")
            # llama3's divisors are rounded to float32 in a GGUF.
            self.assertLess(np.abs(a - b).max(), 1e-5)
            self.assertGreater(np.abs(a - plain).max(), 1e-2)

    def test_rounded_weights_stay_near(self):
        model = TinyModel(3)
        exact = self.logits(model, "f32.gguf", "F32")
        # Root mean square against logits of a standard deviation of 3: as coarse as the format, but no coarser.
        for kind, limit in {"F16": 0.02, "BF16": 0.15, "Q8_0": 0.3, "Q4_0": 3.2, "Q4_1": 3.2}.items():
            got = self.logits(model, f"{kind}.gguf", kind)
            self.assertTrue(0 < np.sqrt(np.mean((got - exact) ** 2)) < limit, kind)


class Quantisers(unittest.TestCase):
    def test_errors_are_within_half_a_step(self):
        x = np.random.default_rng(1).standard_normal((64, 96)).astype(np.float32)
        x[0] = 0
        for kind in ("Q8_0", "Q4_0", "Q4_1"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "x.gguf"
                model_files.write_gguf(path, {}, {"x": (x, kind)})
                matrix = reference.Gguf(path).matrix("x")
            step = np.abs(matrix.d.astype(np.float64)).repeat(32, axis=1)
            # The scale's own rounding (2^-11) moves the largest weights a little further.
            peak = np.abs(x.reshape(64, -1, 32)).max(axis=2).repeat(32, axis=1)
            limit = step / 2 + peak / 1024
            if kind == "Q4_0":  # +8 doesn't exist: the opposite of the peak loses up to one step
                limit = step + peak / 1024
            self.assertTrue((np.abs(matrix.dense() - x) <= limit + 1e-9).all(), kind)

    def test_bf16_rounds_to_nearest_even(self):
        bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0xBF80FFFF], np.uint32)
        want = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xBF81]
        self.assertEqual(model_files.bf16_bits(bits.view(np.float32)).tolist(), want)


def round_exactly(value):
    """A fraction to float32, nearest even, without a second rounding."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(np.int32)) & 1))


class Arithmetic(Files):
    def test_fma_rounds_once(self):
        rng = np.random.default_rng(2)
        a, b, c = (rng.standard_normal(400).astype(np.float32) for _ in range(3))
        c[:100] = -(a[:100] * b[:100])  # cancellation
        c[100:200] *= np.float32(2.0**-30)
        # Halfway between two float32 but for a bit that float64 drops: rounding twice would go the wrong way.
        a[0], b[0], c[0] = 1 + 2.0**-23, 1 + 2.0**-23, np.float32(2.0**-47)
        a[1], b[1], c[1] = 2.0**-30, 2.0**-30, 1 + 2.0**-23
        a[2], b[2], c[2] = 1 + 2.0**-12, 2.0**-24 * (1 - 2.0**-12), 1.0
        got = reference.fma32(a, b, c)
        for i in range(len(a)):
            exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
            self.assertEqual(got[i], round_exactly(exact), i)

    def test_integer_activations_stay_near(self):
        for kind in ("Q8_0", "Q4_0", "Q4_1"):
            model = TinyModel(5)
            exact = self.logits(model, "m.gguf", kind)
            rounded = self.logits(model, "m.gguf", kind, activations="int8")
            rms = np.sqrt(np.mean((rounded - exact) ** 2))
            self.assertTrue(0 < rms < 0.5, f"{kind}: {rms}")

    def test_integer_activations_by_hand(self):
        matrix = reference.Matrix(q=np.full((1, 1, 32), 3, np.int8), d=np.full((1, 1), 0.5, np.float16),
                                  m=np.full((1, 1), 0.25, np.float16))
        x = np.zeros((1, 32))
        x[0, :3] = [127, -63.5, 0.5]  # to 127, -64 and 0: halves go to even
        # 0.5 * 3 * 63 + 0.25 * 63
        self.assertEqual(matrix.times(x, True)[0, 0], 110.25)

    def test_the_cache_changes_nothing(self):
        model = TinyModel(4)
        model.write(self.folder / "m.gguf", "F32")
        r = Reference(self.folder / "m.gguf")
        whole = r.forward(PROMPT, all_positions=True)
        r.reset()
        parts = np.concatenate([r.forward(PROMPT[:3], all_positions=True), r.forward(PROMPT[3:], all_positions=True)])
        self.assertLess(np.abs(whole - parts).max(), 1e-9)


class Text(Files):
    def test_greedy_text_moves_and_ends(self):
        model = TinyModel(1)
        model.write(self.folder / "m.gguf", "F32")
        r = Reference(self.folder / "m.gguf")
        rng = np.random.default_rng(5)
        ends, margins = 0, []
        for _ in range(8):
            got = list(r.steps([int(i) for i in rng.integers(5, 421, 6)], 120))
            ids = [i for i, _, _ in got]
            margins += [m for _, m, _ in got]
            ends += ids[-1] == EOS
            self.assertGreaterEqual(len(set(ids)), min(len(ids), 8))
        self.assertTrue(2 <= ends <= 7, ends)
        self.assertGreater(np.median(margins), 0.5)

    def test_tokenizer_is_a_real_one(self):
        from tokenizers import Tokenizer

        model = TinyModel(1)
        model.write(self.folder / "hf")
        tokenizer = Tokenizer.from_file(str(self.folder / "hf" / "tokenizer.json"))
        self.assertEqual(tokenizer.get_vocab_size(), len(model.tokens))
        for text in ("The shoal turns. 1234 fish?", "naïve 魚 🐟\n\n  x", "<|im_start|>user\nhi<|im_end|>\n"):
            ids = tokenizer.encode(text).ids
            self.assertEqual(tokenizer.decode(ids, skip_special_tokens=False), text)
        self.assertEqual(tokenizer.encode("a<|im_end|>").ids[-1], EOS)
        self.assertLess(len(tokenizer.encode("the shoal and the fish").ids), 10)  # merges are used

    def test_sentencepiece_style_too(self):
        from tokenizers import Tokenizer

        model = TinyModel(1, Shape(tokenizer="spm"))
        model.write(self.folder / "hf")
        tokenizer = Tokenizer.from_file(str(self.folder / "hf" / "tokenizer.json"))
        for text in ("The shoal turns. 1234 fish?", "na\u00efve \u9b5a\n\n  x"):
            ids = tokenizer.encode(text).ids
            self.assertEqual(tokenizer.decode(ids, skip_special_tokens=False), text)
        self.assertLess(len(tokenizer.encode("the shoal and the fish").ids), 12)
        self.assertEqual(tokenizer.encode("a<|im_end|>").ids[-1], EOS)


class Stories(unittest.TestCase):
    def setUp(self):
        shared = Path(os.environ.get("SHOAL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
        self.folder = shared / "models" / "stories260K"
        if not self.folder.exists():
            print("SKIP support.reference: no shared data (models/stories260K); set SHOAL_SHARED_DATA")
            self.skipTest("no shared data")

    def lines(self, name):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def test_logits(self):
        for dtype, name in (("fp32", "hf-fp32-sharded"), ("fp32", "gguf/stories260K-F32.gguf"), ("fp16", "hf-fp16"),
                            ("bf16", "hf-bf16")):
            r = Reference(self.folder / name)
            for line in self.lines("logits.jsonl"):
                if line["dtype"] == dtype:
                    r.reset()
                    got = r.forward(line["prompt_ids"])
                    # The file has five decimals.
                    self.assertLess(np.abs(got - line["logits"]).max(), 6e-6)

    def test_greedy(self):
        for dtype, name in (("fp32", "hf-fp32"), ("q8_0_dequant", "gguf/stories260K-Q8_0.gguf")):
            r = Reference(self.folder / name)
            r.config["eos"] = [1, 2]
            for line in self.lines("greedy.jsonl")[:3]:
                want = line[dtype]["output_ids"]
                self.assertEqual([i for i, _, _ in r.steps(line["prompt_ids"], len(want))], want)


if __name__ == "__main__":
    unittest.main()
