//! What a request costs: numbers that are made of its token counts, by name.
//!
//! Rate limits and quotas charge them, and the access record shows them. A number that cannot be made never breaks
//! a reply that has been served: the tokens of the request stand in for it.

use std::sync::Arc;

use llm::Usage;

use self::{
    expression::{Expression, ExpressionError},
    prices::Money,
    spec::{CostKind, LLMRequestCost},
};

pub mod expression;
pub mod prices;
pub mod spec;

/// The costs of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs(Vec<Cost>);

/// One number, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cost {
    key: Arc<str>,
    price: Price,
}

/// How a number is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Price {
    /// All tokens.
    Total,
    /// Tokens of the prompt.
    Input,
    /// Tokens of the prompt that were read from a cache.
    CachedInput,
    /// Tokens of the prompt that were written to a cache.
    CacheCreation,
    /// Tokens of the answer.
    Output,
    /// Tokens of reasoning.
    Reasoning,
    /// The result of an expression.
    Expression(Expression),
}

/// What is charged for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model in the upstream's words.
    pub model: &'a str,
    /// `namespace/name` of the AIServiceBackend.
    pub backend: &'a str,
    /// The reference from the rule to the backend.
    pub reference: &'a str,
    /// `namespace/name` of the route.
    pub route: &'a str,
    /// The token counts.
    pub usage: &'a Usage,
    /// What these cost in money, where that is known.
    pub money: Money,
}

impl Costs {
    /// Reads the costs of a route, and those that its Gateway has for all routes: a key of the route's own goes
    /// before. Of several with one key the last one counts. The costs that are well formed come with what is wrong
    /// with the others, by their place among `own`.
    pub fn parse(own: &[LLMRequestCost], global: &[LLMRequestCost]) -> (Self, Vec<(usize, ExpressionError)>) {
        let mut costs = Self::default();
        let mut faults = Vec::new();
        for cost in global {
            // What is wrong with it is said of the resource that it stands in.
            if let Ok(price) = Price::parse(cost) {
                costs.set(&cost.metadata_key, price);
            }
        }
        for (index, cost) in own.iter().enumerate() {
            match Price::parse(cost) {
                Ok(price) => costs.set(&cost.metadata_key, price),
                Err(error) => faults.push((index, error)),
            }
        }
        (costs, faults)
    }

    /// Returns whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|cost| &*cost.key)
    }

    /// Returns how the number called `key` is made.
    pub fn price(&self, key: &str) -> Option<&Price> {
        let cost = self.0.iter().find(|cost| &*cost.key == key);
        cost.map(|cost| &cost.price)
    }

    /// Returns every number, by name, with the failure of those that the tokens stand in for.
    pub fn of<'a>(
        &'a self,
        subject: &'a Subject<'a>,
    ) -> impl Iterator<Item = (&'a Arc<str>, u64, Option<ExpressionError>)> {
        self.0.iter().map(|cost| match cost.price.of(subject) {
            Ok(number) => (&cost.key, number, None),
            Err(error) => (&cost.key, subject.usage.total(), Some(error)),
        })
    }

    fn set(&mut self, key: &str, price: Price) {
        match self.0.iter_mut().find(|cost| &*cost.key == key) {
            Some(cost) => cost.price = price,
            None => self.0.push(Cost {
                key: key.into(),
                price,
            }),
        }
    }
}

impl Price {
    /// Reads one cost.
    ///
    /// # Errors
    /// If it has an expression that cannot be used, or lacks one.
    pub fn parse(cost: &LLMRequestCost) -> Result<Self, ExpressionError> {
        Ok(match cost.kind {
            CostKind::TotalToken => Price::Total,
            CostKind::InputToken => Price::Input,
            CostKind::CachedInputToken => Price::CachedInput,
            CostKind::CacheCreationInputToken => Price::CacheCreation,
            CostKind::OutputToken => Price::Output,
            CostKind::ReasoningToken => Price::Reasoning,
            CostKind::Cel => Price::Expression(Expression::parse(cost.cel.as_deref().unwrap_or_default())?),
        })
    }

    /// Returns the number for `subject`.
    ///
    /// # Errors
    /// If an expression fails.
    pub fn of(&self, subject: &Subject<'_>) -> Result<u64, ExpressionError> {
        let usage = subject.usage;
        Ok(match self {
            Price::Total => usage.total(),
            Price::Input => usage.prompt(),
            Price::CachedInput => usage.cache_read.unwrap_or(0),
            Price::CacheCreation => usage.cache_write.unwrap_or(0),
            Price::Output => usage.output.unwrap_or(0),
            Price::Reasoning => usage.reasoning.unwrap_or(0),
            Price::Expression(expression) => expression.evaluate(subject)?,
        })
    }

    /// Returns the number for `subject`; where an expression fails, its tokens.
    pub fn or_tokens(&self, subject: &Subject<'_>) -> u64 {
        self.of(subject).unwrap_or_else(|_| subject.usage.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage {
        input: Some(20),
        cache_read: Some(5),
        cache_write: Some(3),
        cache_write_hour: None,
        output: Some(7),
        reasoning: Some(2),
        search_units: Some(4),
        tier: None,
    };

    fn cost(key: &str, kind: CostKind, cel: Option<&str>) -> LLMRequestCost {
        LLMRequestCost {
            metadata_key: key.to_owned(),
            kind,
            cel: cel.map(str::to_owned),
        }
    }

    fn subject(usage: &Usage) -> Subject<'_> {
        Subject {
            model: "gpt",
            backend: "default/openai",
            reference: "default/openai/route/r/rule/0/ref/0",
            route: "default/r",
            usage,
            money: Money::of_micros(1_230),
        }
    }

    #[track_caller]
    fn check(kind: CostKind, cel: Option<&str>, expected: u64) {
        let price = Price::parse(&cost("k", kind, cel)).expect("a cost");
        assert_eq!(price.of(&subject(&USAGE)), Ok(expected), "{cel:?}");
    }

    #[test]
    fn counts() {
        check(CostKind::InputToken, None, 28);
        check(CostKind::CachedInputToken, None, 5);
        check(CostKind::CacheCreationInputToken, None, 3);
        check(CostKind::OutputToken, None, 7);
        check(CostKind::ReasoningToken, None, 2);
        check(CostKind::TotalToken, None, 35);
    }

    #[test]
    fn expressions() {
        let check = |cel, expected| check(CostKind::Cel, Some(cel), expected);
        check("input_tokens * 3u + output_tokens * 15u", 189);
        check("int(input_tokens) * 2", 56);
        check("uint(double(cached_input_tokens) * 0.1)", 0);
        check("double(output_tokens) * 1.5", 11);
        check("cache_creation_input_tokens + reasoning_tokens", 5);
        check("search_units * 2u", 8);
        check("money_micros", 1_230);
        check("model == 'gpt' ? total_tokens : 0u", 35);
        check(
            "backend == 'default/openai' && route_name == 'default/r' ? 1u : 0u",
            1,
        );
        check("backend_ref.startsWith('default/openai/route/r/') ? 4 : 0", 4);
    }

    #[test]
    fn what_is_no_cost_is_refused() {
        for cel in [
            "",
            "input_tokens +",
            "input_tokens * 2",
            "'text'",
            "-1",
            "10u / input_tokens",
            "output_tokens - 1u",
            "no_such_variable",
            "double(input_tokens) - 0.5",
            ")(",
        ] {
            let parsed = Price::parse(&cost("k", CostKind::Cel, Some(cel)));
            assert!(parsed.is_err(), "{cel}: {parsed:?}");
        }
        assert!(Price::parse(&cost("k", CostKind::Cel, None)).is_err());
        let deep = vec!["1u"; 1300].join("+");
        let error = Price::parse(&cost("k", CostKind::Cel, Some(&deep))).expect_err("too deep");
        assert!(error.to_string().contains("512 operators"), "{error}");
    }

    #[test]
    fn a_failure_costs_the_tokens() {
        let cel = "input_tokens > 0u ? output_tokens - 100u : 0u";
        let (costs, faults) = Costs::parse(&[cost("k", CostKind::Cel, Some(cel))], &[]);
        assert_eq!(faults, []);
        let subject = subject(&USAGE);
        let found: Vec<_> = costs.of(&subject).collect();
        assert_eq!((found[0].1, found[0].2.is_some()), (35, true));
    }

    /// Arithmetic that leaves all numbers is a failure, and ends nothing.
    #[test]
    fn counts_beyond_all_numbers_cost_the_most() {
        let usage = Usage {
            output: Some(u64::MAX),
            ..USAGE
        };
        for cel in ["total_tokens * 3u", "total_tokens + 1u", "int(total_tokens)"] {
            let price = Price::parse(&cost("k", CostKind::Cel, Some(cel))).expect("a cost");
            assert!(price.of(&subject(&usage)).is_err(), "{cel}");
            assert_eq!(price.or_tokens(&subject(&usage)), u64::MAX, "{cel}");
        }
    }

    #[test]
    fn a_routes_own_cost_goes_before() {
        let own = [
            cost("a", CostKind::InputToken, None),
            cost("a", CostKind::OutputToken, None),
            cost("bad", CostKind::Cel, None),
        ];
        let global = [
            cost("a", CostKind::TotalToken, None),
            cost("b", CostKind::TotalToken, None),
        ];
        let (costs, faults) = Costs::parse(&own, &global);
        assert_eq!(costs.price("a"), Some(&Price::Output));
        assert_eq!(costs.price("b"), Some(&Price::Total));
        assert_eq!(costs.keys().count(), 2);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].0, 2);
    }
}
