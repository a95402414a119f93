//! Transactions as they are shown, in text and JSON. Card numbers are masked here.

use std::collections::BTreeMap;

use assay_store::{FailedRecord, PredictionRecord, TransactionRecord};
use assay_transaction::{Entry, ModelEndpoint, ReasonCode, RunId, Timestamp, Transaction, mask_card_numbers};
use serde::Serialize;
use uuid::Uuid;

use crate::{FieldList, counted, moment, one_line};

/// Longest value that is shown.
const VALUE: usize = 1_000;

/// The content of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransactionView {
    id: Uuid,
    external_id: Option<String>,
    description: String,
    /// The same text for a stored and a failed transaction.
    amount: String,
    timestamp: Timestamp,
    merchant: Option<String>,
    operation_type: String,
    side: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
}

impl TransactionView {
    fn new(transaction: Transaction, external_id: Option<&str>) -> Self {
        let Transaction { id, description, amount, timestamp, merchant, operation_type, side, attributes } =
            transaction;
        let masked = |text: &str| mask_card_numbers(text).into_owned();
        Self {
            id,
            external_id: external_id.map(masked),
            description: masked(&description),
            amount: display_amount(&amount.to_string()),
            timestamp,
            merchant: merchant.as_deref().map(masked),
            operation_type: masked(&operation_type),
            side: masked(&side),
            attributes: attributes.iter().map(|(name, value)| (name.clone(), masked(value))).collect(),
        }
    }

    /// Adds its fields.
    pub fn show(&self, fields: &mut FieldList) {
        let shown = |text: &str| one_line(text, VALUE);
        fields.add("transaction", self.id.to_string());
        fields.add_some("external id", self.external_id.as_deref().map(shown));
        fields.add("description", shown(&self.description));
        fields.add("amount", self.amount.clone());
        fields.add("timestamp", format!("{} UTC", moment(self.timestamp)));
        fields.add_some("merchant", self.merchant.as_deref().map(shown));
        fields.add("operation type", shown(&self.operation_type));
        fields.add("side", shown(&self.side));
        for (name, value) in &self.attributes {
            fields.add(one_line(name, 40), shown(value));
        }
    }
}

/// An amount with at least two decimals, and without further zeros.
fn display_amount(amount: &str) -> String {
    let (whole, decimals) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{whole}.{:0<2}", decimals.trim_end_matches('0'))
}

/// A stored transaction, with its prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredTransactionView {
    #[serde(flatten)]
    content: TransactionView,
    /// The run whose row stored it.
    pub run_id: RunId,
    /// That row.
    pub row: u64,
    processing_type: String,
    stored_at: Timestamp,
    prediction: Option<PredictionView>,
    replaced: u64,
}

/// The prediction of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PredictionView {
    prediction: String,
    fraud_score: Option<f64>,
    model_version: Option<String>,
    /// Why it has this score, the weightiest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonCode>,
    /// Where it comes from; none in predictions of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<ModelEndpoint>,
    run_id: RunId,
    predicted_at: Timestamp,
}

/// A reason as it is shown: a model may repeat its input.
fn masked_reason(reason: ReasonCode) -> ReasonCode {
    let masked = |text: String| mask_card_numbers(&text).into_owned();
    match reason {
        ReasonCode::Code(code) => ReasonCode::Code(masked(code)),
        ReasonCode::Contribution { feature, contribution } => {
            ReasonCode::Contribution { feature: masked(feature), contribution }
        }
    }
}

/// `R07`, or `amount +0.2500`.
fn reason_text(reason: &ReasonCode) -> String {
    match reason {
        ReasonCode::Code(code) => one_line(code, VALUE),
        ReasonCode::Contribution { feature, contribution } => {
            format!("{} {contribution:+.4}", one_line(feature, VALUE))
        }
    }
}

impl From<TransactionRecord> for StoredTransactionView {
    fn from(record: TransactionRecord) -> Self {
        let view = |prediction: PredictionRecord| PredictionView {
            // A model may repeat its input.
            prediction: mask_card_numbers(&prediction.prediction).into_owned(),
            fraud_score: prediction.fraud_score,
            model_version: prediction.model_version.map(|version| mask_card_numbers(&version).into_owned()),
            reasons: prediction.reasons.into_iter().map(masked_reason).collect(),
            endpoint: prediction.endpoint,
            run_id: prediction.run_id,
            predicted_at: prediction.predicted_at,
        };
        Self {
            content: TransactionView::new(record.transaction, record.external_id.as_deref()),
            run_id: record.run_id,
            row: record.row,
            processing_type: record.processing_type,
            stored_at: record.created_at,
            prediction: record.prediction.map(view),
            replaced: record.replaced,
        }
    }
}

impl StoredTransactionView {
    /// `fraud, score 0.9700, by model demo-1`.
    pub fn prediction_line(&self) -> String {
        let Some(answer) = &self.prediction else {
            return "no prediction: it was deleted, so the audit of its run fails".to_owned();
        };
        let score = answer.fraud_score.map(|score| format!(", score {score:.4}")).unwrap_or_default();
        let model = answer.model_version.as_deref().map(|model| format!(", by model {}", one_line(model, VALUE)));
        format!("{}{score}{}", one_line(&answer.prediction, VALUE), model.unwrap_or_default())
    }

    /// Its fields.
    pub fn fields(&self) -> FieldList {
        let mut fields = FieldList::default();
        self.show(&mut fields);
        fields
    }

    /// Adds its fields.
    pub fn show(&self, fields: &mut FieldList) {
        self.content.show(fields);
        if let Some(answer) = &self.prediction {
            let run_id = Some(&answer.run_id).filter(|run_id| **run_id != self.run_id);
            let by = run_id.map(|run_id| format!(", for run {run_id}")).unwrap_or_default();
            fields.add("scored at", format!("{} UTC{by}", moment(answer.predicted_at)));
            fields.add_some("scored by", answer.endpoint.as_ref().map(endpoint_text));
            if !answer.reasons.is_empty() {
                fields.add("reasons", answer.reasons.iter().map(reason_text).collect::<Vec<_>>().join(", "));
            }
        }
        fields.add("stored at", format!("{} UTC", moment(self.stored_at)));
        if self.replaced > 0 {
            let times = counted(self.replaced, "time", "times");
            fields.add("replaced", format!("{times}; earlier versions are in transaction_history"));
        }
    }
}

/// The URL, and the features file if there is one.
fn endpoint_text(endpoint: &ModelEndpoint) -> String {
    let features = endpoint.features().map(|digest| format!(", features file {}", one_line(digest, VALUE)));
    format!("{}{}", one_line(endpoint.url(), VALUE), features.unwrap_or_default())
}

/// A transaction that could not be scored or stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedTransactionView {
    /// The run.
    pub run_id: RunId,
    /// The row in its source.
    pub row: u64,
    transaction_id: Uuid,
    /// The class's code.
    pub class: String,
    /// Why, for a person; masked.
    pub reason: String,
    attempts: u64,
    /// Whether a replay can send it.
    replayable: bool,
    transaction: Option<TransactionView>,
}

impl From<FailedRecord> for FailedTransactionView {
    fn from(record: FailedRecord) -> Self {
        let entry = replayable_entry(&record);
        let content = entry.as_ref().and_then(|entry| {
            let transaction = entry.transaction.decode().ok()?;
            Some(TransactionView::new(transaction, entry.external_id.as_deref()))
        });
        Self {
            run_id: record.run_id,
            row: record.row,
            transaction_id: record.transaction_id,
            class: record.class,
            reason: mask_card_numbers(&record.reason).into_owned(),
            attempts: record.attempts,
            replayable: entry.is_some(),
            transaction: content,
        }
    }
}

impl FailedTransactionView {
    /// Its fields.
    pub fn fields(&self) -> FieldList {
        let mut fields = FieldList::default();
        self.show(&mut fields);
        fields
    }

    /// Adds its fields.
    pub fn show(&self, fields: &mut FieldList) {
        fields.add("reason", one_line(&self.reason, VALUE));
        fields.add("attempts", self.attempts.to_string());
        let replay = if self.replayable {
            format!("yes: assay replay {} --rows {}", self.run_id, self.row)
        } else {
            "no: its stored payload cannot be read".to_owned()
        };
        fields.add("replayable", replay);
        match &self.transaction {
            Some(content) => content.show(fields),
            None => fields.add("transaction", self.transaction_id.to_string()),
        }
    }
}

/// A failed transaction as a replay sends it; none if its payload cannot be read.
pub fn replayable_entry(record: &FailedRecord) -> Option<Entry> {
    serde_json::from_slice(&record.payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{failed, record};

    #[test]
    fn an_amount_is_shown_alike_everywhere() {
        for (amount, shown) in
            [("-777.77", "-777.77"), ("-777.7700", "-777.77"), ("5", "5.00"), ("1.5", "1.50"), ("0.1250", "0.125")]
        {
            assert_eq!(display_amount(amount), shown);
        }
    }

    #[test]
    fn no_card_number_is_shown() {
        let (stored, unstored) = (StoredTransactionView::from(record()), FailedTransactionView::from(failed()));
        let mut fields = FieldList::default();
        stored.show(&mut fields);
        unstored.show(&mut fields);
        let json = serde_json::to_string(&(&stored, &unstored)).unwrap();
        for text in [fields.to_string(), json] {
            assert!(text.contains("************1111") && !text.contains("4111111111111111"), "{text}");
        }
    }

    #[test]
    fn an_unreadable_payload_is_not_replayable() {
        let broken = FailedRecord { payload: b"{}".to_vec(), ..failed() };
        let mut fields = FieldList::default();
        FailedTransactionView::from(broken).show(&mut fields);
        assert!(fields.to_string().contains("replayable   no"), "{fields}");
    }
}
