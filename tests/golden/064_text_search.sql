# Text search without an index: vectors and queries as PostgreSQL prints them, matches and ranks.
acme> SELECT to_tsvector('english', 'The Fat Rats ate the cats'), to_tsvector('simple', 'The Fat Rats');
to_tsvector|to_tsvector
'at':4 'cat':6 'fat':2 'rat':3|'fat':2 'rats':3 'the':1
(1 row)
acme> SELECT to_tsquery('fat & (rats | !cat:*)'), plainto_tsquery('The Fat Rats'), phraseto_tsquery('fat rats'), websearch_to_tsquery('"fat rat" -cat or dogs');
to_tsquery|plainto_tsquery|phraseto_tsquery|websearch_to_tsquery
'fat' & ( 'rat' | !'cat':* )|'fat' & 'rat'|'fat' <-> 'rat'|'fat' <-> 'rat' & !'cat' | 'dog'
(1 row)
acme> SELECT to_tsvector('fat rats') @@ to_tsquery('rat'), 'fat rats' @@ 'rat', to_tsvector('fat rats') @@ to_tsquery('dog');
?column?|?column?|?column?
t|t|f
(1 row)
acme> SELECT ts_rank(to_tsvector('a fat cat sat'), to_tsquery('cat')), ts_headline('The fat rats ran', to_tsquery('rat'));
ts_rank|ts_headline
0.06079271|The fat <b>rats</b> ran
(1 row)
acme> SELECT title FROM documents WHERE to_tsvector(content) @@ plainto_tsquery('rivers');
(0 rows)
acme> INSERT INTO documents (title, content) VALUES ('Rhine', 'A river flows past Cologne');
INSERT 0 1
umbra> SELECT title FROM documents WHERE to_tsvector(content) @@ plainto_tsquery('rivers');
(0 rows)
acme> SELECT title FROM documents WHERE to_tsvector(content) @@ plainto_tsquery('rivers');
title
Rhine
(1 row)
acme> SELECT to_tsquery('fat rat');
ERROR 42601
acme> SELECT to_tsvector('klingon', 'x');
ERROR 42704: text search configuration "klingon" does not exist
