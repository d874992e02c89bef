//! Rate limits that apps ask about.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::base::Timestamp;
use crate::limits::{Answer, PolicyView, Rejection, Subject};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attempt {
    #[serde(default)]
    ip: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    cost: Option<u32>,
}

impl Attempt {
    fn subject(self) -> Result<Subject, Problem> {
        let address = |text: String| {
            let parsed: Option<IpAddr> = text.trim().parse().ok();
            parsed.ok_or_else(|| Problem::bad(format!("`{text}` is no address")))
        };
        let ip = self.ip.map(address).transpose()?;
        Ok(Subject { ip, email: self.email, user: self.user, key: self.key })
    }

    /// Without a cost; only an attempt has one.
    fn without_cost(self) -> Result<Subject, Problem> {
        if self.cost.is_some() { Err(Problem::bad("there is no cost here")) } else { self.subject() }
    }
}

fn policy_json(view: &PolicyView) -> Value {
    json!({
        "name": view.policy.name,
        "algorithm": view.policy.rule.algorithm().word(),
        "limit": view.policy.limit,
        "window_seconds": view.policy.window.duration().as_secs_f64(),
        "by": view.policy.by_text(),
        "allowed": view.allowed,
        "refused": view.refused,
    })
}

fn rejection_json(rejection: &Rejection) -> Value {
    json!({"at": rejection.at.to_string(), "policy": rejection.policy, "who": rejection.who})
}

fn answer(now: Timestamp, answer: &Answer) -> Result<Reply, Problem> {
    let after = |ms| now.after(std::time::Duration::from_millis(ms)).to_string();
    let verdict = answer.verdict;
    Reply::ok(&json!({
        "allowed": verdict.allowed,
        "limit": answer.limit,
        "remaining": verdict.remaining,
        // Whole seconds, rounded up, as `Retry-After` has them.
        "retry_after_seconds": verdict.retry_ms.div_ceil(1000),
        "retry_at": after(verdict.retry_ms),
        "reset_at": after(verdict.reset_ms),
        "failures": answer.failures,
        "address_failures": answer.address_failures,
        "suspicious": answer.suspicious,
    }))
}

/// `GET /v1/limits`.
pub fn policies(api: &V1) -> Result<Reply, Problem> {
    page(api.limits().policies().iter().map(policy_json).collect(), None)
}

/// `GET /v1/limits/rejections`.
pub fn rejections(api: &V1) -> Result<Reply, Problem> {
    page(api.limits().rejections().iter().map(rejection_json).collect(), None)
}

/// `POST /v1/limits/{policy}/check`.
pub fn check(api: &V1, call: &Call) -> Result<Reply, Problem> {
    let attempt: Attempt = call.json()?;
    let cost = attempt.cost.unwrap_or(1);
    answer(api.now(), &api.limits().check(call.name(0), &attempt.subject()?, cost)?)
}

/// `POST /v1/limits/{policy}/failed`.
pub fn failed(api: &V1, call: &Call) -> Result<Reply, Problem> {
    let subject = call.json::<Attempt>()?.without_cost()?;
    answer(api.now(), &api.limits().failed(call.name(0), &subject)?)
}

/// `POST /v1/limits/{policy}/reset`.
pub fn reset(api: &V1, call: &Call) -> Result<Reply, Problem> {
    let subject = call.json::<Attempt>()?.without_cost()?;
    api.limits().reset(call.name(0), &subject)?;
    Ok(Reply::nothing())
}
