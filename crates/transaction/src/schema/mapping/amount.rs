//! The source of the amount: its unit, sign and decimals, in whole numbers throughout.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Template;
use super::text::{CommonForms, NameOrTable, TextFrom};
use crate::value::amount::{AmountNotation, DecimalDigits, DecimalNumber, DigitLimits, MAX_INTEGER_DIGITS, MAX_SCALE};
use crate::{Amount, AmountError, DecimalMark};

/// Most digits of a unit, and its most decimals.
const MAX_UNIT_DIGITS: usize = 9;
/// Limits of an amount to convert: the product still fits 128 bits.
const CONVERSION_LIMITS: DigitLimits = DigitLimits { integer: 20, scale: 17 };

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOrTable<AmountTable>", into = "NameOrTable<AmountTable>")]
pub(crate) struct AmountFrom {
    pub(crate) texts: AmountTexts,
    pub(crate) scaling: Scaling,
    pub(crate) negative_when: Option<NegativeWhen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AmountTexts {
    /// One text.
    One(TextFrom),
    /// One of two columns: debits are negative, credits positive, and the other column is empty or zero.
    DebitOrCredit { debit: String, credit: String },
}

/// A column whose values make an amount negative where its own sign does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NegativeWhen {
    pub(crate) column: String,
    pub(crate) is: OneOrMany,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a value, or a list of values")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scaling {
    unit: AmountUnit,
    sign: SignRule,
    decimals: ExcessDecimals,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SignRule {
    #[default]
    Keep,
    Negate,
    Absolute,
}

/// What to do with more than four decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExcessDecimals {
    #[default]
    Reject,
    /// Round to four, halves away from zero, as PostgreSQL does.
    Round,
}

impl AmountFrom {
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let texts = match &self.texts {
            AmountTexts::One(text) => text.columns(),
            AmountTexts::DebitOrCredit { debit, credit } => vec![debit.as_str(), credit.as_str()],
        };
        texts.into_iter().chain(self.negative_when.as_ref().map(|when| when.column.as_str()))
    }

    /// The same with path values filled in.
    pub(super) fn resolve<E>(&self, folder: impl Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        let texts = match &self.texts {
            AmountTexts::One(text) => AmountTexts::One(text.resolve(folder)?),
            both @ AmountTexts::DebitOrCredit { .. } => both.clone(),
        };
        Ok(Self { texts, ..self.clone() })
    }
}

impl Scaling {
    /// Converts a number. `is_negative` comes from another column, and overrides the sign.
    pub(crate) fn convert(
        self,
        text: &str,
        notation: &AmountNotation,
        is_negative: bool,
    ) -> Result<Amount, AmountError> {
        let DecimalNumber { negative, units, scale } = notation.number(text, CONVERSION_LIMITS)?;
        let mut scaled = units.checked_mul(self.unit.digits.into()).ok_or(AmountError::Range)?;
        let mut scale = scale + self.unit.scale;
        while scale > MAX_SCALE {
            match (scaled % 10, self.decimals) {
                (0, _) => scaled /= 10,
                (_, ExcessDecimals::Reject) => return Err(AmountError::Scale),
                (_, ExcessDecimals::Round) => {
                    let step = 10_i128.pow(u32::try_from(scale - MAX_SCALE).map_err(|_| AmountError::Scale)?);
                    scaled = (scaled + step / 2) / step;
                    scale = MAX_SCALE;
                    break;
                }
            }
            scale -= 1;
        }
        let decimals = u32::try_from(scale).map_err(|_| AmountError::Scale)?;
        if scaled >= 10_i128.pow(MAX_INTEGER_DIGITS + decimals) {
            return Err(AmountError::Range);
        }
        let negative = match self.sign {
            _ if is_negative => true,
            SignRule::Keep => negative,
            SignRule::Negate => !negative,
            SignRule::Absolute => false,
        };
        Amount::from_digits(negative, scaled, scale)
    }
}

/// The value of one unit of the source, as an exact decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AmountUnit {
    digits: u64,
    scale: usize,
}

impl AmountUnit {
    const MAJOR: Self = Self { digits: 1, scale: 0 };
    const MINOR: Self = Self { digits: 1, scale: 2 };

    fn parse(text: &str) -> Option<Self> {
        let DecimalDigits { negative: false, integer, fraction, .. } =
            DecimalDigits::split(text.as_bytes(), DecimalMark::Point).ok()?
        else {
            return None;
        };
        if integer.len() > MAX_UNIT_DIGITS || integer.len() + fraction.len() > MAX_UNIT_DIGITS + 1 {
            return None;
        }
        let digits = integer.iter().chain(fraction).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        (digits > 0).then_some(Self { digits, scale: fraction.len() })
    }
}

impl Default for AmountUnit {
    fn default() -> Self {
        Self::MAJOR
    }
}

impl fmt::Display for AmountUnit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MAJOR => formatter.write_str("major"),
            Self { digits, scale: 0 } => write!(formatter, "{digits}"),
            Self { digits, scale } => {
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (integer, fraction) = digits.split_at(digits.len() - scale);
                write!(formatter, "{integer}.{fraction}")
            }
        }
    }
}

impl Serialize for AmountUnit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AmountUnit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UnitVisitor;

        impl Visitor<'_> for UnitVisitor {
            type Value = AmountUnit;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("\"minor\", \"major\", or what one unit is worth, such as 0.01")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AmountUnit, E> {
                match text {
                    "minor" => Ok(AmountUnit::MINOR),
                    "major" => Ok(AmountUnit::MAJOR),
                    other => AmountUnit::parse(other).ok_or_else(|| {
                        E::custom(format_args!(
                            "`{other}` is not a unit: write \"minor\" for hundredths, \"major\", or what one unit is worth \
                             in at most {MAX_UNIT_DIGITS} digits, such as 0.01"
                        ))
                    }),
                }
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<AmountUnit, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<AmountUnit, E> {
                self.visit_str(&number.to_string())
            }

            /// TOML has no decimals. The shortest text of a float is the one written, up to 15 digits.
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<AmountUnit, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(UnitVisitor)
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AmountTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    constant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    unit: AmountUnit,
    #[serde(default, skip_serializing_if = "is_default")]
    sign: SignRule,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_when: Option<NegativeWhen>,
    #[serde(default, skip_serializing_if = "is_default")]
    decimals: ExcessDecimals,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TryFrom<NameOrTable<AmountTable>> for AmountFrom {
    type Error = String;

    fn try_from(written: NameOrTable<AmountTable>) -> Result<Self, String> {
        let table = match written {
            NameOrTable::Name(column) => AmountTable { column: Some(column), ..AmountTable::default() },
            NameOrTable::Table(table) => table,
        };
        let AmountTable { constant, template, column, path, debit, credit, unit, sign, negative_when, decimals } =
            table;
        let written = CommonForms { constant, template, column, path };
        let texts = match (debit, credit) {
            (None, None) => AmountTexts::One(written.try_into()?),
            (Some(debit), Some(credit)) if written.is_nothing() => AmountTexts::DebitOrCredit { debit, credit },
            _ => return Err("write both `debit` and `credit`, and no other column".to_owned()),
        };
        if matches!(texts, AmountTexts::DebitOrCredit { .. }) && (negative_when.is_some() || sign == SignRule::Negate) {
            return Err("the columns `debit` and `credit` determine the sign; only `sign = \"absolute\"` is allowed with them, for \
                        numbers that repeat it"
                .to_owned());
        }
        Ok(Self { texts, scaling: Scaling { unit, sign, decimals }, negative_when })
    }
}

impl From<AmountFrom> for NameOrTable<AmountTable> {
    fn from(AmountFrom { texts, scaling, negative_when }: AmountFrom) -> Self {
        let is_plain = is_default(&scaling) && negative_when.is_none();
        let Scaling { unit, sign, decimals } = scaling;
        let table = AmountTable { unit, sign, negative_when, decimals, ..AmountTable::default() };
        Self::Table(match texts {
            AmountTexts::One(TextFrom::Column(column)) if is_plain => return Self::Name(column),
            AmountTexts::One(text) => {
                let CommonForms { constant, template, column, path } = text.into();
                AmountTable { constant, template, column, path, ..table }
            }
            AmountTexts::DebitOrCredit { debit, credit } => {
                AmountTable { debit: Some(debit), credit: Some(credit), ..table }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadingRules;
    use proptest::prelude::*;

    fn scaling(json: &str) -> Scaling {
        serde_json::from_str::<AmountFrom>(json).unwrap().scaling
    }

    fn notation(rules: ReadingRules) -> AmountNotation {
        AmountNotation::new(rules, Some(DecimalMark::Point), &[])
    }

    #[test]
    fn the_second_rules_convert_every_form() {
        for (from, text, expected) in [
            (r#"{"column":"a","unit":"minor"}"#, "1e5", Ok("1000.00")),
            (r#"{"column":"a","unit":"minor"}"#, "(12,345)", Ok("-123.45")),
            (r#"{"column":"a","unit":"minor"}"#, "12345.0000000000000000000", Ok("123.4500")),
            (r#"{"column":"a","sign":"negate"}"#, "1,234.50-", Ok("1234.50")),
            (r#"{"column":"a","sign":"absolute"}"#, "−7", Ok("7")),
            (r#"{"column":"a","decimals":"round"}"#, "1.00005E3", Ok("1000.05")),
            (r#"{"column":"a","unit":"minor"}"#, "1.005", Err(AmountError::Scale)),
            (r#"{"column":"a","unit":"minor"}"#, "1e30", Err(AmountError::Range)),
        ] {
            let converted = scaling(from).convert(text, &notation(ReadingRules::Second), false);
            assert_eq!(converted.map(|amount| amount.to_string()), expected.map(str::to_owned), "{from} {text}");
        }
    }

    #[test]
    fn units_signs_and_decimals() {
        let cases = [
            (r#"{"column":"a","unit":"minor"}"#, "12345", false, Ok("123.45")),
            (r#"{"column":"a","unit":"minor"}"#, "-7", false, Ok("-0.07")),
            (r#"{"column":"a","unit":"minor"}"#, "12345.00", false, Ok("123.4500")),
            (r#"{"column":"a","unit":"minor"}"#, "1.005", false, Err(AmountError::Scale)),
            (r#"{"column":"a","unit":"minor"}"#, "99999999999999999999", false, Err(AmountError::Range)),
            (r#"{"column":"a","unit":"minor"}"#, "999999999999999999", false, Ok("9999999999999999.99")),
            (r#"{"column":"a","unit":0.001}"#, "1500", false, Ok("1.500")),
            (r#"{"column":"a","unit":1000}"#, "1.5", false, Ok("1500.0")),
            (r#"{"column":"a","unit":"0.25"}"#, "3", false, Ok("0.75")),
            (r#"{"column":"a","sign":"negate"}"#, "9.50", false, Ok("-9.50")),
            (r#"{"column":"a","sign":"negate"}"#, "-9.50", false, Ok("9.50")),
            (r#"{"column":"a","sign":"negate"}"#, "0", false, Ok("0")),
            (r#"{"column":"a","sign":"absolute"}"#, "-9.50", false, Ok("9.50")),
            (r#"{"column":"a","sign":"absolute"}"#, "9.50", true, Ok("-9.50")),
            (r#"{"column":"a","sign":"keep"}"#, "-9.50", true, Ok("-9.50")),
            (r#"{"column":"a","decimals":"round"}"#, "1.00005", false, Ok("1.0001")),
            (r#"{"column":"a","decimals":"round"}"#, "-1.00005", false, Ok("-1.0001")),
            (r#"{"column":"a","decimals":"round"}"#, "1.0000499", false, Ok("1.0000")),
            (r#"{"column":"a","decimals":"round"}"#, "9999999999999999.99999", false, Err(AmountError::Range)),
            (r#"{"column":"a","decimals":"round"}"#, "0.123456789012345678", false, Err(AmountError::Scale)),
            (r#"{"column":"a","unit":"minor"}"#, "1e5", false, Err(AmountError::Format)),
            (r#"{"column":"a","unit":"minor"}"#, "NaN", false, Err(AmountError::NotFinite)),
        ];
        for (from, text, is_negative, expected) in cases {
            let converted = scaling(from).convert(text, &notation(ReadingRules::First), is_negative);
            assert_eq!(converted.map(|amount| amount.to_string()), expected.map(str::to_owned), "{from} {text}");
        }
    }

    #[test]
    fn a_unit_reads_back() {
        for (written, shown) in
            [("\"minor\"", "0.01"), ("1", "major"), ("0.01", "0.01"), ("\"1000\"", "1000"), ("2.50", "2.5")]
        {
            let unit: AmountUnit = serde_json::from_str(written).unwrap();
            assert_eq!(unit.to_string(), shown);
            assert_eq!(serde_json::from_str::<AmountUnit>(&format!("\"{unit}\"")).unwrap(), unit);
        }
        for wrong in ["0", "-1", "\"\"", "0.00000000001", "12345678901", "1e300", "true"] {
            assert!(serde_json::from_str::<AmountUnit>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_major_unit_changes_nothing(integer in 0_u64..10_000_000_000_000_000, fraction in "[0-9]{0,4}", negative: bool) {
            let mark = if fraction.is_empty() { "" } else { "." };
            let text = format!("{}{integer}{mark}{fraction}", if negative { "-" } else { "" });
            let plain = Amount::parse(text.as_bytes(), DecimalMark::Point).unwrap();
            let converted = Scaling::default().convert(&text, &notation(ReadingRules::Second), false).unwrap();
            prop_assert_eq!(converted.to_string(), plain.to_string());
        }

        #[test]
        fn never_panics(text in "[-0-9.,E+]{0,50}", unit in 1_u64..1_000_000_000, scale in 0_usize..10) {
            for decimals in [ExcessDecimals::Reject, ExcessDecimals::Round] {
                let scaling = Scaling { unit: AmountUnit { digits: unit, scale }, sign: SignRule::Negate, decimals };
                for rules in [ReadingRules::First, ReadingRules::Second] {
                    let _ = scaling.convert(&text, &notation(rules), false);
                }
            }
        }
    }
}
