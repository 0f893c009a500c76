//! Conditions on a result: `synfin/limit<0.7`, `errors>0 or p99>2000`.
//!
//! ```text
//!   condition  = all *( "or" all )
//!   all        = comparison *( "and" comparison )
//!   comparison = quantity ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) quantity
//!   quantity   = value *( "/" value )
//!   value      = a number | a name | the path to a number in the result, its parts joined by dots
//! ```

use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// A condition under which a run has failed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Condition {
    text: String,
    /// One of these lists must hold in full.
    any: Vec<Vec<Comparison>>,
}

#[derive(Clone, PartialEq, Debug)]
struct Comparison {
    left: Quantity,
    operator: Operator,
    right: Quantity,
}

/// The first value divided by all others.
#[derive(Clone, PartialEq, Debug)]
struct Quantity(Vec<Term>);

#[derive(Clone, PartialEq, Debug)]
enum Term {
    Number(f64),
    /// As it was written, and the path that it stands for.
    Path(String, String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Condition {
    /// Why the result fails the run; `None` if it does not.
    ///
    /// What the result does not have fails it too: a condition that nobody could judge must not pass.
    pub(crate) fn met(&self, result: &Value) -> Option<String> {
        let mut unknown = None;
        for all in &self.any {
            let judged: Vec<Result<Option<String>, String>> =
                all.iter().map(|comparison| comparison.met(result)).collect();
            if judged.iter().any(|judged| matches!(judged, Ok(None))) {
                continue;
            }
            let missing = judged.iter().find_map(|judged| judged.as_ref().err());
            match missing {
                Some(missing) => unknown = unknown.or_else(|| Some(missing.clone())),
                None => {
                    let reasons: Vec<String> = judged.into_iter().filter_map(|judged| judged.ok().flatten()).collect();
                    return Some(format!("--fail-if {}: {}", self.text, reasons.join(" and ")));
                }
            }
        }
        unknown.map(|missing| format!("--fail-if {}: the result has no {missing}, so it cannot be judged", self.text))
    }
}

impl Comparison {
    /// The figures for which it holds; `None` if it does not, an error if one of them is not there.
    fn met(&self, result: &Value) -> Result<Option<String>, String> {
        let (left, right) = (self.left.value(result)?, self.right.value(result)?);
        let holds = match self.operator {
            Operator::Less => left < right,
            Operator::LessOrEqual => left <= right,
            Operator::Greater => left > right,
            Operator::GreaterOrEqual => left >= right,
            Operator::Equal => left == right,
            Operator::NotEqual => left != right,
        };
        Ok(holds.then(|| format!("{} is {}", self.left, shown(left))))
    }
}

impl Quantity {
    fn value(&self, result: &Value) -> Result<f64, String> {
        let mut terms = self.0.iter().map(|term| match term {
            Term::Number(number) => Ok(*number),
            Term::Path(name, path) => find(result, path).and_then(Value::as_f64).ok_or_else(|| name.clone()),
        });
        let mut value = terms.next().unwrap_or_else(|| Err(self.to_string()))?;
        for divisor in terms {
            value /= divisor?;
        }
        if value.is_finite() { Ok(value) } else { Err(self.to_string()) }
    }
}

/// The value at a path whose parts are joined by dots; names of counters have dots of their own.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    ends.filter_map(|end| {
        let (part, rest) = (&path[..end], path[end..].strip_prefix('.').unwrap_or_default());
        let below = match value {
            Value::Array(values) => values.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
        find(below, rest)
    })
    .next()
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let mut reader = Reader { tokens: tokens(text)?, next: 0 };
        let mut any = vec![vec![reader.comparison()?]];
        while let Some(word) = reader.take() {
            match word.as_str() {
                "and" => {
                    let comparison = reader.comparison()?;
                    any.last_mut().into_iter().for_each(|all| all.push(comparison.clone()));
                }
                "or" => any.push(vec![reader.comparison()?]),
                other => return Err(format!("'{other}' where 'and', 'or' or the end belongs")),
            }
        }
        Ok(Condition { text: text.trim().to_owned(), any })
    }
}

struct Reader {
    tokens: Vec<String>,
    next: usize,
}

impl Reader {
    fn take(&mut self) -> Option<String> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn comparison(&mut self) -> Result<Comparison, String> {
        let left = self.quantity()?;
        let operator = match self.take().as_deref() {
            Some("<") => Operator::Less,
            Some("<=") => Operator::LessOrEqual,
            Some(">") => Operator::Greater,
            Some(">=") => Operator::GreaterOrEqual,
            Some("==") => Operator::Equal,
            Some("!=") => Operator::NotEqual,
            Some(other) => return Err(format!("'{other}' where one of < <= > >= == != belongs")),
            None => return Err(format!("'{left}' is compared with nothing: write it as in synfin/limit<0.7")),
        };
        Ok(Comparison { left, operator, right: self.quantity()? })
    }

    fn quantity(&mut self) -> Result<Quantity, String> {
        let mut terms = vec![self.term()?];
        while self.tokens.get(self.next).is_some_and(|token| token == "/") {
            self.next += 1;
            terms.push(self.term()?);
        }
        Ok(Quantity(terms))
    }

    fn term(&mut self) -> Result<Term, String> {
        let token = self.take().ok_or("it ends where a number or a name belongs")?;
        let first = token.chars().next().unwrap_or(' ');
        if first.is_ascii_digit() || first == '-' || first == '.' {
            let number = token.parse::<f64>().ok().filter(|number| number.is_finite());
            return number.map(Term::Number).ok_or_else(|| format!("'{token}' is no number"));
        }
        if !(first.is_ascii_alphabetic() || first == '_') {
            return Err(format!("'{token}' where a number or a name belongs"));
        }
        if let Some((_, path)) = NAMES.iter().find(|(name, _)| *name == token) {
            return Ok(Term::Path(token, (*path).to_owned()));
        }
        if token.contains('.') {
            return Ok(Term::Path(token.clone(), token));
        }
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        Err(format!(
            "no quantity is called '{token}'; there are {}, and paths such as limit.frames_per_second",
            names.join(", ")
        ))
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let is_operator = |letter: char| "<>=!".contains(letter);
        let length = match first {
            '/' => 1,
            _ if is_word(first) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            _ if is_operator(first) => rest.find(|letter| !is_operator(letter)).unwrap_or(rest.len()),
            other => return Err(format!("'{other}' has no meaning here")),
        };
        found.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.4}") }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "/" } else { "" })?;
            match term {
                Term::Number(number) => write!(f, "{number}")?,
                Term::Path(name, _) => f.write_str(name)?,
            }
        }
        Ok(())
    }
}

/// What has a name of its own, and where it is. Rates are connections per second, latencies of synfin in us; errors and
/// evictions are those of all parts of the run.
const NAMES: [(&str, &str); 9] = [
    ("synfin", "stacks.synfin.connections_per_second"),
    ("kernel", "stacks.kernel.connections_per_second"),
    ("limit", "limit.connections_per_second"),
    ("errors", "total.errors"),
    ("evicted", "total.time_wait_evicted"),
    ("p50", "stacks.synfin.connect_latency_us.p50"),
    ("p99", "stacks.synfin.connect_latency_us.p99"),
    ("p999", "stacks.synfin.connect_latency_us.p999"),
    ("max", "stacks.synfin.connect_latency_us.max"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result() -> Value {
        json!({
            "stacks": {
                "synfin": {
                    "connections_per_second": 60.0, "connect_latency_us": {"p99": 900.0},
                    "counters": {"client.Tcp.ActiveOpens": 7}
                },
                "kernel": null
            },
            "total": {"errors": 2},
            "limit": {"connections_per_second": 100.0},
            "list": [{"a": 0.0}]
        })
    }

    fn met(text: &str) -> Option<String> {
        text.parse::<Condition>().expect(text).met(&result())
    }

    #[test]
    fn conditions_hold_or_not_with_their_figures() {
        assert_eq!(met("synfin/limit<0.7"), Some("--fail-if synfin/limit<0.7: synfin/limit is 0.6000".into()));
        assert_eq!(met("synfin/limit<0.5"), None);
        assert!(met("errors>0").expect("holds").ends_with("errors is 2"));
        assert_eq!(met("errors > 2 or p99 >= 901"), None);
        assert!(met("errors == 2 and p99 <= 900").expect("holds").contains("errors is 2 and p99 is 900"));
        assert!(met("errors != 2 or stacks.synfin.counters.client.Tcp.ActiveOpens > 6").is_some());
        assert!(met("list.0.a > -1e3").is_some());
    }

    #[test]
    fn what_is_not_there_fails() {
        assert!(met("synfin/kernel<5").expect("fails").contains("the result has no kernel"));
        assert!(met("synfin/list.0.a>1").expect("fails").contains("cannot be judged"));
        assert!(met("no.such.path>1").expect("fails").contains("no.such.path"));
        assert_eq!(met("kernel<5 and errors>7"), None, "the other half has decided");
    }

    #[test]
    fn errors_of_grammar_say_what_belongs_there() {
        for (text, says) in [
            ("", "ends where a number or a name"),
            ("errors", "compared with nothing"),
            ("errors>", "ends where"),
            ("errors=>1", "'=>' where one of"),
            ("error>1", "no quantity is called 'error'; there are synfin, kernel"),
            ("errors>1 errors>2", "'errors' where 'and', 'or'"),
            ("errors>1 and", "ends where"),
            ("errors>1x", "'1x' is no number"),
            ("errors>(1)", "'(' has no meaning"),
            ("synfin//limit<1", "'/' where a number or a name"),
        ] {
            let error = text.parse::<Condition>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
