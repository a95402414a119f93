//! A nearly free ML API on loopback, and what it is asked: for the benchmarks of the client.

use assay_transaction::EncodedTransaction;
use axum::Router;
use axum::body::Bytes;
use uuid::Uuid;

/// As many transactions.
pub(crate) fn transactions(rows: usize) -> Vec<EncodedTransaction> {
    let transaction = |row: usize| {
        let id = Uuid::from_u128(row as u128);
        let transaction = format!(
            r#"{{"id":"{id}","description":"Carrefour City Paris 11","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":"Carrefour","operation_type":"card_payment","side":"debit","attributes":{{"country":"FR"}}}}"#
        );
        serde_json::from_str(&transaction).expect("it is JSON")
    };
    (0..rows).map(transaction).collect()
}

/// The response to these transactions, as the reference API writes it.
pub(crate) fn answer(rows: usize) -> Bytes {
    let item = |row: usize| {
        let id = Uuid::from_u128(row as u128);
        format!(
            r#"{{"transaction_id":"{id}","prediction":"legitimate","fraud_score":0.0312,"model_version":"demo-1"}}"#
        )
    };
    format!("[{}]", (0..rows).map(item).collect::<Vec<_>>().join(",")).into()
}

/// Serves on a free port; returns the address.
pub(crate) async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}
