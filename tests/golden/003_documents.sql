# Documents are rows: insert, change, delete; chunks follow.
acme> INSERT INTO ai.documents (title, content, metadata) VALUES ('a', 'The lamp is in the attic.', '{"room": "attic"}'), ('b', 'The boat is in the cellar.', '{"room": "cellar"}');
INSERT 0 2
acme> SELECT title, content, metadata FROM documents ORDER BY title;
title|content|metadata
a|The lamp is in the attic.|{"room": "attic"}
b|The boat is in the cellar.|{"room": "cellar"}
(2 rows)
acme> SELECT d.title, c.chunk_no, c.content, c.token_count > 0 AS counted, c.document_id = d.id AS own FROM ai.chunks c JOIN ai.documents d ON d.id = c.document_id ORDER BY 1, 2;
title|chunk_no|content|counted|own
a|0|The lamp is in the attic.|t|t
b|0|The boat is in the cellar.|t|t
(2 rows)
acme> UPDATE ai.documents SET content = 'The lamp moved to the kitchen.' WHERE title = 'a';
UPDATE 1
acme> SELECT content FROM ai.chunks ORDER BY content;
content
The boat is in the cellar.
The lamp moved to the kitchen.
(2 rows)
acme> SELECT count(*) FROM ai.search('attic', mode => 'keyword');
count
0
(1 row)
acme> DELETE FROM ai.documents WHERE title = 'b';
DELETE 1
acme> SELECT count(*) FROM ai.chunks;
count
1
(1 row)
acme> INSERT INTO ai.chunks (content) VALUES ('by hand');
ERROR 42501
acme> DELETE FROM ai.documents WHERE title = 'nosuch';
DELETE 0
acme> INSERT INTO ai.documents (titel) VALUES ('x');
ERROR 42703
acme> INSERT INTO ai.documents (title, content, metadata) VALUES ('x', 'y', 'no json');
ERROR 22P02
