//! What of a conversation a model is shown: as much of its end as fits.
//!
//! Pure: messages in, a choice out. Whatever the policy, what is shown is the system message in
//! force, perhaps a summary, and an unbroken end of the conversation that begins with a user's
//! message. The answer of a tool is shown only after the call that it answers.

use std::{borrow::Cow, ops::RangeInclusive};

use super::{Message, Role, Summary};
use crate::{
    ai::tokens::Encoding,
    error::{Code, Error, Result},
    limits,
};

/// Tokens that a provider's chat format adds to each message, its role included, and to the whole
/// before the answer. Those of OpenAI's formats; others add fewer.
pub const MESSAGE_TOKENS: usize = 4;
/// See [`MESSAGE_TOKENS`].
pub const REPLY_TOKENS: usize = 3;

/// What a summary is called in front of the model.
const SUMMARY_HEAD: &str = "Summary of the conversation so far:\n";

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Most tokens of the whole prompt: the model's context less the answer's. The default policy.
    pub tokens: usize,
    /// Most messages besides the system message, if that is limited as well; the newest user's
    /// message and what follows it are shown in any case.
    pub last: Option<usize>,
    /// Whether a summary stands for what no longer fits.
    pub summary: bool,
}

impl Memory {
    /// As much as fits, and nothing instead of what does not.
    pub fn budget(tokens: usize) -> Self {
        Self {
            tokens,
            last: None,
            summary: false,
        }
    }
}

/// One message as the model is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// Who says it; a summary is the system's.
    pub role: Role,
    /// What is said.
    pub content: Cow<'a, str>,
}

/// What a model is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// In order.
    pub messages: Vec<Shown<'a>>,
    /// Tokens of all of it with the format's own; at most [`Memory::tokens`].
    pub tokens: usize,
    /// The number of the first message of the unbroken end.
    pub first: Option<u32>,
}

/// Tokens of a text as a message, with what the format adds to it.
fn cost(encoding: Encoding, content: &str) -> usize {
    encoding.count(content) + MESSAGE_TOKENS
}

/// The same of a stored message, which was counted when it came.
fn cost_of(encoding: Encoding, message: &Message) -> usize {
    match encoding {
        Encoding::O200k => message.body.tokens as usize + MESSAGE_TOKENS,
        other => cost(other, &message.body.content),
    }
}

/// The system message in force (the last one), and the messages besides it that may be shown: those
/// of tools only after the assistant's message, or another tool's, that they answer.
fn entries(messages: &[Message]) -> (Option<&Message>, Vec<&Message>) {
    let system = messages.iter().rfind(|m| m.body.role == Role::System);
    let mut entries = Vec::with_capacity(messages.len());
    let mut answerable = false;
    for message in messages {
        match message.body.role {
            Role::System => continue,
            Role::Tool if !answerable => continue,
            Role::Tool | Role::Assistant => answerable = true,
            Role::User => answerable = false,
        }
        entries.push(message);
    }
    (system, entries)
}

/// Chooses what of these messages (all of a conversation, or its end, in order) the model is shown.
///
/// # Errors
/// [`Code::TooLarge`] when the newest user's message with what follows it, and the system message,
/// are larger than the memory.
pub fn window<'a>(
    messages: &'a [Message],
    summary: Option<&Summary>,
    memory: Memory,
    encoding: Encoding,
) -> Result<Window<'a>> {
    choose(messages, None, summary, memory, encoding)
}

/// Chooses what the model is shown before a message of the user's that is not among these yet. Its
/// tokens are counted, it is not in the window itself; nothing that was said before must be.
///
/// # Errors
/// [`Code::TooLarge`] when the message and the system message are larger than the memory.
pub fn history<'a>(
    messages: &'a [Message],
    next: &str,
    summary: Option<&Summary>,
    memory: Memory,
    encoding: Encoding,
) -> Result<Window<'a>> {
    choose(messages, Some(next), summary, memory, encoding)
}

fn choose<'a>(
    messages: &'a [Message],
    next: Option<&str>,
    summary: Option<&Summary>,
    memory: Memory,
    encoding: Encoding,
) -> Result<Window<'a>> {
    let (system, entries) = entries(messages);
    let mut tokens = REPLY_TOKENS + system.map_or(0, |m| cost_of(encoding, m));
    tokens += next.map_or(0, |next| cost(encoding, next));
    let newest = entries.iter().rposition(|e| e.body.role == Role::User);
    // What must be shown: the turn that is to be answered.
    let mut start = newest.filter(|_| next.is_none()).unwrap_or(entries.len());
    tokens += entries[start..].iter().map(|e| cost_of(encoding, e)).sum::<usize>();
    if tokens > memory.tokens {
        return Err(Error::new(
            Code::TooLarge,
            format!(
                "the message takes {tokens} tokens with the system message, the model has room for {}",
                memory.tokens
            ),
        )
        .with_hint("shorten the message or choose a model with a larger context"));
    }
    // What the summary stands for is not shown a second time, if the summary has room at all.
    let summary = summary
        .filter(|_| memory.summary)
        .map(|s| (s.covers, format!("{SUMMARY_HEAD}{}", s.text)))
        .map(|(covers, text)| (covers, cost(encoding, &text), text))
        .filter(|(_, cost, _)| tokens + cost <= memory.tokens);
    let covered = summary.as_ref().map_or(0, |(covers, ..)| *covers);
    tokens += summary.as_ref().map_or(0, |(_, cost, _)| *cost);
    let most = memory.last.unwrap_or(usize::MAX);
    let mut sum = tokens;
    for at in (0..start).rev() {
        let entry = entries[at];
        sum += cost_of(encoding, entry);
        let count = entries.len() - at + usize::from(next.is_some());
        if sum > memory.tokens || count > most || entry.seq <= covered {
            break;
        }
        if entry.body.role == Role::User {
            (start, tokens) = (at, sum);
        }
    }
    let shown = |message: &'a Message| Shown {
        role: message.body.role,
        content: Cow::Borrowed(&message.body.content),
    };
    let mut all = Vec::with_capacity(2 + entries.len() - start);
    all.extend(system.map(shown));
    all.extend(summary.map(|(.., text)| Shown {
        role: Role::System,
        content: Cow::Owned(text),
    }));
    all.extend(entries[start..].iter().copied().map(shown));
    Ok(Window {
        messages: all,
        tokens,
        first: entries.get(start).map(|e| e.seq),
    })
}

/// Which messages the next summary shall stand for besides those that the stored one does, by their
/// numbers; `None` while everything still fits. The text is made of the stored summary's and theirs,
/// and stored with [`Staged::summarise`](super::Staged::summarise), covering the last of them.
///
/// So many that the rest takes at most half of the memory: a summary is then made every few turns,
/// not at each. The newest user's message and what follows it are never among them.
pub fn to_summarise(
    messages: &[Message],
    summary: Option<&Summary>,
    memory: Memory,
    encoding: Encoding,
) -> Option<RangeInclusive<u32>> {
    if !memory.summary {
        return None;
    }
    let covered = summary.map_or(0, |s| s.covers);
    let (system, mut entries) = entries(messages);
    entries.retain(|e| e.seq > covered);
    let fixed = REPLY_TOKENS
        + system.map_or(0, |m| cost_of(encoding, m))
        + summary.map_or(0, |s| cost(encoding, &format!("{SUMMARY_HEAD}{}", s.text)));
    let mut rest: usize = entries.iter().map(|e| cost_of(encoding, e)).sum();
    let most = memory.last.unwrap_or(usize::MAX);
    if fixed + rest <= memory.tokens && entries.len() <= most {
        return None;
    }
    let newest = entries.iter().rposition(|e| e.body.role == Role::User)?;
    let mut kept = 0;
    for at in 0..=newest {
        kept = at;
        let small = rest <= memory.tokens / 2 && entries.len() - at <= (most / 2).max(1);
        if small && entries[at].body.role == Role::User {
            break;
        }
        if at < newest {
            rest -= cost_of(encoding, entries[at]);
        }
    }
    let first = entries.first()?.seq;
    let last = entries.get(kept.checked_sub(1)?)?.seq;
    Some(first..=last)
}

/// A summary to store: the text, cut where it is too long to leave room for the conversation.
pub fn summary(covers: u32, text: &str) -> Summary {
    Summary {
        covers,
        text: crate::ai::tokens::cut_to_tokens(text, limits::SUMMARY_TOKENS).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::ai::conversation::Body;

    const COUNTED: Encoding = Encoding::O200k;

    fn said(seq: u32, role: Role, content: &str) -> Message {
        Message {
            id: Uuid::from_u128(seq.into()),
            conversation_id: Uuid::nil(),
            seq,
            created_at: 0,
            rating: None,
            body: Body::new(role, content).unwrap(),
        }
    }

    fn talk(roles: &str) -> Vec<Message> {
        let role = |c| match c {
            's' => Role::System,
            'u' => Role::User,
            'a' => Role::Assistant,
            _ => Role::Tool,
        };
        let numbered = roles.chars().enumerate();
        numbered
            .map(|(i, c)| said(i as u32 + 1, role(c), &format!("word {i}")))
            .collect()
    }

    /// What is shown, as letters with the numbers behind.
    fn picture(window: &Window<'_>) -> String {
        let words = window.messages.iter().map(|m| {
            let number = m.content.strip_prefix("word ").unwrap_or("S");
            format!("{}{number}", &m.role.as_str()[..1])
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn shown(roles: &str, memory: Memory) -> String {
        picture(&window(&talk(roles), None, memory, COUNTED).unwrap())
    }

    #[test]
    fn the_end_is_kept_and_begins_with_the_user() {
        let all = Memory::budget(10_000);
        assert_eq!(shown("suaua", all), "s0 u1 a2 u3 a4");
        let last = |n| Memory { last: Some(n), ..all };
        assert_eq!(shown("suauau", last(3)), "s0 u3 a4 u5");
        assert_eq!(
            shown("suauau", last(2)),
            "s0 u5",
            "a window of two would begin with the assistant"
        );
        assert_eq!(shown("suatatu", last(1)), "s0 u6");
        assert_eq!(shown("suata", last(1)), "s0 u1 a2 t3 a4", "the newest turn is whole");
        assert_eq!(shown("a", all), "");
        assert_eq!(shown("usau", all), "s1 u0 a2 u3");
        assert_eq!(
            shown("sus", all),
            "s2 u1",
            "the last system message is the one in force"
        );
    }

    #[test]
    fn a_tool_speaks_only_when_called() {
        let all = Memory::budget(10_000);
        assert_eq!(shown("utatt", all), "u0 a2 t3 t4");
        assert_eq!(shown("uatut", all), "u0 a1 t2 u3");
        assert_eq!(shown("t", all), "");
        assert_eq!(shown("uast", all), "s2 u0 a1 t3");
    }

    #[test]
    fn a_budget_is_exact() {
        let messages = talk("suaua");
        let one = cost(COUNTED, "word 0");
        assert_eq!(one, 2 + 1 + MESSAGE_TOKENS);
        let whole = window(&messages, None, Memory::budget(5 * one + REPLY_TOKENS), COUNTED).unwrap();
        assert_eq!(
            (picture(&whole).as_str(), whole.tokens),
            ("s0 u1 a2 u3 a4", 5 * one + REPLY_TOKENS)
        );
        let less = window(&messages, None, Memory::budget(5 * one + REPLY_TOKENS - 1), COUNTED).unwrap();
        assert_eq!((picture(&less).as_str(), less.first), ("s0 u3 a4", Some(4)));
        let error = window(&messages, None, Memory::budget(3 * one + REPLY_TOKENS - 1), COUNTED).unwrap_err();
        assert_eq!(error.code(), Code::TooLarge);
    }

    /// A turn that was too large to be remembered does not stop the conversation.
    #[test]
    fn what_was_said_before_gives_way_to_what_is_said_now() {
        let messages = talk("suaua");
        let one = cost(COUNTED, "word 0");
        let before = |tokens, last| {
            let memory = Memory {
                last,
                ..Memory::budget(tokens)
            };
            history(&messages, "word 5", None, memory, COUNTED).map(|w| (picture(&w), w.tokens))
        };
        let all = 6 * one + REPLY_TOKENS;
        assert_eq!(before(all, None).unwrap(), ("s0 u1 a2 u3 a4".to_owned(), all));
        assert_eq!(before(all - 1, None).unwrap().0, "s0 u3 a4");
        assert_eq!(before(all, Some(3)).unwrap().0, "s0 u3 a4");
        assert_eq!(before(all, Some(1)).unwrap().0, "s0");
        assert_eq!(before(2 * one + REPLY_TOKENS, None).unwrap().0, "s0");
        let refused = before(2 * one + REPLY_TOKENS - 1, None).unwrap_err();
        assert_eq!(refused.code(), Code::TooLarge);
    }

    #[test]
    fn a_summary_stands_for_what_it_covers() {
        let messages = talk("suauaua");
        let memory = Memory {
            summary: true,
            ..Memory::budget(10_000)
        };
        let summary = Summary {
            covers: 3,
            text: "they met".to_owned(),
        };
        let seen = window(&messages, Some(&summary), memory, COUNTED).unwrap();
        assert_eq!(picture(&seen), "s0 sS u3 a4 u5 a6");
        assert!(seen.messages[1].content.ends_with("they met"));
        let without = window(&messages, Some(&summary), Memory::budget(10_000), COUNTED).unwrap();
        assert_eq!(picture(&without), "s0 u1 a2 u3 a4 u5 a6");
        // No room for the summary: the newest turn goes first, and older ones where they fit.
        let narrow = Memory {
            tokens: 3 * cost(COUNTED, "word 0") + REPLY_TOKENS,
            ..memory
        };
        let seen = window(&messages, Some(&summary), narrow, COUNTED).unwrap();
        assert_eq!(picture(&seen), "s0 u5 a6");
    }

    #[test]
    fn summaries_are_made_in_bulk() {
        let memory = Memory {
            summary: true,
            ..Memory::budget(100)
        };
        let short = talk("suaua");
        assert_eq!(to_summarise(&short, None, memory, COUNTED), None);
        let long = talk(&format!("s{}", "ua".repeat(10)));
        assert_eq!(to_summarise(&long, None, Memory::budget(100), COUNTED), None);
        let range = to_summarise(&long, None, memory, COUNTED).unwrap();
        assert_eq!(*range.start(), 2);
        let left = long.len() as u32 - range.end();
        let one = cost(COUNTED, "word 0");
        assert!(left as usize * one <= 50 && left > 2, "{range:?}");
        assert_eq!(long[*range.end() as usize].body.role, Role::User);
        let next = summary(*range.end(), "they met");
        assert_eq!(to_summarise(&long, Some(&next), memory, COUNTED), None);
        // One endless turn cannot be summarised away.
        assert_eq!(
            to_summarise(&talk(&format!("u{}", "at".repeat(30))), None, memory, COUNTED),
            None
        );
    }

    #[test]
    fn a_summary_has_a_bound() {
        let text = "word ".repeat(limits::SUMMARY_TOKENS * 2);
        assert!(crate::ai::tokens::count_tokens(&summary(1, &text).text) <= limits::SUMMARY_TOKENS);
    }

    fn conversations() -> impl Strategy<Value = Vec<Message>> {
        let role = prop::sample::select(Role::ALL.to_vec());
        let said_by = (role, "[a-z]{1,8}( [a-z]{1,8}){0,12}");
        prop::collection::vec(said_by, 0..40).prop_map(|all| {
            let numbered = all.iter().enumerate();
            numbered
                .map(|(i, (role, text))| said(i as u32 + 1, *role, text))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_window_keeps_its_promises(
            messages in conversations(),
            tokens in 20usize..400,
            last in prop::option::of(1usize..20),
            summarised in prop::option::of((1u32..40, "[a-z ]{0,60}")),
            with_summary: bool,
        ) {
            let memory = Memory { tokens, last, summary: with_summary };
            let stored = summarised.map(|(covers, text)| Summary { covers, text });
            let users: Vec<u32> = messages.iter().filter(|m| m.body.role == Role::User).map(|m| m.seq).collect();
            let Ok(seen) = window(&messages, stored.as_ref(), memory, COUNTED) else {
                // Refused only where the newest turn alone is too large.
                let alone = Memory { tokens: usize::MAX, last: Some(1), summary: false };
                prop_assert!(window(&messages, None, alone, COUNTED).unwrap().tokens > tokens);
                return Ok(());
            };
            prop_assert!(seen.tokens <= tokens);
            let counted: usize = seen.messages.iter().map(|m| cost(COUNTED, &m.content)).sum();
            prop_assert_eq!(seen.tokens, counted + REPLY_TOKENS);
            let system = messages.iter().rfind(|m| m.body.role == Role::System);
            if let Some(system) = system {
                prop_assert_eq!(&*seen.messages[0].content, &system.body.content);
            }
            let spoken: Vec<_> = seen.messages.iter().filter(|m| m.role != Role::System).collect();
            prop_assert!(spoken.first().is_none_or(|m| m.role == Role::User));
            prop_assert_eq!(spoken.is_empty(), users.is_empty());
            for pair in spoken.windows(2) {
                prop_assert!(pair[1].role != Role::Tool || pair[0].role != Role::User, "an orphaned tool message");
            }
            if let Some(first) = seen.first {
                // Unbroken to the end, orphaned tool messages aside, and no larger window was possible.
                let end = messages.iter().filter(|m| m.seq >= first && m.body.role != Role::System);
                let expected = entries(&messages).1.iter().filter(|e| e.seq >= first).count();
                prop_assert_eq!(spoken.len(), expected);
                prop_assert!(expected <= end.count());
                let newest = *users.last().unwrap();
                prop_assert!(first <= newest);
                if let Some(last) = last {
                    prop_assert!(spoken.len() <= last || first == newest);
                }
                let earlier = users.iter().rev().find(|u| **u < first);
                let covered = stored.as_ref().filter(|_| seen.messages.iter().any(|m| m.content.starts_with(SUMMARY_HEAD)));
                if let (Some(earlier), None, None) = (earlier, covered, last) {
                    let more: usize = entries(&messages).1.iter()
                        .filter(|e| e.seq >= *earlier && e.seq < first)
                        .map(|e| cost_of(COUNTED, e)).sum();
                    prop_assert!(seen.tokens + more > tokens, "an earlier turn would have fitted");
                }
            }
        }

        #[test]
        fn a_summary_never_swallows_the_newest_turn(messages in conversations(), tokens in 20usize..400, covers in 0u32..20) {
            let memory = Memory { summary: true, ..Memory::budget(tokens) };
            let stored = (covers > 0).then(|| summary(covers, "so far"));
            if let Some(range) = to_summarise(&messages, stored.as_ref(), memory, COUNTED) {
                let newest = messages.iter().rfind(|m| m.body.role == Role::User).unwrap().seq;
                prop_assert!(*range.start() > covers && range.start() <= range.end() && *range.end() < newest);
            }
        }
    }
}
