# A session keeps its user; another session's number is worth nothing to whom it does not belong.
acme> SELECT pg_sleep(0.001);
pg_sleep
''
(1 row)
acme> SELECT pg_sleep(NULL), pg_sleep(-1);
pg_sleep|pg_sleep
''|''
(1 row)
acme> SELECT count(*) FROM pg_stat_activity WHERE datname = 'acme' AND usename = 'owner';
count
1
(1 row)
acme> SELECT pg_terminate_backend(1);
WARNING 01000: PID 1 is not a PostgreSQL backend process
pg_terminate_backend
f
(1 row)
acme> SELECT pg_cancel_backend(2147483647);
WARNING 01000: PID 2147483647 is not a PostgreSQL backend process
pg_cancel_backend
f
(1 row)
acme> SELECT lo_creat(-1);
ERROR 0A000: large objects are not supported
acme> SELECT lo_import('/etc/passwd');
ERROR 0A000
acme> SELECT lo_export(1, '/tmp/x');
ERROR 0A000
# Roles are not switched, in any branch.
acme> CREATE USER bob PASSWORD 'pw-bob';
acme/bob> SET ROLE owner;
ERROR 42501
acme/bob> SET SESSION AUTHORIZATION owner;
ERROR 42501
acme/bob> RESET ROLE;
ERROR 42501
acme/bob> BEGIN;
acme/bob> SAVEPOINT s;
acme/bob> SET LOCAL ROLE owner;
ERROR 42501
acme/bob> ROLLBACK TO s;
acme/bob> SELECT current_user, session_user;
current_user|session_user
bob|bob
(1 row)
acme/bob> COMMIT;
acme/bob> SET SESSION AUTHORIZATION DEFAULT;
SET
acme/bob> DISCARD ALL;
DISCARD ALL
acme/bob> SELECT current_user, session_user;
current_user|session_user
bob|bob
(1 row)
