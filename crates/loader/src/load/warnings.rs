//! Warnings about a loaded source, even if its run is complete: nearly all rows are invalid for one reason, local times exist
//! twice, or ids are nearly the same.

use assay_transaction::{PrevailingReason, TimeZone};
use serde::Serialize;
use tracing::warn;

use crate::load::judge::RowStats;

/// Warnings about the rows that this process has read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LoadWarnings {
    /// The reason for which all or nearly all rows are invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prevailing: Option<PrevailingReason>,
    /// Rows whose local time exists twice.
    #[serde(skip_serializing_if = "is_none")]
    pub ambiguous_hours: u64,
    /// Least number of rows whose id equals an earlier one except for case or Unicode form.
    #[serde(skip_serializing_if = "is_none")]
    pub lookalike_ids: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_lookalike_row: Option<u64>,
    /// Whether there may be more: the source has too many ids to compare all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_lookalikes: bool,
    /// Time zone of the ambiguous hours.
    #[serde(skip)]
    pub zone: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl LoadWarnings {
    pub(crate) fn of(stats: &RowStats, time_zone: TimeZone) -> Self {
        let RowStats { rejections, rows, ambiguous_hours, lookalikes, .. } = stats;
        let lookalikes = lookalikes.count();
        Self {
            lookalike_ids: lookalikes.rows,
            first_lookalike_row: lookalikes.first_row,
            more_lookalikes: lookalikes.rows > 0 && lookalikes.may_be_more,
            prevailing: rejections.prevailing(*rows),
            ambiguous_hours: *ambiguous_hours,
            zone: time_zone.to_string(),
        }
    }

    /// One line each, the most serious last.
    pub fn lines(&self) -> Vec<String> {
        let twice = (self.ambiguous_hours > 0).then(|| {
            let (rows, zone) = (self.ambiguous_hours, &self.zone);
            format!(
                "{rows} rows have a local time that comes twice in {zone}, as clocks go back: the earlier one was taken; times with an \
                 offset, or another TIME_ZONE, leave no doubt"
            )
        });
        let alike = self.first_lookalike_row.map(|row| {
            let (least, rows) = (if self.more_lookalikes { "at least " } else { "" }, self.lookalike_ids);
            let (noun, verb) = if rows == 1 { ("row", "has") } else { ("rows", "have") };
            format!(
                "{least}{rows} {noun} {verb} an id that differs from another one in case or Unicode form alone, row {row} first: they are \
                 different transactions; where they are not, correct the file, and take the run back with `assay remove`"
            )
        });
        twice.into_iter().chain(alike).chain(self.prevailing.as_ref().map(PrevailingReason::to_string)).collect()
    }

    pub(crate) fn log(&self) {
        for line in self.lines() {
            warn!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::RejectReason;

    use super::*;

    #[test]
    fn most_sources_have_no_warnings() {
        assert_eq!(LoadWarnings::default().lines(), Vec::<String>::new());
        assert_eq!(serde_json::to_string(&LoadWarnings::default()).unwrap(), "{}");
    }

    #[test]
    fn warnings_name_the_setting() {
        let prevailing = PrevailingReason {
            reason: RejectReason::AmountFormat,
            rejected: 99,
            rows: 100,
            example: "`amount` is not a decimal number: `1,5`".into(),
            setting: RejectReason::AmountFormat.setting(),
        };
        let warnings = LoadWarnings {
            prevailing: Some(prevailing),
            ambiguous_hours: 3,
            lookalike_ids: 2,
            first_lookalike_row: Some(7),
            more_lookalikes: true,
            zone: "Europe/Paris".into(),
        };
        let [twice, alike, reason] = <[String; 3]>::try_from(warnings.lines()).unwrap();
        assert!(
            alike.starts_with(
                "at least 2 rows have an id that differs from another one in case or Unicode form alone, row 7 first"
            ),
            "{alike}"
        );
        assert!(twice.starts_with("3 rows have a local time that comes twice in Europe/Paris"), "{twice}");
        assert!(reason.starts_with("99 of 100 rows are invalid for one reason, amount_format"), "{reason}");
        assert!(reason.contains("DECIMAL_MARK"), "{reason}");
    }
}
