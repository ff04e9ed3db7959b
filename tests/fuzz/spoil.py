"""Ways to spoil a file. Each takes its bytes and a random generator, and returns other bytes; None if there is nothing to do."""

import io
import json
import os
import warnings
import zipfile

import numpy as np

#: Numbers, texts and structures that programs stumble over, as JSON has them.
ODD_JSON = (
    "null", "true", "-1", "0", "1", "0.5", "1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400, "9" * 5000, str(2**63),
    str(2**31), "1000000000", "-0.0", "1e-320", '""', '"x"', '"\\ud800"', '"\\u0000"', '"' + "y" * 100_000 + '"', '"joint"', "[]",
    "{}", "[1, 2]", '{"a": {"b": []}}', "[" * 2000 + "]" * 2000, "[" * 50 + "]" * 50, '"../../x"', '"<b>|$x_$"', '"\\u001b[31m"',
)  # fmt: skip
_DTYPES = (
    "float16", "float32", "float64", ">f4", ">f8", "int8", "int32", "int64", ">i4", "uint8", "uint64", "bool", "complex64", "<U3",
    "S4", "V8", "M8[s]", "float128",
)  # fmt: skip
_NUMBERS = (np.nan, np.inf, -np.inf, -1, 0, 1, 2, 127, 255, 2**31 - 1, -(2**31), 2**63 - 1, 1e30, -1e30, 1e-40, 12345)
_SHAPES = ("(10000000000000000000000000000000,)", "(-1,)", "(2147483647, 2147483647)", "(0, 1000000000000)",
           "(1000000000,)", "()",
           "(3, 4, 5)", "(1.5,)", "('a',)", "(True,)", "None", "((1,),)", "(" + "1, " * 70 + ")", "[3]")  # fmt: skip
_DESCRIPTIONS = ("'|O'", "'<f2'", "'>f8'", "'<U0'", "'<U100000000'", "'|V0'", "[('a', '<f4')]", "'nonsense'", "3", "'<M8[s]'",
                 "('<f4', (1000, 1000))", "'|S0'", "'<f16'", "'<c8'")  # fmt: skip


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


# ---- any bytes
def flip_bits(raw, rng):
    changed = bytearray(raw)
    for _ in range(int(2 ** rng.integers(0, 7))):
        if changed:
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut_short(raw, rng):
    return raw[: int(rng.integers(len(raw) + 1))]


def cut_out(raw, rng):
    first, last = sorted(int(x) for x in rng.integers(len(raw) + 1, size=2))
    return raw[:first] + raw[last:]


def repeat_a_part(raw, rng):
    first, last = sorted(int(x) for x in rng.integers(len(raw) + 1, size=2))
    return raw[:last] + raw[first:]


def put_noise_in(raw, rng):
    place, noise = int(rng.integers(len(raw) + 1)), rng.bytes(int(2 ** rng.integers(0, 12)))
    return raw[:place] + noise + raw[place + (len(noise) if rng.random() < 0.5 else 0) :]


def blank_a_part(raw, rng):
    first, last = sorted(int(x) for x in rng.integers(len(raw) + 1, size=2))
    return raw[:first] + pick(rng, (b"\0", b" ", b"\xff")) * (last - first) + raw[last:]


def nothing_but(raw, rng):
    whole = (b"", b"\0" * 1000, b"\n" * 1000, b"\xef\xbb\xbf", b"PK\x05\x06" + bytes(18),
             b"\x93NUMPY\x01\x00", b"\x80\x04N.", b"{}",
             b"[" * 100_000, b"a" * 1_000_000, rng.bytes(5000), b"user,item\n", b"\x1f\x8b\x08\x00" + bytes(100))  # fmt: skip
    return pick(rng, whole)


# ---- text
def in_another_encoding(raw, rng):
    try:
        return raw.decode("utf-8").encode(pick(rng, ("utf-16", "utf-32", "utf-8-sig", "cp1250", "utf-7", "utf-16-le")), "replace")
    except UnicodeDecodeError:
        return None


def an_odd_word(raw, rng):
    """One word becomes another, in which programs may see a number, an end, a quote, or too much."""
    odd = ("", "-1", "nan", "inf", "1e999", "9" * 400, "9" * 5000, "2147483648", "4294967296", "1_000", "٣",
           "０", "0x10", "1.5", "\0",
           '"', "'", '""', "\\", "\r", "\u2028", "\x85", "\x1a", "\x0c", "😀", "e\u0301", "\u202e", "\ufeff",
           "x" * 200_000, "::", ",", ";",
           "=1+1", "-0", "+5", " 7 ", "1e-400", "١٢", "NULL", "<img onerror=x>", "$x_$", "\x1b[2J", "a\tb",
           "0" * 100_000)  # fmt: skip
    text = raw.decode("utf-8", "surrogateescape")
    words = [i for i in range(len(text)) if text[i].isalnum() and not (i and text[i - 1].isalnum())]
    if not words:
        return None
    for _ in range(int(rng.integers(1, 4))):
        place = pick(rng, words)
        end = place
        while end < len(text) and text[end].isalnum():
            end += 1
        text = text[:place] + pick(rng, odd) + text[end:]
    return text.encode("utf-8", "surrogateescape")


def other_lines(raw, rng):
    lines = raw.split(b"\n")
    where = int(rng.integers(len(lines)))
    how = int(rng.integers(8))
    if how == 0:
        lines[where] = b" ".join([lines[where]] * 20_000)[:3_000_000]
    elif how == 1:
        lines = lines[where:] + lines[:where]
    elif how == 2:
        lines[where] = b""
    elif how == 3:
        return b"\r".join(lines)
    elif how == 4:
        return b"\r\n".join(lines) * 3
    elif how == 5:
        lines = lines[:1] * 3 + lines
    elif how == 6:
        lines = [line[::-1] for line in lines]
    else:
        lines = lines[:1]
    return b"\n".join(lines)


def another_separator(raw, rng):
    one = pick(rng, (b",", b"\t", b"::", b" ", b":", b'"'))
    return raw.replace(one, pick(rng, (b"", b";", b"|", b",,", b"\0", b"\t", b" ", one * 3)))


# ---- JSON and TOML
def odd_json(text, rng):
    """A JSON text in which one value, or the presence of one, is odd."""
    value = json.loads(text)
    places = []

    def visit(part):
        for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            visit(part[key])

    visit(value)
    part, key = pick(rng, places)
    how = rng.random()
    if how < 0.12:
        del part[key]
    elif how < 0.2 and isinstance(part, dict):
        part[pick(rng, ("x", "", "*", "a?", "\x00", key + " ", "__class__"))] = part.pop(key)
    elif how < 0.28:
        part[key] = json.loads(json.dumps(pick(rng, places)[0]))  # within itself, perhaps
    elif how < 0.34 and isinstance(part[key], list) and part[key]:
        part[key] = part[key] * 1000
    else:
        part[key] = "@odd@"
    return json.dumps(value).replace('"@odd@"', pick(rng, ODD_JSON))


def odd_json_file(raw, rng):
    return odd_json(raw.decode("utf-8"), rng).encode("utf-8")


def odd_toml(raw, rng):
    odd = ("-1", "0", "1e400", "nan", "inf", "9" * 400, "9" * 5000, str(2**63), '""', '"x"', "[]", "{}",
           "[[1]]", "true", "1979-05-27",
           "[" * 500 + "]" * 500, '"{gate:1000000000}"', '"{gate.__class__}"', '"{"', '"{0}"', '"{gate!r:>99999999}"',
           '"' + "n" * 10_000 + '"', "[" + ", ".join(map(str, range(5000))) + "]", '["a", "a"]', "{ a = 1 }", '"/dev/zero"',
           "{ gate = [" + "0.1, " * 500 + "0.2], dim = [" + "8, " * 500 + "9], l2 = [" + "1, " * 500 + "2] }")  # fmt: skip
    lines = raw.decode("utf-8").split("\n")
    values = [number for number, line in enumerate(lines) if " = " in line]
    for _ in range(int(rng.integers(1, 3))):
        number = pick(rng, values)
        key, _, value = lines[number].partition(" = ")
        how = rng.random()
        if how < 0.6:
            lines[number] = f"{key} = {pick(rng, odd)}"
        elif how < 0.7:
            keys = ("x", "seed", "preset", "after", "bytes_of", "only_data", "options", "kind", "search", "trials")
            lines[number] = f"{pick(rng, keys)} = {value}"
        elif how < 0.8:
            lines[number] = ""
        elif how < 0.9:
            lines.insert(int(rng.integers(len(lines))), f"{key} = {pick(rng, odd)}")
        else:
            lines.insert(number, pick(rng, ("[[run]]", "[data]", "[common]", "[[data]]", "[presets.authors]", "[options]", "]")))
    return "\n".join(lines).encode("utf-8")


# ---- archives
def _members(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        return {info.filename: file.read(info) for info in file.infolist()}


def _archive(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that are there twice are what is wanted
        for name, content in members:
            file.writestr(name, content)
    return out.getvalue()


def _as_npy(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(array), allow_pickle=True)
    return out.getvalue()


def odd_array(raw, rng):
    """One array of an archive has another type, another shape, or other numbers."""
    members = _members(raw)
    name = pick(rng, list(members))
    array = np.load(io.BytesIO(members[name]))
    how = int(rng.integers(9))
    with np.errstate(all="ignore"):
        if how == 0:
            try:
                array = array.astype(pick(rng, _DTYPES))
            except (TypeError, ValueError):
                return None
        elif how == 1:
            array = array.ravel()[: int(rng.integers(array.size + 1))]
        elif how == 2:
            array = np.concatenate([array.ravel()] * int(rng.integers(2, 30)))
        elif how == 3:
            array = pick(rng, (array.T, array[None], array.reshape(-1, 1), np.asfortranarray(array)))
        elif how == 4:
            array = np.zeros(tuple(int(x) for x in rng.integers(0, 40, size=int(rng.integers(0, 4)))), array.dtype)
        elif how == 5:
            array = np.array([{"a": 1}], dtype=object)
        elif how == 6 and array.dtype.kind in "iuf" and array.size:
            array = array.copy()
            array.flat[int(rng.integers(array.size))] = np.asarray(pick(rng, _NUMBERS)).astype(array.dtype)
        elif how == 7 and array.dtype.kind in "iuf" and array.ndim:
            array = rng.permutation(array)
        elif how == 8 and array.dtype.kind in "iuf":
            array = np.full_like(array, np.asarray(pick(rng, _NUMBERS)).astype(array.dtype))
        elif array.dtype.kind == "U":
            array = array.copy()
            array.reshape(-1).view(np.uint32)[int(rng.integers(array.size * array.itemsize // 4))] = pick(
                rng, (0, 0xD800, 0x110000, 2**32 - 1, 10)
            )
        else:
            return None
    return _archive((members | {name: _as_npy(array)}).items())


def odd_promise(raw, rng):
    """The header of one array says something else than what follows."""
    members = _members(raw)
    name = pick(rng, list(members))
    content = members[name]
    length = int.from_bytes(content[8:10], "little")
    header, rest = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    if rng.random() < 0.5:
        first = header.index("'shape': ") + 9
        header = header[:first] + pick(rng, _SHAPES) + ", }"
    elif rng.random() < 0.7:
        first, last = header.index("'descr': ") + 9, header.index(", 'fortran_order'")
        header = header[:first] + pick(rng, _DESCRIPTIONS) + header[last:]
    else:
        header = pick(rng, ("", "{", "[" * 3000, "{'descr': '<f4'}", "__import__('os')", "{}" * 100, "\xff" * 50, "{1: 2}"))
    header = header.encode("latin-1") + b"\n"
    version = pick(rng, (b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return _archive((members | {name: b"\x93NUMPY" + version + size + header + rest}).items())


def other_members(raw, rng):
    """A member is missing, there twice, named otherwise, too many, or compressed in another way."""
    members = list(_members(raw).items())
    place = int(rng.integers(len(members)))
    how = int(rng.integers(7))
    if how == 0:
        del members[place]
    elif how == 1:
        members.append(members[place])
    elif how == 2:
        name = pick(rng, ("x.npy", "../x.npy", ".npy", "header.npy", "a/b.npy", "state.E_fine.npy"))
        members[place] = (name, members[place][1])
    elif how == 3:
        members += [(f"x{number}.npy", b"") for number in range(2000)]
    elif how == 4:
        members[place], members[0] = (members[place][0], members[0][1]), (members[0][0], members[place][1])
    elif how == 5:
        return _archive(members, pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    else:
        members = members[: place + 1]
    return _archive(members)


def bomb(raw, rng):
    """A small file of which one member, known or not, unpacks to hundreds of megabytes."""
    members = _members(raw)
    name = pick(rng, [*members, "x.npy"])
    n, kind = 300_000_000, pick(rng, ("u1", "<f4", "<f8", "<i8", "<U1000"))
    like = np.load(io.BytesIO(members.get(name, next(iter(members.values())))))
    kind = like.dtype.str if rng.random() < 0.5 and like.dtype.itemsize else kind
    count = n // np.dtype(kind).itemsize
    shape = pick(rng, ((count,), (count, 1), (1, count), (count // 1000, 1000)))
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
    content = out.getvalue() + bytes(int(np.prod(shape)) * np.dtype(kind).itemsize)
    return _archive((members | {name: content}).items(), zipfile.ZIP_LZMA if rng.random() < 0.3 else zipfile.ZIP_DEFLATED)


def odd_header(raw, rng):
    """The JSON in an archive is odd."""
    members = _members(raw)
    name = "header.npy" if "header.npy" in members else "meta.npy"
    array = np.load(io.BytesIO(members[name]))
    text = odd_json(array.item() if array.dtype.kind == "U" else array.tobytes().decode("utf-8"), rng)
    array = np.array(text) if array.dtype.kind == "U" else np.frombuffer(text.encode("utf-8"), np.uint8)
    return _archive((members | {name: _as_npy(array)}).items())


# ---- what stands in place of a file
def in_its_place(path, rng):
    """Something that is no plain file takes the place of one."""
    path.unlink()
    how = int(rng.integers(6))
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    else:
        target = ("/dev/zero", "/dev/null", path.name, "nowhere")[how - 2]
        path.symlink_to(target)


_ANY = (flip_bits, flip_bits, cut_short, cut_out, repeat_a_part, put_noise_in, blank_a_part, nothing_but)
_ARCHIVE = (odd_array, odd_array, odd_array, odd_promise, other_members, odd_header, odd_header, odd_header, bomb)
_TEXT = (in_another_encoding, an_odd_word, an_odd_word, an_odd_word, other_lines, another_separator)


def spoil(path, rng):
    """Spoil a file; the name of the way in which."""
    if rng.random() < 0.02:
        in_its_place(path, rng)
        return "in_its_place"
    special = {".npz": _ARCHIVE, ".json": (odd_json_file,), ".toml": (odd_toml, an_odd_word)}.get(path.suffix, _TEXT)
    raw, spoilt = path.read_bytes(), None
    while spoilt is None or spoilt == raw:
        way = pick(rng, special if rng.random() < 0.7 else _ANY)
        spoilt = way(raw, rng)
    path.write_bytes(spoilt)
    return way.__name__
