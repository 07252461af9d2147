# JSON is made, changed and taken apart as PostgreSQL does it; jsonb has one form.
acme> SELECT jsonb_build_object('a', 1, 'b', ARRAY[1, 2], 'c', NULL, 'd', '{"x":true}'::jsonb), json_build_array(1, 'two', NULL, 3.5);
acme> SELECT to_jsonb('x'::text), to_jsonb(1.50), to_json(ARRAY['a', 'b']), to_jsonb(true), to_jsonb(date '2024-02-29'), to_json(timestamp '2024-02-29 12:00');
acme> SELECT '{"a":1}'::jsonb || '{"b":2}', '{"a":1,"b":2}'::jsonb - 'a', '["x","y"]'::jsonb - 0, '{"a":{"b":1,"c":2}}'::jsonb #- '{a,b}';
acme> SELECT '{"a":1}'::jsonb ?| array['b', 'a'], '{"a":1}'::jsonb ?& array['a', 'b'], '{"a":1,"b":2}'::jsonb @> '{"a":1}';
acme> SELECT jsonb_set('{"a":1}', '{a}', '2'), jsonb_set('{"a":1}', '{b}', '3', false), jsonb_insert('{"a":[1,2]}', '{a,1}', '9'), jsonb_strip_nulls('{"a":1,"b":null}');
acme> SELECT json_agg(x ORDER BY x), jsonb_agg(x ORDER BY x DESC), jsonb_object_agg('k' || x, x) FROM generate_series(1, 3) AS g(x);
acme> SELECT json_agg(x) FROM generate_series(1, 0) AS g(x);
acme> SELECT key, value FROM jsonb_each('{"b":{"c":2},"a":1}');
acme> SELECT e ->> 'n' AS n FROM jsonb_array_elements('[{"n":1},{"n":2}]') AS e;
acme> SELECT * FROM jsonb_array_elements_text('[1,"x",null]') WITH ORDINALITY;
acme> SELECT jsonb_object_keys('{"b":1,"a":2,"cc":3}');
acme> SELECT jsonb_array_length('{"a":1}');
ERROR 22023: cannot get array length of a non-array
acme> SELECT json_build_object('a');
ERROR 22023
acme> SELECT json_build_object(NULL, 1);
ERROR 22023: null value not allowed for object key
