//! Leases by example, and as a law over gateways that share counters and fail.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::rate_limit::{
    store::{Counter, Ledger, Vote, decide},
    window::Span,
};

const SPAN: Span = Span {
    start: 0,
    end: 100_000,
};

fn claim(limit: u64, charge: u64, hold: u64, due: u64) -> Claim {
    Claim {
        rule: "rule".into(),
        counter: Counter::new("a_".to_owned(), SPAN),
        before: None,
        limit,
        charge,
        hold,
        due,
        ahead: 0,
        manner: Manner::Reserve,
        vote: Vote::Must,
    }
}

/// A process that shares a ledger with others.
#[derive(Default)]
struct Gateway {
    leases: Leases,
    /// How often it had to ask.
    asked: usize,
}

impl Gateway {
    /// Makes one request; returns whether it was admitted. Where `lost`, the answer of the ledger does not arrive,
    /// and the request is refused.
    fn ask(&mut self, ledger: &mut Ledger, claim: &Claim, now: u64, lost: bool) -> bool {
        let mut claims = vec![claim.clone()];
        if let Some((states, booked)) = self.leases.admit(&claims, now) {
            for settlement in booked {
                ledger.settle(&settlement, now);
            }
            return !states[0].over;
        }
        self.asked += 1;
        self.leases.ask(&mut claims, now);
        let states = ledger.admit(&claims, now);
        if lost || !decide(&claims, states.iter().map(|state| state.over)) {
            return false;
        }
        if let Some(rest) = self.leases.keep(&claims[0], &states[0], now) {
            ledger.settle(&rest, now);
        }
        true
    }

    fn end(&mut self, ledger: &mut Ledger, now: u64) {
        for rest in self.leases.end(now) {
            ledger.settle(&rest, now);
        }
    }
}

#[test]
fn what_is_asked_for_often_is_taken_ahead() {
    let (mut gateway, mut ledger) = (Gateway::default(), Ledger::new(10));
    let request = claim(10_000, 0, 5, 60);
    for _ in 0..200 {
        assert!(gateway.ask(&mut ledger, &request, 0, false));
    }
    assert!(gateway.asked < 20, "{} of 200 requests have asked", gateway.asked);
    let held = |ledger: &mut Ledger| ledger.entries("", usize::MAX, 0)[0].held;
    assert!(held(&mut ledger) > 1000);
    // What is left of a lease is given back when it is over.
    gateway.end(&mut ledger, LIFE);
    assert_eq!(held(&mut ledger), 1000);
}

/// Requests that ask at the same time do not each take their part of what is left.
#[test]
fn of_many_that_ask_at_once_one_asks_for_more() {
    let (mut leases, mut ledger) = (Leases::default(), Ledger::new(10));
    let request = claim(10_000, 0, 5, 60);
    let asks = |leases: &mut Leases, now| {
        let mut claims = vec![request.clone()];
        leases.ask(&mut claims, now);
        claims
    };
    for _ in 0..3 {
        let claims = asks(&mut leases, 0);
        let states = ledger.admit(&claims, 0);
        drop(leases.keep(&claims[0], &states[0], 0));
    }
    let herd: Vec<_> = (0..50).map(|_| asks(&mut leases, LIFE)).collect();
    assert_eq!(herd.iter().filter(|claims| claims[0].ahead > 0).count(), 1);
    // The answer to one that asks for nothing more says nothing about the other.
    let states = ledger.admit(&herd[1], LIFE);
    assert!(leases.keep(&herd[1][0], &states[0], LIFE).is_none());
    assert_eq!(asks(&mut leases, LIFE)[0].ahead, 0);
    // With its own answer, or once that must have been lost, others may ask for more.
    assert!(asks(&mut leases, 2 * LIFE)[0].ahead > 0);
    let states = ledger.admit(&herd[0], LIFE);
    drop(leases.keep(&herd[0][0], &states[0], LIFE));
    assert!(asks(&mut leases, LIFE)[0].ahead > 0);
}

#[test]
fn near_the_limit_everyone_asks() {
    let (mut gateway, mut other, mut ledger) = (Gateway::default(), Gateway::default(), Ledger::new(10));
    let request = claim(100, 1, 9, 60);
    let admitted = (0..20).filter(|_| gateway.ask(&mut ledger, &request, 0, false));
    assert_eq!(admitted.count(), 10);
    assert!(!other.ask(&mut ledger, &request, 0, false));
    let entry = &ledger.entries("", usize::MAX, 0)[0];
    assert_eq!((entry.used, entry.held), (10, 90));
}

#[test]
fn a_lease_is_for_one_limit_and_one_due_time() {
    let (mut gateway, mut ledger) = (Gateway::default(), Ledger::new(10));
    let request = claim(10_000, 0, 5, 60);
    for _ in 0..20 {
        assert!(gateway.ask(&mut ledger, &request, 0, false));
    }
    let asked = gateway.asked;
    for other in [
        claim(9_000, 0, 5, 60),
        claim(10_000, 0, 5, 120),
        claim(10_000, 0, 9_999, 60),
    ] {
        assert!(gateway.leases.admit(&[other], 0).is_none());
    }
    let check = Claim {
        manner: Manner::Check,
        ..request.clone()
    };
    assert!(gateway.leases.admit(&[check], 0).is_none());
    assert!(gateway.leases.admit(&[request], LIFE).is_none());
    assert_eq!(gateway.asked, asked);
}

#[derive(Clone, Debug)]
enum Step {
    /// A gateway is asked for so much, and the request costs that and so much more.
    Begin(usize, u64, u64, u64),
    /// The same, and the ledger's answer is lost.
    Lost(usize, u64),
    /// The request at that place among those under way ends.
    End(usize),
    /// The one at that place is forgotten: its gateway has died, or its settlement is lost.
    Forget(usize),
    /// A gateway dies with its leases.
    Die(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..20_u64, 0..5_u64, 0..2_u64).prop_map(|(at, hold, error, charge)| Step::Begin(at, hold, error, charge)),
        1 => (0..3_usize, 0..20_u64).prop_map(|(at, hold)| Step::Lost(at, hold)),
        6 => (0..16_usize).prop_map(Step::End),
        1 => (0..16_usize).prop_map(Step::Forget),
        1 => (0..3_usize).prop_map(Step::Die),
        2 => (1..3_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// However the requests of three gateways overlap, end and are lost, and however gateways die: what was used
    /// never exceeds the limit by more than what requests cost beyond their estimates, and what ends after its
    /// time. Once everything is due nothing is held, and every unit is accounted for.
    #[test]
    fn gateways_share_a_limit(steps in vec(step(), 0..300), limit in 1..2000_u64) {
        let mut ledger = Ledger::new(100);
        let mut gateways: [Gateway; 3] = Default::default();
        let mut open: Vec<(Claim, u64)> = Vec::new();
        let (mut now, mut used, mut beyond) = (0, 0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Wait(seconds) => {
                    now += seconds;
                    for gateway in &mut gateways {
                        gateway.end(&mut ledger, now);
                    }
                }
                Step::Begin(at, hold, error, charge) => {
                    let claim = claim(limit, charge, hold, now.next_multiple_of(4) + 8);
                    if gateways[at].ask(&mut ledger, &claim, now, false) {
                        used += charge;
                        open.push((claim, error));
                    }
                }
                Step::Lost(at, hold) => {
                    let claim = claim(limit, 0, hold, now.next_multiple_of(4) + 8);
                    gateways[at].ask(&mut ledger, &claim, now, true);
                }
                Step::End(place) if place < open.len() => {
                    let (claim, error) = open.swap_remove(place);
                    let cost = claim.hold + error;
                    beyond += error + if now >= claim.due { claim.hold } else { 0 };
                    used += cost;
                    ledger.settle(&claim.booked(claim.hold, cost), now);
                }
                Step::Forget(place) if place < open.len() => {
                    open.swap_remove(place);
                }
                Step::End(_) | Step::Forget(_) => {}
                Step::Die(at) => gateways[at] = Gateway::default(),
            }
            prop_assert!(used <= limit + beyond, "{used} > {limit} + {beyond}");
        }
        for (claim, _) in open {
            ledger.settle(&claim.booked(claim.hold, 0), now);
        }
        for gateway in &mut gateways {
            gateway.end(&mut ledger, u64::MAX);
        }
        for entry in ledger.entries("", usize::MAX, now + 16) {
            prop_assert_eq!((entry.held, entry.used), (0, used));
        }
    }
}
