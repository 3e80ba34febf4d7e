"""Writes model files: GGUF (v2, v3) and safetensors, with a quantiser of its own.

Takes numpy arrays and plain values, knows nothing of any model. Independent of the engine's readers on purpose: a
mistake in one would show in the other. Needs numpy and the standard library only.
"""

import json
import struct
from pathlib import Path

import numpy as np

GGUF_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}
BLOCK = 32


def bf16_bits(x):
    """float32 as the upper half of its bits, rounded to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _blocks(x):
    x = np.ascontiguousarray(x, np.float32)
    if x.shape[-1] % BLOCK:
        raise ValueError(f"{x.shape[-1]} columns are no multiple of {BLOCK}")
    return x.reshape(-1, BLOCK)


def _inverse(d):
    """1 / d, and 0 where d is 0."""
    return np.divide(1.0, d, out=np.zeros_like(d), where=d != 0)


def _nibbles(q):
    """[n, 32] values of 0..15 to [n, 16] bytes: the first half in the low nibbles."""
    q = q.astype(np.uint8)
    return q[:, :16] | (q[:, 16:] << 4)


def quantise_q8_0(x):
    b = _blocks(x)
    d = (np.abs(b).max(axis=1) / 127).astype(np.float16)
    q = np.rint(b * _inverse(d.astype(np.float32))[:, None]).clip(-127, 127).astype(np.int8)
    return np.concatenate([d[:, None].view(np.uint8), q.view(np.uint8)], axis=1).tobytes()


def quantise_q4_0(x):
    b = _blocks(x)
    peak = b[np.arange(len(b)), np.abs(b).argmax(axis=1)]
    d = (peak / -8).astype(np.float16)  # the largest weight lands on -8, the end of the range that has one step more
    q = np.rint(b * _inverse(d.astype(np.float32))[:, None] + 8).clip(0, 15)
    return np.concatenate([d[:, None].view(np.uint8), _nibbles(q)], axis=1).tobytes()


def quantise_q4_1(x):
    b = _blocks(x)
    m = b.min(axis=1).astype(np.float16)
    d = ((b.max(axis=1) - m.astype(np.float32)) / 15).astype(np.float16)
    q = np.rint((b - m.astype(np.float32)[:, None]) * _inverse(d.astype(np.float32))[:, None]).clip(0, 15)
    return np.concatenate([d[:, None].view(np.uint8), m[:, None].view(np.uint8), _nibbles(q)], axis=1).tobytes()


ENCODERS = {
    "F32": lambda x: np.ascontiguousarray(x, "<f4").tobytes(),
    "F16": lambda x: np.ascontiguousarray(x, "<f2").tobytes(),
    "BF16": lambda x: bf16_bits(x).tobytes(),
    "Q8_0": quantise_q8_0,
    "Q4_0": quantise_q4_0,
    "Q4_1": quantise_q4_1,
}


# GGUF values carry their type: U32(1), F32(0.5), Strings([...]) and so on.
class U32(int):
    pass


class F32(float):
    pass


class Strings(list):
    pass


class Ints(list):
    pass


class Floats(list):
    pass


def _string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value):
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, U32):
        return struct.pack("<II", 4, value)
    if isinstance(value, F32):
        return struct.pack("<If", 6, value)
    if isinstance(value, (str, bytes)):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, Strings):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    if isinstance(value, Ints):
        return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    if isinstance(value, Floats):
        return struct.pack("<IIQ", 9, 6, len(value)) + struct.pack(f"<{len(value)}f", *value)
    raise TypeError(f"no GGUF type for {type(value)}")


def write_gguf(path, metadata, tensors, version=3, alignment=32):
    """tensors: name -> (array, type name), in the order they get in the file."""
    if alignment != 32:
        metadata = {**metadata, "general.alignment": U32(alignment)}
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(_string(key) + _value(value) for key, value in metadata.items())
    body = b""
    for name, (array, kind) in tensors.items():
        body += b"\0" * (-len(body) % alignment)
        dims = array.shape[::-1]
        head += _string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        head += struct.pack("<IQ", GGUF_TYPES[kind], len(body))
        body += ENCODERS[kind](array)
    Path(path).write_bytes(head + b"\0" * (-len(head) % alignment) + body + b"\0" * (-len(body) % alignment))


def write_safetensors(path, tensors, dtype):
    """tensors: name -> array, all of one dtype: F32, F16 or BF16."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        data = ENCODERS[dtype](array)
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def write_sharded_safetensors(folder, tensors, dtype, shards):
    """model-0000i-of-0000n.safetensors and their index."""
    names = list(tensors)
    parts = [names[len(names) * i // shards : len(names) * (i + 1) // shards] for i in range(shards)]
    weight_map = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(Path(folder) / file, {name: tensors[name] for name in part}, dtype)
        weight_map.update({name: file for name in part})
    size = sum(tensors[name].size for name in names) * (4 if dtype == "F32" else 2)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
