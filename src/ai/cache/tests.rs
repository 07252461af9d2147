//! The cache in a store: who is given which answer, how often a call is made, how much is held.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, AtomicUsize},
};

use super::*;
use crate::{
    ai::conversation::Role,
    error::Code,
    tenant::{Directory, testing},
};

const HOUR: Duration = Duration::from_secs(3_600);
const NOW: i64 = 1_800_000_000_000_000;

fn noon() -> i64 {
    NOW
}

async fn tenants() -> (Arc<Directory>, [Tenant; 2]) {
    let directory = testing::directory(&["acme", "umbra"]).await;
    let both = ["acme", "umbra"].map(|name| testing::tenant(&directory, name, "owner", "secret"));
    (directory, both)
}

fn answer(text: &str) -> Answer {
    Answer {
        text: text.to_owned(),
        citations: None,
        model: "m".to_owned(),
        prompt_tokens: 10,
        completion_tokens: 5,
        cost: Nano(1_000),
        usage_id: Uuid::from_u128(7),
    }
}

/// Looks one prompt up as a user; the request holds nothing else that differs.
async fn look(cache: &Arc<Cache>, user: &str, prompt: &str, corpus: Option<Epoch>) -> Looked {
    look_within(cache, user, prompt, corpus, HOUR).await
}

async fn look_within(cache: &Arc<Cache>, user: &str, prompt: &str, corpus: Option<Epoch>, ttl: Duration) -> Looked {
    let messages = [(Role::User, prompt)];
    let request = request(user, &messages, corpus);
    cache.lookup_or_lead(&request, ttl).await.unwrap()
}

fn request<'a>(user: &'a str, messages: &'a [(Role, &'a str)], corpus: Option<Epoch>) -> Request<'a> {
    Request {
        user,
        operation: "complete",
        provider: "builtin",
        model: "m",
        parameters: &[("max_tokens", "100")],
        prompt_version: 1,
        messages,
        corpus,
    }
}

async fn store(guard: Guard, text: &str) -> Result<()> {
    let tenant = guard.cache.tenant.clone();
    let mut batch = tenant.batch();
    guard.store(&mut batch, answer(text))?;
    tenant.commit(batch).await
}

/// Leads, stores and forgets.
async fn prime(cache: &Arc<Cache>, user: &str, prompt: &str, text: &str) {
    match look(cache, user, prompt, None).await {
        Looked::Lead(guard) => store(guard, text).await.unwrap(),
        Looked::Hit(found) => panic!("{user} has {found:?} already"),
    }
}

fn text_of(looked: &Looked) -> Option<&str> {
    match looked {
        Looked::Hit(answer) => Some(&answer.text),
        Looked::Lead(_) => None,
    }
}

/// 10^5 look-ups of two tenants with the same two users' names and the same prompts: each is given
/// what it stored itself, and nothing else.
#[tokio::test]
async fn b08_b09_nobody_is_given_what_another_asked() {
    const PROMPTS: usize = 100;
    const LOOKUPS: usize = 100_000;
    let (_, [acme, umbra]) = tenants().await;
    let caches = [acme, umbra].map(Cache::new);
    let principals: Vec<(&Arc<Cache>, &str)> = caches.iter().flat_map(|c| ["ada", "bob"].map(|u| (c, u))).collect();
    for prompt in 0..PROMPTS {
        let (cache, user) = principals[prompt % 4];
        let text = format!("canary of {}", prompt % 4);
        prime(cache, user, &format!("prompt {prompt}"), &text).await;
    }
    let (mut own, mut foreign) = (0, 0);
    for i in 0..LOOKUPS {
        let (who, prompt) = (i % 4, (i / 4) % PROMPTS);
        let (cache, user) = principals[who];
        let looked = look(cache, user, &format!("prompt {prompt}"), None).await;
        match text_of(&looked) {
            Some(text) if text == format!("canary of {who}") && prompt % 4 == who => own += 1,
            Some(_) => foreign += 1,
            None => assert_ne!(prompt % 4, who, "an own answer was not given again"),
        }
    }
    println!("{LOOKUPS} lookups, 2 tenants x 2 users: {own} hits of their own, {foreign} across");
    assert_eq!((own, foreign), (LOOKUPS / 4, 0));
}

/// The tenants' keys differ even where everything else is the same, and show nothing of the prompt.
#[tokio::test]
async fn keys_are_the_tenants_own() {
    let (_, [acme, umbra]) = tenants().await;
    let messages = [(Role::User, "hello")];
    let request = request("ada", &messages, None);
    assert_ne!(request.hash(&acme), request.hash(&umbra));
    assert_eq!(request.hash(&acme), request.hash(&acme));
}

#[tokio::test]
async fn an_answer_lives_as_long_as_both_allow() {
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let set = |micros| CLOCK.store(NOW + micros, Ordering::SeqCst);
    let (_, [acme, _]) = tenants().await;
    let cache = Cache::with(acme.clone(), || CLOCK.load(Ordering::SeqCst), Bounds::default());
    prime(&cache, "ada", "hello", "hi").await;
    let hour = HOUR.as_micros() as i64;
    for (age, ttl, given) in [
        (0, HOUR, true),
        (hour - 1, HOUR, true),
        (hour, HOUR, false),
        (hour, HOUR * 2, false),
        (60_000_000, Duration::from_secs(61), true),
        (60_000_000, Duration::from_secs(60), false),
        (0, Duration::ZERO, false),
        (0, HOUR, true),
        // The clock was stepped back: nobody knows how old it is.
        (-1, HOUR, false),
    ] {
        set(age);
        let looked = look_within(&cache, "ada", "hello", None, ttl).await;
        assert_eq!(
            text_of(&looked).is_some(),
            given,
            "after {age} µs, asked within {ttl:?}"
        );
        // Whoever wants none that is old puts none in the place of what others may have.
        if let (Looked::Lead(guard), Duration::ZERO) = (looked, ttl) {
            store(guard, "not kept").await.unwrap();
        }
    }
    set(hour - 1);
    assert_eq!(cache.purge().await.unwrap(), 0);
    set(hour);
    assert_eq!(cache.purge().await.unwrap(), 1);
    assert_eq!(acme.scan(Table::Cache, &[ENTRIES]).count(), 0);
    assert_eq!(cache.statistics().await.unwrap().entries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_identical_calls_are_one() {
    let (_, [acme, _]) = tenants().await;
    let cache = Cache::new(acme);
    let calls = Arc::new(AtomicUsize::new(0));
    let callers = (0..100).map(|_| {
        let (cache, calls) = (cache.clone(), calls.clone());
        tokio::spawn(async move {
            match look(&cache, "ada", "hello", None).await {
                Looked::Hit(answer) => answer.text.clone(),
                Looked::Lead(guard) => {
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    store(guard, "the one answer").await.unwrap();
                    "the one answer".to_owned()
                }
            }
        })
    });
    for given in futures::future::join_all(callers).await {
        assert_eq!(given.unwrap(), "the one answer");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// Failing, cancelled, or with a commit that fails: one of those who wait makes the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_leader_is_followed_by_one_other() {
    let (_, [acme, _]) = tenants().await;
    let cache = Cache::new(acme.clone());
    let Looked::Lead(first) = look(&cache, "ada", "hello", None).await else {
        panic!("nothing is stored yet");
    };
    let leaders = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (cache, leaders, acme) = (cache.clone(), leaders.clone(), acme.clone());
            tokio::spawn(async move {
                match look(&cache, "ada", "hello", None).await {
                    Looked::Hit(answer) => answer.text.clone(),
                    Looked::Lead(guard) => match leaders.fetch_add(1, Ordering::SeqCst) {
                        0 => "gave up".to_owned(),
                        1 => {
                            let mut batch = acme.batch();
                            guard.store(&mut batch, answer("never stored")).unwrap();
                            batch.expect(Table::Cache, b"absent", acme_version(&acme));
                            assert!(acme.commit(batch).await.is_err());
                            "not committed".to_owned()
                        }
                        _ => {
                            store(guard, "the answer").await.unwrap();
                            "the answer".to_owned()
                        }
                    },
                }
            })
        })
        .collect();
    drop(first);
    let mut given: HashMap<String, usize> = HashMap::new();
    for text in futures::future::join_all(callers).await {
        *given.entry(text.unwrap()).or_default() += 1;
    }
    let expected = [("gave up", 1), ("not committed", 1), ("the answer", 18)];
    assert_eq!(given, expected.map(|(t, n)| (t.to_owned(), n)).into());
    assert_eq!(leaders.load(Ordering::SeqCst), 3);
    assert_eq!(
        cache.statistics().await.unwrap().entries,
        1,
        "what was not committed is not counted"
    );
}

/// A version that nothing under the key of [`a_lost_leader_is_followed_by_one_other`] has.
fn acme_version(acme: &Tenant) -> Option<crate::tenant::Version> {
    let mut batch = acme.batch();
    batch.put(Table::Settings, b"any", vec![1]);
    acme.commit_blocking(batch).unwrap();
    acme.get(Table::Settings, b"any").unwrap().map(|s| s.version)
}

#[tokio::test]
async fn a_full_cache_forgets_what_was_not_used() {
    let (_, [acme, _]) = tenants().await;
    let bounds = Bounds {
        entries: 4,
        bytes: 1 << 20,
    };
    let cache = Cache::with(acme.clone(), noon, bounds);
    for prompt in ["a", "b", "c", "d"] {
        prime(&cache, "ada", prompt, prompt).await;
    }
    assert_eq!(text_of(&look(&cache, "ada", "a", None).await), Some("a"));
    prime(&cache, "ada", "e", "e").await;
    for (prompt, held) in [("a", true), ("b", false), ("c", true), ("d", true), ("e", true)] {
        let looked = look(&cache, "ada", prompt, None).await;
        assert_eq!(text_of(&looked).is_some(), held, "{prompt}");
    }
    assert_eq!(acme.scan(Table::Cache, &[ENTRIES]).count(), 4);
    // By bytes as well, and the same after a restart.
    let size = cache.statistics().await.unwrap().bytes as usize;
    let narrow = Cache::with(
        acme.clone(),
        noon,
        Bounds {
            entries: 100,
            bytes: size,
        },
    );
    assert_eq!(narrow.statistics().await.unwrap().bytes as usize, size);
    for i in 0..50 {
        prime(&narrow, "ada", &format!("more {i}"), &"long ".repeat(i)).await;
        assert!(narrow.statistics().await.unwrap().bytes as usize <= size);
    }
    let stored: usize = acme
        .scan(Table::Cache, &[ENTRIES])
        .map(|s| s.unwrap().1.value.len())
        .sum();
    assert!(stored <= size, "{stored} bytes stored, {size} allowed");
    // One that is too large is given to those who wait, and not kept.
    let Looked::Lead(guard) = look(&narrow, "ada", "huge", None).await else {
        panic!("not stored")
    };
    store(guard, &"x".repeat(limits::CACHE_ANSWER_BYTES)).await.unwrap();
    assert!(text_of(&look(&narrow, "ada", "huge", None).await).is_none());
}

#[tokio::test]
async fn a_cleared_cache_gives_nothing_not_even_what_was_under_way() {
    let (_, [acme, umbra]) = tenants().await;
    let (cache, other) = (Cache::new(acme.clone()), Cache::new(umbra));
    prime(&cache, "ada", "hello", "hi").await;
    prime(&other, "ada", "hello", "hi").await;
    let Looked::Lead(late) = look(&cache, "ada", "late", None).await else {
        panic!("nothing is stored yet")
    };
    assert_eq!(cache.clear().await.unwrap(), 1);
    store(late, "too late").await.unwrap();
    for cache in [cache, Cache::new(acme)] {
        for prompt in ["hello", "late"] {
            assert!(text_of(&look(&cache, "ada", prompt, None).await).is_none(), "{prompt}");
        }
    }
    assert_eq!(text_of(&look(&other, "ada", "hello", None).await), Some("hi"));
}

#[tokio::test]
async fn statistics_say_what_was_saved() {
    let (_, [acme, umbra]) = tenants().await;
    let cache = Cache::new(acme.clone());
    assert_eq!(cache.statistics().await.unwrap(), Statistics::default());
    prime(&cache, "ada", "hello", "hi").await;
    for _ in 0..3 {
        let Looked::Hit(answer) = look(&cache, "ada", "hello", None).await else {
            panic!("stored")
        };
        let mut batch = acme.batch();
        cache.record_hit(&mut batch, &answer);
        acme.commit(batch).await.unwrap();
    }
    // Answers and statistics outlive the process.
    for cache in [cache, Cache::new(acme)] {
        let seen = cache.statistics().await.unwrap();
        assert_eq!(
            (seen.entries, seen.hits, seen.misses, seen.saved),
            (1, 3, 1, Nano(3_000))
        );
        assert!(seen.bytes > 0);
        assert_eq!(text_of(&look(&cache, "ada", "hello", None).await), Some("hi"));
    }
    assert_eq!(Cache::new(umbra).statistics().await.unwrap(), Statistics::default());
}

async fn ask(replays: &Arc<Replays>, user: &str, key: &str, prompt: &str) -> Result<Asked> {
    let messages = [(Role::User, prompt)];
    replays.ask(key, &request(user, &messages, None)).await
}

async fn settle(tenant: &Tenant, claim: Claim, text: &str) {
    let mut batch = tenant.batch();
    claim.store(&mut batch, answer(text)).unwrap();
    tenant.commit(batch).await.unwrap();
}

#[tokio::test]
async fn f07_an_idempotency_key_stands_for_one_call_of_one_user() {
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let (_, [acme, umbra]) = tenants().await;
    let clock = || CLOCK.load(Ordering::SeqCst);
    let [replays, other] = [&acme, &umbra].map(|t| Replays::with_clock(t.clone(), clock));
    let Ok(Asked::Run(claim)) = ask(&replays, "ada", "k", "hello").await else {
        panic!("never asked before")
    };
    let busy = ask(&replays, "ada", "k", "another body").await.unwrap_err();
    assert_eq!(
        busy.code(),
        Code::InvalidParameterValue,
        "also while the first is under way"
    );
    settle(&acme, claim, "first").await;
    for replays in [&replays, &Replays::with_clock(acme.clone(), clock)] {
        match ask(replays, "ada", "k", "hello").await {
            Ok(Asked::Replay(answer)) => assert_eq!(answer.text, "first"),
            other => panic!("{other:?}"),
        }
        let refused = ask(replays, "ada", "k", "another body").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidParameterValue);
    }
    // Another key, user or tenant: nothing to do with it.
    for (replays, user, key) in [(&replays, "ada", "k2"), (&replays, "bob", "k"), (&other, "ada", "k")] {
        assert!(
            matches!(ask(replays, user, key, "hello").await, Ok(Asked::Run(_))),
            "{user} {key}"
        );
        assert!(matches!(
            ask(replays, user, key, "another body").await,
            Ok(Asked::Run(_))
        ));
    }
    for wrong in ["", &"k".repeat(limits::IDEMPOTENCY_KEY_BYTES + 1)] {
        let refused = ask(&replays, "ada", wrong, "hello").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidParameterValue);
    }
    // A day later it is a new key.
    let day = limits::REPLAY_LIFE.as_micros() as i64;
    CLOCK.store(NOW + day - 1, Ordering::SeqCst);
    assert!(matches!(ask(&replays, "ada", "k", "hello").await, Ok(Asked::Replay(_))));
    assert_eq!(replays.purge().await.unwrap(), 0);
    CLOCK.store(NOW + day, Ordering::SeqCst);
    assert!(matches!(
        ask(&replays, "ada", "k", "another body").await,
        Ok(Asked::Run(_))
    ));
    assert_eq!(replays.purge().await.unwrap(), 1);
    assert_eq!(acme.scan(Table::Replays, &[]).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f07_a_hundred_calls_with_one_key_are_executed_once() {
    let (_, [acme, _]) = tenants().await;
    let replays = Replays::new(acme.clone());
    let executed = Arc::new(AtomicUsize::new(0));
    let callers = (0..100).map(|_| {
        let (acme, replays, executed) = (acme.clone(), replays.clone(), executed.clone());
        tokio::spawn(async move {
            match ask(&replays, "ada", "k", "hello").await.unwrap() {
                Asked::Replay(answer) => answer.text.clone(),
                Asked::Run(claim) => {
                    executed.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    settle(&acme, claim, "the one answer").await;
                    "the one answer".to_owned()
                }
            }
        })
    });
    for given in futures::future::join_all(callers).await {
        assert_eq!(given.unwrap(), "the one answer");
    }
    assert_eq!(executed.load(Ordering::SeqCst), 1);
}

/// A call that fails leaves its key free for another attempt.
#[tokio::test]
async fn a_failed_call_is_not_replayed() {
    let (_, [acme, _]) = tenants().await;
    let replays = Replays::new(acme.clone());
    drop(ask(&replays, "ada", "k", "hello").await.unwrap());
    assert_eq!(acme.scan(Table::Replays, &[]).count(), 0);
    assert!(matches!(ask(&replays, "ada", "k", "hello").await, Ok(Asked::Run(_))));
}
