"""Renews the lists of known differences from what the tests complain about.

    cargo test --test slt --test matrix --no-fail-fast 2>&1 | python3 tests/differences.py

A line whose difference is gone is taken off its list; a new difference is added with what came instead as its reason,
to be read and, where it says too little, to be written anew by hand. Reasons that are there stay.
"""

import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).parent
SLT, CLIENTS = FOLDER / "slt/differences.txt", FOLDER / "clients/differences.txt"
STALE = "  is listed as different and is not: take it off the list"
MOST = 160


def short(text):
    text = " ".join(text.replace("\t", " ").split())
    return text if len(text) <= MOST else text[: MOST - 4] + " ..."


def reason_of_record(how):
    """Why a record of sqllogictest differs, from what the runner says."""
    states = re.findall(r"\(sqlstate (\w{5})\) (.*)", how)
    if "is expected to fail, but actually succeed" in how:
        return "accepted, where PostgreSQL refuses it"
    if "is expected to fail with error" in how:
        return f"fails with another SQLSTATE, {states[0][0] if states else 'none'}"
    if "columns mismatch" in how:
        return short("a column is of another type: " + " ".join(re.findall(r"\[(?:Expected|Actual  )\] .*", how)))
    if "result mismatch" in how:
        came = [line.strip()[1:].strip() for line in how.splitlines() if line.strip().startswith("+   ") or line.strip().startswith("+ ")]
        return short("other values: " + " / ".join(came)) if came else "fewer rows or other values"
    if " failed: " in how:
        return short("fails: " + how.split(" failed: ", 1)[1].split("[SQL]")[0])
    return short(how)


def reason_of_line(how):
    """Why a line of a transcript differs."""
    came = how.split("  Bulkhead:   ", 1)[-1].strip()
    if came == "(nothing)":
        return "not reached, or not seen, after a difference above"
    return short(f"fails: {came[2:]}" if came.startswith("! ") else f"came: {came}")


def records(text):
    """(file, statement, how) of each complaint of tests/slt."""
    for head in re.finditer(r"^\d+ complaints; \d+ of \d+ records differ\n\n(.*?)(?=^(?:note:|stack backtrace:|---|test )|\Z)", text, re.S | re.M):
        for complaint in re.split(r"\n\n(?=\w+: )", head[1].strip("\n")):
            name, _, how = complaint.partition("\n")
            file, _, sql = name.partition(": ")
            yield file, sql, how


def lines(text):
    """(client, key, how) of each complaint of tests/matrix."""
    for head in re.finditer(r"^([\w-]+): \d+ of \d+ differ\n(.*?)(?=^(?:note: run with|stack backtrace:|--- the server|thread '|test )|\Z)", text, re.S | re.M):
        body = head[2].split("\n")
        starts = [i for i in range(len(body) - 1) if body[i + 1].startswith("  PostgreSQL: ") or body[i + 1] == STALE]
        for start, end in zip(starts, [*starts[1:], len(body)]):
            yield head[1], body[start], "\n".join(body[start + 1 : end]).rstrip()


def renew(path, found, reason):
    """Writes the list anew for the groups that complained."""
    kept, old = [], []
    for line in path.read_text().splitlines():
        (kept if line.startswith("#") or not line else old).append(line)
    gone = {(group, key) for group, key, how in found if how == STALE}
    new = {(group, key): reason(how) for group, key, how in found if how != STALE}
    listed = {tuple(line.split("\t")[:2]): line.split("\t")[2] for line in old}
    listed = {at: why for at, why in {**new, **listed}.items() if at not in gone}
    path.write_text("\n".join(kept + [f"{group}\t{key}\t{why}" for (group, key), why in sorted(listed.items())]) + "\n")
    print(f"{path}: {len(new)} added, {len(gone)} taken off, {len(listed)} in all")


def main():
    text = sys.stdin.read()
    renew(SLT, list(records(text)), reason_of_record)
    renew(CLIENTS, list(lines(text)), reason_of_line)


main()
