# Two tenants ingest under one title. Neither sees that the other exists.
acme>  SELECT ai.ingest('Handbook', 'Acme ships anvils by rail every Tuesday.') IS NOT NULL AS done;
done
t
(1 row)
umbra> SELECT ai.ingest('Handbook', 'Umbra mends umbrellas on rainy days.') IS NOT NULL AS done;
done
t
(1 row)
acme>  SELECT title, content FROM ai.documents;
title|content
Handbook|Acme ships anvils by rail every Tuesday.
(1 row)
umbra> SELECT title, content FROM documents;
title|content
Handbook|Umbra mends umbrellas on rainy days.
(1 row)
umbra> SELECT * FROM acme.ai.documents;
ERROR 42P01
umbra> SELECT * FROM nosuch.ai.documents;
ERROR 42P01
umbra> SELECT rank, title, content FROM ai.search('anvils by rail');
rank|title|content
1|Handbook|Umbra mends umbrellas on rainy days.
(1 row)
