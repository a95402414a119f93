//! `ml-api`: the reference ML API.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use assay_ml_api::{Arguments, MlApiError, Model, serve};
use assay_telemetry::{Health, run_program};
use assay_transaction::Exit;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    run_program("ml-api", &arguments.process, async |shutdown, health| listen(&arguments, shutdown, health).await)
}

async fn listen(arguments: &Arguments, shutdown: CancellationToken, health: Health) -> Result<Exit, MlApiError> {
    let model = read_model(arguments)?;
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listen_error = |cause| MlApiError::Listen { address: address.to_string(), cause };
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    // Port 0 stands for any free port.
    let address = listener.local_addr().map_err(listen_error)?;
    tracing::info!("model {} listens on http://{address}", model.version());
    health.begin();
    serve(listener, Arc::new(model), arguments.serve_options(), shutdown).await;
    Ok(Exit::Done)
}

fn read_model(arguments: &Arguments) -> Result<Model, MlApiError> {
    let Some(path) = &arguments.model else { return Ok(Model::bundled()) };
    let json =
        std::fs::read_to_string(path).map_err(|cause| MlApiError::ModelUnreadable { path: path.clone(), cause })?;
    Model::from_json(&json).map_err(|cause| MlApiError::Model { path: path.clone(), cause })
}
