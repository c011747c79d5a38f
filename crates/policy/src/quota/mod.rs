//! Quotas: how much of a backend, and of each of its models, may be used.
//!
//! A quota belongs to the backend and the model that serve a request, whatever route led there. It is asked before
//! an attempt: a backend whose quota is used up is left out, and the request goes to another one. Keys are those of
//! the compatibility specification ("Config pushed to RLS").

use self::spec::{Bucket, BucketRule, ModelQuota, PerModelQuota, QuotaMode, ServiceQuota};
use crate::{
    cost::{
        Price,
        expression::{Expression, ExpressionError},
    },
    rate_limit::{
        Claims, Request, Rule, Switches,
        selector::Selectors,
        spec::ClientSelector,
        store::Vote,
        window::{self, Window},
    },
};

pub mod spec;

/// The quotas of a backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quota {
    service: Vec<Rule>,
    models: Vec<Model>,
}

#[derive(Clone, Debug, PartialEq)]
struct Model {
    name: String,
    rules: Vec<Rule>,
}

/// How the buckets of a model go together, where an annotation says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Together {
    /// One of them must have something left, so that some may use more while others use less.
    #[default]
    Any,
    /// All of them must.
    All,
}

/// Whose quota it is and what annotations say of it.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// `namespace/name` of the AIServiceBackend.
    pub backend: &'a str,
    /// `namespace/name` of the policy.
    pub policy: &'a str,
    /// What its annotations say of its rules.
    pub switches: &'a Switches,
    /// How buckets go together.
    pub together: Together,
}

/// What is wrong, and the field that it is about.
pub type Fault = (String, String);

impl Quota {
    /// Adds the quota of the whole backend; there is room for one. One with a fault lets nobody through.
    ///
    /// # Errors
    /// What is wrong with it, or that there is one already.
    pub fn serve(&mut self, owner: Owner<'_>, written: &ServiceQuota) -> Result<(), Fault> {
        if !self.service.is_empty() {
            return Err((
                String::new(),
                "the backend has a quota of another policy".to_owned(),
            ));
        }
        let id = format!("{}/service/{}", owner.policy, owner.backend);
        let (rule, fault) = match service(owner, written, id.clone()) {
            Ok(rule) => (rule, None),
            Err(fault) => (Rule::unread(id), Some(fault)),
        };
        self.service.push(rule);
        fault.map_or(Ok(()), Err)
    }

    /// Adds the quota of one model; there is room for one of each. One with a fault lets nobody through.
    ///
    /// # Errors
    /// What is wrong with it, or that there is one already.
    pub fn limit(&mut self, owner: Owner<'_>, written: &PerModelQuota) -> Result<(), Fault> {
        let PerModelQuota { model_name, quota } = written;
        if self.models.iter().any(|model| model.name == *model_name) {
            let message = format!("model \"{model_name}\" has a quota already");
            return Err(("modelName".to_owned(), message));
        }
        let (rules, fault) = match buckets(owner, model_name, quota) {
            Ok(rules) => (rules, None),
            Err(fault) => {
                let id = format!("{}/{}/{model_name}/default", owner.policy, owner.backend);
                (vec![Rule::unread(id)], Some(fault))
            }
        };
        self.models.push(Model {
            name: model_name.clone(),
            rules,
        });
        fault.map_or(Ok(()), Err)
    }

    /// Lets nobody through: a policy of `namespace` could not be read.
    pub fn close(&mut self, namespace: &str) {
        self.service.push(Rule::unread(format!("{namespace}/unread")));
    }

    /// Returns all limits, the one of the whole backend first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let models = self.models.iter().flat_map(|model| &model.rules);
        self.service.iter().chain(models)
    }

    /// Returns what the quotas ask for a request that `model` would serve.
    pub fn claims(&self, model: &str, request: &Request<'_>) -> Claims {
        let mut claims = Claims::default();
        let own = self.models.iter().filter(|known| known.name == model);
        for rule in self.service.iter().chain(own.flat_map(|model| &model.rules)) {
            rule.claim(request, &mut claims);
        }
        claims
    }
}

/// Returns the limit of a whole backend, called `id`.
fn service(owner: Owner<'_>, written: &ServiceQuota, id: String) -> Result<Rule, Fault> {
    let price = price(written.cost_expression.as_deref(), "costExpression")?;
    let bucket = bucket(&written.quota, "quota", owner, 0)?;
    let prefix = format!("{DOMAIN}_backend_name_{}_", owner.backend);
    let rule = Rule::of_quota(id, prefix, Selectors::none(""), bucket, price);
    Ok(dressed(rule, owner, Vote::Must, 0))
}

/// Returns the limits of one model: of its rules, and the one of all.
fn buckets(owner: Owner<'_>, model_name: &str, quota: &ModelQuota) -> Result<Vec<Rule>, Fault> {
    let QuotaMode::Shared = quota.mode.unwrap_or_default();
    let vote = match owner.together {
        Together::Any => Vote::Any,
        Together::All => Vote::Must,
    };
    let price = price(quota.cost_expression.as_deref(), "quota.costExpression")?;
    let prefix = format!(
        "{DOMAIN}_backend_name_{}_model_name_override_{model_name}_",
        owner.backend
    );
    let mut rules = Vec::new();
    for (index, rule) in quota.bucket_rules.iter().enumerate() {
        let field = format!("quota.bucketRules[{index}]");
        let bucket = bucket(&rule.quota, &format!("{field}.quota"), owner, index)?;
        let selectors = selectors(index, rule).map_err(|(at, message)| (format!("{field}.{at}"), message))?;
        let id = format!("{}/{}/{model_name}/rule/{index}", owner.policy, owner.backend);
        let limit = Rule::of_quota(id, prefix.clone(), selectors, bucket, price.clone());
        let vote = if rule.shadow_mode == Some(true) {
            Vote::Never
        } else {
            vote
        };
        rules.push(dressed(limit, owner, vote, index));
    }
    if let Some(written) = &quota.default_bucket {
        rules.push(default_bucket(
            owner,
            quota,
            written,
            (model_name, prefix, price),
            vote,
        )?);
    }
    Ok(rules)
}

fn default_bucket(
    owner: Owner<'_>,
    quota: &ModelQuota,
    written: &Bucket,
    (model, prefix, price): (&str, String, Price),
    vote: Vote,
) -> Result<Rule, Fault> {
    let index = quota.bucket_rules.len();
    let bucket = bucket(written, "quota.defaultBucket", owner, index)?;
    let entry = match index {
        0 => String::new(),
        _ => format!("rule-{index}-match--1"),
    };
    let id = format!("{}/{}/{model}/default", owner.policy, owner.backend);
    let rule = Rule::of_quota(id, prefix, Selectors::none(&entry), bucket, price);
    Ok(dressed(rule, owner, vote, index))
}

fn dressed(rule: Rule, owner: Owner<'_>, vote: Vote, index: usize) -> Rule {
    rule.with(vote, owner.switches, index)
}

fn price(expression: Option<&str>, field: &str) -> Result<Price, Fault> {
    let Some(expression) = expression else {
        return Ok(Price::Total);
    };
    let parsed = Expression::parse(expression);
    parsed
        .map(Price::Expression)
        .map_err(|error: ExpressionError| (field.to_owned(), error.to_string()))
}

fn bucket(written: &Bucket, field: &str, owner: Owner<'_>, index: usize) -> Result<(u64, Window), Fault> {
    let Some(unit) = window::duration(&written.duration) else {
        let known: Vec<&str> = window::DURATIONS.iter().map(|(name, _)| *name).collect();
        let message = format!("\"{}\" is not one of {}", written.duration, known.join(", "));
        return Err((format!("{field}.duration"), message));
    };
    Ok((written.limit, owner.switches.window(unit, index)))
}

/// Returns the conditions of a rule: all headers together, sorted by name.
fn selectors(index: usize, rule: &BucketRule) -> Result<Selectors, Fault> {
    let all = rule
        .client_selectors
        .iter()
        .flat_map(|selector| &selector.headers);
    let mut headers: Vec<_> = all.cloned().collect();
    if headers.is_empty() {
        return Ok(Selectors::none(&format!("rule-{index}-match-0")));
    }
    headers.sort_by(|one, other| one.name.cmp(&other.name));
    let selector = ClientSelector {
        headers,
        ..ClientSelector::default()
    };
    let mut selectors = Selectors::parse(index, &[selector])?;
    selectors.rename(|header, value, place| match value {
        Some(value) => format!("rule-{index}-{header}|{value}-match-{place}"),
        None => format!("rule-{index}-{header}-match-{place}"),
    });
    Ok(selectors)
}

/// What all keys of quotas begin with.
pub const DOMAIN: &str = "ai-gateway-quota";

#[cfg(test)]
mod tests;
