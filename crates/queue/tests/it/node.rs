//! A RabbitMQ of a test's own, with settings that the tests' common one does not have.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lapin::{Connection, ConnectionProperties};
use tempfile::TempDir;

const START: Duration = Duration::from_mins(1);

/// A node and its epmd. Both end with it.
pub(crate) struct Node {
    home: TempDir,
    port: u16,
    processes: Vec<Child>,
}

impl Node {
    /// Starts a node with settings as Erlang terms. `None` where the tests' RabbitMQ is no installed program.
    pub(crate) async fn start(settings: &str) -> Option<Self> {
        let server = std::env::var_os("TEST_RABBITMQ_SERVER")?;
        let home = tempfile::tempdir().unwrap();
        let [port, epmd_port, dist_port] = free_ports();
        let path = |name: &str| home.path().join(name);
        std::fs::write(path("rabbitmq.conf"), configuration(port)).unwrap();
        std::fs::write(path("advanced.config"), format!("[{{rabbit,[{settings}]}}].\n")).unwrap();
        std::fs::write(path("enabled_plugins"), "[].\n").unwrap();
        std::fs::write(path("rabbitmq-env.conf"), "").unwrap();
        let mut node = Self { home, port, processes: Vec::new() };
        let epmd_port = epmd_port.to_string();
        let log = node.path("epmd.log");
        node.run(Command::new("epmd").args(["-port", &epmd_port, "-address", "127.0.0.1"]), &log);
        node.until("epmd", || TcpStream::connect(("127.0.0.1", epmd_port.parse().unwrap())).is_ok()).await;
        let mut command = Command::new(server);
        command
            .env("ERL_EPMD_PORT", &epmd_port)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("assay-queue-{port}@localhost"))
            .env("RABBITMQ_USE_LONGNAME", "false")
            .env("RABBITMQ_DIST_PORT", dist_port.to_string())
            // The script becomes the node, instead of watching over it.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput -kernel inet_dist_use_interface {127,0,0,1} -setcookie assay",
            );
        for (variable, name) in [
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
            command.env(variable, node.path(name));
        }
        let log = node.path("rabbitmq.log");
        node.run(&mut command, &log);
        let answers = async {
            while Connection::connect(&node.url(), ConnectionProperties::default()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        assert!(tokio::time::timeout(START, answers).await.is_ok(), "RabbitMQ does not start:\n{}", node.log());
        Some(node)
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://assay:assay@127.0.0.1:{}", self.port)
    }

    /// What the node has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("rabbitmq.log")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run(&mut self, command: &mut Command, log: &Path) {
        let log = File::create(log).unwrap();
        command.env("HOME", self.home.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.processes.push(command.spawn().unwrap());
    }

    async fn until(&self, name: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + START;
        while !condition() {
            assert!(Instant::now() < end, "{name} does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The node before its epmd.
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn configuration(port: u16) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         default_user = assay\n\
         default_pass = assay\n\
         disk_free_limit.absolute = 64MB\n\
         log.console = true\n\
         log.console.level = info\n\
         log.file = false\n"
    )
}

/// Ports that are free just now, below those that the system gives to clients.
fn free_ports<const N: usize>() -> [u16; N] {
    let mut port = 20_000 + u16::try_from(std::process::id() % 11_000).unwrap();
    [(); N].map(|()| {
        loop {
            port += 1;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}
