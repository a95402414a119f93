//! Faults: for each reason the rules may reject a row for, a way to break exactly that rule.

use std::fmt;
use std::str::FromStr;

use assay_transaction::{Encoding, MAX_ROW_BYTES, RejectReason};

use crate::random::Random;
use crate::row::{AMOUNT, DESCRIPTION, ID, MERCHANT, OPERATION_TYPE, RowBuffer, SIDE, TIMESTAMP};

struct RowFault {
    reason: RejectReason,
    apply: fn(&mut RowBuffer, &mut Random),
}

/// Every fault contained in one row; a quote that never closes would swallow the rows after it.
static FAULTS: [RowFault; 16] = [
    RowFault { reason: RejectReason::FieldCount, apply: change_count },
    RowFault { reason: RejectReason::Encoding, apply: break_encoding },
    RowFault { reason: RejectReason::NulByte, apply: |row, random| any_text(row, random).push(0) },
    RowFault { reason: RejectReason::IdEmpty, apply: |row, random| blank(row, ID, random) },
    RowFault { reason: RejectReason::DescriptionEmpty, apply: |row, random| blank(row, DESCRIPTION, random) },
    RowFault { reason: RejectReason::AmountEmpty, apply: |row, random| blank(row, AMOUNT, random) },
    RowFault { reason: RejectReason::AmountFormat, apply: break_amount },
    RowFault {
        reason: RejectReason::AmountNotFinite,
        apply: |row, random| row.set(AMOUNT, random.pick(&["NaN", "nan", "inf", "-Infinity"])),
    },
    RowFault {
        reason: RejectReason::AmountScale,
        apply: |row, random| row.field(AMOUNT).extend_from_slice(random.pick(&["125", "0001", "3333333"]).as_bytes()),
    },
    RowFault { reason: RejectReason::AmountRange, apply: enlarge_amount },
    RowFault { reason: RejectReason::TimestampEmpty, apply: |row, random| blank(row, TIMESTAMP, random) },
    RowFault { reason: RejectReason::TimestampFormat, apply: break_timestamp },
    RowFault { reason: RejectReason::OperationTypeEmpty, apply: |row, random| blank(row, OPERATION_TYPE, random) },
    RowFault { reason: RejectReason::SideEmpty, apply: |row, random| blank(row, SIDE, random) },
    RowFault {
        reason: RejectReason::RowTooLarge,
        apply: |row, _| row.field(DESCRIPTION).resize(MAX_ROW_BYTES + 1, b'x'),
    },
    RowFault {
        reason: RejectReason::TimestampGap,
        apply: |row, random| row.set(TIMESTAMP, random.pick(&["2023-03-26 02:30:00", "2024-03-31 02:00:00"])),
    },
];

/// Oversized rows per thousand invalid rows of all kinds: at 256 KiB each, more would fill the file.
const TOO_LARGE_PER_THOUSAND: u32 = 5;

/// The faults of invalid rows: usual ones, all, or those with given reason codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidKinds(FaultSelection);

/// Private, so that it is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FaultSelection {
    Usual,
    All,
    Only(Vec<RejectReason>),
}

impl InvalidKinds {
    /// Every kind but `row_too_large`, and `timestamp_gap`, which only a run with a time zone can give.
    pub const USUAL: Self = Self(FaultSelection::Usual);
    /// The usual kinds, and a few oversized rows.
    pub const ALL: Self = Self(FaultSelection::All);
}

/// Parses `usual`, `all`, or comma-separated reason codes.
impl FromStr for InvalidKinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "usual" => Ok(Self::USUAL),
            "all" => Ok(Self::ALL),
            codes => {
                let reasons = codes.split(',').map(|code| known(code.trim())).collect::<Result<_, _>>()?;
                Ok(Self(FaultSelection::Only(reasons)))
            }
        }
    }
}

fn known(code: &str) -> Result<RejectReason, String> {
    let reason = RejectReason::from(code);
    if FAULTS.iter().any(|fault| fault.reason == reason) {
        return Ok(reason);
    }
    let codes: Vec<&str> = FAULTS.iter().map(|fault| fault.reason.code()).collect();
    Err(format!("`{code}` is not a kind of invalid row; give `usual`, `all`, or some of {}", codes.join(",")))
}

#[derive(Debug)]
pub(crate) struct FaultSource {
    chosen: Vec<&'static RowFault>,
    rare: Option<&'static RowFault>,
}

impl FaultSource {
    pub(crate) fn new(kinds: &InvalidKinds) -> Self {
        let usual = |fault: &&RowFault| !matches!(fault.reason, RejectReason::RowTooLarge | RejectReason::TimestampGap);
        match &kinds.0 {
            FaultSelection::Usual => Self { chosen: FAULTS.iter().filter(usual).collect(), rare: None },
            FaultSelection::All => Self {
                chosen: FAULTS.iter().filter(usual).collect(),
                rare: FAULTS.iter().find(|fault| fault.reason == RejectReason::RowTooLarge),
            },
            FaultSelection::Only(reasons) => {
                let chosen = FAULTS.iter().filter(|fault| reasons.contains(&fault.reason)).collect();
                Self { chosen, rare: None }
            }
        }
    }

    /// Breaks the row, and returns the reason it will be rejected for.
    pub(crate) fn apply(&self, row: &mut RowBuffer, random: &mut Random) -> &'static RejectReason {
        let fault = match self.rare {
            Some(rare) if random.below(1_000) < TOO_LARGE_PER_THOUSAND => rare,
            _ => random.pick(&self.chosen),
        };
        (fault.apply)(row, random);
        &fault.reason
    }
}

impl fmt::Debug for RowFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason.code())
    }
}

/// A text field without further rules.
fn any_text<'a>(row: &'a mut RowBuffer, random: &mut Random) -> &'a mut Vec<u8> {
    row.field(random.pick(&[DESCRIPTION, MERCHANT, OPERATION_TYPE, SIDE]))
}

/// A byte that neither starts a complete UTF-8 character nor is assigned in Windows-1252.
fn break_encoding(row: &mut RowBuffer, random: &mut Random) {
    let byte = if row.encoding() == Encoding::UTF_8 { 0xE9 } else { 0x81 };
    any_text(row, random).push(byte);
}

fn blank(row: &mut RowBuffer, column: usize, random: &mut Random) {
    row.set(column, random.pick(&["", " ", "   "]));
}

/// A surplus field, or a truncated row.
fn change_count(row: &mut RowBuffer, random: &mut Random) {
    if random.percent(50) {
        row.push("surplus");
    } else {
        // At least two fields are kept: a single empty field would be a blank line, which is not a row.
        let kept = random.between(2, 6);
        row.truncate(kept as usize);
    }
}

fn break_amount(row: &mut RowBuffer, random: &mut Random) {
    let amount = row.field(AMOUNT);
    match random.below(5) {
        0 => {
            // The other decimal mark.
            for byte in amount.iter_mut() {
                *byte = match *byte {
                    b'.' => b',',
                    b',' => b'.',
                    other => other,
                };
            }
        }
        1 => amount.extend_from_slice(b" EUR"),
        2 => {
            amount.splice(0..0, *b"--");
        }
        3 => row.set(AMOUNT, "1e"),
        _ => row.set(AMOUNT, random.pick(&["n/a", "twelve", "1 23", "(12", "#REF!"])),
    }
}

fn enlarge_amount(row: &mut RowBuffer, _: &mut Random) {
    let amount = row.field(AMOUNT);
    let sign = usize::from(amount.first() == Some(&b'-'));
    amount.splice(sign..sign, *b"98765432109876543");
}

fn break_timestamp(row: &mut RowBuffer, random: &mut Random) {
    let wrong = random.pick(&[
        "28/11/2023 06:35:12",
        "2023-11-28",
        "2023-02-30 06:35:12",
        "2023-13-01 06:35:12",
        "2024-11-28 25:10:00",
        "28 nov. 2024 06:35",
        "1701153312",
        "yesterday",
    ]);
    row.set(TIMESTAMP, wrong);
}
