//! TLS on every connection: a load with private authorities and client certificates; and the errors if one of them does not
//! match.

use std::io::Write as _;

use assay_tests::{
    Authority, Certificate, Database, Extras, MlApi, Postgres, Program, RabbitMq, Rows, S3Server, Script, TlsProxy,
    Tools, free_port, law,
};
use url::Url;

/// A user of PostgreSQL who gets in by TLS alone, with a certificate.
const USER: &str = "assay_by_tls";
const PASSWORD: &str = "by-tls-alone";

/// A deployment without clear-text connections, in which RabbitMQ, PostgreSQL and the ML API admit clients with a
/// certificate.
struct Secured {
    database: Database,
    s3: S3Server,
    s3_proxy: TlsProxy,
    ml_api: MlApi,
    ml_api_proxy: TlsProxy,
    rabbitmq: RabbitMq,
    amqps_port: u16,
    _postgres: Postgres,
    authority: Authority,
    stranger: Authority,
    client: Certificate,
    _folder: tempfile::TempDir,
}

impl Secured {
    async fn start(tools: &Tools) -> Self {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let server = authority.server(["localhost"]);
        let folder = world_readable_folder();
        let files = vec![
            ("ca.pem", authority.pem().to_owned()),
            ("server.pem", server.pem.clone()),
            ("server.key", server.key.clone()),
        ];
        let amqps_port = free_port();
        let of_rabbitmq = [
            &format!("listeners.ssl.1 = 127.0.0.1:{amqps_port}"),
            "ssl_options.cacertfile = {directory}/ca.pem",
            "ssl_options.certfile = {directory}/server.pem",
            "ssl_options.keyfile = {directory}/server.key",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
        ];
        let of_postgres = [
            "ssl=on",
            "ssl_ca_file={directory}/ca.pem",
            "ssl_cert_file={directory}/server.pem",
            "ssl_key_file={directory}/server.key",
        ];
        // The superuser, whom the tests ask through, comes as he is.
        let access = "local all all trust\nhost all assay all scram-sha-256\n\
                      hostssl all all all scram-sha-256 clientcert=verify-ca\n";
        let extras = |settings: &[&str], access: Option<&str>| Extras {
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            files: files.clone(),
            access: access.map(str::to_owned),
        };
        let (for_rabbitmq, for_postgres) = (extras(&of_rabbitmq, None), extras(&of_postgres, Some(access)));
        let (rabbitmq, mut postgres) = tokio::join!(
            RabbitMq::start(&folder, tools.rabbitmq.clone(), &for_rabbitmq),
            Postgres::start(&folder, tools.postgres.clone(), &for_postgres),
        );
        postgres.execute(&format!("CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")).await;
        let (s3, ml_api) = (S3Server::start().await, MlApi::start(Script::Score).await);
        Self {
            database: Database::migrated_on(postgres.url().into()).await,
            s3_proxy: TlsProxy::before(address(&s3.endpoint()), &server, None).await,
            s3,
            ml_api_proxy: TlsProxy::before(address(ml_api.url().as_str()), &server, Some(&authority)).await,
            ml_api,
            rabbitmq,
            amqps_port,
            _postgres: postgres,
            client: authority.client("assay"),
            authority,
            stranger,
            _folder: folder,
        }
    }

    fn amqp_url(&self) -> String {
        let url = self.rabbitmq.url_at(self.amqps_port);
        url.replacen("amqp://", "amqps://", 1).replacen("127.0.0.1", "localhost", 1)
    }

    fn database_url(&self) -> String {
        let mut url = Url::parse(self.database.url()).unwrap();
        url.set_username(USER).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.set_host(Some("localhost")).unwrap();
        url.into()
    }

    /// A program that has everything it needs.
    fn program(&self, name: &'static str) -> Program {
        let mut program = Program::new(name)
            .env("AMQP_URL", self.amqp_url())
            .env("DATABASE_URL", self.database_url())
            .env("ML_API_URL", format!("https://localhost:{}", self.ml_api_proxy.port()))
            .env("ENDPOINT_URL", format!("https://localhost:{}", self.s3_proxy.port()))
            .env("ENDPOINT_CA_FILE", self.authority.file())
            .env("KEY", S3Server::KEY)
            .env("SECRET", S3Server::SECRET)
            .env("FLUSH_INTERVAL", "100ms")
            // What a setting forbids is not waited for.
            .env("STARTUP_TIMEOUT", "1h");
        for prefix in ["AMQP", "DATABASE", "ML_API"] {
            program = program
                .env(&format!("{prefix}_CA_FILE"), self.authority.file())
                .env(&format!("{prefix}_CERT_FILE"), &self.client.cert_file)
                .env(&format!("{prefix}_KEY_FILE"), &self.client.key_file);
        }
        program
    }

    /// The program that uses a connection at its start.
    fn user_of(&self, prefix: &str) -> Program {
        match prefix {
            "AMQP" | "ML_API" => self.program("predictor"),
            "DATABASE" => self.program("writer"),
            _ => self.program("loader").arg("s3://transactions/a.csv"),
        }
    }

    fn url_of(&self, prefix: &str) -> String {
        match prefix {
            "AMQP" => self.amqp_url(),
            "DATABASE" => self.database_url(),
            "ML_API" => format!("https://localhost:{}", self.ml_api_proxy.port()),
            _ => format!("https://localhost:{}", self.s3_proxy.port()),
        }
    }
}

/// Servers that run as other users reach what lies in it.
fn world_readable_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn address(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_by_tls_or_not_at_all() {
    let Some(tools) = Tools::from_environment() else {
        let words = "tls: NOT RUN, as it takes installed services with settings of its own: run scripts/faults once, which brings them";
        writeln!(std::io::stderr(), "{words}").unwrap();
        return;
    };
    let secured = Secured::start(&tools).await;
    a_load_comes_through(&secured).await;
    no_program_connects_to_an_untrusted_server(&secured).await;
    a_missing_client_certificate_is_reported(&secured).await;
    no_program_connects_to_a_server_without_tls(&secured).await;
}

async fn a_load_comes_through(secured: &Secured) {
    let object = secured.s3.put("transactions", "a.csv", Rows::valid(1_500));
    let stages = [secured.program("predictor").start(), secured.program("writer").start()];
    let loader = secured.program("loader").args([&object, "--wait"]);
    loader.run().await.expect_exit(0).expect_says("1500 processed, 0 failed, 0 invalid");
    assert_eq!(law::holds_for_one_run(&secured.database).await.predicted, 1_500);
    assert!(secured.ml_api.requests() >= 15);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'assay_by_tls' AND ssl AND version = 'TLSv1.3' AND client_dn LIKE '%assay%'";
    assert!(secured.database.count(encrypted).await > 0, "the writer's connections are encrypted, with a certificate");
    for stage in stages {
        stage.terminate();
        stage.end().await.expect_exit(0);
    }
}

async fn no_program_connects_to_an_untrusted_server(secured: &Secured) {
    for prefix in ["AMQP", "DATABASE", "ML_API", "ENDPOINT"] {
        let (ca, url) = (format!("{prefix}_CA_FILE"), format!("{prefix}_URL"));
        // PostgreSQL's certificate is verified if a setting asks for it.
        let asked = |program: Program| match prefix {
            "DATABASE" => program.env("DATABASE_URL", format!("{}?sslmode=verify-full", secured.database_url())),
            _ => program,
        };
        let ended = asked(secured.user_of(prefix).without(&ca)).run().await;
        ended.expect_one_clear_line(2, &[&ca, "no trusted authority has signed its certificate"]);
        let ended = secured.user_of(prefix).env(&ca, secured.stranger.file()).run().await;
        ended.expect_one_clear_line(2, &[&ca, "no trusted authority has signed its certificate"]);
        let elsewhere = secured.url_of(prefix).replacen("localhost", "127.0.0.1", 1);
        let ended = secured.user_of(prefix).env(&url, elsewhere).run().await;
        ended.expect_one_clear_line(2, &[&url, "its certificate is for another host name"]);
        let ended = secured.user_of(prefix).env(&ca, "/nowhere/ca.pem").run().await;
        ended.expect_one_clear_line(2, &[&ca, "/nowhere/ca.pem", "does not exist"]);
    }
}

async fn a_missing_client_certificate_is_reported(secured: &Secured) {
    for prefix in ["AMQP", "DATABASE", "ML_API"] {
        let (cert, key) = (format!("{prefix}_CERT_FILE"), format!("{prefix}_KEY_FILE"));
        let ended = secured.user_of(prefix).without(&cert).without(&key).run().await;
        ended.expect_one_clear_line(2, &[&cert, &key, "certificate"]);
        let other = secured.stranger.client("assay");
        let ended = secured.user_of(prefix).env(&cert, &other.cert_file).env(&key, &other.key_file).run().await;
        ended.expect_one_clear_line(2, &[&cert, "refuses the client certificate"]);
        let ended = secured.user_of(prefix).env(&key, &other.key_file).run().await;
        ended.expect_one_clear_line(2, &[&cert, &key, "does not belong"]);
    }
    // S3 has no setting for it.
    let server = secured.authority.server(["localhost"]);
    let strict = TlsProxy::before(address(&secured.s3.endpoint()), &server, Some(&secured.authority)).await;
    let loader = secured.user_of("ENDPOINT").env("ENDPOINT_URL", format!("https://localhost:{}", strict.port()));
    loader.run().await.expect_one_clear_line(2, &["client certificate", "the AWS SDK cannot present one"]);
}

async fn no_program_connects_to_a_server_without_tls(secured: &Secured) {
    let amqp = secured.rabbitmq.url_at(secured.rabbitmq.port());
    let plain_broker = secured.user_of("AMQP").env("AMQP_URL", amqp.replacen("amqp://", "amqps://", 1)).run().await;
    plain_broker.expect_one_clear_line(2, &["AMQP_URL", "does not speak TLS"]);
    let plain_api = secured.user_of("ML_API").env("ML_API_URL", secured.ml_api.url().replacen("http:", "https:", 1));
    plain_api.run().await.expect_one_clear_line(2, &["ML_API_URL", "does not speak TLS"]);
    let plain_s3 =
        secured.user_of("ENDPOINT").env("ENDPOINT_URL", secured.s3.endpoint().replacen("http:", "https:", 1));
    plain_s3.run().await.expect_one_clear_line(2, &["ENDPOINT_URL", "does not speak TLS"]);
    // Nor are certificates that were meant for TLS forgotten where there is none.
    for (prefix, url) in [("AMQP", amqp), ("ML_API", secured.ml_api.url()), ("ENDPOINT", secured.s3.endpoint())] {
        let ended = secured.user_of(prefix).env(&format!("{prefix}_URL"), url).run().await;
        ended.expect_one_clear_line(2, &[&format!("{prefix}_CA_FILE is set"), &format!("{prefix}_URL")]);
    }
    let lax = secured.user_of("DATABASE").env("DATABASE_URL", format!("{}?sslmode=require", secured.database_url()));
    lax.run().await.expect_one_clear_line(2, &["DATABASE_CA_FILE", "sslmode"]);
}
