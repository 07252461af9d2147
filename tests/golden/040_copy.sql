# COPY gives what a SELECT gives, and nothing but the client is ever its end.
acme> INSERT INTO documents (title, content) VALUES ('lamps', 'Lamps burn oil.'), ('boats', 'Boats float.');
acme> COPY documents TO STDOUT;
COPY 2
acme> COPY ai.documents (title, content) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE (title));
COPY 2
acme> COPY (SELECT title FROM documents WHERE title > 'c') TO STDOUT WITH BINARY;
COPY 1
acme> COPY (INSERT INTO documents (title, content) VALUES ('third', 'x') RETURNING id) TO STDOUT;
COPY 1
acme> SELECT count(*) FROM documents;
count
3
(1 row)
umbra> COPY documents TO STDOUT;
COPY 0
umbra> COPY acme.ai.documents TO STDOUT;
ERROR 42P01
acme> COPY documents TO '/tmp/documents';
ERROR 42501: permission denied to COPY to or from a file or a program
acme> COPY documents FROM '/etc/passwd';
ERROR 42501
acme> COPY (SELECT 1) TO PROGRAM 'cat > /tmp/x';
ERROR 42501
acme> COPY documents TO 's3://bucket/key' (FORMAT csv);
ERROR 42501
acme> COPY nosuch TO STDOUT;
ERROR 42P01: relation "nosuch" does not exist
acme> COPY nosuch FROM STDIN;
ERROR 42P01: relation "nosuch" does not exist
acme> COPY documents (title, nosuch) FROM STDIN;
ERROR 42703: column "nosuch" of relation "documents" does not exist
acme> COPY documents (title, title) FROM STDIN;
ERROR 42701: column "title" specified more than once
acme> COPY bulkhead.usage FROM STDIN;
ERROR 42501
acme> COPY documents TO STDOUT (FORMAT nosuch);
ERROR 22023: COPY format "nosuch" not recognized
acme> COPY documents TO STDOUT (DELIMITER 'ab');
ERROR 0A000: COPY delimiter must be a single one-byte character
acme> COPY (SELECT $1) TO STDOUT;
ERROR 42P02
# An analyst copies what an analyst sees.
acme> CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
acme/ann> COPY documents TO STDOUT;
ERROR 42501
acme/ann> COPY documents FROM STDIN;
ERROR 42501
acme/ann> COPY bulkhead.costs TO STDOUT;
COPY 1
