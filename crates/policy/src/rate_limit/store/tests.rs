//! The arithmetic of counters: by example, and as laws over random requests.

use proptest::{collection::vec, prelude::*};

use super::*;

const SPAN: Span = Span { start: 0, end: 60 };

fn claim(key: &str, limit: u64, charge: u64, hold: u64) -> Claim {
    Claim {
        rule: "rule".into(),
        counter: Counter::new(format!("{key}_"), SPAN),
        before: None,
        limit,
        charge,
        hold,
        due: 30,
        ahead: 0,
        manner: Manner::Reserve,
        vote: Vote::Must,
    }
}

fn settlement(claim: &Claim, charge: u64) -> Settlement {
    Settlement {
        rule: claim.rule.clone(),
        counter: claim.counter.clone(),
        slides: claim.before.is_some(),
        limit: claim.limit,
        release: claim.hold,
        due: claim.due,
        charge,
    }
}

/// Makes one claim and returns whether it was admitted, what is used and what is held.
fn ask(ledger: &mut Ledger, claim: &Claim, now: u64) -> (bool, u64, u64) {
    let states = ledger.admit(std::slice::from_ref(claim), now);
    (!states[0].over, states[0].used, states[0].held)
}

#[test]
fn what_is_held_is_not_given_twice() {
    let mut ledger = Ledger::new(10);
    let request = claim("a", 100, 0, 60);
    assert_eq!(ask(&mut ledger, &request, 0), (true, 0, 60));
    assert_eq!(ask(&mut ledger, &request, 0), (false, 0, 60));
    ledger.settle(&settlement(&request, 20), 1);
    assert_eq!(ask(&mut ledger, &request, 1), (true, 20, 60));
    // What is never settled is given back when it is due.
    assert_eq!(ask(&mut ledger, &request, 29), (false, 20, 60));
    assert_eq!(ask(&mut ledger, &request, 30), (true, 20, 0));
}

#[test]
fn checks_admit_up_to_the_limit_and_one_more() {
    let mut ledger = Ledger::new(10);
    let check = Claim {
        manner: Manner::Check,
        ..claim("a", 10, 0, 0)
    };
    // Budget 10 and 4 for each call: floor(10 / 4) + 1 calls pass.
    let mut admitted = 0;
    while ask(&mut ledger, &check, 0).0 {
        admitted += 1;
        ledger.settle(&settlement(&check, 4), 0);
    }
    assert_eq!(admitted, 3);
    // Refused requests count too.
    let counted = Claim {
        charge: 1,
        ..check.clone()
    };
    assert_eq!(ask(&mut ledger, &counted, 0), (false, 13, 0));
    assert_eq!(ask(&mut ledger, &counted, 0), (false, 14, 0));
}

#[test]
fn a_refusal_takes_nothing_from_other_limits() {
    let mut ledger = Ledger::new(10);
    let claims = [claim("a", 100, 1, 0), claim("b", 0, 1, 0)];
    let states = ledger.admit(&claims, 0);
    assert_eq!((states[0].used, states[1].over), (0, true));
    assert!(ledger.is_empty());
}

#[test]
fn windows_slide() {
    let mut ledger = Ledger::new(10);
    let at = |now: u64, charge| {
        let start = now - now % 60;
        let span = Span {
            start,
            end: start + 60,
        };
        let before = start.checked_sub(60).map(|start| Span {
            start,
            end: start + 60,
        });
        let asked = claim("a", 100, charge, 0);
        Claim {
            counter: asked.counter.at(span),
            before,
            ..asked
        }
    };
    let mut check = |now, charge, expected: Result<u64, u64>| {
        let asked = at(now, charge);
        let states = ledger.admit(std::slice::from_ref(&asked), now);
        let found = match states[0].over {
            true => Err(asked.wait(&states[0], now)),
            false => Ok(states[0].used),
        };
        assert_eq!(found, expected, "{charge} at {now}");
    };
    check(90, 100, Ok(100));
    check(119, 1, Err(2));
    // At its beginning a window finds the whole of the one before.
    check(120, 1, Err(1));
    check(121, 1, Ok(1));
    check(150, 50, Err(1));
    check(151, 50, Ok(51));
    check(151, 10, Err(6));
    check(157, 10, Ok(61));
    check(181, 39, Ok(39));
    // Two windows later nothing is left.
    check(301, 100, Ok(100));
}

#[test]
fn votes() {
    let mut ledger = Ledger::new(10);
    let with = |key: &str, limit, vote| Claim {
        vote,
        ..claim(key, limit, 1, 0)
    };
    let mut check = |claims: &[Claim], admitted: bool| {
        let states = ledger.admit(claims, 0);
        let over = states.iter().map(|state| state.over);
        assert_eq!(decide(claims, over), admitted, "{claims:?}");
    };
    check(&[with("a", 0, Vote::Never)], true);
    check(&[with("a", 0, Vote::Any), with("b", 9, Vote::Any)], true);
    check(&[with("a", 0, Vote::Any), with("b", 0, Vote::Any)], false);
    check(&[with("a", 0, Vote::Any), with("b", 9, Vote::Never)], false);
    check(&[with("a", 0, Vote::Must), with("b", 9, Vote::Any)], false);
    check(&[], true);
}

#[test]
fn counters_are_bounded_and_forgotten() {
    let mut ledger = Ledger::new(2);
    for key in ["a", "b"] {
        assert!(ask(&mut ledger, &claim(key, 9, 1, 0), 0).0);
    }
    // One that there is no room for takes no part in the decision; the others do.
    let states = ledger.admit(&[claim("c", 9, 1, 0), claim("a", 9, 1, 0)], 0);
    let known: Vec<_> = states.iter().map(|state| (state.unknown, state.used)).collect();
    assert_eq!(known, [(true, 0), (false, 2)]);
    let states = ledger.admit(&[claim("c", 9, 1, 0), claim("a", 2, 1, 0)], 0);
    assert!(states[1].over && !states[0].unknown, "{states:?}");
    assert_eq!(ledger.len(), 2);
    let later = Claim {
        counter: Counter::new("c_".to_owned(), Span { start: 60, end: 120 }),
        ..claim("c", 9, 1, 0)
    };
    assert!(!ledger.admit(&[later], 60)[0].unknown);
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger.entries("", usize::MAX, 60)[0].counter.as_ref(), "c_60");
}

#[test]
fn counters_are_told_by_name_and_so_many_at_a_time() {
    let mut ledger = Ledger::new(10);
    for (key, charge) in [("c", 3), ("a", 9), ("b", 1)] {
        assert!(ask(&mut ledger, &claim(key, 9, charge, 0), 0).0);
    }
    let other = Claim {
        rule: "other".into(),
        ..claim("d", 9, 0, 2)
    };
    assert!(ask(&mut ledger, &other, 0).0);
    let mut check = |after: &str, most, now, expected: &[&str]| {
        let entries = ledger.entries(after, most, now);
        let found: Vec<_> = entries.iter().map(|entry| &*entry.counter).collect();
        assert_eq!(found, expected, "{most} after {after} at {now}");
    };
    check("", usize::MAX, 0, &["a_0", "b_0", "c_0", "d_0"]);
    check("", 2, 0, &["a_0", "b_0"]);
    check("b_0", 2, 0, &["c_0", "d_0"]);
    check("b", 1, 0, &["b_0"]);
    check("d_0", 2, 0, &[]);
    check("", 0, 0, &[]);
    // Their windows are over.
    check("", usize::MAX, 60, &[]);
    let mut fullest: Vec<_> = ledger
        .fullest(0)
        .into_iter()
        .map(|entry| (entry.rule, entry.used, entry.held))
        .collect();
    fullest.sort();
    assert_eq!(fullest, [("other".into(), 0, 2), ("rule".into(), 9, 0)]);
    assert!(ledger.fullest(60).is_empty());
}

#[test]
fn what_another_store_refuses_is_given_back() {
    let mut ledger = Ledger::new(10);
    let request = claim("a", 9, 4, 0);
    assert_eq!(ask(&mut ledger, &request, 0), (true, 4, 0));
    ledger.take_back(&request.counter, 4);
    assert_eq!(ask(&mut ledger, &request, 0), (true, 4, 0));
    // Of a counter that is forgotten there is nothing to give back.
    ledger.take_back(&claim("b", 9, 4, 0).counter, 4);
    assert_eq!(ledger.len(), 1);
}

/// Numbers as large as there are stay where they are, and are given back.
#[test]
fn the_largest_numbers_are_held() {
    let mut ledger = Ledger::new(10);
    let whole = claim("a", u64::MAX, 0, u64::MAX);
    assert_eq!(ask(&mut ledger, &whole, 0), (true, 0, u64::MAX));
    // What is beyond all numbers is not beyond that limit.
    let other = claim("a", u64::MAX, 1, u64::MAX - 1);
    let states = ledger.admit(std::slice::from_ref(&other), 0);
    assert_eq!((states[0].used, states[0].held), (1, u64::MAX));
    let later = Claim {
        due: 31,
        ..other.clone()
    };
    assert_eq!(ledger.admit(&[later], 0)[0].held, u64::MAX);
    ledger.settle(&settlement(&whole, u64::MAX), 1);
    let entry = &ledger.entries("", usize::MAX, 1)[0];
    assert_eq!((entry.used, entry.held), (u64::MAX, u64::MAX - 1));
    ledger.settle(&settlement(&other, u64::MAX), 1);
    let entry = &ledger.entries("", usize::MAX, 31)[0];
    assert_eq!((entry.used, entry.held), (u64::MAX, 0));
    assert!(!ledger.fullest(0).is_empty());
    let limited = claim("a", 10, 1, 0);
    assert!(!ask(&mut ledger, &limited, 31).0);
    assert_eq!(
        limited.wait(
            &State {
                used: u64::MAX,
                ..State::default()
            },
            31
        ),
        29
    );
}

/// A request in the model: who asks, what was estimated, what it costs, and how it ends.
#[derive(Clone, Debug)]
struct Call {
    key: usize,
    estimate: u64,
    error: u64,
    charge: u64,
    lost: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Begin(Call),
    /// Ends the request at that place among those under way.
    End(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let call = (0..3_usize, 0..40_u64, 0..10_u64, 0..3_u64, any::<bool>());
    prop_oneof![
        4 => call.prop_map(|(key, estimate, error, charge, lost)| Step::Begin(Call { key, estimate, error, charge, lost })),
        4 => (0..8_usize).prop_map(Step::End),
        1 => (1..4_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// However requests overlap, end, are lost and come back late: what was used never exceeds the limit by more
    /// than what the requests cost beyond their estimates, and what is lost after its time.
    #[test]
    fn the_limit_holds(steps in vec(step(), 0..200), limit in 1..100_u64) {
        let mut ledger = Ledger::new(100);
        let mut open: Vec<(Call, Claim)> = Vec::new();
        let (mut now, mut used, mut late) = (0, [0_u64; 3], [0_u64; 3]);
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Begin(call) => {
                    let claim = Claim {
                        counter: Counter::new(format!("{}_", call.key), Span { start: 0, end: 100_000 }),
                        due: now + 3,
                        ..claim("", limit, call.charge, call.estimate)
                    };
                    let (admitted, seen, held) = ask(&mut ledger, &claim, now);
                    prop_assert!(!admitted || seen + held <= limit);
                    if admitted {
                        used[call.key] += call.charge;
                        open.push((call, claim));
                    }
                }
                Step::End(place) if place < open.len() => {
                    let (call, claim) = open.swap_remove(place);
                    if call.lost {
                        continue;
                    }
                    let cost = call.estimate + call.error;
                    // After its time a request has nothing held that could cover it.
                    late[call.key] += call.error + if now >= claim.due { call.estimate } else { 0 };
                    used[call.key] += cost;
                    ledger.settle(&settlement(&claim, cost), now);
                }
                Step::End(_) => {}
            }
            for (used, late) in used.iter().zip(late) {
                prop_assert!(*used <= limit + late, "{used} > {limit} + {late}");
            }
        }
        // Nothing leaks: once all is settled or due, nothing is held, and every unit is accounted for.
        for (_, claim) in open.drain(..) {
            ledger.settle(&settlement(&claim, 0), now);
        }
        for entry in ledger.entries("", usize::MAX, now + 3) {
            prop_assert_eq!(entry.held, 0);
            let key: usize = entry.counter.split('_').next().and_then(|key| key.parse().ok()).expect("a key");
            prop_assert_eq!(entry.used, used[key]);
        }
    }
}
