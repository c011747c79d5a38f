//! Rate limits: what each rule counts, under which key, and what that means for a request.
//!
//! Every rule that is for a request makes a [`Claim`] on one counter. A store decides the claims of a request at
//! once; a request that is admitted carries a [`Ticket`], which says what is held for it and is settled when it is
//! known what the request has cost.

use std::sync::Arc;

use serde_json::Value;

pub use self::claims::{Asker, Claims, Ticket, Told};
use self::{
    selector::{Selectors, Subject},
    spec::{Cost, CostFrom, CostSource, MetadataKey, RateLimit, RateLimitType, Unit, XRateLimitHeaders},
    store::{Claim, Counter, Manner, Vote},
    switch::{Failure, Mode, Switch},
    window::{Shape, Window},
};
use crate::{
    Metadata,
    cost::{self, Costs, Price},
};

mod claims;
pub mod selector;
pub mod spec;
pub mod store;
pub mod switch;
pub mod window;

/// The limits of a policy.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Whether clients are told what is left.
    pub tells: bool,
}

/// Limits are told apart by what declares them.
impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        let ids = |limits: &Self| {
            limits
                .rules
                .iter()
                .map(|rule| Arc::clone(&rule.id))
                .collect::<Vec<_>>()
        };
        self.tells == other.tells && ids(self) == ids(other)
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names it, in `/usage` and in logs.
    pub id: Arc<str>,
    local: bool,
    failure: Failure,
    prefix: Prefix,
    selectors: Selectors,
    limit: u64,
    window: Window,
    dynamic: Option<MetadataKey>,
    request: Amount,
    response: Option<Amount>,
    mode: Mode,
    vote: Vote,
    /// Whether it could not be read, so that nobody is known to be within it.
    unread: bool,
}

/// How the keys of a rule begin.
#[derive(Clone, Debug, PartialEq)]
enum Prefix {
    /// With the listener and the rule of the route.
    Route,
    /// With this.
    Fixed(String),
}

/// A number that a request counts.
#[derive(Clone, Debug, PartialEq)]
enum Amount {
    Number(u64),
    /// One of the costs of its route.
    Cost(String),
    /// What it costs by a price of the policy's own.
    Price(Price),
    Metadata(MetadataKey),
}

/// What annotations say of the rules of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// How limits are held.
    pub mode: Switch<Mode>,
    /// What is done without a store.
    pub failure: Switch<Failure>,
    /// The time zones whose calendars windows follow.
    pub calendar: Switch<jiff::tz::TimeZone>,
    /// Whether windows slide.
    pub shape: Switch<Shape>,
}

impl Switches {
    /// Returns the windows of the rule at `index`.
    pub fn window(&self, unit: Unit, index: usize) -> Window {
        let window = match self.calendar.of(index) {
            Some(zone) => Window::calendar(unit, zone),
            None => Window::fixed(unit),
        };
        window.shaped(self.shape.of(index).unwrap_or_default())
    }
}

/// A request that limits are held against.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is known of it.
    pub subject: Subject<'a>,
    /// The listener that it came in by, as `namespace/gateway/listener`.
    pub listener: &'a str,
    /// The rule that serves it.
    pub rule: &'a str,
    /// What is counted for replies of its route.
    pub costs: Option<&'a Costs>,
    /// What it may cost.
    pub estimate: cost::Subject<'a>,
    /// Seconds since the Unix epoch.
    pub now: u64,
    /// When what is held for it is given back at the latest.
    pub due: u64,
}

#[derive(Clone, Debug)]
enum Charge {
    Number(u64),
    Price(Price),
}

impl Limits {
    /// Reads the limits of `policy`, which is `namespace/name`; what is wrong comes with the field that it is
    /// about. A rule with a fault lets nobody through.
    pub fn parse(policy: &str, spec: &RateLimit, switches: &Switches) -> (Self, Vec<(String, String)>) {
        let mut faults = Vec::new();
        let mut limits = Self {
            rules: Vec::new(),
            tells: true,
        };
        let wants = |kind| spec.kind.is_none_or(|wanted| wanted == kind);
        if let Some(global) = spec.global.as_ref().filter(|_| wants(RateLimitType::Global)) {
            limits.tells = global.x_rate_limit_headers != Some(XRateLimitHeaders::Off);
            for (index, rule) in global.rules.iter().enumerate() {
                let shared = rule.shared.or(global.shared).unwrap_or(false);
                let parsed = Rule::parse(policy, index, rule, (shared, false), switches);
                limits.take(policy, ("global", "rule"), index, parsed, &mut faults);
            }
        }
        if let Some(local) = spec.local.as_ref().filter(|_| wants(RateLimitType::Local)) {
            for (index, rule) in local.rules.iter().enumerate() {
                let shared = rule.shared.unwrap_or(false);
                let parsed = Rule::parse(policy, index, rule, (shared, true), switches);
                limits.take(policy, ("local", "local"), index, parsed, &mut faults);
            }
        }
        (limits, faults)
    }

    fn take(
        &mut self,
        policy: &str,
        (kind, place): (&str, &str),
        index: usize,
        parsed: Result<Rule, (String, String)>,
        faults: &mut Vec<(String, String)>,
    ) {
        match parsed {
            Ok(rule) => self.rules.push(rule),
            Err((field, message)) => {
                self.rules.push(Rule::unread(format!("{policy}/{place}/{index}")));
                faults.push((format!("{kind}.rules[{index}].{field}"), message));
            }
        }
    }

    /// Returns the names of the costs that the rules charge.
    pub fn costs(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match &rule.response {
            Some(Amount::Cost(key)) => Some(key.as_str()),
            Some(Amount::Number(_) | Amount::Price(_) | Amount::Metadata(_)) | None => None,
        })
    }
}

impl Rule {
    fn parse(
        policy: &str,
        index: usize,
        written: &spec::Rule,
        (shared, local): (bool, bool),
        switches: &Switches,
    ) -> Result<Self, (String, String)> {
        let selectors = Selectors::parse(index, &written.client_selectors)?;
        let place = if local { "local" } else { "rule" };
        let id = format!("{policy}/{place}/{index}");
        let Cost { request, response } = written.cost.clone().unwrap_or_default();
        let request = request.map(|cost| amount(&cost, "cost.request")).transpose()?;
        let response = response.map(|cost| amount(&cost, "cost.response")).transpose()?;
        let unit = written.limit.unit;
        let prefix = if shared {
            Prefix::Fixed(format!("{policy}_{id}_{id}_"))
        } else {
            Prefix::Route
        };
        Ok(Self {
            id: id.into(),
            local,
            failure: switches.failure.of(index).unwrap_or_default(),
            prefix,
            selectors,
            limit: written.limit.requests,
            window: switches.window(unit, index),
            dynamic: written.limit.from_metadata.clone(),
            request: request.unwrap_or(Amount::Number(1)),
            response,
            mode: switches.mode.of(index).unwrap_or_default(),
            vote: if written.shadow_mode == Some(true) {
                Vote::Never
            } else {
                Vote::Must
            },
            unread: false,
        })
    }

    /// Returns a limit that could not be read and lets nobody through.
    pub fn unread(id: String) -> Self {
        let bucket = (0, Window::fixed(Unit::Second));
        Self {
            unread: true,
            ..Self::of_quota(id, String::new(), Selectors::default(), bucket, Price::Total)
        }
    }

    /// Returns a limit that charges `price` for each answer, under keys that begin with `prefix`.
    pub fn of_quota(
        id: String,
        prefix: String,
        selectors: Selectors,
        (limit, window): (u64, Window),
        price: Price,
    ) -> Self {
        Self {
            id: id.into(),
            local: false,
            failure: Failure::Open,
            prefix: Prefix::Fixed(prefix),
            selectors,
            limit,
            window,
            dynamic: None,
            request: Amount::Number(0),
            response: Some(Amount::Price(price)),
            mode: Mode::Reserve,
            vote: Vote::Must,
            unread: false,
        }
    }

    /// Returns the same limit, decided as the rule at `index` is by `switches`.
    pub fn with(self, vote: Vote, switches: &Switches, index: usize) -> Self {
        Self {
            vote,
            mode: switches.mode.of(index).unwrap_or_default(),
            failure: switches.failure.of(index).unwrap_or_default(),
            ..self
        }
    }

    /// Adds what the rule asks for `request`; nothing if it is not for it, or if the number is not known that a request
    /// counts when it arrives.
    pub fn claim(&self, request: &Request<'_>, claims: &mut Claims) {
        if self.unread {
            claims.unread.get_or_insert_with(|| Arc::clone(&self.id));
            return;
        }
        let Some(key) = self.key(request) else {
            return;
        };
        let Some(charge) = self.request.known(request) else {
            return;
        };
        // Where it is not known what an answer costs, the request counts all the same.
        let response = self
            .response
            .as_ref()
            .and_then(|response| response.charge(request));
        let (limit, window) = self.limit(request);
        let hold = match (self.mode.manner(), &response) {
            (Manner::Reserve, Some(response)) => {
                // What is larger than the whole limit is let through once, where nothing else was.
                let left = limit.saturating_sub(charge);
                response.of(&request.estimate).min(left).max(1)
            }
            (Manner::Reserve, None) | (Manner::Check, _) => 0,
        };
        let span = window.at(request.now);
        let claim = Claim {
            rule: Arc::clone(&self.id),
            counter: Counter::new(key, span),
            before: window.before(span),
            limit,
            charge,
            hold,
            due: request.due,
            ahead: 0,
            manner: self.mode.manner(),
            vote: self.vote,
        };
        let asker = Asker {
            local: self.local,
            failure: self.failure,
            cuts: self.mode == Mode::Cut,
            charge: response.map(|charge| (charge, window)),
        };
        claims.push(claim, asker);
    }

    fn key(&self, request: &Request<'_>) -> Option<String> {
        let mut key = String::with_capacity(KEY);
        match &self.prefix {
            Prefix::Fixed(prefix) => key.push_str(prefix),
            Prefix::Route => {
                let Request { listener, rule, .. } = *request;
                // A rule at the same place that all gateways share may be counted beside it.
                let local = if self.local { "local_" } else { "" };
                for part in [local, listener, "_", rule, "_", rule, "_"] {
                    key.push_str(part);
                }
            }
        }
        self.selectors.select(&request.subject, &mut key)?;
        Some(key)
    }

    /// Returns the limit of a request: its own, if it carries a well-formed one.
    fn limit(&self, request: &Request<'_>) -> (u64, Window) {
        let own = self.dynamic.as_ref().and_then(|name| {
            let found = name.of(request.subject.metadata)?;
            let limit = number(found.get("requests_per_unit")?, u64::from(u32::MAX))?;
            let unit = unit(found.get("unit")?.as_str()?)?;
            Some((limit, self.window.with(unit)))
        });
        own.unwrap_or_else(|| (self.limit, self.window.clone()))
    }
}

impl MetadataKey {
    /// Returns what is called so.
    fn of<'m>(&self, metadata: &'m Metadata) -> Option<&'m Value> {
        metadata.get(&self.namespace)?.get(&self.key)
    }
}

impl Amount {
    /// Returns the number while the request arrives; what an answer costs is not known then.
    fn known(&self, request: &Request<'_>) -> Option<u64> {
        match self {
            Amount::Number(number) => Some(*number),
            Amount::Metadata(name) => number(name.of(request.subject.metadata)?, MAX_NUMBER),
            Amount::Cost(_) | Amount::Price(_) => None,
        }
    }

    /// Returns how the number is found once there is an answer.
    fn charge(&self, request: &Request<'_>) -> Option<Charge> {
        match self {
            Amount::Number(number) => Some(Charge::Number(*number)),
            Amount::Cost(key) => request.costs?.price(key).cloned().map(Charge::Price),
            Amount::Price(price) => Some(Charge::Price(price.clone())),
            Amount::Metadata(_) => self.known(request).map(Charge::Number),
        }
    }
}

impl Charge {
    fn of(&self, subject: &cost::Subject<'_>) -> u64 {
        match self {
            Charge::Number(number) => *number,
            Charge::Price(price) => price.or_tokens(subject),
        }
    }
}

fn amount(written: &CostFrom, field: &str) -> Result<Amount, (String, String)> {
    let missing = |name: &str| (format!("{field}.{name}"), "required".to_owned());
    let other = |name: &str, from: &str| {
        let message = format!("goes with from: {from}, and only with it");
        (format!("{field}.{name}"), message)
    };
    match written.from {
        CostSource::Number if written.metadata.is_some() => Err(other("metadata", "Metadata")),
        CostSource::Metadata if written.number.is_some() => Err(other("number", "Number")),
        CostSource::Number => written
            .number
            .map(Amount::Number)
            .ok_or_else(|| missing("number")),
        CostSource::Metadata => match &written.metadata {
            Some(name) if name.namespace == NAMESPACE => Ok(Amount::Cost(name.key.clone())),
            Some(name) => Ok(Amount::Metadata(name.clone())),
            None => Err(missing("metadata")),
        },
    }
}

/// Returns a whole number from 0 to `max`.
fn number(value: &Value, max: u64) -> Option<u64> {
    let number = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=max as f64).contains(&number)).then_some(number as u64)
    });
    number.filter(|number| *number <= max)
}

fn unit(written: &str) -> Option<Unit> {
    Some(match written {
        "SECOND" => Unit::Second,
        "MINUTE" => Unit::Minute,
        "HOUR" => Unit::Hour,
        "DAY" => Unit::Day,
        "WEEK" => Unit::Week,
        "MONTH" => Unit::Month,
        "YEAR" => Unit::Year,
        _ => return None,
    })
}

/// How long a key is, about, with the start of its window.
const KEY: usize = 160;

/// Who knows the costs of a request.
pub const NAMESPACE: &str = "io.envoy.ai_gateway";

/// The largest number that metadata may charge.
const MAX_NUMBER: u64 = 1_000_000_000;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
