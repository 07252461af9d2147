# Conversations belong to one user of one tenant. Nobody else of either sees that they exist.
acme> CREATE USER ada PASSWORD 'pw-ada' IN ROLE member;
acme> CREATE USER bob PASSWORD 'pw-bob' IN ROLE member;
acme> CREATE USER app PASSWORD 'pw-app' IN ROLE service;
acme> CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
umbra> CREATE USER ada PASSWORD 'pw-ada' IN ROLE member;
acme/ada> SELECT ai.create_conversation('Anvils', metadata => '{"topic": "trade"}');
create_conversation
{uuid}
(1 row)
acme/ada> SELECT ai.create_conversation(title => 'Rail', retention_days => 30) IS NOT NULL AS made;
made
t
(1 row)
acme/bob> SELECT ai.create_conversation() IS NOT NULL AS made;
made
t
(1 row)
umbra/ada> SELECT ai.create_conversation('Umbrellas') IS NOT NULL AS made;
made
t
(1 row)
acme/ada> SELECT * FROM ai.conversations;
id|user_id|title|created_at|updated_at|message_count|metadata
{uuid}|ada|Rail|{time}|{time}|0|{}
{uuid}|ada|Anvils|{time}|{time}|0|{"topic": "trade"}
(2 rows)
acme/bob> SELECT user_id, title, message_count FROM conversations;
user_id|title|message_count
bob|NULL|0
(1 row)
umbra/ada> SELECT user_id, title FROM conversations;
user_id|title
ada|Umbrellas
(1 row)
acme> SELECT count(*) FROM ai.conversations;
count
0
(1 row)
acme/ada> SELECT ai.add_message(id, 'system', 'You sell anvils.') FROM conversations WHERE title = 'Anvils';
add_message
{uuid}
(1 row)
acme/ada> SELECT ai.add_message(id, 'user', 'What does an anvil weigh?') IS NOT NULL AS said FROM conversations WHERE title = 'Anvils';
said
t
(1 row)
acme/ada> SELECT ai.add_message(id, 'assistant', 'Fifty kilograms.') IS NOT NULL AS said FROM conversations WHERE title = 'Anvils';
said
t
(1 row)
acme/ada> SELECT * FROM ai.messages;
id|conversation_id|seq|role|content|tokens|model|cost_usd|citations|rating|created_at
{uuid}|{uuid}|1|system|You sell anvils.|5|NULL|NULL|NULL|NULL|{time}
{uuid}|{uuid}|2|user|What does an anvil weigh?|7|NULL|NULL|NULL|NULL|{time}
{uuid}|{uuid}|3|assistant|Fifty kilograms.|4|NULL|NULL|NULL|NULL|{time}
(3 rows)
acme/ada> SELECT message_count, updated_at > created_at AS grown FROM conversations ORDER BY title;
message_count|grown
3|t
0|f
(2 rows)
acme/bob> SELECT * FROM ai.messages;
(0 rows)
acme/ada> SELECT m.seq, c.title FROM messages m JOIN conversations c ON c.id = m.conversation_id ORDER BY seq;
seq|title
1|Anvils
2|Anvils
3|Anvils
(3 rows)
# ratings are 1 to 5
acme/ada> SELECT ai.rate_message(id, 5) = id AS rated FROM messages WHERE role = 'assistant';
rated
t
(1 row)
acme/ada> SELECT ai.rate_message(id, 6) FROM messages WHERE role = 'assistant';
ERROR 22023
acme/ada> SELECT ai.rate_message(id, 0) FROM messages WHERE role = 'assistant';
ERROR 22023
acme/ada> SELECT seq, rating FROM messages ORDER BY seq;
seq|rating
1|NULL
2|NULL
3|5
(3 rows)
# what is not there is not found, whoever asks
acme/ada> SELECT ai.add_message('6f9619ff-8b86-d011-b42d-00c04fc964ff', 'user', 'hello');
ERROR P0002: conversation not found
acme/ada> SELECT ai.delete_conversation('6f9619ff-8b86-d011-b42d-00c04fc964ff');
ERROR P0002: conversation not found
acme/ada> SELECT ai.rate_message('6f9619ff-8b86-d011-b42d-00c04fc964ff', 3);
ERROR P0002: message not found
acme/ada> SELECT ai.add_message('nonsense', 'user', 'hello');
ERROR 22P02
acme/ada> SELECT ai.add_message(NULL, 'user', 'hello');
ERROR 22023
acme/ada> SELECT ai.add_message(id, 'robot', 'hello') FROM conversations WHERE title = 'Anvils';
ERROR 22023
acme/ada> SELECT ai.create_conversation('x', retention_days => 0);
ERROR 22023
acme/ada> SELECT ai.create_conversation('x', metadata => '[]');
ERROR 22023
acme/ada> UPDATE ai.messages SET content = 'other';
ERROR 42501
acme/ada> INSERT INTO ai.conversations (user_id) VALUES ('bob');
ERROR 42501
acme/ann> SELECT * FROM ai.conversations;
ERROR 42501
acme/ann> SELECT ai.create_conversation();
ERROR 42501
# a service acts for the user it names, and for nobody else
acme/app> SELECT count(*) FROM conversations;
count
0
(1 row)
acme/app> SET bulkhead.user = 'u42';
acme/app> SELECT ai.create_conversation('From the app') IS NOT NULL AS made;
made
t
(1 row)
acme/app> SELECT user_id, title FROM conversations;
user_id|title
u42|From the app
(1 row)
acme/app> SET bulkhead.user = 'u43';
acme/app> SELECT user_id, title FROM conversations;
(0 rows)
acme/app> SET bulkhead.user = 'u42';
acme/app> SELECT user_id, title FROM conversations;
user_id|title
u42|From the app
(1 row)
# a transaction sees its own messages; others see them when it commits
acme/ada> BEGIN;
acme/ada> SELECT ai.add_message(id, 'user', 'And two?') IS NOT NULL AS said FROM conversations WHERE title = 'Anvils';
said
t
(1 row)
acme/ada> SAVEPOINT s;
acme/ada> SELECT ai.add_message(id, 'user', 'No, wait.') IS NOT NULL AS said FROM conversations WHERE title = 'Anvils';
said
t
(1 row)
acme/ada> SELECT ai.rate_message(id, 1) IS NOT NULL AS rated FROM messages WHERE seq = 3;
rated
t
(1 row)
acme/ada> SELECT ai.delete_conversation(id) IS NOT NULL AS gone FROM conversations WHERE title = 'Rail';
gone
t
(1 row)
acme/ada> SELECT seq, content, rating FROM messages ORDER BY seq;
seq|content|rating
1|You sell anvils.|NULL
2|What does an anvil weigh?|NULL
3|Fifty kilograms.|1
4|And two?|NULL
5|No, wait.|NULL
(5 rows)
acme/ada> SELECT title, message_count FROM conversations;
title|message_count
Anvils|5
(1 row)
acme/ada> ROLLBACK TO s;
acme/ada> SELECT seq, content, rating FROM messages WHERE seq > 2 ORDER BY seq;
seq|content|rating
3|Fifty kilograms.|5
4|And two?|NULL
(2 rows)
acme/ada#2> SELECT title, message_count FROM conversations;
title|message_count
Rail|0
Anvils|3
(2 rows)
acme/ada#2> SELECT ai.add_message(id, 'user', 'From elsewhere.') IS NOT NULL AS said FROM conversations WHERE title = 'Anvils';
said
t
(1 row)
acme/ada> COMMIT;
acme/ada#2> SELECT seq, content FROM messages WHERE seq > 2 ORDER BY seq;
seq|content
3|Fifty kilograms.
4|From elsewhere.
5|And two?
(3 rows)
acme/ada> BEGIN;
acme/ada> SELECT ai.create_conversation('Never was') IS NOT NULL AS made;
made
t
(1 row)
acme/ada> SELECT ai.add_message(id, 'user', 'Gone too.') IS NOT NULL AS said FROM conversations WHERE title = 'Never was';
said
t
(1 row)
acme/ada> ROLLBACK;
acme/ada> SELECT title FROM conversations;
title
Rail
Anvils
(2 rows)
acme/ada> BEGIN;
acme/ada> SELECT ai.create_conversation('Kept') IS NOT NULL AS made;
made
t
(1 row)
acme/ada> SELECT ai.add_message(id, 'user', 'Kept too.') IS NOT NULL AS said FROM conversations WHERE title = 'Kept';
said
t
(1 row)
acme/ada> INSERT INTO documents (title, content) VALUES ('note', 'written with the conversation');
acme/ada> COMMIT;
acme/ada#2> SELECT c.title, m.content FROM conversations c JOIN messages m ON m.conversation_id = c.id WHERE c.title = 'Kept';
title|content
Kept|Kept too.
(1 row)
acme/ada#2> SELECT title FROM documents;
title
note
(1 row)
# deleting takes every message
acme/ada> SELECT ai.delete_conversation(id) = id AS gone FROM conversations WHERE title = 'Anvils';
gone
t
(1 row)
acme/ada> SELECT count(*) FROM messages;
count
1
(1 row)
acme/ada> SELECT title FROM conversations;
title
Kept
Rail
(2 rows)
acme/bob> SELECT count(*) FROM conversations;
count
1
(1 row)
# consent to training is asked for
acme/ada> SELECT ai.set_training_consent(true);
set_training_consent
t
(1 row)
acme/ada> SELECT ai.set_training_consent(NULL);
ERROR 22023
acme/ann> SELECT ai.set_training_consent(true);
ERROR 42501
