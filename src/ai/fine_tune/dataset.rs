//! Examples for training, out of what the users of one tenant agreed to and rated well.
//!
//! An example is a run of turns in a row whose replies were all rated high enough, in OpenAI's chat format: the system
//! messages before it, then what the user said and the model replied. Providers train on every reply of an example, so
//! a reply that nobody rated, or rated low, ends a run and is in none; and a reply is in one example only.

use serde::Serialize;

use crate::{
    ai::conversation::{Conversations, Message, Role, store::consenting},
    error::{Code, Error, Result},
    limits,
    tenant::Tenant,
};

/// One message of an example.
#[derive(Clone, Debug, Serialize)]
struct Line<'a> {
    role: &'static str,
    content: &'a str,
}

/// One example: a line of the file.
#[derive(Serialize)]
struct Example<'a> {
    messages: &'a [Line<'a>],
}

/// The examples of a tenant at `now` (microseconds since 1970, UTC), one JSON object each: of the users who agree at
/// present, by name, from the conversations that are there at present, the newest first.
///
/// # Errors
/// [`Code::TooLarge`] for more than [`limits::FINE_TUNE_LINES`] or [`limits::FINE_TUNE_BYTES`], [`Code::Corrupted`].
pub fn lines(tenant: &Tenant, min_rating: u8, now: i64) -> Result<Vec<String>> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    for user in consenting(tenant)? {
        let stored = Conversations::of(tenant, &user, now);
        for conversation in stored.list() {
            let messages = stored.messages(conversation?.id).collect::<Result<Vec<_>>>()?;
            for example in examples(&messages, min_rating)? {
                bytes += example.len() + 1;
                if all.len() >= limits::FINE_TUNE_LINES || bytes > limits::FINE_TUNE_BYTES {
                    return Err(too_large());
                }
                all.push(example);
            }
        }
    }
    Ok(all)
}

fn too_large() -> Error {
    Error::new(
        Code::TooLarge,
        format!(
            "there are more than {} examples or {} bytes of them",
            limits::FINE_TUNE_LINES,
            limits::FINE_TUNE_BYTES
        ),
    )
    .with_hint("ask for a higher min_rating")
}

/// The examples of one conversation, whose messages are in order.
fn examples(messages: &[Message], min_rating: u8) -> Result<Vec<String>> {
    let mut run = Run::default();
    for message in messages {
        let body = &message.body;
        match body.role {
            Role::System => run.system.push(&body.content),
            // As in a call: a tool's answer without the call's id is text to a model.
            Role::User | Role::Tool => run.asked.push((body.role, &body.content, body.tokens)),
            Role::Assistant => {
                let good = message.rating.is_some_and(|rating| rating >= min_rating);
                run.answered(good.then_some((&*body.content, body.tokens)))?;
            }
        }
    }
    run.end()?;
    Ok(run.done)
}

/// Turns in a row that belong into one example.
#[derive(Default)]
struct Run<'a> {
    system: Vec<&'a str>,
    turns: Vec<Line<'a>>,
    tokens: usize,
    /// What was said since the last reply.
    asked: Vec<(Role, &'a str, u32)>,
    done: Vec<String>,
}

impl<'a> Run<'a> {
    /// A reply came: one that may be learnt, or `None`.
    fn answered(&mut self, reply: Option<(&'a str, u32)>) -> Result<()> {
        let mut asked = std::mem::take(&mut self.asked);
        if self.turns.is_empty() {
            // An example starts at what a user said.
            let start = asked.iter().position(|(role, ..)| *role == Role::User);
            asked.drain(..start.unwrap_or(asked.len()));
        }
        let reply = reply.filter(|(text, _)| !text.is_empty() && !asked.is_empty());
        let Some((reply, reply_tokens)) = reply else {
            return self.end();
        };
        let asked_tokens: usize = asked.iter().map(|(.., tokens)| *tokens as usize).sum();
        let tokens = asked_tokens + reply_tokens as usize;
        if tokens > limits::FINE_TUNE_EXAMPLE_TOKENS {
            // Half of it would teach to stop in the middle.
            return self.end();
        }
        if self.tokens + tokens > limits::FINE_TUNE_EXAMPLE_TOKENS {
            self.end()?;
        }
        self.tokens += tokens;
        let said = asked.into_iter().map(|(_, content, _)| Line { role: "user", content });
        self.turns.extend(said);
        self.turns.push(Line {
            role: "assistant",
            content: reply,
        });
        Ok(())
    }

    /// Makes an example of what is gathered.
    fn end(&mut self) -> Result<()> {
        self.tokens = 0;
        let turns = std::mem::take(&mut self.turns);
        if turns.is_empty() {
            return Ok(());
        }
        let system = self.system.join("\n\n");
        let mut messages = Vec::with_capacity(turns.len() + 1);
        if !system.is_empty() {
            messages.push(Line {
                role: "system",
                content: &system,
            });
        }
        messages.extend(turns);
        let line = serde_json::to_string(&Example { messages: &messages }).map_err(Error::internal)?;
        self.done.push(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ai::conversation::Body;

    /// `(role, content, rating)` as a conversation.
    fn conversation(said: &[(Role, &str, Option<u8>)]) -> Vec<Message> {
        let message = |(i, (role, content, rating)): (usize, &(Role, &str, Option<u8>))| Message {
            id: Uuid::now_v7(),
            conversation_id: Uuid::nil(),
            seq: i as u32 + 1,
            created_at: 0,
            rating: *rating,
            body: Body::new(*role, content).unwrap(),
        };
        said.iter().enumerate().map(message).collect()
    }

    #[test]
    fn a_run_of_good_replies_is_an_example_and_a_bad_one_ends_it() {
        use Role::{Assistant, System, Tool, User};
        let messages = conversation(&[
            (System, "Be brief.", None),
            (Tool, "stray", None),
            (User, "one", None),
            (Assistant, "1", Some(5)),
            (User, "two", None),
            (Tool, "2 is even", None),
            (Assistant, "2", Some(4)),
            (User, "three", None),
            (Assistant, "bad", Some(3)),
            (User, "four", None),
            (Assistant, "unrated", None),
            (User, "five", None),
            (Assistant, "5", Some(4)),
            (Assistant, "again", Some(5)),
            (User, "open", None),
        ]);
        let system = r#"{"role":"system","content":"Be brief."}"#;
        let line = |turns: &[(&str, &str)]| {
            let turn = |(role, content): &(&str, &str)| format!(",{{\"role\":\"{role}\",\"content\":\"{content}\"}}");
            format!(
                "{{\"messages\":[{system}{}]}}",
                turns.iter().map(turn).collect::<String>()
            )
        };
        let first = line(&[
            ("user", "one"),
            ("assistant", "1"),
            ("user", "two"),
            ("user", "2 is even"),
            ("assistant", "2"),
        ]);
        let second = line(&[("user", "five"), ("assistant", "5")]);
        assert_eq!(examples(&messages, 4).unwrap(), [first, second]);
        assert_eq!(
            examples(&messages, 5).unwrap(),
            [line(&[("user", "one"), ("assistant", "1")])]
        );
    }

    #[test]
    fn long_runs_are_split_between_turns_and_nothing_is_cut() {
        use Role::{Assistant, User};
        let long = "word ".repeat(limits::FINE_TUNE_EXAMPLE_TOKENS * 2 / 3);
        let huge = "word ".repeat(limits::FINE_TUNE_EXAMPLE_TOKENS + 1);
        let messages = conversation(&[
            (User, "a", None),
            (Assistant, &long, Some(5)),
            (User, "b", None),
            (Assistant, &long, Some(5)),
            (User, "c", None),
            (Assistant, &huge, Some(5)),
            (User, "d", None),
            (Assistant, "short", Some(5)),
        ]);
        let made = examples(&messages, 1).unwrap();
        assert_eq!(made.len(), 3);
        assert!(made[..2].iter().all(|line| line.contains(long.trim_end())));
        assert!(made[2].contains("\"short\"") && !made[2].contains("\"c\""));
    }
}
