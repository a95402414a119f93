//! INT96 timestamps, as Spark, Hive and Impala write them: nanoseconds of a day, and the day. The library's rows have
//! them in milliseconds, so their column is read separately.
//!
//! Guarantee: nanoseconds are kept; memory is bounded by some values and a page of each such column.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta};
use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{Int96, Int96Type};
use parquet::errors::ParquetError;
use parquet::file::reader::RowGroupReader;
use parquet::schema::types::SchemaDescriptor;

/// Values read at a time.
const VALUES: usize = 1024;
/// The Julian day of 1970-01-01.
const EPOCH: i64 = 2_440_588;

/// An INT96 column of a row group.
pub(super) struct Int96Column {
    /// Its index in a row.
    pub(super) column: usize,
    reader: ColumnReaderImpl<Int96Type>,
    /// The definition level of a present value.
    is_there: i16,
    read: VecDeque<Option<Int96>>,
    now: Option<Int96>,
}

impl Int96Column {
    /// The top-level INT96 columns of a row group.
    pub(super) fn of(group: &dyn RowGroupReader, schema: &SchemaDescriptor) -> Result<Vec<Self>, ParquetError> {
        let columns = schema.columns().iter().enumerate();
        let own = columns.filter(|(_, column)| {
            column.physical_type() == Type::INT96 && column.max_rep_level() == 0 && column.path().parts().len() == 1
        });
        own.map(|(leaf, described)| {
            Ok(Self {
                column: schema.get_column_root_idx(leaf),
                reader: get_typed_column_reader(group.get_column_reader(leaf)?),
                is_there: described.max_def_level(),
                read: VecDeque::new(),
                now: None,
            })
        })
        .collect()
    }

    /// Advances to the next row.
    pub(super) fn advance(&mut self) -> Result<(), ParquetError> {
        if self.read.is_empty() {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (records, ..) = self.reader.read_records(VALUES, Some(&mut levels), None, &mut values)?;
            let mut values = values.into_iter();
            let is_there = |at: &usize| self.is_there == 0 || levels.get(*at) == Some(&self.is_there);
            self.read = (0..records).map(|at| is_there(&at).then(|| values.next()).flatten()).collect();
        }
        let ended = || ParquetError::EOF("a column has fewer values than there are rows".to_owned());
        self.now = self.read.pop_front().ok_or_else(ended)?;
        Ok(())
    }

    /// The current value in ISO 8601; empty if null.
    pub(super) fn text(&self) -> String {
        self.now.as_ref().map(text).unwrap_or_default()
    }
}

fn text(value: &Int96) -> String {
    let [low, high, day] = [0, 1, 2].map(|place| value.data().get(place).copied().unwrap_or_default());
    let nanoseconds = i64::from(high) << 32 | i64::from(low);
    let day = DateTime::from_timestamp((i64::from(day) - EPOCH) * 86_400, 0);
    let at = day.and_then(|day| day.checked_add_signed(TimeDelta::nanoseconds(nanoseconds)));
    at.map_or_else(|| format!("{value}"), |at| at.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use assay_transaction::{FieldAccess as _, Position, ReadingRules};
    use parquet::data_type::{ByteArray, FixedLenByteArray, FixedLenByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::decode::batch::SourceRow;
    use crate::decode::parquet::ParquetReader;
    use crate::{S3Options, SourceUrl, Sources};

    #[test]
    fn a_value_keeps_its_nanoseconds() {
        let of = |nanoseconds: u64, day: u32| {
            let mut value = Int96::new();
            let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap();
            value.set_data(half(nanoseconds), half(nanoseconds >> 32), day);
            text(&value)
        };
        assert_eq!(of(0, 2_440_588), "1970-01-01T00:00:00Z");
        assert_eq!(of(36_000_123_456_789, 2_460_385), "2024-03-15T10:00:00.123456789Z");
        assert_eq!(of(86_399_999_999_000, 2_440_587), "1969-12-31T23:59:59.999999Z");
        assert_eq!(of(0, 2_816_788), "3000-01-01T00:00:00Z", "beyond the nanoseconds of 64 bits");
    }

    /// Writes row groups: an INT96, null in every third row, and a UUID.
    fn write(path: &std::path::Path, groups: &[u32]) {
        let schema = "message row { optional int96 at; required fixed_len_byte_array(16) id (UUID); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let file = std::fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut row = 0;
        for rows in groups {
            let numbers: Vec<u32> = (row..row + rows).collect();
            row += rows;
            let levels: Vec<i16> = numbers.iter().map(|number| i16::from(number % 3 != 0)).collect();
            let instants = numbers.iter().filter(|number| *number % 3 != 0).map(|number| {
                let mut value = Int96::new();
                value.set_data(1_000 * number + 1, 0, 2_460_385);
                value
            });
            let ids = numbers
                .iter()
                .map(|number| FixedLenByteArray::from(ByteArray::from(u128::from(*number).to_be_bytes().to_vec())));
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let instants: Vec<Int96> = instants.collect();
            column.typed::<Int96Type>().write_batch(&instants, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let ids: Vec<FixedLenByteArray> = ids.collect();
            column.typed::<FixedLenByteArrayType>().write_batch(&ids, None, None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_have_int96_values_wherever_a_reader_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, &[2_500, 1, 7]);
        let url = SourceUrl::File(path);
        let sources = Sources::new(&S3Options::default()).unwrap();
        let found = sources.identify(&url).await.unwrap();
        let read = async |rules, skip: u64| {
            let from = Position { row: skip + 1, line: skip + 1, offset: skip };
            let mut reader = ParquetReader::open(&sources, &url, &found, rules, from).await.unwrap();
            let mut rows = Vec::new();
            while let Some(batch) = reader.next_batch(100).await.unwrap() {
                let text =
                    |row: &SourceRow<'_>, place| String::from_utf8_lossy(row.fields.get(place).unwrap()).into_owned();
                rows.extend(batch.rows().map(|row| (text(&row, 0), text(&row, 1))));
            }
            rows
        };
        let all = read(ReadingRules::Second, 0).await;
        for (row, (at, id)) in all.iter().enumerate() {
            let expected = if row % 3 == 0 { String::new() } else { format!("2024-03-15T00:00:00.{row:06}001Z") };
            assert_eq!((at, id), (&expected, &format!("00000000-0000-0000-0000-{row:012x}")));
        }
        assert_eq!(all.len(), 2_508);
        for skip in [1, 100, 1_500, 2_500, 2_501, 2_507, 2_508] {
            assert_eq!(read(ReadingRules::Second, skip).await, all[usize::try_from(skip).unwrap()..], "{skip}");
        }
        // Runs that began with V1 keep its values.
        let (at, id) = &read(ReadingRules::First, 2_000).await[0];
        assert_eq!((at.as_str(), id.contains('-')), ("2024-03-15T00:00:00.002Z", false));
    }
}
