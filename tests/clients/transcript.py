"""What the scripts of Python clients share: a transcript of a line for each thing that was seen.

A line is a key, a tab, and a value with its type, so that two servers can be compared. A step that fails is a line,
too, and does not hide those after it.
"""

import datetime
import decimal
import pathlib
import re
import sys
import uuid

URL = sys.argv[1]
PARTS = URL.split("://", 1)[1]
USER, PASSWORD = PARTS.split("@")[0].split(":")
HOST, PORT = PARTS.split("@")[1].split("/")[0].split(":")
DATABASE = PARTS.rsplit("/", 1)[1]
FOLDER = pathlib.Path(__file__).parent
EVERY = [s.strip() for s in (FOLDER / "every.sql").read_text().split(";\n") if s.strip()]

_secrets = [(PORT, "PORT")]


def shown(value):
    """The value as text in which its type can be seen."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, uuid.UUID, decimal.Decimal)):
        return repr(value)
    if isinstance(value, (memoryview, bytearray)):
        return repr(bytes(value))
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)):
        zone = getattr(value, "utcoffset", lambda: None)()
        return f"{type(value).__name__}({value}{'' if zone is None else ' z'})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(k)}: {shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown(v) for v in value) + "]"
    if hasattr(value, "tolist"):
        return f"{type(value).__name__} {value.dtype} {shown(value.tolist())}"
    if type(value).__name__ == "Record" or hasattr(value, "_mapping"):
        return shown(list(value))
    if type(value).__name__ == "Vector":
        return f"Vector {shown(value.to_list())}"
    return f"{type(value).__name__} {value}"


def code(oid):
    """The identifier of a type, where it is the same in all of PostgreSQL: an extension's is not."""
    return oid if oid < 10_000 else "an extension's"


def say(key, value):
    text = shown(value)
    for secret, word in _secrets:
        text = text.replace(secret, word)
    print(f"{key}\t{text}", flush=True)


def fault(error):
    """What a program can act on: the class of the error, its SQLSTATE, its message and the fields of it."""
    error = getattr(error, "orig", None) or error
    error = error.__cause__ if type(error).__module__.startswith("sqlalchemy") and error.__cause__ else error
    diagnostic = getattr(error, "diag", None) or error
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    fields = {
        name: getattr(diagnostic, other, None) or getattr(diagnostic, name, None)
        for name, other in [
            ("message", "message_primary"),
            ("detail", "message_detail"),
            ("table_name", "table"),
            ("column_name", "column"),
            ("constraint_name", "constraint"),
            ("position", "statement_position"),
        ]
    }
    if not state:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    told = " ".join(f"{k}={v}" for k, v in fields.items() if v)
    told = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]{21}\b", "RANDOM", told)
    told = re.sub(r"\b20(2[5-9]|[3-9]\d)-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", "NOW", told)
    return f"{type(error).__name__} {state} {told}".replace("\n", " / ")


def attempt(key, work, undo=None):
    """Says what the work returns, or how it failed; `undo` then makes the connection usable again."""
    try:
        value = work()
    except Exception as error:
        print(f"{key}\t! {fault(error)}", flush=True)
        if undo:
            undo()
        return None
    say(key, value)
    return value


async def attempt_async(key, work, undo=None):
    """As [attempt], where the work is awaited."""
    try:
        value = await work()
    except Exception as error:
        print(f"{key}\t! {fault(error)}", flush=True)
        if undo:
            await undo()
        return None
    say(key, value)
    return value


def done():
    say("done", True)
