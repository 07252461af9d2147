# Each mistake has PostgreSQL's code, and nothing is written by it.
acme> SELECT 'abc' ~ '(';
acme> INSERT INTO documents (title, content) VALUES ('no text', NULL);
acme> INSERT INTO documents (id, title, content) VALUES ('6f1c1a52-8a3e-4a53-9a51-0d5c7a3f2b10', 'one', 'text');
acme> INSERT INTO documents (id, title, content) VALUES ('6f1c1a52-8a3e-4a53-9a51-0d5c7a3f2b10', 'two', 'text');
acme> SELECT count(*) FROM documents;
acme> BEGIN;
acme> ROLLBACK TO SAVEPOINT nowhere;
acme> ROLLBACK;
acme> BEGIN;
acme> DISCARD ALL;
acme> ROLLBACK;
acme> INSERT INTO documents (title, title, content) VALUES ('a', 'b', 'c');
acme> SELECT id FROM documents a, ai.chunks b;
acme> SELECT $0;
acme> SELECT title, count(*) FROM documents;
bulkhead> UPDATE bulkhead.tiers SET max_tokens = -1 WHERE name = 'free';
bulkhead> SELECT max_tokens FROM bulkhead.tiers WHERE name = 'free';
