# Search ranks by words and by meaning of words, filters by metadata, and returns what there is.
acme> SELECT ai.ingest('Rivers', 'The Rhine flows past Basel and Cologne into the North Sea.', metadata => '{"kind": "water"}') IS NOT NULL AS done;
done
t
(1 row)
acme> SELECT ai.ingest('Peaks', 'The Matterhorn is a mountain near Zermatt.', metadata => '{"kind": "rock"}') IS NOT NULL AS done;
done
t
(1 row)
acme> SELECT ai.ingest('Cheese', 'Emmental has holes because of bacteria.', '{"kind": "food"}') IS NOT NULL AS done;
done
t
(1 row)
acme> SELECT rank, title, chunk_no FROM ai.search('Which river flows past Cologne?', k => 1);
rank|title|chunk_no
1|Rivers|0
(1 row)
acme> SELECT title FROM ai.search('mountain', k => 5, mode => 'keyword');
title
Peaks
(1 row)
acme> SELECT count(*) FROM ai.search('mountain', k => 5, mode => 'vector');
count
3
(1 row)
acme> SELECT title FROM ai.search('mountain river cheese', filter => '{"kind": "food"}');
title
Cheese
(1 row)
acme> SELECT count(*) FROM ai.search('mountain', filter => '{"kind": "fire"}');
count
0
(1 row)
acme> SELECT count(*) FROM ai.search('mountain', k => 0);
count
0
(1 row)
acme> SELECT title FROM ai.search('mountain', mode => 'psychic');
ERROR 22023
acme> SELECT content FROM vector_search('ai.chunks', 'holes in the cheese', k => 1);
content
Emmental has holes because of bacteria.
(1 row)
acme> SELECT content FROM ai.chunks ORDER BY embedding <=> ai.embed('The Matterhorn is a mountain near Zermatt.') LIMIT 1;
content
The Matterhorn is a mountain near Zermatt.
(1 row)
# not zero: a chunk is embedded with its document's title
acme> SELECT round((embedding <=> ai.embed('The Matterhorn is a mountain near Zermatt.'))::numeric, 1) AS d FROM ai.chunks ORDER BY d LIMIT 1;
d
0.1
(1 row)
acme> SELECT ai.count_tokens('one two three') AS n, ai.count_tokens('') AS none;
n|none
3|0
(1 row)
