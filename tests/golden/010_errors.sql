# A user's mistake has PostgreSQL's SQLSTATE, and its text names nothing foreign.
acme> SELEC 1;
ERROR 42601
acme> SELECT nosuch FROM documents;
ERROR 42703
acme> SELECT * FROM nosuch;
ERROR 42P01: relation "nosuch" does not exist
acme> SELECT nosuch(1);
ERROR 42883
acme> SELECT 1/0;
ERROR 22012
acme> SELECT 'x'::int;
ERROR 22P02
acme> SELECT '2024-13-45'::date;
ERROR 22008
acme> SELECT 99999999999999999999::bigint;
ERROR 22003
acme> SELECT CAST(3000000000 AS int);
ERROR 22003
acme> SELECT '[1,2,NaN]'::vector;
ERROR 22000
acme> SELECT '[1,2'::vector;
ERROR 22P02
acme> SELECT '[1,2,3]'::vector <-> '[1,2]'::vector;
ERROR 22000: different vector dimensions 3 and 2
acme> SELECT title, count(*) FROM documents;
ERROR 42803
acme> COPY (SELECT 1) TO '/tmp/stolen';
ERROR 42501
acme> CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd';
ERROR 42501
acme> SELECT * FROM '/etc/passwd';
ERROR 42601
acme> EXECUTE nosuch;
ERROR 26000
acme> FETCH ALL FROM nosuch;
ERROR 34000
