"""PostgreSQL 16 with pgvector (the PyPI package pgserver) on a directory of its own, as the reference of the tests.

    reference.py DIRECTORY [durable]

Prints `listening on PORT` when it is ready, and stops when its standard input ends. It has what a Bulkhead server of
the tests has: users with the password `pw-` and their name, of which `owner` is no superuser and `postgres` makes
databases (with pgvector in each), reached with SCRAM-SHA-256 over TCP. It collates by code point, as Bulkhead does.
`durable` leaves fsync on.
"""

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile

import pgserver

ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")


def demote():
    """PostgreSQL does not run as root."""
    if ROOT:
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)


def run(*arguments, **more):
    done = subprocess.run(arguments, preexec_fn=demote, capture_output=True, text=True, cwd="/", **more)
    if done.returncode:
        sys.exit(f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    base = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-reference-", dir=sys.argv[1]))
    base.chmod(0o755)
    site = pathlib.Path(pgserver.__file__).parent.parent
    data = base / "data"
    data.mkdir()
    if ROOT:
        # The environment may lie where only root can look.
        for part in ("pgserver/pginstall", "pgserver.libs"):
            shutil.copytree(site / part, base / part, symlinks=True)
        site = base
        os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    data.chmod(0o700)
    bin = site / "pgserver/pginstall/bin"
    run(bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
    (data / "pg_hba.conf").write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": data,
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_min_messages": "fatal",
        "max_connections": 50,
    }
    if "durable" in sys.argv[2:]:
        settings |= {"synchronous_commit": "on", "shared_buffers": "1GB", "max_wal_size": "4GB", "work_mem": "64MB"}
    else:
        settings |= {"fsync": "off"}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    server = subprocess.Popen(
        [bin / "postgres", "-D", data, *options], preexec_fn=demote, cwd="/", stdout=sys.stderr, stdin=subprocess.DEVNULL
    )
    try:
        setup = """
            CREATE ROLE owner LOGIN PASSWORD 'pw-owner';
            ALTER ROLE postgres PASSWORD 'pw-postgres';
            \\c template1
            CREATE EXTENSION vector;
        """
        psql = [bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", data, "-p", str(port), "-U", "postgres", "postgres"]
        for attempt in range(600):
            ready = subprocess.run([bin / "pg_isready", "-q", "-h", data, "-p", str(port)], preexec_fn=demote, cwd="/")
            if ready.returncode == 0 or server.poll() is not None:
                break
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        run(*psql, input=setup)
        print(f"listening on {port}", flush=True)
        sys.stdin.read()
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(base, ignore_errors=True)


main()
