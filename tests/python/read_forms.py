"""What do Starlette (python-multipart) and Werkzeug make of a form?

Reads batches on standard input: a count, then so many texts, each after its length (32 bits, little-endian): a content-type
and its body, by turns. Answers a line of JSON for each form: a list for each of the two readers, or null if it refuses. In a
list are the parts as [name, is it a file, value]; values are hexadecimal.
"""

import asyncio
import io
import json
import struct
import sys

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import parse_form_data

INPUT = sys.stdin.buffer


def text(value):
    return value.encode("utf-8", "surrogatepass").hex()


async def starlette(content_type, body):
    async def stream():
        yield body

    headers = Headers(raw=[(b"content-type", content_type)])
    try:
        form = await MultiPartParser(headers, stream()).parse()
    except MultiPartException:
        return None
    parts = []
    for name, value in form.multi_items():
        is_file = not isinstance(value, str)
        parts.append([name, is_file, value.file.read().hex() if is_file else text(value)])
    await form.close()
    return parts


def werkzeug(content_type, body):
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": content_type.decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    try:
        _, fields, files = parse_form_data(environ, silent=False)
    except (ValueError, HTTPException):
        return None
    parts = [[name, False, text(value)] for name, value in fields.items(multi=True)]
    return parts + [[name, True, value.stream.read().hex()] for name, value in files.items(multi=True)]


def number():
    return struct.unpack("<I", INPUT.read(4))[0]


def batches():
    while first := INPUT.read(4):
        yield [INPUT.read(number()) for _ in range(struct.unpack("<I", first)[0])]


async def main():
    for texts in batches():
        for content_type, body in zip(texts[::2], texts[1::2]):
            seen = [await starlette(content_type, body), werkzeug(content_type, body)]
            sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()


asyncio.run(main())
