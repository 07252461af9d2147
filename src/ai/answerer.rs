//! The built-in answerer: quotes the sentences of the passages that fit the question best.
//!
//! It makes nothing up, for it writes nothing of its own: each quote is a part of a passage as it
//! stands. A sentence is rated by the question's words it holds, rare ones more, by neighbouring
//! words that are neighbours in the question too, by holding the kind of thing that is asked for
//! (a number, a name), by its neighbours, and by its passage's rank.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::prompt::{Packed, Passage};
use super::sentences::sentences;
use super::terms::{Word, term_hash, words};
use super::tokens::{count_tokens, cut_to_tokens};

/// The name under which its use is metered.
pub const MODEL: &str = "builtin-extractive";

/// Said when there is no passage at all.
pub const NO_ANSWER: &str = "Nothing in your documents answers this.";
/// Said before a quote from a passage that holds too few of the question's words.
const WEAK_ANSWER: &str = "Your documents do not answer this directly. The closest passage: ";

/// Most sentences in one quote, and most quotes in one answer.
const QUOTE_SENTENCES: usize = 2;
const QUOTES: usize = 3;
/// A further quote must be rated at least this share of the best one.
const FURTHER_QUOTE: f64 = 0.7;

/// A passage that holds less than this share of the question's words does not answer it. On XQuAD
/// this says so of 98 % of questions about other articles, and of 3 % of those about the same.
const ANSWERING_SHARE: f64 = 0.34;

// What a sentence's rating is made of, as shares of the weight of all of the question's words.
const PAIR: f64 = 0.1;
const KIND: f64 = 0.15;
const PREVIOUS: f64 = 0.25;
const NEXT: f64 = 0.1;
const PASSAGE: f64 = 0.5;

/// An answer with its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Quotes, each followed by the number of its citation.
    pub text: String,
    /// In the order of the text.
    pub citations: Vec<Citation>,
    /// Tokens of the prompt it was made from.
    pub prompt_tokens: usize,
    /// Tokens of the text.
    pub completion_tokens: usize,
}

/// Where a quote comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Citation {
    /// The number of the passage in the prompt, from 1, as in the answer's `[n]`.
    pub n: usize,
    /// The quoted document.
    pub document_id: Uuid,
    /// The quoted chunk.
    pub chunk_id: Uuid,
    /// The document's title.
    pub title: String,
    /// The search's score of the chunk.
    pub score: f64,
    /// A part of the chunk, to the letter.
    pub quote: String,
}

/// Answers from the packed passages in at most `max_tokens` tokens. With a passage there is always
/// at least one citation, even if the text has no room for its number; without, none.
pub fn answer(question: &str, packed: &Packed, max_tokens: usize) -> Answered {
    let mut text = String::new();
    let mut citations = Vec::new();
    let (mut quotes, weak) = best_quotes(question, &packed.passages);
    if quotes.is_empty() {
        text.push_str(NO_ANSWER);
    } else if weak {
        text.push_str(WEAK_ANSWER);
        quotes.truncate(1);
    }
    for Quote {
        passage: at,
        text: quote,
    } in quotes
    {
        let space = if text.is_empty() || text.ends_with(' ') {
            ""
        } else {
            " "
        };
        let longer = format!("{text}{space}{quote} [{}]", at + 1);
        if citations.is_empty() || count_tokens(&longer) <= max_tokens {
            text = longer;
            citations.push(cite(at, &packed.passages[at], quote));
        }
    }
    let text = cut_to_tokens(&text, max_tokens).to_owned();
    Answered {
        completion_tokens: count_tokens(&text),
        text,
        citations,
        prompt_tokens: packed.prompt_tokens,
    }
}

fn cite(at: usize, passage: &Passage, quote: &str) -> Citation {
    Citation {
        n: at + 1,
        document_id: passage.document,
        chunk_id: passage.chunk,
        title: passage.title.clone(),
        score: passage.score,
        quote: quote.to_owned(),
    }
}

struct Quote<'a> {
    passage: usize,
    text: &'a str,
}

/// A sentence and what is known of it.
struct Sentence<'a> {
    passage: usize,
    text: &'a str,
    /// Hashes of the stems that matter, in order.
    terms: Vec<u64>,
    /// Whether it holds something of the kind that the question asks for.
    fits: bool,
}

/// The best quotes, and whether even the best comes from a passage that does not answer.
fn best_quotes<'a>(question: &str, passages: &'a [Passage]) -> (Vec<Quote<'a>>, bool) {
    let asked: Vec<Word> = words(question).collect();
    let wanted = term_hashes(&asked);
    let named: HashSet<&str> = asked.iter().map(|word| &*word.folded).collect();
    let kind = Kind::of(&asked);
    let all: Vec<Sentence> = passages
        .iter()
        .enumerate()
        .flat_map(|(passage, found)| sentences(&found.content).into_iter().map(move |text| (passage, text)))
        .map(|(passage, text)| {
            let words: Vec<Word> = words(text).collect();
            Sentence {
                passage,
                text,
                terms: term_hashes(&words),
                fits: kind.is_in(&words, &named),
            }
        })
        .collect();
    let Some(first) = all.first() else {
        // Passages without sentences are documents of which there is only a title.
        return (
            passages
                .first()
                .map(|found| Quote {
                    passage: 0,
                    text: &found.content,
                })
                .into_iter()
                .collect(),
            true,
        );
    };

    let weights = weights(&wanted, &all);
    let total: f64 = weights.values().sum();
    let own: Vec<f64> = all.iter().map(|sentence| overlap(&sentence.terms, &weights)).collect();
    if own.iter().all(|own| *own == 0.0) {
        return (
            vec![Quote {
                passage: first.passage,
                text: first.text,
            }],
            true,
        );
    }
    let best_passage = passages
        .iter()
        .map(|passage| passage.score)
        .fold(f64::MIN_POSITIVE, f64::max);
    let neighbour = |at: usize, other: Option<usize>| -> f64 {
        let other = other.filter(|other| all.get(*other).is_some_and(|other| other.passage == all[at].passage));
        other.map_or(0.0, |other| own[other])
    };
    let rated: Vec<f64> = (0..all.len())
        .map(|at| {
            let sentence = &all[at];
            let pairs = pairs(&sentence.terms, &wanted) as f64;
            let rank = passages[sentence.passage].score.max(0.0) / best_passage;
            own[at]
                + PREVIOUS * neighbour(at, at.checked_sub(1))
                + NEXT * neighbour(at, Some(at + 1))
                + total * (PAIR * pairs + KIND * f64::from(u8::from(sentence.fits)) + PASSAGE * rank)
        })
        .collect();
    let quotes = choose(&all, &rated, passages);
    let share = quotes.first().map_or(0.0, |best| share(&wanted, &all, best.passage));
    (quotes, share < ANSWERING_SHARE)
}

/// Takes the best sentence with its better neighbour, then further good ones.
fn choose<'a>(all: &[Sentence<'a>], rated: &[f64], passages: &'a [Passage]) -> Vec<Quote<'a>> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    // Stable: equal ratings stay in the order of the passages.
    order.sort_by(|a, b| rated[*b].total_cmp(&rated[*a]));
    let mut taken = vec![false; all.len()];
    let mut quotes: Vec<Quote> = Vec::new();
    for best in order.iter().copied() {
        if quotes.len() == QUOTES || rated[best] < FURTHER_QUOTE * rated[order[0]] {
            break;
        }
        if taken[best] || quotes.iter().any(|quote| quote.text.contains(all[best].text)) {
            continue;
        }
        let (mut from, mut to) = (best, best);
        while to - from + 1 < QUOTE_SENTENCES {
            let usable = |at: &usize| *at < all.len() && all[*at].passage == all[best].passage && !taken[*at];
            let before = from.checked_sub(1).filter(usable);
            let after = Some(to + 1).filter(usable);
            match (before, after) {
                (Some(before), Some(after)) if rated[before] > rated[after] => from = before,
                (_, Some(after)) => to = after,
                (Some(before), None) => from = before,
                (None, None) => break,
            }
        }
        taken[from..=to].fill(true);
        quotes.push(Quote {
            passage: all[best].passage,
            text: span(passages, &all[from], &all[to]),
        });
    }
    quotes
}

/// From the beginning of one sentence to the end of another of the same passage, as it stands.
fn span<'a>(passages: &'a [Passage], from: &Sentence<'a>, to: &Sentence<'a>) -> &'a str {
    let content = &passages[from.passage].content;
    let offset = |part: &str| part.as_ptr() as usize - content.as_ptr() as usize;
    &content[offset(from.text)..offset(to.text) + to.text.len()]
}

fn term_hashes(words: &[Word]) -> Vec<u64> {
    words
        .iter()
        .filter(|word| !word.is_stop())
        .map(|word| term_hash(&word.stem()))
        .collect()
}

/// What each of the question's terms is worth: more, the fewer sentences hold it. One that no
/// sentence holds is worth nothing, as it tells none apart.
fn weights(wanted: &[u64], all: &[Sentence]) -> HashMap<u64, f64> {
    let mut weights = HashMap::new();
    for term in wanted {
        let holders = all.iter().filter(|sentence| sentence.terms.contains(term)).count();
        if holders > 0 {
            weights.insert(*term, (1.0 + all.len() as f64 / holders as f64).ln());
        }
    }
    weights
}

fn overlap(terms: &[u64], weights: &HashMap<u64, f64>) -> f64 {
    let distinct: HashSet<&u64> = terms.iter().collect();
    // Summed in the order of the terms' hashes: floats added in another order may differ.
    let mut held: Vec<(&u64, &f64)> = weights.iter().filter(|(term, _)| distinct.contains(term)).collect();
    held.sort_unstable_by_key(|(term, _)| **term);
    held.into_iter().map(|(_, weight)| weight).sum()
}

/// How much of the question's distinct terms a passage holds.
fn share(wanted: &[u64], all: &[Sentence], passage: usize) -> f64 {
    let wanted: HashSet<&u64> = wanted.iter().collect();
    let held: HashSet<&u64> = all
        .iter()
        .filter(|sentence| sentence.passage == passage)
        .flat_map(|sentence| &sentence.terms)
        .collect();
    wanted.intersection(&held).count() as f64 / wanted.len().max(1) as f64
}

/// How many neighbouring terms are neighbours in the question too.
fn pairs(terms: &[u64], wanted: &[u64]) -> usize {
    wanted
        .windows(2)
        .filter(|pair| pair[0] != pair[1] && terms.windows(2).any(|at| at == *pair))
        .count()
}

/// What kind of thing a question asks for.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Name,
    Any,
}

const NUMBER_WORDS: &[&str] = &[
    "billion", "dozen", "eight", "eleven", "fifty", "five", "four", "half", "hundred", "million", "nine", "none",
    "once", "one", "percent", "seven", "six", "ten", "thirty", "thousand", "three", "twelve", "twenty", "twice", "two",
    "zero",
];

impl Kind {
    fn of(asked: &[Word]) -> Self {
        let has = |list: &[&str]| asked.iter().any(|word| list.contains(&&*word.folded));
        let how = asked.windows(2).any(|pair| {
            pair[0].folded == "how"
                && [
                    "many", "much", "old", "long", "far", "tall", "high", "big", "large", "often", "fast", "deep",
                ]
                .contains(&&*pair[1].folded)
        });
        if how
            || has(&[
                "when",
                "year",
                "years",
                "percentage",
                "percent",
                "number",
                "date",
                "century",
                "age",
            ])
        {
            Kind::Number
        } else if has(&[
            "who", "whom", "whose", "where", "which", "name", "city", "country", "person",
        ]) {
            Kind::Name
        } else {
            Kind::Any
        }
    }

    /// Whether a sentence holds something of this kind that the question does not name itself.
    fn is_in(self, words: &[Word], named: &HashSet<&str>) -> bool {
        let mut new = words.iter().filter(|word| !named.contains(&*word.folded));
        match self {
            Kind::Number => new.any(|word| {
                word.raw.contains(|c: char| c.is_ascii_digit()) || NUMBER_WORDS.binary_search(&&*word.folded).is_ok()
            }),
            // The first word of a sentence is capitalised whatever it is.
            Kind::Name => new
                .any(|word| word.start > words[0].start && word.raw.starts_with(char::is_uppercase) && !word.is_stop()),
            Kind::Any => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::prompt::pack;
    use super::*;
    use proptest::prelude::*;

    fn passage(n: u128, title: &str, content: &str) -> Passage {
        let id = Uuid::from_u128(n);
        Passage {
            document: id,
            chunk: id,
            title: title.into(),
            content: content.into(),
            score: 1.0 / n as f64,
        }
    }

    fn ask(question: &str, passages: &[Passage], max_tokens: usize) -> Answered {
        answer(question, &pack(question, passages, 3_000), max_tokens)
    }

    fn handbook() -> Vec<Passage> {
        vec![
            passage(
                1,
                "Refunds",
                "We like happy customers. A refund is paid within 30 days. Ask the desk.",
            ),
            passage(
                2,
                "Opening",
                "The desk opens at nine. It is in Harbour Street. It closes on Sundays.",
            ),
        ]
    }

    #[test]
    fn the_best_sentence_is_quoted_and_cited() {
        let answered = ask("When is a refund paid?", &handbook(), 100);
        assert_eq!(answered.text, "A refund is paid within 30 days. Ask the desk. [1]");
        let [citation] = &answered.citations[..] else {
            panic!("{:?}", answered.citations)
        };
        assert_eq!((citation.n, &*citation.title), (1, "Refunds"));
        assert_eq!(citation.quote, "A refund is paid within 30 days. Ask the desk.");
        assert_eq!(answered.completion_tokens, count_tokens(&answered.text));
        let answered = ask("In which street is the desk?", &handbook(), 100);
        assert!(answered.text.contains("Harbour Street"), "{}", answered.text);
        assert_eq!(answered.citations[0].n, 2);
    }

    #[test]
    fn no_match_is_said_plainly() {
        let answered = ask("Who painted the ceiling of the chapel?", &handbook(), 100);
        assert!(answered.text.starts_with(WEAK_ANSWER), "{}", answered.text);
        assert_eq!(answered.citations.len(), 1);
        let answered = ask("", &handbook(), 100);
        assert_eq!(answered.citations.len(), 1);
        let answered = ask("Anything?", &[], 100);
        assert_eq!((&*answered.text, answered.citations.len()), (NO_ANSWER, 0));
        let answered = ask("Title?", &[passage(1, "Title", "")], 100);
        assert_eq!(answered.citations.len(), 1);
    }

    #[test]
    fn the_token_limit_holds_and_a_citation_is_kept() {
        for limit in [0, 1, 5, 12, 1000] {
            let answered = ask("When is a refund paid?", &handbook(), limit);
            assert!(answered.completion_tokens <= limit);
            assert_eq!(answered.citations.len(), 1);
        }
    }

    proptest! {
        #[test]
        fn every_quote_is_a_part_of_its_chunk(
            contents in prop::collection::vec("(\\PC|[a-c]{1,3}[ .\n]){0,80}", 1..4),
            question in "(\\PC|[a-c]{1,3} ){0,20}",
        ) {
            let passages: Vec<Passage> = contents.iter().zip(1..).map(|(text, n)| passage(n, "t", text)).collect();
            let packed = pack(&question, &passages, 200);
            let answered = answer(&question, &packed, 50);
            prop_assert_eq!(answered.citations.is_empty(), packed.passages.is_empty());
            for citation in &answered.citations {
                prop_assert!(passages[citation.n - 1].content.contains(&citation.quote));
                prop_assert_eq!(passages[citation.n - 1].chunk, citation.chunk_id);
            }
            prop_assert!(answered.completion_tokens <= 50);
            prop_assert_eq!(&answered, &answer(&question, &packed, 50));
        }
    }
}
