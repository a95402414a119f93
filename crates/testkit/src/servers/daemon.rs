//! A server process that tests may kill: started as an unprivileged user if the tests run as root, and ended with its owner.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::DEADLINE;

/// Between two checks whether a process has started or ended.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The account of a server that must not run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// This user if it exists, else `nobody`; none if the tests do not run as root.
    pub(crate) fn without_privileges(name: &str) -> Option<Self> {
        if id(&["-u"])? != 0 {
            return None;
        }
        [name, "nobody"].into_iter().find_map(|name| Some(Self { user: id(&["-u", name])?, group: id(&["-g", name])? }))
    }
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Creates a directory that only the account may enter.
pub(crate) fn private_directory(path: PathBuf, account: Option<Account>) -> PathBuf {
    std::fs::create_dir(&path).expect("a directory is made");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    give(&path, account);
    path
}

/// Makes the account the owner of a file.
pub(crate) fn give(path: &Path, account: Option<Account>) {
    if let Some(Account { user, group }) = account {
        chown(path, Some(user), Some(group)).expect("root may give its files away");
    }
}

/// A command that runs as the account, in its directory.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, directory: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null());
    if let Some(Account { user, group }) = account {
        command.uid(user).gid(group);
    }
    command
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    /// The signal that ends it on drop.
    farewell: &'static str,
}

impl Daemon {
    /// Starts it in its own process group, so that Ctrl-C does not end it before the programs.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path, farewell: &'static str) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("the log can be written");
        let child = command
            .process_group(0)
            .stdout(log.try_clone().expect("a log can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, farewell }
    }

    /// Sends a signal, and waits for the end of the process.
    pub(crate) async fn end(mut self, signal: &str) {
        self.signal(signal);
        let deadline = Instant::now() + DEADLINE;
        while self.is_running() {
            assert!(Instant::now() < deadline, "{} does not end on {signal}", self.name);
            sleep(POLL_INTERVAL).await;
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn signal(&self, signal: &str) {
        // Through the shell, whose `kill` always exists: no safe function of the standard library sends a signal.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.child.id())).status();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(self.farewell);
            let _ = self.child.wait();
        }
    }
}
