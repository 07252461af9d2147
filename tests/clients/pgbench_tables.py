"""pgbench with its own TPC-B: made by its own init, run in its three protocols, and its books must balance.

    pgbench_tables.py URL
"""

import os
import pathlib
import re
import shutil
import subprocess

import psycopg
from transcript import DATABASE, HOST, PASSWORD, PORT, URL, USER, attempt, done, say

PROGRAM = shutil.which("pgbench")
if not PROGRAM:
    import pgserver

    PROGRAM = pathlib.Path(pgserver.__file__).parent / "pginstall/bin/pgbench"
ENVIRONMENT = os.environ | {"PGHOST": HOST, "PGPORT": PORT, "PGUSER": USER, "PGPASSWORD": PASSWORD, "PGDATABASE": DATABASE, "LC_ALL": "C.UTF-8"}


def pgbench(*arguments):
    ran = subprocess.run([PROGRAM, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    said = ran.stdout + ran.stderr
    facts = [re.sub(r"^pgbench: ", "", line) for line in said.splitlines() if re.search(r"error|fatal|aborted|actually processed|number of failed|WARNING|NOTICE", line)]
    return [ran.returncode, facts]


c = psycopg.connect(URL, autocommit=True)


def balances():
    tables = ["accounts", "tellers", "branches"]
    sums = [c.execute(f"SELECT sum({t[0]}balance) FROM pgbench_{t}").fetchone()[0] for t in tables]
    sums.append(c.execute("SELECT coalesce(sum(delta), 0) FROM pgbench_history").fetchone()[0])
    return [len(set(map(int, sums))) == 1, c.execute("SELECT count(*) FROM pgbench_history").fetchone()[0]]


attempt("init", lambda: pgbench("-i", "-s", "1", "-q"))
attempt("sizes", lambda: [c.execute(f"SELECT count(*) FROM pgbench_{t}").fetchone()[0] for t in ("accounts", "tellers", "branches", "history")])
for protocol in ("simple", "extended", "prepared"):
    for clients in (1, 8):
        attempt(f"{protocol} {clients}", lambda: pgbench("-n", "-M", protocol, "-c", str(clients), "-j", "2", "-t", "20"))
        attempt(f"{protocol} {clients} balances", balances)
    attempt(f"{protocol} select only", lambda: pgbench("-n", "-S", "-M", protocol, "-c", "4", "-t", "50"))
for protocol in ("simple", "extended", "prepared"):
    attempt(f"{protocol} simple update", lambda: pgbench("-n", "-N", "-M", protocol, "-c", "2", "-t", "10"))
c.execute("TRUNCATE pgbench_history")
attempt("vacuum first", lambda: pgbench("-c", "1", "-t", "5"))
attempt("init on the server", lambda: pgbench("-i", "-I", "dtGvpf", "-s", "1", "-q"))
attempt("constraints", lambda: c.execute("SELECT conrelid::regclass::text, contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname LIKE 'pgbench%' ORDER BY 1, 2, 3").fetchall())
attempt("after keys", lambda: pgbench("-c", "2", "-t", "10"))
attempt("after keys balances", balances)
attempt("drop", lambda: pgbench("-i", "-I", "d", "-q"))
say("left", c.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'pgbench%'").fetchone()[0])
done()
