//! `mainstay setup-link`, `mainstay user` and `mainstay token`: accounts from the server's own machine.
//!
//! Asked of the running server; without one, links are made in the data folder itself.

use super::arguments::UserCommand;
use super::say;
use super::serve::plan;
use super::settings::Shell;
use crate::accounts::{AccountsError, By, Users};
use crate::app::connect::Connect;
use crate::app::control::ControlError;
use crate::app::control_people::{self, LinkWanted};
use crate::app::{Folder, StartError, start};
use crate::base::LocalDisk;

/// Prints the link that sets the server up.
pub(super) fn setup_link(shell: Shell) -> anyhow::Result<()> {
    link(shell, LinkWanted::SetUp)
}

/// Runs `command`.
pub(super) fn user(shell: Shell, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::List => {
            let users = control_people::users(&shell.existing_data())?;
            say(&users.into_iter().fold(String::new(), |out, line| out + &line + "\n"))
        }
        UserCommand::Invite { email } => {
            let url = control_people::link(&shell.existing_data(), LinkWanted::Invite { email })?;
            say(&format!("{url}\n"))
        }
        UserCommand::ResetPassword { email } => link(shell, LinkWanted::Reset { email }),
        UserCommand::RemoveSecondFactor { email } => {
            control_people::drop_second_factor(&shell.existing_data(), email)?;
            say("the second factor is removed\n")
        }
    }
}

/// Makes an API token and prints it.
pub(super) fn create_token(shell: &Shell, label: String, scopes: Vec<String>) -> anyhow::Result<()> {
    say(&format!("{}\n", control_people::create_token(&shell.existing_data(), label, scopes)?))
}

#[expect(clippy::needless_pass_by_value, reason = "the callers build the wish in place")]
fn link(shell: Shell, wanted: LinkWanted) -> anyhow::Result<()> {
    let url = match control_people::link(&shell.existing_data(), wanted.clone()) {
        Err(ControlError::NotRunning { .. }) => offline(shell, &wanted)?,
        answered => answered?,
    };
    say(&format!("{url}\n"))
}

/// The same in a folder no server runs on.
fn offline(shell: Shell, wanted: &LinkWanted) -> anyhow::Result<String> {
    let config = shell.load(&[])?.config;
    let data = shell.existing_data();
    let folder = Folder::open(&LocalDisk, &data)?;
    if !folder.has_data {
        return Err(StartError::NoFolder { path: data }.into());
    }
    let connect = Connect::configured(&config, folder.path());
    let plan = plan(data, config, shell.environment);
    let ground = start::open_ground(&plan, folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(make(&ground.users, &connect, wanted));
    plan.supervisor.shutdown().drain();
    runtime.block_on(ground.state.close());
    plan.supervisor.join_threads();
    Ok(made?)
}

async fn make(users: &Users, connect: &Connect, wanted: &LinkWanted) -> Result<String, AccountsError> {
    control_people::make_link(users, connect, wanted, &By::command_line()).await
}
