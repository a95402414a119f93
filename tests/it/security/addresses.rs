//! Addresses: every program reaches exactly the host that is named, for all servers, or refuses the address before any lookup.

use std::net::{Ipv6Addr, SocketAddr};

use assay_tests::{Program, Rows, Script, Stack, law};
use assay_transaction::Tally;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// Passes connections to `[::1]` on to another address of this machine. Without IPv6 it is only a closed port.
struct Passage {
    port: u16,
    is_there: bool,
}

impl Passage {
    async fn to(url: &str, default_port: u16) -> Self {
        let url = Url::parse(url).unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(default_port));
        let Ok(listener) = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).await else {
            return Self { port: assay_tests::free_port(), is_there: false };
        };
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let target = target.clone();
                tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(target).await {
                        // Either side may break off.
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
        Self { port, is_there: true }
    }

    /// An address with `[::1]` in place of its host.
    fn instead(&self, url: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        url.set_host(Some("[::1]")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_is_reached_by_its_ipv6_address() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    let (broker, database, s3, api) =
        (stack.broker.url(), stack.database.url(), stack.s3.endpoint(), stack.ml_api.url());
    let passages = [
        Passage::to(broker, 5672).await,
        Passage::to(database, 5432).await,
        Passage::to(&s3, 80).await,
        Passage::to(&api, 80).await,
    ];
    let by_ipv6 = |program: Program| {
        program
            .env("AMQP_URL", passages[0].instead(broker))
            .env("DATABASE_URL", passages[1].instead(database))
            .env("ENDPOINT_URL", passages[2].instead(&s3))
            .env("ML_API_URL", passages[3].instead(&api))
            .env("METRICS_ADDR", "[::1]:0")
    };
    if !passages[0].is_there {
        // They look for the very address that they are given, and for no other.
        let programs = [("loader", 1), ("predictor", 0), ("writer", 0)];
        for (name, passage) in programs {
            let program = Program::new(name);
            let program = if name == "loader" { program.arg(&object) } else { program };
            let ended =
                by_ipv6(stack.known_to(program)).env("STARTUP_TIMEOUT", "1s").without("METRICS_ADDR").run().await;
            ended.expect_exit(3).expect_says(&format!("[::1]:{}", passages[passage].port));
        }
        return;
    }
    let _stages = [by_ipv6(stack.predictor()).start(), by_ipv6(stack.writer()).start()];
    by_ipv6(stack.loader(&object)).arg("--wait").run().await.expect_exit(0);
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: 300, ..Tally::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unencoded_password_is_refused_and_neither_shown_nor_resolved() {
    for (name, scheme) in
        [("AMQP_URL", "amqp"), ("DATABASE_URL", "postgres"), ("ML_API_URL", "http"), ("ENDPOINT_URL", "http")]
    {
        for password in ["hu@sh", "hu/sh", "hu?sh", "hu#sh", "hu%sh", "hu@@sh", "@hush", "hush@", "hu/@sh"] {
            let program = match name {
                "DATABASE_URL" => Program::new("assay").arg("migrate"),
                "ENDPOINT_URL" => Program::new("assay").args(["inspect", "s3://transactions/a.csv"]),
                "AMQP_URL" => Program::new("assay").arg("declare"),
                _ => Program::new("predictor").env("AMQP_URL", "amqp://127.0.0.1:1"),
            };
            let address = format!("{scheme}://user:{password}@host.invalid:1/name");
            let ended =
                program.env(name, address).env("STARTUP_TIMEOUT", "500ms").env("LOG_LEVEL", "trace").run().await;
            ended.expect_exit(2).expect_says(name).expect_says("percent-encode");
            for piece in ["hu@", "hu/", "hush", "sh@", "host.invalid"] {
                ended.expect_silent_about(piece);
            }
        }
    }
}
