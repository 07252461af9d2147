# Each mistake has PostgreSQL's code, and nothing is written by it.
acme> SELECT 'abc' ~ '(';
ERROR 2201B
acme> INSERT INTO documents (title, content) VALUES ('no text', NULL);
ERROR 23502
acme> INSERT INTO documents (id, title, content) VALUES ('6f1c1a52-8a3e-4a53-9a51-0d5c7a3f2b10', 'one', 'text');
acme> INSERT INTO documents (id, title, content) VALUES ('6f1c1a52-8a3e-4a53-9a51-0d5c7a3f2b10', 'two', 'text');
ERROR 23505
acme> SELECT count(*) FROM documents;
count
1
(1 row)
acme> BEGIN;
acme> ROLLBACK TO SAVEPOINT nowhere;
ERROR 3B001
acme> ROLLBACK;
acme> BEGIN;
acme> DISCARD ALL;
ERROR 25001
acme> ROLLBACK;
acme> INSERT INTO documents (title, title, content) VALUES ('a', 'b', 'c');
ERROR 42701
acme> SELECT id FROM documents a, ai.chunks b;
ERROR 42702
acme> SELECT $0;
ERROR 42P02
acme> SELECT title, count(*) FROM documents;
ERROR 42803
bulkhead> UPDATE bulkhead.tiers SET max_tokens = -1 WHERE name = 'free';
ERROR 23514
bulkhead> SELECT max_tokens FROM bulkhead.tiers WHERE name = 'free';
max_tokens
500
(1 row)
