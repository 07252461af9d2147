# Text search without an index: vectors and queries as PostgreSQL prints them, matches and ranks.
acme> SELECT to_tsvector('english', 'The Fat Rats ate the cats'), to_tsvector('simple', 'The Fat Rats');
acme> SELECT to_tsquery('fat & (rats | !cat:*)'), plainto_tsquery('The Fat Rats'), phraseto_tsquery('fat rats'), websearch_to_tsquery('"fat rat" -cat or dogs');
acme> SELECT to_tsvector('fat rats') @@ to_tsquery('rat'), 'fat rats' @@ 'rat', to_tsvector('fat rats') @@ to_tsquery('dog');
acme> SELECT ts_rank(to_tsvector('a fat cat sat'), to_tsquery('cat')), ts_headline('The fat rats ran', to_tsquery('rat'));
acme> SELECT title FROM documents WHERE to_tsvector(content) @@ plainto_tsquery('rivers');
(0 rows)
acme> INSERT INTO documents (title, content) VALUES ('Rhine', 'A river flows past Cologne');
INSERT 0 1
umbra> SELECT title FROM documents WHERE to_tsvector(content) @@ plainto_tsquery('rivers');
(0 rows)
acme> SELECT title FROM documents WHERE to_tsvector(content) @@ plainto_tsquery('rivers');
acme> SELECT to_tsquery('fat rat');
ERROR 42601
acme> SELECT to_tsvector('klingon', 'x');
ERROR 42704: text search configuration "klingon" does not exist
