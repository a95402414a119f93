//! An S3 server with one bucket, for scripts: `s3 BUCKET FILE` prints the settings for it, and serves until it is stopped.

use std::path::Path;

use assay_testkit::S3Server;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the settings are its output")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [bucket, file] = &arguments[..] else { panic!("usage: s3 BUCKET FILE") };
    let server = S3Server::start().await;
    let key = Path::new(file).file_name().and_then(|name| name.to_str()).expect("the name of a file");
    server.put(bucket, key, std::fs::read(file)?);
    println!("ENDPOINT_URL={}\nKEY={}\nSECRET={}", server.endpoint(), S3Server::KEY, S3Server::SECRET);
    tokio::signal::ctrl_c().await
}
