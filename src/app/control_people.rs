//! Accounts over `control.sock`: one-time links, users and tokens, for `mainstay setup-link`, `user` and `token`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connect::Connect;
use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::accounts::{AccountsError, By, Email, Scopes, User, Users};

/// Which one-time link is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkWanted {
    /// The one that makes the first account.
    SetUp,
    /// One for a new account to set its password with.
    Invite {
        /// The account's e-mail address.
        email: String,
    },
    /// One that sets a new password.
    Reset {
        /// The account's e-mail address.
        email: String,
    },
}

/// Answers what is asked about accounts.
///
/// # Errors
/// What the service says.
pub(super) async fn answer(asked: Ask, facts: &Facts) -> Result<Value, AccountsError> {
    let users = &facts.users;
    Ok(match asked {
        Ask::Link(wanted) => Value::from(make_link(users, &facts.connect, &wanted, &By::command_line()).await?),
        Ask::Users => Value::from(user_lines(users).await?),
        Ask::DropSecondFactor { email } => Value::from(drop_factor(users, &email).await?),
        Ask::CreateToken { label, scopes } => Value::from(make_token(users, &label, &scopes).await?),
        _ => Value::Null,
    })
}

/// Makes a one-time link: the address of a page of the console. The set-up link is for whoever sits at this machine,
/// before there is a certificate; the others are passed on to people elsewhere.
///
/// # Errors
/// As [`Users::new_setup_link`], [`Users::invite`] and [`Users::new_reset_link`].
///
/// # Cancel safety
/// Dropped before its end, an earlier link may be void.
pub async fn make_link(
    users: &Users,
    connect: &Connect,
    wanted: &LinkWanted,
    by: &By,
) -> Result<String, AccountsError> {
    let token = match wanted {
        LinkWanted::SetUp => {
            let token = users.new_setup_link(by).await?;
            return Ok(connect.console_url(&format!("/setup?token={}", token.expose())));
        }
        LinkWanted::Invite { email } => users.invite(email, by).await?.1,
        LinkWanted::Reset { email } => users.new_reset_link(email, by).await?,
    };
    Ok(format!("{}/reset?token={}", connect.console_for_people(), token.expose()))
}

async fn user_lines(users: &Users) -> Result<Vec<String>, AccountsError> {
    let line = |user: User| {
        let factor = if user.second_factor { ", second factor" } else { "" };
        format!("{:>4}  {}  {}{factor}", user.id, user.email, user.role.name())
    };
    Ok(users.users().await?.into_iter().map(line).collect())
}

async fn drop_factor(users: &Users, email: &str) -> Result<bool, AccountsError> {
    let email: Email = email.parse()?;
    let found = users.users().await?.into_iter().find(|user| user.email == email);
    users.drop_second_factor(found.ok_or(AccountsError::NoSuchUser)?.id, &By::command_line()).await?;
    Ok(true)
}

async fn make_token(users: &Users, label: &str, scopes: &[String]) -> Result<String, AccountsError> {
    let scopes = Scopes::named(scopes.iter().map(String::as_str)).ok_or(AccountsError::BadToken)?;
    Ok(users.create_token(label, scopes, None, &By::command_line()).await?.1.expose().clone())
}

/// Asks the server that runs on `folder` for a one-time link. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn link(folder: &Path, wanted: LinkWanted) -> Result<String, ControlError> {
    ask(folder, Ask::Link(wanted))
}

/// Asks the server that runs on `folder` for its users, a line each. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn users(folder: &Path) -> Result<Vec<String>, ControlError> {
    ask(folder, Ask::Users)
}

/// Tells the server that runs on `folder` to remove the second factor of `email`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn drop_second_factor(folder: &Path, email: String) -> Result<bool, ControlError> {
    ask(folder, Ask::DropSecondFactor { email })
}

/// Asks the server that runs on `folder` for a new API token. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn create_token(folder: &Path, label: String, scopes: Vec<String>) -> Result<String, ControlError> {
    ask(folder, Ask::CreateToken { label, scopes })
}
