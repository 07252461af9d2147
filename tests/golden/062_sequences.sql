# Sequences give each number once, roll nothing back, and remember what they gave to whom.
acme> CREATE SEQUENCE s START 5 INCREMENT 2 MAXVALUE 9;
acme> SELECT currval('s');
ERROR 55000
acme> SELECT lastval();
ERROR 55000
acme> SELECT nextval('s'), nextval('s'::regclass) AS second;
nextval|second
5|7
(1 row)
acme> SELECT currval('s'), lastval();
currval|lastval
7|7
(1 row)
acme> BEGIN;
acme> SELECT nextval('s');
nextval
9
(1 row)
acme> ROLLBACK;
acme> SELECT nextval('s');
ERROR 2200H
acme> SELECT setval('s', 5, false);
setval
5
(1 row)
acme> SELECT nextval('public.s');
nextval
5
(1 row)
acme> SELECT setval('s', 7);
setval
7
(1 row)
acme> SELECT nextval('s');
nextval
9
(1 row)
acme> SELECT setval('s', 11);
ERROR 22003
acme> SELECT nextval('nosuch');
ERROR 42P01
acme> CREATE TABLE t (id serial, v text);
acme> INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 3) RETURNING id;
id
1
2
3
(3 rows)
acme> SELECT currval(pg_get_serial_sequence('t', 'id'));
currval
3
(1 row)
acme> SELECT nextval('t');
ERROR 42809
acme#2> SELECT currval('t_id_seq');
ERROR 55000
acme#2> INSERT INTO t (v) VALUES ('y') RETURNING id;
id
4
(1 row)
beta> SELECT nextval('s');
ERROR 42P01
beta> CREATE SEQUENCE s;
beta> SELECT nextval('s');
nextval
1
(1 row)
acme> BEGIN READ ONLY;
acme> SELECT nextval('s');
ERROR 25006
acme> ROLLBACK;
# Calls that read the same are calls of their own.
acme> CREATE SEQUENCE twice;
acme> SELECT nextval('twice') AS a, nextval('twice') AS b;
a|b
1|2
(1 row)
