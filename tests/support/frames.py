"""Frames of docs/PROTOCOL.md written from outside the program: a small msgpack encoder, and the view that a router keeps.

Records are dicts from field tag to value; absent fields are zero. Independent of proto/ on purpose.
"""

import struct

VERSION, VIEW = 1, 0x52
READY = 2  # replica_state


def pack(value) -> bytes:
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        assert value >= 0
        if value < 0x80:
            return bytes([value])
        for marker, form, top in ((0xCC, ">B", 2**8), (0xCD, ">H", 2**16), (0xCE, ">I", 2**32), (0xCF, ">Q", 2**64)):
            if value < top:
                return bytes([marker]) + struct.pack(form, value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xda" + struct.pack(">H", len(data))) + data
    if isinstance(value, bytes):
        return (b"\xc4" + bytes([len(value)]) if len(value) < 256 else b"\xc6" + struct.pack(">I", len(value))) + value
    if isinstance(value, (list, tuple)):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + struct.pack(">H", len(value))
        return head + b"".join(map(pack, value))
    if isinstance(value, dict):
        assert len(value) < 16
        return bytes([0x80 | len(value)]) + b"".join(pack(tag) + pack(value[tag]) for tag in sorted(value))
    raise TypeError(type(value))


def frame(opcode, fields) -> bytes:
    return pack([VERSION, opcode, fields])


def view(index, models, replicas, tenants, keys, incarnation=1) -> bytes:
    """models: (name, path); replicas: (name, model, epoch, endpoint, key); tenants: (name, secret); keys: (hash, tenant)."""
    return frame(VIEW, {
        1: incarnation,
        2: index,
        5: [{1: name, 2: str(path), 3: 1, 8: 1700000000} for name, path in models],
        6: [{1: name, 2: model, 3: "n", 4: epoch, 5: READY, 6: endpoint, 7: key}
            for name, model, epoch, endpoint, key in replicas],
        7: [{1: name, 2: secret} for name, secret in tenants],
        8: [{1: digest, 2: tenant} for digest, tenant in keys],
    })
