"""Strategies of hypothesis that spoil valid files: their bytes, or the values that they hold."""

import copy
import json
import zipfile
from io import BytesIO

import numpy as np
from hypothesis import strategies as st

# What lengths, counts and offsets are spoilt to.
EXTREMES = (0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**400)

# Texts that have a meaning for a shell, a path, a template, a spreadsheet, a page, YAML or JSON.
TEXTS = (
    *("", "a; touch pwned", "$(touch pwned)", "`touch pwned`", "-rf", "a\nb", "demo\n", "../../x"),
    *("/etc/passwd", "{wildcards.model}", "{0.__class__}", "%s%n", "=cmd()", "</script>", "\0"),
    *("é漢\u202e", "null", "nan", "1e400", "&a [*a]", "!!python/name:os.system", "x" * 5000),
)

integers = st.sampled_from(EXTREMES) | st.integers(-10, 300)
scalars = (
    st.none()
    | st.booleans()
    | integers
    | st.floats()
    | st.sampled_from(TEXTS)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def spoilt_bytes(draw, seeds: list[bytes], tokens: tuple[bytes, ...] = (b"\0", b"\xff" * 8)):
    """A valid content with up to four edits: bytes set, cut out, repeated, or put in between."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        # Headers are at the beginning, the directory of an archive is at the end.
        end = max(len(content) - 1, 0)
        near = st.integers(0, min(end, 200)) | st.integers(max(end - 200, 0), end)
        place = draw(near | st.integers(0, end))
        length = draw(st.integers(1, 16) | st.integers(1, len(content) + 1))
        kind = draw(st.sampled_from(("set", "set", "number", "cut", "repeat", "token", "truncate")))
        if kind == "set":
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "number":
            size = draw(st.sampled_from((2, 4, 8)))
            number = draw(integers) % 256**size
            content[place : place + size] = number.to_bytes(size, "little")
        elif kind == "cut":
            del content[place : place + length]
        elif kind == "repeat":
            content[place:place] = content[place : place + length]
        elif kind == "token":
            content[place:place] = draw(st.sampled_from(tokens))
        else:
            del content[place:]
    return bytes(content)


@st.composite
def spoilt_tree(draw, trees: list):
    """A valid value of lists and mappings, in which up to three entries are replaced, left out,
    added or moved."""
    tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(1, 3))):
        tree = _edited(draw, tree)
    return tree


def _edited(draw, tree):
    places = list(_places(tree))
    if not places:
        return draw(values)
    holder, key = draw(st.sampled_from(places))
    kind = draw(st.sampled_from(("replace", "replace", "remove", "add", "move")))
    if kind == "replace":
        holder[key] = draw(values)
    elif kind == "remove":
        del holder[key]
    elif kind == "add":
        added = draw(values)
        if isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS) | st.text(max_size=5))] = added
        else:
            holder.insert(key, added)
    else:
        other, place = draw(st.sampled_from(places))
        holder[key] = copy.deepcopy(other[place])
    return tree


def _places(tree):
    """(container, key) of everything inside a value."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


@st.composite
def spoilt_npz(draw, arrays: dict[str, np.ndarray]):
    """An npz whose members' headers, data, names and compression are not what they should be."""
    held = BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, array in arrays.items():
            if draw(st.integers(0, 9)) == 0:
                continue
            content = draw(_npy(array))
            names = st.sampled_from(
                (f"{name}.npy", f"{name}.npy", name, f"../{name}.npy", "/x.npy")
            )
            kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            archive.writestr(draw(names), content, draw(st.sampled_from(kinds)))
    content = held.getvalue()
    return draw(spoilt_bytes([content])) if draw(st.booleans()) else content


@st.composite
def _npy(draw, array: np.ndarray):
    """An npy file with one thing of its header, or its data, spoilt; or a whole one."""
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    data = np.ascontiguousarray(array).tobytes()
    kind = draw(st.sampled_from(("none", "shape", "descr", "order", "text", "data", "version")))
    dtypes = ("|O", "<f8", "<U9", "|V0", "|S0", "<c16", "<M8[s]", ">i4", "|b1", "x", "<f8,|O")
    if kind == "shape":
        header["shape"] = tuple(draw(st.lists(integers, max_size=5)))
    elif kind == "descr":
        header["descr"] = draw(st.sampled_from(dtypes) | values)
    elif kind == "order":
        header["fortran_order"] = draw(scalars)
    elif kind == "data":
        data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=16))
    text = repr(header).encode("latin1", "replace")
    if kind == "text":
        texts = (b"(" * 300, b"[" * 5000, b"{}", b"1" * 5000, b"'", b"-" * 3000 + b"1")
        text = draw(st.sampled_from(texts) | spoilt_bytes([text]))
    version = (
        draw(st.sampled_from((b"\x02\0", b"\x03\0", b"\x09\0"))) if kind == "version" else b"\x01\0"
    )
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    length = min(len(text), 65535).to_bytes(2 if version == b"\x01\0" else 4, "little")
    return b"\x93NUMPY" + version + length + text + data


@st.composite
def spoilt_safetensors(draw, content: bytes):
    """A safetensors file whose header was edited as the JSON that it is."""
    length = int.from_bytes(content[:8], "little")
    header = draw(spoilt_tree([json.loads(content[8 : 8 + length])]))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
