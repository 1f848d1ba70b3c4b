"""Kafka's messages as dicts, at any version, by the definitions inside the kafka-clients jar.

Field names are Kafka's own (`TopicData`, `ErrorCode`). The encoder is made for mistakes: it writes
nulls where none may stand, and `Raw` bytes in place of any field. Fields that a version lacks are left
out, so that one case can be sent at all versions; a name that no version knows is an error of the case.
"""

import json
import re
import struct
import uuid
import zipfile
from typing import NamedTuple

FIXED = {"bool": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
         "float64": "d"}
LENGTH_16 = {"string"}  # the others have 32-bit lengths, before flexible versions
ZERO_UUID = "0" * 32  # a uuid is shown as 32 hex digits
LATER = 32767


class Raw(bytes):
    """Bytes that go out as they stand, in place of a field."""


class Malformed(Exception):
    """A reply that does not follow its schema."""


class Api(NamedTuple):
    """One API: its key, the versions that are compared, its two messages, and Kafka's last version."""
    name: str
    key: int
    low: int
    high: int
    request: dict
    response: dict
    last: int


def parse_versions(text):
    """"3+" or "1-4" or "2" or "none" as (lowest, highest); (0, -1) holds no version."""
    if text in (None, "none"):
        return 0, -1
    low, dash, high = text.partition("-")
    if low.endswith("+"):
        return int(low[:-1]), LATER
    return int(low), int(high if dash else low)


def load_apis(jar_path):
    """{name: Api} of every API that has a stable version."""
    messages = {}
    with zipfile.ZipFile(jar_path) as jar:
        for name in jar.namelist():
            if re.fullmatch(r"common/message/\w+\.json", name):
                text = re.sub(r"^\s*//.*$", "", jar.read(name).decode(), flags=re.M)
                message = json.loads(text)
                messages[message["name"]] = message
    apis = {}
    for message in messages.values():
        low, high = parse_versions(message.get("validVersions"))
        high -= bool(message.get("latestVersionUnstable"))
        if message["type"] == "request" and low <= high:
            name = message["name"].removesuffix("Request")
            response = messages[f"{name}Response"]
            _prepare(message), _prepare(response)
            apis[name] = Api(name, message["apiKey"], low, high, message, response, high)
    return apis


def _prepare(message):
    """Parses all version ranges, once, and puts the fields of each struct beside its field."""
    message["flexible"] = parse_versions(message.get("flexibleVersions"))
    common = {one["name"]: one["fields"] for one in message.get("commonStructs", [])}
    _prepare_fields(message["fields"], common)


def _prepare_fields(fields, common):
    for field in fields:
        for key in ("versions", "nullableVersions", "taggedVersions"):
            if not isinstance(field.get(key), tuple):
                field[key] = parse_versions(field.get(key))
        field["element"] = field["type"].removeprefix("[]")
        field.setdefault("fields", common.get(field["element"]))
        if field["fields"]:
            _prepare_fields(field["fields"], common)


def default_of(field):
    """What a field is when nobody sets it."""
    default, kind = field.get("default"), field["type"]
    if default == "null":
        return None
    if kind.startswith("[]"):
        return []
    if field["fields"]:
        return {}
    if kind == "string":
        return default or ""
    if kind == "uuid":
        return ZERO_UUID
    if kind in ("bytes", "records"):
        return b""
    if kind == "bool":
        return default in (True, "true")
    return int(default, 0) if isinstance(default, str) else default or 0


def within(version, span):
    return span[0] <= version <= span[1]


def is_flexible(message, version):
    return within(version, message["flexible"])


def uvarint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


class Encoder:
    """Writes one message at one version."""

    def __init__(self, message, version):
        self.version, self.flexible, self.fields = version, is_flexible(message, version), message["fields"]

    def encode(self, values):
        return self._struct(self.fields, values)

    def _struct(self, fields, values):
        unknown = set(values) - {field["name"] for field in fields}
        if unknown:
            raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
        out, tagged = b"", []
        for field in fields:
            name = field["name"]
            if within(self.version, field["taggedVersions"]):
                if name in values:
                    tagged.append((field["tag"], self._field(field, values[name])))
            elif within(self.version, field["versions"]):
                out += self._field(field, values[name] if name in values else default_of(field))
        if self.flexible:
            out += uvarint(len(tagged))
            out += b"".join(uvarint(tag) + uvarint(len(raw)) + raw for tag, raw in sorted(tagged))
        return out

    def _field(self, field, value):
        if isinstance(value, Raw):
            return bytes(value)
        if field["type"].startswith("[]"):
            if value is None:
                return self._length(-1, "i")
            return self._length(len(value), "i") + b"".join(self._one(field, item) for item in value)
        if field["fields"] and within(self.version, field["nullableVersions"]):
            return b"\xff" if value is None else b"\1" + self._one(field, value)
        return self._one(field, value)

    def _one(self, field, value):
        kind = field["element"]
        if isinstance(value, Raw):
            return bytes(value)
        if kind in FIXED:
            return struct.pack(">" + FIXED[kind], value)
        if kind == "uuid":
            return bytes.fromhex(value)
        if field["fields"]:
            return self._struct(field["fields"], value)
        length_code = "h" if kind in LENGTH_16 else "i"
        if value is None:
            return self._length(-1, length_code)
        raw = value.encode() if isinstance(value, str) else value
        return self._length(len(raw), length_code) + raw

    def _length(self, length, code):
        return uvarint(length + 1) if self.flexible else struct.pack(">" + code, length)


class Decoder:
    """Reads one message at one version; `Malformed` if it does not fit to the last byte."""

    def __init__(self, message, version):
        self.version, self.flexible, self.fields = version, is_flexible(message, version), message["fields"]

    def decode(self, data, at=0):
        self.data, self.at = data, at
        try:
            values = self._struct(self.fields)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise Malformed(f"at byte {self.at} of {len(data)}: {error}") from None
        if self.at != len(data):
            raise Malformed(f"{len(data) - self.at} bytes too many")
        return values

    def _take(self, code):
        value, = struct.unpack_from(">" + code, self.data, self.at)
        self.at += struct.calcsize(">" + code)
        return value

    def _bytes(self, length):
        if not 0 <= length <= len(self.data) - self.at:
            raise Malformed(f"a length of {length} at byte {self.at} of {len(self.data)}")
        self.at += length
        return self.data[self.at - length:self.at]

    def _uvarint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def _length(self, code):
        return self._uvarint() - 1 if self.flexible else self._take(code)

    def _struct(self, fields):
        values, tagged = {}, {}
        for field in fields:
            if within(self.version, field["taggedVersions"]):
                tagged[field["tag"]] = field
            elif within(self.version, field["versions"]):
                values[field["name"]] = self._field(field)
        if self.flexible:
            for _ in range(self._uvarint()):
                tag, size = self._uvarint(), self._uvarint()
                end = self.at + size
                if tag not in tagged:
                    raise Malformed(f"unknown tag {tag}")
                values[tagged[tag]["name"]] = self._field(tagged[tag])
                if self.at != end:
                    raise Malformed(f"tag {tag} is {size} bytes long, not {self.at - end + size}")
        return values

    def _field(self, field):
        if field["type"].startswith("[]"):
            count = self._length("i")
            return None if count < 0 else [self._one(field) for _ in range(count)]
        if field["fields"] and within(self.version, field["nullableVersions"]) and self._take("b") < 0:
            return None
        return self._one(field)

    def _one(self, field):
        kind = field["element"]
        if kind in FIXED:
            return self._take(FIXED[kind])
        if kind == "uuid":
            return self._bytes(16).hex()
        if field["fields"]:
            return self._struct(field["fields"])
        length = self._length("h" if kind in LENGTH_16 else "i")
        raw = None if length < 0 else self._bytes(length)
        return raw.decode() if kind == "string" and raw is not None else raw


def request_header(api_key, version, correlation_id, client_id, flexible):
    head = struct.pack(">hhi", api_key, version, correlation_id)
    raw = None if client_id is None else client_id.encode()
    head += struct.pack(">h", -1) if raw is None else struct.pack(">h", len(raw)) + raw
    return head + b"\0" if flexible else head


def random_uuid(seed):
    """A topic id that no broker has given out, the same in every run."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, seed).hex
