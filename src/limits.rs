//! How much of anything.
//!
//! Every bound has a name and a unit, and is compared with its neighbours at compile time.

use std::time::Duration;

/// Largest stored cell in bytes, header and seal included. sled moves larger values to files it
/// never fsyncs, so a longer value spans several cells.
pub const CELL_BYTES: usize = 4 << 10;
/// Where sled starts to write values into files of their own.
pub const SLED_BLOB_BYTES: usize = 128 << 10;
const _: () = assert!(CELL_BYTES < SLED_BLOB_BYTES);

/// Largest single stored value (a document's text, one row).
pub const VALUE_BYTES: usize = 16 << 20;
/// Cells a value may span; their count is stored in two bytes.
pub const VALUE_CELLS: usize = 8 << 10;
const _: () = assert!(VALUE_BYTES / (CELL_BYTES / 2) <= VALUE_CELLS);
const _: () = assert!(VALUE_CELLS <= u16::MAX as usize);

/// Largest transaction in sealed bytes.
pub const COMMIT_BYTES: usize = 256 << 20;
const _: () = assert!(VALUE_BYTES < COMMIT_BYTES);
/// How many sealed bytes the committer gathers before it syncs, and how many commits.
pub const GROUP_BYTES: usize = 8 << 20;
/// See [`GROUP_BYTES`].
pub const GROUP_COMMITS: usize = 512;
/// Commits waiting for the committer; more wait for a place.
pub const COMMIT_QUEUE: usize = 1024;
/// Free bytes on the data directory's disk below which writes are refused (deletes go on).
pub const MIN_FREE_BYTES: u64 = 256 << 20;

/// Largest frame a client may send before it has logged in (PostgreSQL: 10,000).
pub const STARTUP_FRAME_BYTES: usize = 10_000;
/// Startup parameters a client may send.
pub const STARTUP_PARAMETERS: usize = 128;
/// Largest frame after login.
pub const FRAME_BYTES: usize = 64 << 20;
const _: () = assert!(STARTUP_FRAME_BYTES < FRAME_BYTES);
/// Largest SQL text in bytes.
pub const STATEMENT_BYTES: usize = 16 << 20;
const _: () = assert!(STATEMENT_BYTES < FRAME_BYTES);
/// Tokens in one SQL text.
pub const STATEMENT_TOKENS: usize = 1_000_000;
/// How deep the parsed statement may be: open brackets and chained operators along one path.
pub const STATEMENT_DEPTH: usize = 400;
/// Items of one list (`IN (...)`, a function's arguments, an array).
pub const LIST_ITEMS: usize = 20_000;
/// Relations one statement may name (joins, set operations, WITH entries).
pub const STATEMENT_RELATIONS: usize = 128;
/// Parameters of one statement (two bytes on the wire).
pub const PARAMETERS: usize = 65_535;
/// Prepared statements a session may hold.
pub const SESSION_STATEMENTS: usize = 1_000;
/// Plans that a session keeps of texts, beside those of its prepared statements.
pub const SESSION_PLANS: usize = 48;
/// Bytes of a text, without its constants, whose plan is kept.
pub const PLAN_TEXT_BYTES: usize = 16 << 10;
/// Constants that are taken out of one statement.
pub const LIFTED_CONSTANTS: usize = 64;
/// Open portals a session may hold.
pub const SESSION_PORTALS: usize = 100;

/// From accepting a socket to a finished login.
pub const LOGIN_DEADLINE: Duration = Duration::from_secs(10);
/// Sockets that may be in the middle of a login at once.
pub const PENDING_LOGINS: usize = 2_000;
/// Connections in all, and of one tenant.
pub const CONNECTIONS: usize = 2_000;
/// See [`CONNECTIONS`].
pub const TENANT_CONNECTIONS: usize = 200;
const _: () = assert!(TENANT_CONNECTIONS < CONNECTIONS);
/// A client that takes no bytes for this long is gone.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// How long a stop waits for running statements.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Longest `statement_timeout`; also the default.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes gathered before they are written to a socket.
pub const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Query memory of one tenant, in bytes.
pub const TENANT_QUERY_BYTES: usize = 256 << 20;
/// Bytes that one call of a function may produce for one batch of rows.
pub const FUNCTION_RESULT_BYTES: u64 = 64 << 20;
const _: () = assert!(FUNCTION_RESULT_BYTES < TENANT_QUERY_BYTES as u64);
/// Stack of a thread that plans and runs statements; [`STATEMENT_DEPTH`] must fit in it.
pub const STACK_BYTES: usize = 32 << 20;
const _: () = assert!(STATEMENT_DEPTH * (64 << 10) <= STACK_BYTES);

/// Document title in bytes.
pub const TITLE_BYTES: usize = 64 << 10;
/// Document text in bytes.
pub const DOCUMENT_BYTES: usize = 8 << 20;
const _: () = assert!(TITLE_BYTES + DOCUMENT_BYTES < VALUE_BYTES);
/// Metadata of a document in bytes of JSON.
pub const METADATA_BYTES: usize = 64 << 10;
/// Depth of a JSON value.
pub const JSON_DEPTH: usize = 64;
/// Chunk size in characters, and how many of them neighbours share.
pub const CHUNK_CHARS: usize = 1_200;
/// See [`CHUNK_CHARS`].
pub const CHUNK_OVERLAP_CHARS: usize = 150;
const _: () = assert!(CHUNK_OVERLAP_CHARS * 2 < CHUNK_CHARS);
/// Largest question or search text in bytes.
pub const QUERY_BYTES: usize = 32 << 10;
/// Most rows one search returns.
pub const SEARCH_K: usize = 10_000;
/// Tokens of context packed into one RAG prompt.
pub const RAG_CONTEXT_TOKENS: usize = 3_000;

/// Dimensions of the built-in embedder.
pub const BUILTIN_DIMENSIONS: usize = 1024;
/// Most dimensions of any vector (pgvector: 16,000).
pub const VECTOR_DIMENSIONS: usize = 16_000;
const _: () = assert!(BUILTIN_DIMENSIONS <= VECTOR_DIMENSIONS);

/// How long counts of statements may stay in memory before they are written.
pub const METER_INTERVAL: Duration = Duration::from_secs(1);

/// How often one call of a model is sent to its provider, the first time included.
pub const PROVIDER_ATTEMPTS: u8 = 3;
/// Wait before the second attempt; it doubles with every further one.
pub const PROVIDER_BACKOFF: Duration = Duration::from_millis(250);
/// From opening a socket to a provider to the end of the TLS handshake.
pub const PROVIDER_CONNECT: Duration = Duration::from_secs(10);
/// How long a connection to a provider is kept for the next call.
pub const PROVIDER_IDLE: Duration = Duration::from_secs(30);
const _: () = assert!(PROVIDER_CONNECT.as_secs() < PROVIDER_TIMEOUT.as_secs());
/// Bytes of a provider's reply beside what the answer itself may take.
pub const PROVIDER_REPLY_BASE_BYTES: usize = 256 << 10;
/// Bytes of a reply per token that was asked for; a streamed token travels in an event of its own.
pub const PROVIDER_TOKEN_BYTES: usize = 1 << 10;
/// Largest reply of a provider, whatever was asked.
pub const PROVIDER_REPLY_BYTES: usize = 64 << 20;
/// Largest event of a streamed reply.
pub const PROVIDER_EVENT_BYTES: usize = 1 << 20;
const _: () = assert!(PROVIDER_REPLY_BASE_BYTES < PROVIDER_EVENT_BYTES && PROVIDER_EVENT_BYTES < PROVIDER_REPLY_BYTES);
/// How much of a provider's complaint is read, in bytes.
pub const PROVIDER_COMPLAINT_BYTES: usize = 64 << 10;
/// How long is waited for the rest of it.
pub const PROVIDER_COMPLAINT: Duration = Duration::from_secs(5);
/// How much of it is shown, in characters.
pub const PROVIDER_MESSAGE_CHARS: usize = 500;
/// Providers and keys whose connections are kept.
pub const PROVIDER_CLIENTS: usize = 256;
/// Length of an id that a provider gives to a file, job or model, in bytes.
pub const PROVIDER_ID_BYTES: usize = 256;
/// More tokens than any one call can have; a provider that reports more is not believed.
pub const CALL_TOKENS: i64 = 1_000_000_000;

/// SCRAM iterations (RFC 7677 asks for at least 4096).
pub const SCRAM_ITERATIONS: u32 = 4096;
/// Length of a user or tenant name in bytes.
pub const NAME_BYTES: usize = 63;
/// Password length in bytes.
pub const PASSWORD_BYTES: usize = 1024;
/// Failed logins per user and address that cost nothing extra.
pub const FREE_FAILURES: u32 = 3;
/// Longest extra wait after failed logins.
pub const LOGIN_DELAY_MAX: Duration = Duration::from_secs(8);
const _: () = assert!(LOGIN_DELAY_MAX.as_secs() < LOGIN_DEADLINE.as_secs());
/// Names and addresses remembered for throttling.
pub const THROTTLE_ENTRIES: usize = 100_000;
/// Longest key of a stored value in bytes. sled's index pages hold some 256 keys, and a page over
/// [`SLED_BLOB_BYTES`] would become a file of its own.
pub const KEY_BYTES: usize = 256;
const _: () = assert!(KEY_BYTES * 300 < SLED_BLOB_BYTES);
/// Tenants a store may ever have had, dropped ones included (they stay listed in memory).
pub const TENANTS: usize = 1_000_000;

/// Wrong keys one address may send in cancel requests before they are no longer looked at.
pub const CANCEL_GUESSES: u32 = 10;
/// How long it takes until one of them is forgotten.
pub const CANCEL_GUESS_INTERVAL: Duration = Duration::from_secs(6);
/// A session that asks for nothing for this long is ended.
pub const IDLE_SESSION: Duration = Duration::from_secs(24 * 60 * 60);
/// The same inside an open transaction.
pub const IDLE_TRANSACTION: Duration = Duration::from_secs(60 * 60);
const _: () = assert!(IDLE_TRANSACTION.as_secs() <= IDLE_SESSION.as_secs());

/// How often a running statement looks whether its client is still there.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// Calls of one function that a statement has under way at once.
pub const STATEMENT_CALLS: usize = 8;
/// Answers of functions that a statement remembers, so that one input is asked once.
pub const STATEMENT_ANSWERS: usize = 10_000;
/// Notices one statement sends.
pub const STATEMENT_NOTICES: usize = 100;
/// Texts and tokens that one call of an embedding model takes, and how many such calls a statement makes at once.
pub const EMBED_TEXTS: usize = 64;
pub const EMBED_TOKENS: usize = 32_768;
pub const EMBED_CALLS: usize = 4;
/// Messages of one conversation.
pub const CONVERSATION_MESSAGES: u32 = 10_000;
/// One message in bytes.
pub const MESSAGE_BYTES: usize = 1 << 20;
const _: () = assert!(MESSAGE_BYTES < VALUE_BYTES);
/// Most days a conversation may ask to be kept.
pub const RETENTION_DAYS: u32 = 36_500;
/// Tokens of the text that stands for the older part of a conversation.
pub const SUMMARY_TOKENS: usize = 1_000;
/// How often what has expired is looked for.
pub const PURGE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Answers that one tenant's cache holds, and their bytes.
pub const CACHE_ENTRIES: usize = 10_000;
/// See [`CACHE_ENTRIES`].
pub const CACHE_BYTES: usize = 64 << 20;
/// An answer over this size is not kept.
pub const CACHE_ANSWER_BYTES: usize = 1 << 20;
const _: () = assert!(CACHE_ANSWER_BYTES * 2 <= CACHE_BYTES && CACHE_ANSWER_BYTES < VALUE_BYTES);
/// How long an idempotency key stands for its call.
pub const REPLAY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest idempotency key in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Longest key of a provider, in bytes.
pub const PROVIDER_KEY_BYTES: usize = 512;
/// Longest URL of a provider or a webhook, in bytes.
pub const URL_BYTES: usize = 2 << 10;
/// Longest time for which an answer may be given again.
pub const CACHE_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Messages of a conversation that a model may be told of.
pub const MEMORY_MESSAGES: i64 = 1_000;
/// Tokens of a conversation that a model may be told.
pub const MEMORY_TOKENS: i64 = 1_000_000;
/// Bytes of a system prompt that the operator sets for a tenant.
pub const SYSTEM_PROMPT_BYTES: usize = 32 << 10;
/// Alerts that wait for a session that listens; a slower one misses the oldest.
pub const ALERTS_AHEAD: usize = 256;
/// Longest time of one request to a provider, where none is said.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(60);
const _: () = assert!(PROVIDER_TIMEOUT.as_secs() <= STATEMENT_TIMEOUT.as_secs());
/// Former versions of a tenant's system prompt that are kept.
pub const PROMPT_VERSIONS: usize = 20;
/// Users of one tenant whose counters and rate limits stay in memory; others are read when they call.
pub const ACCOUNT_USERS: usize = 10_000;
/// Orphaned calls settled in one commit when a tenant is opened.
pub const ORPHANS_A_COMMIT: usize = 500;
/// When to come again after the limit of concurrent calls: nobody knows when a call ends.
pub const CONCURRENCY_RETRY: Duration = Duration::from_millis(100);
/// Longest `bulkhead.limit_wait`.
pub const LIMIT_WAIT: Duration = Duration::from_secs(60);
const _: () = assert!(LIMIT_WAIT.as_secs() < STATEMENT_TIMEOUT.as_secs());
/// Alerts that a subscriber may lag behind before it misses some (they stay in `bulkhead.alerts`).
pub const ALERT_BACKLOG: usize = 256;
/// Bytes of a price file.
pub const PRICE_FILE_BYTES: usize = 32 << 20;
/// One prompt of `ai.complete` in bytes.
pub const PROMPT_BYTES: usize = 4 << 20;
/// Pieces of an answer that wait for a slow reader.
pub const STREAM_PIECES: usize = 64;
/// Tokens that instructions, question and format take beside the passages of a prompt.
pub const RAG_INSTRUCTION_TOKENS: i64 = 200;

/// How long an answer is given again, unless a session asks for less or more.
pub const CACHE_TTL: Duration = Duration::from_secs(3_600);

/// Examples below which there is no fine-tuning: what OpenAI asks for at least.
pub const FINE_TUNE_EXAMPLES: usize = 10;
/// Examples of one fine-tuning, and their bytes.
pub const FINE_TUNE_LINES: usize = 50_000;
/// See [`FINE_TUNE_LINES`].
pub const FINE_TUNE_BYTES: usize = 16 << 20;
const _: () = assert!(MESSAGE_BYTES < FINE_TUNE_BYTES && FINE_TUNE_EXAMPLES < FINE_TUNE_LINES);
/// Tokens of one example; a longer run of turns becomes several.
pub const FINE_TUNE_EXAMPLE_TOKENS: usize = 16_000;
/// Fine-tunings of one tenant that have not ended.
pub const FINE_TUNES_RUNNING: usize = 3;
/// Models of one tenant's own.
pub const OWN_MODELS: usize = 100;
const _: () = assert!(FINE_TUNES_RUNNING < OWN_MODELS);
/// How often is looked for fine-tunings to ask for.
pub const FINE_TUNE_TICK: Duration = Duration::from_millis(500);
/// Wait between two times that a provider is asked for a fine-tuning; it doubles with each that brought nothing new.
pub const FINE_TUNE_POLL: Duration = Duration::from_secs(1);
/// Longest such wait.
pub const FINE_TUNE_POLL_MAX: Duration = Duration::from_secs(120);
/// Tenants whose fine-tunings are asked for at once.
pub const FINE_TUNE_CALLS: usize = 8;
/// A fine-tuning that has not ended by then is given up.
pub const FINE_TUNE_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often one alert is posted to a webhook, the first time included.
pub const WEBHOOK_ATTEMPTS: u32 = 5;
/// Wait before the second attempt; it doubles with every further one.
pub const WEBHOOK_BACKOFF: Duration = Duration::from_secs(1);
/// Longest time of one attempt.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a tenant's documents must be embedded by another model, and whether a limit that
/// keeps such a job from going on was raised.
pub const REEMBED_POLL: Duration = Duration::from_secs(5);
/// Longest time of one call that embeds documents anew.
pub const REEMBED_CALL: Duration = Duration::from_secs(60);
/// Calls in a row that may fail before such a job fails, and the pause after the first; it doubles each time.
pub const REEMBED_ATTEMPTS: u32 = 6;
/// See [`REEMBED_ATTEMPTS`].
pub const REEMBED_BACKOFF: Duration = Duration::from_secs(1);
/// Rounds of what was written meanwhile before writers wait for the last one.
pub const REEMBED_ROUNDS: u32 = 5;
/// How long writers wait for that at most, before they are let through once more.
pub const REEMBED_LAST: Duration = Duration::from_secs(10);
/// Vectors deleted in one commit.
pub const VECTORS_A_COMMIT: usize = 1_000;
/// Rows whose calls of models EXPLAIN sizes.
pub const EXPLAIN_ROWS: usize = 10_000;
/// Runs of a kept physical plan before it is made anew: its operators gather figures of each run.
pub const KEPT_PLAN_RUNS: usize = 1_000;

/// Rows, and bytes of their values, that COPY reads before it hands them on.
pub const COPY_BATCH_ROWS: usize = 8 << 10;
/// See [`COPY_BATCH_ROWS`].
pub const COPY_BATCH_BYTES: usize = 4 << 20;
/// Largest row of a COPY FROM STDIN, as it is written.
pub const COPY_ROW_BYTES: usize = 32 << 20;
const _: () = assert!(COPY_BATCH_BYTES < COPY_ROW_BYTES && DOCUMENT_BYTES + TITLE_BYTES < COPY_ROW_BYTES);
/// Longest payload of a NOTIFY, in bytes (PostgreSQL: under 8,000).
pub const NOTIFY_BYTES: usize = 7_999;
/// Notifications that one transaction may send.
pub const TRANSACTION_NOTIFIES: usize = 10_000;
/// Transactions whose notifications wait for a session that listens; a slower one misses the oldest.
pub const NOTIFIES_AHEAD: usize = 1_024;
/// Channels that a session may listen to.
pub const SESSION_CHANNELS: usize = 1_000;
/// Bytes of rows that a cursor keeps: one that scrolls, or that outlives its transaction.
pub const CURSOR_BYTES: usize = 32 << 20;
const _: () = assert!(CURSOR_BYTES < TENANT_QUERY_BYTES);

/// Entries of a tenant's audit log that wait in memory for a commit; what comes beyond is counted.
pub const AUDIT_WAITING: usize = 50_000;
/// Of these so many go with one commit.
pub const AUDIT_A_COMMIT: usize = 1_000;
/// Bytes of a name in an entry, and of the message of a refusal.
pub const AUDIT_NAME_BYTES: usize = 1 << 10;
/// See [`AUDIT_NAME_BYTES`].
pub const AUDIT_MESSAGE_BYTES: usize = 512;
/// Bytes of a prompt in an entry, where prompts are logged.
pub const AUDIT_PROMPT_BYTES: usize = 4 << 10;
const _: () = assert!(AUDIT_A_COMMIT * (3 * AUDIT_NAME_BYTES + 2 * AUDIT_PROMPT_BYTES) < VALUE_BYTES);
/// How long a statement that is cancelled may still take to give an answer that was just paid for.
pub const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Statements of one transaction that have entries of their own; beyond, those that do the same to the same
/// share one.
pub const AUDIT_TRAIL: usize = 1_000;

/// Rows of a block of a table.
pub const BLOCK_ROWS: usize = 8_192;
/// Rows of one batch of a scan.
pub const SCAN_ROWS: usize = 8_192;
const _: () = assert!(BLOCK_ROWS <= SCAN_ROWS);
/// Bytes of a block's values in memory; rows that are larger make blocks of fewer rows.
pub const BLOCK_BYTES: usize = 16 << 20;
const _: () = assert!(BLOCK_BYTES * 2 < COMMIT_BYTES);
/// Columns of blocks that one tenant keeps at hand, in bytes.
pub const TABLE_CACHE_BYTES: usize = 256 << 20;
/// Memory that the indexes of one tenant's tables and the rows that are in no block may take. A row in no block takes
/// its bytes and 64 more; an entry of an index 51 bytes, and its key's bytes where the key is longer than 22.
pub const TENANT_TABLE_BYTES: usize = 1 << 30;
/// Rows in no block at which a table is folded.
pub const FOLD_ROWS: usize = 2 * BLOCK_ROWS;
/// A block is written anew when more than one in so many of its rows have changed or are gone.
pub const FOLD_SHARE: usize = 4;
/// Rows or keys locked one by one; for more the table is locked.
pub const ROW_LOCKS: usize = 10_000;
/// Locks that one transaction may hold.
pub const TRANSACTION_LOCKS: usize = 200_000;
const _: () = assert!(ROW_LOCKS < TRANSACTION_LOCKS);
/// Numbers of a sequence that are written ahead; a crash may lose as many.
pub const SEQUENCE_AHEAD: u64 = 32;
/// Numbers of a sequence that are taken at once.
pub const SEQUENCE_NUMBERS: u64 = 1_000_000;
/// How long the work on tables in the background rests after it has failed.
pub const FOLD_REST: Duration = Duration::from_secs(1);
/// Cells that are removed in one commit in the background.
pub const GARBAGE_CELLS: usize = 1_000;
/// Tables whose rules a session keeps planned.
pub const SESSION_RULES: usize = 256;
/// Rows that an INSERT gathers before it writes them as blocks of columns, and locks the table rather than keys.
pub const BULK_ROWS: usize = 8_192;
/// How often a statement of READ COMMITTED computes again what others changed while it waited for locks.
pub const LOOKS: usize = 1_000;
/// How deep ON DELETE CASCADE and its kind may go.
pub const CASCADES: usize = 100;

/// Tables, views and sequences of one tenant.
pub const TENANT_RELATIONS: usize = 10_000;
/// Columns of a table, as in PostgreSQL.
pub const TABLE_COLUMNS: usize = 1_600;
/// Views that one view may be over, one over the other.
pub const VIEW_DEPTH: usize = 32;
/// Keys that one look into an index is for.
pub const INDEX_KEYS: usize = 1_000;
/// Rows that an index may always find; of more it may find an eighth of the table before the table is read instead.
pub const INDEX_ROWS: usize = 1_000;
/// Rows that are read at once, without a thread of their own.
pub const INLINE_ROWS: usize = 1_024;

/// Longest `char(n)` that is shown with the spaces that pad it: a batch of rows stays below 10 MiB of them.
pub const PADDED_CHARACTERS: usize = 1_024;
/// Rows from which the vectors of a table's column are kept in memory for nearest searches.
pub const SHARD_ROWS: u64 = 512;
/// Bytes that the vectors of all tenants may take in memory where nobody says otherwise and the machine does not tell
/// how much it has.
pub const VECTOR_MEMORY_BYTES: usize = 1 << 30;
/// The part of the machine's memory that they may take where nobody says otherwise: one in so many.
pub const VECTOR_MEMORY_SHARE: usize = 2;
/// Rows by which vectors in memory may differ from what a statement sees before it scans the table.
pub const SHARD_LAG: usize = 4_096;
/// From a commit to the moment at which vectors in memory follow it, unless a search makes them follow first.
pub const SHARD_DELAY: Duration = Duration::from_millis(250);
/// Rows that pass a filter up to which their vectors are fetched and compared one by one.
pub const NEAREST_FEW: usize = 1_024;
