//! The programs of Assay as child processes: started with nothing but their own environment, heard, ended.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use assay_testkit::{DEADLINE, service_url};
use tokio::sync::watch;
use tokio::time::timeout;

/// A program that is about to start.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    command: Command,
    home: tempfile::TempDir,
}

impl Program {
    /// One of the workspace's programs. Its environment holds `PATH` and an empty `HOME`, where no profile of AWS lies
    /// about; it runs in that directory too.
    pub fn new(name: &'static str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(executable(name));
        command.env_clear().env("HOME", home.path()).current_dir(home.path());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Self { name, command, home }
    }

    /// A program that is not the workspace's, by its path.
    pub fn external(name: &'static str, executable: impl AsRef<std::ffi::OsStr>) -> Self {
        let assay = Self::new("assay");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new(executable);
        command.env_clear().env("HOME", assay.home.path()).env("PATH", path).current_dir(assay.home.path());
        Self { name, command, ..assay }
    }

    /// A line of a shell, which finds the workspace's programs on its `PATH`.
    pub fn shell(line: &str) -> Self {
        let assay = Self::new("assay");
        let programs = executable("assay").parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.env_clear().env("HOME", assay.home.path()).env("PATH", path).current_dir(assay.home.path());
        command.args(["-c", line]);
        Self { name: "sh", command, ..assay }
    }

    /// A script of this repository, by the Python that `scripts/test` has found or provisioned pika for.
    pub fn python(script: &str) -> Self {
        Self::external("python", service_url("TEST_PYTHON"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + script)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Small queues, chunks and batches, and few unconfirmed messages, which a queue takes beyond its length: a loader without
    /// predictors is stuck after a few chunks.
    #[must_use]
    pub fn with_small_queues(self) -> Self {
        self.env("QUEUE_MAX_LENGTH", "5").env("PUBLISH_WINDOW", "2").env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20")
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it in a directory that outlives it.
    #[must_use]
    pub fn within(mut self, directory: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        let stdout = listen(child.stdout.take().expect("stdout is piped"));
        let stderr = listen(child.stderr.take().expect("stderr is piped"));
        Running { name: self.name, id: child.id(), stdout, stderr, status: watch_exit(child), _home: self.home }
    }

    /// Runs it to its end.
    pub async fn run(self) -> Ended {
        self.start().end().await
    }
}

/// A program that runs. Dropped, it is killed; where the test has failed, what it said is shown.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    id: u32,
    stdout: watch::Receiver<String>,
    stderr: watch::Receiver<String>,
    status: watch::Receiver<Option<ExitStatus>>,
    _home: tempfile::TempDir,
}

impl Running {
    /// Waits until its log says something.
    pub async fn says(&mut self, text: &str) -> &mut Self {
        let said = matches!(timeout(DEADLINE, self.stderr.wait_for(|log| log.contains(text))).await, Ok(Ok(_)));
        assert!(said, "{} never said `{text}`, but:\n{}", self.name, *self.stderr.borrow());
        self
    }

    /// The address after these words in its log, once they are there.
    pub async fn address_after(&mut self, words: &str) -> String {
        self.says(words).await;
        let log = self.log();
        let rest = log.split(words).nth(1).expect("it has just said it");
        rest.split(['/', ' ', '\n']).next().unwrap_or_default().to_owned()
    }

    /// Waits until its log says something so many times, as each of its own processes does.
    pub async fn says_times(&mut self, text: &str, times: usize) -> &mut Self {
        let heard = self.stderr.wait_for(|log| log.matches(text).count() >= times);
        let said = matches!(timeout(DEADLINE, heard).await, Ok(Ok(_)));
        assert!(said, "{} never said `{text}` {times} times, but:\n{}", self.name, *self.stderr.borrow());
        self
    }

    /// Waits until its results say something.
    pub async fn prints(&mut self, text: &str) -> &mut Self {
        self.prints_within(text, DEADLINE).await
    }

    /// The same for what may take longer than the tests usually wait.
    pub async fn prints_within(&mut self, text: &str, deadline: Duration) -> &mut Self {
        let said = matches!(timeout(deadline, self.stdout.wait_for(|out| out.contains(text))).await, Ok(Ok(_)));
        assert!(said, "{} never printed `{text}`, but:\n{}", self.name, self.log());
        self
    }

    /// Asks it to end: SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Ends it at once, as a crash of the machine would: SIGKILL.
    pub async fn kill(self) -> Ended {
        self.signal("KILL");
        self.end().await
    }

    /// Holds it still, whatever it is doing: SIGSTOP. Returns once none of its threads runs.
    pub async fn freeze(&self) {
        self.signal("STOP");
        let still = async {
            while !is_still(self.id) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, still).await.expect("a process that was told to stop stops");
    }

    /// Lets it go on: SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What its log says so far.
    pub fn log(&self) -> String {
        self.stderr.borrow().clone()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.status.borrow().is_none()
    }

    /// How much memory it has at the moment, as Linux counts it: KiB in RAM. None once it has ended.
    pub fn resident_kib(&self) -> Option<u64> {
        self.memory_kib("VmRSS:")
    }

    /// The most memory that it ever had: KiB in RAM. None once it has ended.
    pub fn peak_kib(&self) -> Option<u64> {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).ok()?;
        let size = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        size.and_then(|kib| kib.parse().ok())
    }

    /// Its line in the list of processes, as everybody on the machine can read it, where the system shows it as Linux does.
    pub fn command_line(&self) -> String {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    }

    /// Waits until it has ended.
    pub async fn until_ended(&self) {
        // The sender is gone once it has.
        let _ = self.status.clone().wait_for(Option::is_some).await;
    }

    /// Waits until it ends by itself, or because it was asked to.
    pub async fn end(self) -> Ended {
        self.end_within(DEADLINE).await
    }

    /// The same for what may take longer than the tests usually wait.
    pub async fn end_within(mut self, deadline: Duration) -> Ended {
        let ended = timeout(deadline, async {
            let status = *self.status.wait_for(Option::is_some).await.expect("the process is waited for");
            // Until both pipes are closed, something may still be on its way.
            while self.stdout.changed().await.is_ok() {}
            while self.stderr.changed().await.is_ok() {}
            status
        })
        .await;
        let Ok(status) = ended else {
            panic!("{} did not end within {deadline:?}; it said:\n{}", self.name, *self.stderr.borrow());
        };
        Ended {
            name: self.name,
            code: status.and_then(|status| status.code()),
            stdout: self.stdout.borrow().clone(),
            stderr: self.stderr.borrow().clone(),
        }
    }

    fn signal(&self, signal: &str) {
        if self.status.borrow().is_none() {
            // Through the shell, whose `kill` is always there, as no safe function of the standard library sends a TERM.
            let _ = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.id)).status();
        }
    }
}

impl Drop for Running {
    #[expect(clippy::print_stderr, reason = "shown with the failure of its test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = if self.is_running() { "still runs" } else { "had ended" };
            eprintln!("{} {} {state} when the test failed; it said:\n{}", self.name, self.id, self.log());
        }
        self.signal("KILL");
    }
}

/// A program that ended, and all that it said.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub name: &'static str,
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Its log.
    pub stderr: String,
}

impl Ended {
    /// Demands an exit code.
    #[track_caller]
    pub fn expect_exit(&self, code: i32) -> &Self {
        let Self { name, code: found, stdout, stderr } = self;
        assert_eq!(*found, Some(code), "exit code of {name}, which said:\n{stdout}\n{stderr}");
        self
    }

    /// Its results as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let Self { name, stdout, stderr, .. } = self;
        serde_json::from_str(stdout).unwrap_or_else(|error| panic!("no JSON of {name} ({error}):\n{stdout}\n{stderr}"))
    }

    /// Demands that its log, or its results, say something.
    #[track_caller]
    pub fn expect_says(&self, text: &str) -> &Self {
        let Self { name, stdout, stderr, .. } = self;
        assert!(stdout.contains(text) || stderr.contains(text), "{name} never said `{text}`, but:\n{stdout}\n{stderr}");
        self
    }

    /// Demands that it kept silent about something.
    #[track_caller]
    pub fn expect_silent_about(&self, text: &str) -> &Self {
        let Self { name, stdout, stderr, .. } = self;
        assert!(!stdout.contains(text) && !stderr.contains(text), "{name} said `{text}`:\n{stdout}\n{stderr}");
        self
    }

    /// Demands that it failed with an exit code and **one** clear line that holds every one of `words`: no second error, no
    /// backtrace, no debris of a data structure.
    #[track_caller]
    pub fn expect_one_clear_line(&self, code: i32, words: &[&str]) -> &Self {
        let errors: Vec<_> = self.expect_exit(code).stderr.lines().filter(|line| is_error(line)).collect();
        let [error] = errors[..] else {
            panic!("{} must say one error, but said {}:\n{}", self.name, errors.len(), self.stderr);
        };
        for word in words {
            assert!(error.contains(word), "{}: its error does not name `{word}`: {error}", self.name);
        }
        for debris in ["panicked", "backtrace", "Backtrace", "Error {", "Error(", "Some(", "Caused by", "\\n"] {
            assert!(!self.stderr.contains(debris), "{}: `{debris}` is not for people:\n{}", self.name, self.stderr);
        }
        self
    }
}

fn is_error(line: &str) -> bool {
    line.contains(" - ERROR - ") || line.to_ascii_lowercase().starts_with("error:")
}

/// Where cargo puts the programs: beside the directory of the test binaries, which is beside the other programs.
fn executable(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let directory = this.parent().expect("a program lies in a directory");
    let directory = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let path = directory.join(name);
    assert!(path.is_file(), "{} is not built: run ./scripts/test, which builds it", path.display());
    path
}

/// Whether every thread of a process is stopped. Where the system does not tell, the signal is taken at its word.
fn is_still(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return true };
    threads.flatten().all(|thread| {
        // The state follows the name, which stands in parentheses. A thread that has ended does not run either.
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { return true };
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}

/// Collects what comes through a pipe, line by line; closed when the pipe is.
fn listen(pipe: impl Read + Send + 'static) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            sender.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
            line.clear();
        }
    });
    receiver
}

fn watch_exit(mut child: Child) -> watch::Receiver<Option<ExitStatus>> {
    let (sender, receiver) = watch::channel(None);
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            sender.send_replace(Some(status));
        }
    });
    receiver
}
