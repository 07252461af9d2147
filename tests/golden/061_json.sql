# JSON is made, changed and taken apart as PostgreSQL does it; jsonb has one form.
acme> SELECT jsonb_build_object('a', 1, 'b', ARRAY[1, 2], 'c', NULL, 'd', '{"x":true}'::jsonb), json_build_array(1, 'two', NULL, 3.5);
jsonb_build_object|json_build_array
{"a": 1, "b": [1, 2], "c": null, "d": {"x": true}}|[1, "two", null, 3.5]
(1 row)
acme> SELECT to_jsonb('x'::text), to_jsonb(1.50), to_json(ARRAY['a', 'b']), to_jsonb(true), to_jsonb(date '2024-02-29'), to_json(timestamp '2024-02-29 12:00');
to_jsonb|to_jsonb|to_json|to_jsonb|to_jsonb|to_json
"x"|1.50|["a","b"]|true|"2024-02-29"|"2024-02-29T12:00:00"
(1 row)
acme> SELECT '{"a":1}'::jsonb || '{"b":2}', '{"a":1,"b":2}'::jsonb - 'a', '["x","y"]'::jsonb - 0, '{"a":{"b":1,"c":2}}'::jsonb #- '{a,b}';
?column?|?column?|?column?|?column?
{"a": 1, "b": 2}|{"b": 2}|["y"]|{"a": {"c": 2}}
(1 row)
acme> SELECT '{"a":1}'::jsonb ?| array['b', 'a'], '{"a":1}'::jsonb ?& array['a', 'b'], '{"a":1,"b":2}'::jsonb @> '{"a":1}';
?column?|?column?|?column?
t|f|t
(1 row)
acme> SELECT jsonb_set('{"a":1}', '{a}', '2'), jsonb_set('{"a":1}', '{b}', '3', false), jsonb_insert('{"a":[1,2]}', '{a,1}', '9'), jsonb_strip_nulls('{"a":1,"b":null}');
jsonb_set|jsonb_set|jsonb_insert|jsonb_strip_nulls
{"a": 2}|{"a": 1}|{"a": [1, 9, 2]}|{"a": 1}
(1 row)
acme> SELECT json_agg(x ORDER BY x), jsonb_agg(x ORDER BY x DESC), jsonb_object_agg('k' || x, x) FROM generate_series(1, 3) AS g(x);
json_agg|jsonb_agg|jsonb_object_agg
[1, 2, 3]|[3, 2, 1]|{"k1": 1, "k2": 2, "k3": 3}
(1 row)
acme> SELECT json_agg(x) FROM generate_series(1, 0) AS g(x);
json_agg
NULL
(1 row)
acme> SELECT key, value FROM jsonb_each('{"b":{"c":2},"a":1}');
key|value
a|1
b|{"c": 2}
(2 rows)
acme> SELECT e ->> 'n' AS n FROM jsonb_array_elements('[{"n":1},{"n":2}]') AS e;
n
1
2
(2 rows)
acme> SELECT * FROM jsonb_array_elements_text('[1,"x",null]') WITH ORDINALITY;
value|ordinality
1|1
x|2
NULL|3
(3 rows)
acme> SELECT jsonb_object_keys('{"b":1,"a":2,"cc":3}');
jsonb_object_keys
a
b
cc
(3 rows)
acme> SELECT jsonb_array_length('{"a":1}');
ERROR 22023: cannot get array length of a non-array
acme> SELECT json_build_object('a');
ERROR 22023
acme> SELECT json_build_object(NULL, 1);
ERROR 22023: null value not allowed for object key
