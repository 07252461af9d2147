//! The two worlds: the same script of A beside a B that is full, empty or absent. What A hears is kept and compared.

use crate::common::Seed;
use crate::common::canary::Canary;
use crate::common::raw::{Raw, text_rows};
use crate::common::server::{Server, rows};

/// A's name and B's, in every world.
pub const A: &str = "acme";
/// See [`A`].
pub const B: &str = "umbra-x7q2k9w4";
/// A user of B's who is no user of A's.
pub const B_USER: &str = "hidden_m3v8t5";

/// How much of B there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    Full,
    Empty,
    Absent,
}

/// What B holds, in the words that attacks use for it.
#[derive(Clone, Debug)]
pub struct Facts {
    pub token: String,
    pub title: String,
    pub question: String,
    pub document: String,
    pub chunk: String,
    pub usage: String,
    pub vector: String,
    pub conversation: String,
    pub message: String,
}

impl Facts {
    /// The attack with B's own words in it.
    pub fn attack(&self, template: &str, name: &str) -> String {
        [
            ("{token}", self.token.as_str()),
            ("{b}", B),
            ("{b_user}", B_USER),
            ("{b_document}", &self.document),
            ("{b_chunk}", &self.chunk),
            ("{b_usage}", &self.usage),
            ("{b_vector}", &self.vector),
            ("{b_conversation}", &self.conversation),
            ("{b_message}", &self.message),
            ("{b_title}", &self.title),
            ("{b_question}", &self.question),
            ("{b_provider}", PROVIDER),
            ("{name}", name),
        ]
        .iter()
        .fold(template.to_owned(), |sql, (from, to)| sql.replace(from, to))
    }

    /// Facts of nobody: the same shapes, so that a thing that never existed can be asked for like a foreign one.
    pub fn of_nobody(&self) -> Self {
        let other = |id: &str| {
            let last = if id.ends_with('0') { '1' } else { '0' };
            format!("{}{last}", &id[..id.len() - 1])
        };
        Self {
            document: other(&self.document),
            chunk: other(&self.chunk),
            usage: other(&self.usage),
            conversation: other(&self.conversation),
            message: other(&self.message),
            ..self.clone()
        }
    }
}

/// A server with A and, as far as there is one, B.
pub struct World {
    pub server: Server,
    /// Secrets that A does not put into its own statements, so that any sight of them is a leak.
    pub canaries: Vec<Canary>,
    /// Only in a full world.
    pub facts: Option<Facts>,
}

/// A word that only B's documents hold and that no attack repeats: a leak cannot be an echo.
const UNSAID: &str = "Zyxq8Unsaid4Pomegranate7Ledger";
/// A budget that B has set itself.
const AMOUNT: &str = "4.242424242";
/// The operator's key of [`PROVIDER`], which nobody is ever told.
const OPERATORS_KEY: &str = "sk-Zyxq9Unsaid5Operators8Key";
/// A provider that every world has. B has a key of its own for it, with [`UNSAID`] in it.
const PROVIDER: &str = "openai";

impl World {
    /// A world from scratch.
    pub async fn with(neighbour: Neighbour) -> Self {
        let server = Server::start("wall");
        server.create_tenants(&[A]).await;
        if neighbour != Neighbour::Absent {
            server.create_tenants(&[B]).await;
        }
        let provider = format!(
            "INSERT INTO bulkhead.providers (name, base_url, api_key) \
             VALUES ('{PROVIDER}', 'http://127.0.0.1:9/v1', '{OPERATORS_KEY}')"
        );
        let operator = server.operator().await;
        operator
            .batch_execute(&provider)
            .await
            .expect("the operator has a provider");
        // How fast a bucket refills would show in what A hears, and differ from run to run.
        let generous = "UPDATE bulkhead.tiers SET tokens_per_minute = 1000000000, tokens_per_day = 1000000000, \
             requests_per_minute = 1000000000, concurrent_calls = 1000";
        operator
            .batch_execute(generous)
            .await
            .expect("the operator may change tiers");
        let a = server.connect(A, "owner").await;
        for (title, content) in [
            ("Attic", "The lamp is in the attic, beside the trunk."),
            ("Cellar", "The boat is in the cellar. Nobody rows it."),
            ("Office", "The printer eats paper on Mondays."),
        ] {
            let sql = format!("INSERT INTO ai.documents (title, content) VALUES ('{title}', '{content}')");
            a.batch_execute(&sql).await.expect("A can write its documents");
        }
        let mut world = Self {
            server,
            canaries: vec![Canary::text(OPERATORS_KEY)],
            facts: None,
        };
        if neighbour == Neighbour::Full {
            world.fill().await;
        }
        world
    }

    async fn fill(&mut self) {
        let mut seed = Seed(7);
        let token = format!("cnry{}", seed.word(12));
        let title = format!("Secret title {}", seed.word(8));
        let b = self.server.connect(B, "owner").await;
        let sql = format!("CREATE USER {B_USER} PASSWORD 'pw-{B_USER}' IN ROLE member");
        b.batch_execute(&sql).await.expect("B can make users");
        let question = format!("What is kept under the marble staircase of {token}?");
        let story = format!("Under the marble staircase of {token} we keep {UNSAID} and nine lamps in the attic.");
        let mut statements = vec![format!(
            "INSERT INTO ai.documents (title, content, metadata) VALUES ('{title}', '{story}', '{{\"secret\": \"{UNSAID}\"}}')"
        )];
        for i in 0..40 {
            let words: Vec<String> = (0..60).map(|_| seed.word(6)).collect();
            let text = format!("{token} lamp boat printer {UNSAID} {} {}", i, words.join(" "));
            statements.push(format!(
                "INSERT INTO ai.documents (title, content) VALUES ('{UNSAID} {i}', '{text}')"
            ));
        }
        statements.push(format!("SELECT ai.create_conversation('About {token} {UNSAID}')"));
        for role in ["user", "assistant"] {
            statements.push(format!(
                "SELECT ai.add_message(id, '{role}', '{token} {UNSAID}') FROM ai.conversations"
            ));
        }
        statements.push(format!("SELECT bulkhead.set_budget('month', {AMOUNT}, hard => false)"));
        statements.push(format!("SELECT bulkhead.set_provider_key('{PROVIDER}', 'sk-{UNSAID}')"));
        statements.push(format!("SELECT ai.rag('{question} {UNSAID}')"));
        statements.push(format!("SELECT * FROM ai.search('{token} {UNSAID}')"));
        for sql in &statements {
            b.simple_query(sql)
                .await
                .unwrap_or_else(|e| panic!("B cannot fill itself: {sql}: {e:?}"));
        }
        let found = rows(&b, &format!("SELECT id FROM ai.documents WHERE title = '{title}'")).await;
        let document = found[0][0].clone();
        let sql = format!("SELECT id, embedding FROM ai.chunks WHERE document_id = '{document}' ORDER BY chunk_no");
        let chunk = rows(&b, &sql).await[0].clone();
        let message = rows(&b, "SELECT conversation_id, id FROM ai.messages WHERE seq = 2").await[0].clone();
        let usage = rows(&b, "SELECT id FROM bulkhead.usage WHERE operation = 'rag'").await[0][0].clone();
        // The positive control: what A must not find, B finds, and the search for canaries sees it.
        let mut own = self.server.raw(B, "owner").await;
        let answer = own
            .query(&format!("SELECT content FROM ai.search('{token}', k => 3)"))
            .await;
        assert_eq!(text_rows(&answer).len(), 3, "B finds its own documents: {answer:?}");
        // A says the vector of B's document in its attacks, so the canary is that of another one.
        let sql = format!("SELECT embedding FROM ai.chunks WHERE content LIKE '{token} lamp%' LIMIT 1");
        let unsaid_vector = rows(&b, &sql).await[0][0].clone();
        let (text, vector) = (
            Canary::text(UNSAID),
            Canary::vector("an embedding of B's", &unsaid_vector),
        );
        assert!(text.found_in(&own.heard).is_some(), "the tap hears");
        own.query(&sql).await;
        assert!(vector.found_in(&own.heard).is_some(), "the tap hears vectors");
        self.canaries.extend([text, vector, Canary::text(AMOUNT)]);
        own.prepared(&sql, &[], 1).await;
        let vector = chunk[1].clone();
        let (chunk, usage) = (chunk[0].clone(), usage);
        self.facts = Some(Facts {
            token,
            title,
            question,
            document,
            chunk,
            usage,
            vector,
            conversation: message[0].clone(),
            message: message[1].clone(),
        });
    }

    /// A session of A's that keeps all that it hears.
    pub async fn a(&self) -> Raw {
        self.server.raw(A, "owner").await
    }
}

/// The tap itself: a secret is heard in every form, at any place, and silence is silence.
#[test]
fn the_tap_hears_every_form() {
    use crate::common::canary::hex;
    use base64::Engine as _;
    let secret = "Zyxq8Unsaid4Pomegranate7Ledger";
    let canary = Canary::text(secret);
    for before in 0..7 {
        let around = format!("{}{secret}, and more", "p".repeat(before));
        let encoded = base64::engine::general_purpose::STANDARD.encode(&around);
        for form in [around.clone(), around.to_uppercase(), hex(around.as_bytes()), encoded] {
            let heard = format!("D\0\0\0{form}\0Z");
            assert!(canary.found_in(heard.as_bytes()).is_some(), "not heard: {heard}");
        }
    }
    assert!(canary.found_in(b"Zyxq8Unsaid4Pomegranate7Ledge").is_none());
    let values = [0.0_f32, 0.25, -0.125, 0.0, 0.333, 1e-9, 0.0, 7.0];
    let canary = Canary::floats("a vector", &values);
    let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    for form in [
        &little,
        &big,
        &hex(&little).into_bytes(),
        &b"[9,0,0.25,-0.125,0,0.333,0.000000001,0,7]".to_vec(),
    ] {
        assert!(canary.found_in(form).is_some(), "not heard: {form:?}");
    }
    assert!(canary.found_in(&little[4..]).is_none());
}

/// What is masked is what may differ between two runs, and nothing that looks alike.
#[test]
fn masks_hide_ids_and_clocks_only() {
    use crate::common::picture::{date, masked, today};
    let now = date(today());
    let text = format!(
        "{now} 12:34:56.789+00 {now}T01:02:03Z {now} 2001-02-03 04:05:06 6f9619ff-8b86-d011-b42d-00c04fc964ff 6f9619ff-8b86"
    );
    assert_eq!(
        masked(&text),
        "{time} {time} {today} 2001-02-03 04:05:06 {uuid} 6f9619ff-8b86"
    );
    assert_eq!(date(0), "1970-01-01");
    assert_eq!(date(19_782), "2024-02-29");
}
