# A transaction searches what it has written, and not what it has taken away; others do neither until it commits.
acme> INSERT INTO documents (title, content) VALUES ('lamp', 'The lamp is in the attic.'), ('boat', 'The boat is in the cellar.');
INSERT 0 2
acme> BEGIN;
BEGIN
acme> DELETE FROM documents WHERE title = 'lamp';
DELETE 1
acme> UPDATE documents SET content = 'The boat is on the river.' WHERE title = 'boat';
UPDATE 1
acme> INSERT INTO documents (title, content) VALUES ('cat', 'The cat sleeps in the attic.');
INSERT 0 1
acme> SELECT title FROM ai.search('attic', mode => 'keyword');
title
cat
(1 row)
# what is taken away takes no place among the best either
acme> SELECT title FROM ai.search('lamp attic', k => 1, mode => 'keyword');
title
cat
(1 row)
acme> SELECT content FROM vector_search('chunks', 'lamp The lamp is in the attic.', k => 1);
content
The cat sleeps in the attic.
(1 row)
acme> SELECT count(*) FROM ai.search('cellar', mode => 'keyword');
count
0
(1 row)
acme> SELECT content FROM vector_search('chunks', 'lamp boat cat', k => 10) ORDER BY content;
content
The boat is on the river.
The cat sleeps in the attic.
(2 rows)
acme> SELECT content FROM chunks ORDER BY embedding <=> ai.embed('The lamp is in the attic.') LIMIT 1;
content
The cat sleeps in the attic.
(1 row)
acme> SELECT ai.rag('Where is the lamp?') LIKE '%lamp is in the attic%' AS remembered;
remembered
f
(1 row)
acme#2> SELECT title FROM ai.search('attic', mode => 'keyword');
title
lamp
(1 row)
acme#2> SELECT count(*) FROM ai.search('river', mode => 'keyword');
count
0
(1 row)
acme> COMMIT;
COMMIT
acme#2> SELECT title FROM ai.search('attic', mode => 'keyword');
title
cat
(1 row)
acme#2> SELECT count(*) FROM ai.search('cellar', mode => 'keyword');
count
0
(1 row)
