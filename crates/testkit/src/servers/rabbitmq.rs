//! A private RabbitMQ that can be killed and started again, with all confirmed messages kept.
//!
//! As in `scripts/lib/services.sh`, which gives the reason of each setting.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::daemon::{Account, Daemon, POLL_INTERVAL, command, private_directory};
use super::{Extras, put_file};
use crate::{DEADLINE, free_port};

/// A node.
#[derive(Debug)]
pub struct RabbitMq {
    server: PathBuf,
    directory: PathBuf,
    account: Option<Account>,
    port: u16,
    epmd_port: u16,
    dist_port: u16,
    password: String,
    process: Option<Daemon>,
    // Ends after the node, which is registered with it.
    _epmd: Daemon,
}

impl RabbitMq {
    /// Creates one in this directory, with the script of `TEST_RABBITMQ_SERVER`, and waits until it is ready.
    pub async fn start(within: &TempDir, server: PathBuf, extras: &Extras) -> Self {
        let account = Account::without_privileges("rabbitmq");
        let directory = private_directory(within.path().join("rabbitmq"), account);
        let [port, epmd_port, dist_port] = [free_port(), free_port(), free_port()];
        let password = uuid::Uuid::new_v4().simple().to_string();
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             default_user = assay\n\
             default_pass = {password}\n\
             loopback_users = none\n\
             disk_free_limit.absolute = 64MB\n\
             raft.wal_max_size_bytes = 16777216\n\
             log.console = true\n\
             log.console.level = info\n\
             log.file = false\n{}\n",
            extras.settings_in(&directory).join("\n")
        );
        extras.put_files(&directory, account);
        let cookie = uuid::Uuid::new_v4().simple().to_string();
        let files = [
            ("rabbitmq.conf", configuration.as_str()),
            ("enabled_plugins", "[].\n"),
            ("rabbitmq-env.conf", ""),
            (".erlang.cookie", &cookie),
        ];
        for (name, content) in files {
            put_file(&directory.join(name), content, account);
        }
        let mut epmd = command("epmd", &directory, account);
        epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]).env("HOME", &directory);
        let epmd = Daemon::start("epmd", epmd, &directory.join("epmd.log"), "TERM");
        let mut rabbitmq =
            Self { server, directory, account, port, epmd_port, dist_port, password, process: None, _epmd: epmd };
        let deadline = Instant::now() + DEADLINE;
        while !rabbitmq.has_epmd() {
            assert!(Instant::now() < deadline, "epmd does not answer");
            sleep(POLL_INTERVAL).await;
        }
        rabbitmq.revive();
        rabbitmq.until_ready().await;
        rabbitmq
    }

    fn has_epmd(&self) -> bool {
        let mut asking = Command::new("epmd");
        asking.args(["-port", &self.epmd_port.to_string(), "-names"]);
        asking.output().is_ok_and(|asked| asked.status.success())
    }

    /// Starts it again if it does not run.
    pub fn revive(&mut self) {
        if self.process.as_mut().is_some_and(Daemon::is_running) {
            return;
        }
        let mut command = self.command(&self.server);
        let inet = "-noinput -kernel inet_dist_use_interface {127,0,0,1}";
        command.env("RABBITMQ_ALLOW_INPUT", "1").env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", inet);
        self.process = Some(Daemon::start("RabbitMQ", command, &self.log(), "KILL"));
    }

    /// A command with the environment of the node: its server, its `rabbitmqctl`, or a script that calls it.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = command(program, &self.directory, self.account);
        for (variable, file) in [
            ("HOME", ""),
            ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_CONFIG_FILES", "conf.d"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "config"),
            ("RABBITMQ_SCHEMA_DIR", "schema"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_PLUGINS_EXPAND_DIR", "plugins"),
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_PID_FILE", "pid"),
        ] {
            command.env(variable, if file.is_empty() { self.directory.clone() } else { self.directory.join(file) });
        }
        command
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("assay-test-{}@localhost", self.epmd_port))
            .env("RABBITMQ_USE_LONGNAME", "false")
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string());
        command
    }

    /// Runs the text of a shell script that calls `$RABBITMQCTL`, and asserts that it succeeds.
    pub fn run(&self, script: &str, arguments: &[&str]) {
        let ctl = self.server.with_file_name("rabbitmqctl");
        // In a place where the user of the node may read it.
        let script = self.put_file("script", script);
        let done = self
            .command("bash")
            .arg(&script)
            .args(arguments)
            .env("RABBITMQCTL", ctl)
            .output()
            .expect("the script starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}\n{said}", String::from_utf8_lossy(&done.stdout));
    }

    /// Creates a file that the user of the node may read, and returns its path.
    pub fn put_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.join(name);
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            private_directory(folder.to_owned(), self.account);
        }
        put_file(&path, content, self.account);
        path
    }

    /// Waits until it speaks AMQP.
    pub async fn until_ready(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while !self.speaks_amqp().await {
            let is_running = self.process.as_mut().is_some_and(Daemon::is_running);
            assert!(is_running && Instant::now() < deadline, "RabbitMQ does not answer: {}", self.last_words());
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether it replies to the protocol header with a method frame, as it does once its listener is open.
    async fn speaks_amqp(&self) -> bool {
        let asked = async {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
            connection.write_all(b"AMQP\0\0\x09\x01").await?;
            connection.read_u8().await
        };
        matches!(timeout(std::time::Duration::from_secs(2), asked).await, Ok(Ok(1)))
    }

    /// Ends it, by a signal: `KILL` at once, `TERM` in order.
    pub async fn end(&mut self, signal: &str) {
        self.process.take().expect("it runs").end(signal).await;
    }

    /// Its port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL at this port: its own, or that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        format!("amqp://assay:{}@127.0.0.1:{port}", self.password)
    }

    /// The file of its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("rabbitmq.log")
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
