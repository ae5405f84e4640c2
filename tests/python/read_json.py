"""What does Python's json make of a body, in the fields that Tollgate governs?

Its one argument is a JSON object that names the fields by their kinds. Reads batches on standard input: a count, then so
many bodies, each after its length (32 bits, little-endian). Answers a line of JSON for each: what was seen, or null if
Python refuses the body.
"""

import json
import struct
import sys

KINDS = json.loads(sys.argv[1])
NAMES = set(KINDS["all"])
ODD = "odd"

IMAGES = {"image_url", "input_image", "image_file", "computer_screenshot"}
AUDIO = {"input_audio", "audio_url"}
FILES = {"file", "input_file"}
IMAGE_MEMBERS = {"image_url"}
FILE_MEMBERS = {"file"}


def count(value):
    if value is None:
        return None
    return value if type(value) is int and 0 <= value < 2**32 else ODD


def decimal(value):
    """The bits of a float, for a float's text would be read again. Both zeros are one."""
    if value is None:
        return None
    if type(value) not in (int, float):
        return ODD
    try:
        return str(struct.unpack("<Q", struct.pack("<d", float(value) + 0.0))[0])
    except OverflowError:
        return ODD


def flag(value):
    return value is True if value is None or type(value) is bool else ODD


def on(value):
    return value is not None and value is not False


def word(value):
    """Its bytes, for half a surrogate pair could not be written."""
    if value is None:
        return None
    return value.encode("utf-8", "surrogatepass").hex() if type(value) is str else ODD


def entries(value):
    if value is None:
        return 0
    return len(value) if type(value) in (list, dict) else ODD


def includes_logprobs(value):
    if value is None:
        return False
    if type(value) is not list or not all(type(item) is str for item in value):
        return ODD
    return "message.output_text.logprobs" in value


def inner(value, path):
    for name in path:
        if value is None:
            return None
        if type(value) is not dict:
            return ODD
        value = value.get(name)
    return value


def parts(bodies):
    found = [0, 0, 0, 0]
    for body in bodies:
        if body is None:
            continue
        found[0] += len(body) if type(body) is list else 1
        below = [body]
        while below:
            value = below.pop()
            if type(value) is list:
                below.extend(value)
            elif type(value) is dict:
                kind = value.get("type")
                kind = kind if type(kind) is str else ""
                found[1] += kind in IMAGES or not IMAGE_MEMBERS.isdisjoint(value)
                found[2] += kind in AUDIO or not AUDIO.isdisjoint(value)
                found[3] += kind in FILES or not FILE_MEMBERS.isdisjoint(value)
                below.extend(value.values())
    return found


def member(value, name):
    return value.get(name) if type(value) is dict else None


def offered(tools, found):
    """The tools of an array, each before those that stand in it. What is none has no type."""
    if tools is None:
        return
    if type(tools) is not list:
        found.append([None, None, None])
        return
    for tool in tools:
        connector = "tunnel_id" if member(tool, "connector_id") is None else "connector_id"
        found.append([word(member(tool, name)) for name in ("type", "server_url", connector)])
        offered(member(tool, "tools"), found)


def elements(value):
    return value if type(value) is list else []


def disguised(body):
    """A name that is none of ours as it stands, but is one to a reader that ignores letter case."""
    for name in body:
        if name not in NAMES and NAMES.intersection((name.lower(), name.upper().lower(), name.casefold())):
            return name
    return None


def view(body):
    if type(body) is not dict:
        return {"kind": ODD}
    seen = {"disguised": word(disguised(body))}
    for kind, look in (
        ("counts", count),
        ("decimals", decimal),
        ("flags", flag),
        ("on", on),
        ("words", word),
        ("entries", entries),
    ):
        for name in KINDS[kind]:
            seen[f"{kind} {name}"] = look(body.get(name))
    for path in KINDS["inner"]:
        first, *rest = path.split(".")
        value = inner(body.get(first), rest)
        seen[path] = ODD if value == ODD else word(value)
    seen["include_usage"] = flag(inner(body.get("stream_options"), ["include_usage"]))
    seen["include"] = includes_logprobs(body.get("include"))
    seen["parts"] = parts([body.get("messages"), body.get("input")])
    items = elements(body.get("input"))
    seen["tools"] = []
    offered(body.get("tools"), seen["tools"])
    for item in items:
        if member(item, "type") != "mcp_list_tools":
            offered(member(item, "tools"), seen["tools"])
    seen["types"] = [word(member(entry, "type")) for entry in elements(body.get("data_sources"))]
    efforts = [member(member(item, "reasoning"), "effort") for item in items]
    seen["efforts"] = [word(effort) for effort in efforts if effort is not None]
    return seen


def main():
    source, sink = sys.stdin.buffer, sys.stdout
    while header := source.read(4):
        (length,) = struct.unpack("<I", header)
        bodies = [source.read(struct.unpack("<I", source.read(4))[0]) for _ in range(length)]
        for body in bodies:
            try:
                seen = view(json.loads(body))
            except (ValueError, RecursionError):
                seen = None
            sink.write(json.dumps(seen) + "\n")
        sink.flush()


main()
