"""Files of tensors (weights and checkpoints) that are damaged or forged."""

import json


def _flipped(position: float):
    """One bit of the byte at this fraction of the file."""

    def flip(content: bytes) -> bytes:
        index = int(position * (len(content) - 1))
        return content[:index] + bytes([content[index] ^ 0x40]) + content[index + 1 :]

    return flip


def _forged(change):
    """The file with its header changed: change(header, the first tensor's entry)."""

    def forge(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header, next(value for key, value in header.items() if key != "__metadata__"))
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    return forge


# name -> the file's content, damaged.
DAMAGES = {
    "truncated": lambda content: content[:-5],
    "empty": lambda _: b"",
    "text": lambda _: b"not weights at all" * 10,
    "longer": lambda content: content + b"\0",
    "a header as long as no file": lambda content: (2**62).to_bytes(8, "little") + content[8:],
    # The first bytes are the header's length, the next the header, the last the numbers.
    **{f"a bit at {at}": _flipped(at) for at in (0.0, 0.01, 0.3, 0.5, 0.98, 1.0)},
    "a huge tensor": _forged(lambda _, first: first.update(shape=[2**40, 2**20])),
    "a tensor beyond the file": _forged(lambda _, first: first.update(data_offsets=[0, 2**50])),
    "a negative shape": _forged(lambda _, first: first.update(shape=[-4, -3])),
    "a type of its own": _forged(lambda _, first: first.update(dtype="O")),
    "no mapping as origin": _forged(lambda h, _: h["__metadata__"].update(origin="[1]")),
    "a deep origin": _forged(lambda h, _: h["__metadata__"].update(origin="[" * 100_000)),
    "no origin": _forged(lambda h, _: h.pop("__metadata__")),
}
