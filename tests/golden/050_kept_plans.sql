# A prepared statement keeps its physical plan from the second run on: every run sees its own parameters and the
# rows as they are then.
acme> INSERT INTO documents (title, content) VALUES ('a', 'alpha apples'), ('b', 'beta bananas'), ('c', 'gamma grapes');
INSERT 0 3
acme> PREPARE by_content AS SELECT title FROM documents WHERE content = $1 ORDER BY title;
PREPARE
acme> EXECUTE by_content('alpha apples');
title
a
(1 row)
acme> EXECUTE by_content('beta bananas');
title
b
(1 row)
acme> EXECUTE by_content('gamma grapes');
title
c
(1 row)
acme> EXECUTE by_content(NULL);
(0 rows)
acme> EXECUTE by_content('alpha apples');
title
a
(1 row)
acme> UPDATE documents SET content = 'alpha apples' WHERE title = 'b';
UPDATE 1
acme> EXECUTE by_content('alpha apples');
title
a
b
(2 rows)
acme> PREPARE counted AS SELECT count(*) FILTER (WHERE title > $1) AS above, max(title) || $2 AS most FROM documents;
PREPARE
acme> EXECUTE counted('a', '!');
above|most
2|c!
(1 row)
acme> EXECUTE counted('b', '?');
above|most
1|c?
(1 row)
acme> EXECUTE counted('c', '.');
above|most
0|c.
(1 row)
acme> PREPARE paired AS SELECT d.title, e.title AS other FROM documents d JOIN documents e ON d.content = e.content AND d.title < e.title WHERE d.title >= $1;
PREPARE
acme> EXECUTE paired('a');
title|other
a|b
(1 row)
acme> EXECUTE paired('a');
title|other
a|b
(1 row)
acme> EXECUTE paired('b');
(0 rows)
acme> EXECUTE paired('a');
title|other
a|b
(1 row)
acme> PREPARE few AS SELECT title FROM documents ORDER BY title DESC LIMIT $1;
PREPARE
acme> EXECUTE few(1);
title
c
(1 row)
acme> EXECUTE few(2);
title
c
b
(2 rows)
acme> EXECUTE few(3);
title
c
b
a
(3 rows)
acme> PREPARE nearest AS SELECT d.title FROM (SELECT document_id FROM chunks ORDER BY embedding <=> $1 LIMIT 1) AS n JOIN documents d ON d.id = n.document_id;
PREPARE
acme> EXECUTE nearest(ai.embed('gamma grapes'));
title
c
(1 row)
acme> EXECUTE nearest(ai.embed('gamma grapes'));
title
c
(1 row)
acme> UPDATE documents SET content = 'delta dates' WHERE title = 'a';
UPDATE 1
acme> EXECUTE nearest(ai.embed('delta dates'));
title
a
(1 row)
acme> EXECUTE nearest(ai.embed('alpha apples'));
title
b
(1 row)
# However the vector and the number come, the nearest chunks are read by their index, and each time is counted.
acme> CREATE TABLE counted AS SELECT coalesce(sum(vector_search_count), 0) AS n FROM bulkhead.costs;
SELECT 1
acme> PREPARE by_vector(vector, int) AS SELECT content FROM chunks ORDER BY embedding <=> $1 LIMIT $2;
PREPARE
acme> EXECUTE by_vector(ai.embed('delta dates'), 1);
content
delta dates
(1 row)
acme> PREPARE by_text(text) AS SELECT content FROM chunks ORDER BY embedding <=> $1::vector LIMIT 1;
PREPARE
acme> EXECUTE by_text(ai.embed('delta dates')::text);
content
delta dates
(1 row)
acme> EXECUTE by_text(ai.embed('gamma grapes')::text);
content
gamma grapes
(1 row)
acme> EXECUTE by_text(ai.embed('delta dates')::text);
content
delta dates
(1 row)
acme> SELECT sum(vector_search_count) - (SELECT n FROM counted) AS searches FROM bulkhead.costs;
searches
4
(1 row)
acme> EXECUTE by_text('[1,2');
ERROR 22P02
acme> DROP TABLE counted;
DROP TABLE
acme> PREPARE one AS SELECT $1::text AS a, $2::bigint + 1 AS b;
PREPARE
acme> EXECUTE one('x', 1);
a|b
x|2
(1 row)
acme> EXECUTE one('y', 2);
a|b
y|3
(1 row)
acme> EXECUTE one(NULL, 3);
a|b
NULL|4
(1 row)
acme> EXECUTE one('z', NULL);
a|b
z|NULL
(1 row)
