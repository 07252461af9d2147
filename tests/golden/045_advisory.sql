# A number is a lock of one tenant, and of nobody else.
acme> SELECT pg_try_advisory_lock(1);
pg_try_advisory_lock
t
(1 row)
umbra> SELECT pg_try_advisory_lock(1);
pg_try_advisory_lock
t
(1 row)
acme#2> SELECT pg_try_advisory_lock(1), pg_try_advisory_lock(0, 1), pg_try_advisory_lock_shared(1);
pg_try_advisory_lock|pg_try_advisory_lock|pg_try_advisory_lock_shared
f|t|f
(1 row)
acme> SELECT locktype, classid, objid, objsubid, mode, granted FROM pg_locks WHERE locktype = 'advisory' ORDER BY objsubid;
locktype|classid|objid|objsubid|mode|granted
advisory|0|1|1|ExclusiveLock|t
advisory|0|1|2|ExclusiveLock|t
(2 rows)
umbra> SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';
count
1
(1 row)
# Twice locked is twice unlocked.
acme> SELECT pg_advisory_lock(1);
pg_advisory_lock
''
(1 row)
acme> SELECT pg_advisory_unlock(1);
pg_advisory_unlock
t
(1 row)
acme#2> SELECT pg_try_advisory_lock(1);
pg_try_advisory_lock
f
(1 row)
acme> SELECT pg_advisory_unlock(1);
pg_advisory_unlock
t
(1 row)
acme> SELECT pg_advisory_unlock(1);
WARNING 01000: you don't own a lock of type ExclusiveLock
pg_advisory_unlock
f
(1 row)
# Shared ones stand beside each other.
acme> SELECT pg_try_advisory_lock_shared(7);
pg_try_advisory_lock_shared
t
(1 row)
acme#2> SELECT pg_try_advisory_lock_shared(7), pg_try_advisory_xact_lock(7);
pg_try_advisory_lock_shared|pg_try_advisory_xact_lock
t|f
(1 row)
# Those of a transaction end with it, or with the savepoint.
acme> BEGIN;
acme> SELECT pg_advisory_xact_lock(10);
pg_advisory_xact_lock
''
(1 row)
acme> SAVEPOINT s;
acme> SELECT pg_advisory_xact_lock(11);
pg_advisory_xact_lock
''
(1 row)
acme> ROLLBACK TO s;
acme#2> SELECT pg_try_advisory_xact_lock(10), pg_try_advisory_xact_lock(11);
pg_try_advisory_xact_lock|pg_try_advisory_xact_lock
f|t
(1 row)
acme> COMMIT;
acme#2> SELECT pg_try_advisory_xact_lock(10);
pg_try_advisory_xact_lock
t
(1 row)
# The end of a session frees what it held, and so does DISCARD ALL.
acme#2> \c
acme> SELECT pg_advisory_lock(0, 1);
pg_advisory_lock
''
(1 row)
acme> DISCARD ALL;
acme#3> SELECT pg_try_advisory_lock(0, 1), pg_try_advisory_lock(7);
pg_try_advisory_lock|pg_try_advisory_lock
t|t
(1 row)
acme#3> SELECT pg_advisory_unlock_all();
pg_advisory_unlock_all
''
(1 row)
acme> SELECT pg_try_advisory_lock(7), pg_advisory_lock(NULL) IS NULL;
pg_try_advisory_lock|?column?
t|t
(1 row)
acme> SELECT pg_try_advisory_lock(1, 3000000000);
ERROR 22003
acme> SELECT pg_try_advisory_lock('x');
ERROR 42883
bulkhead> SELECT pg_advisory_unlock_all();
pg_advisory_unlock_all
''
(1 row)
bulkhead> SELECT pg_try_advisory_lock(1);
ERROR 0A000
