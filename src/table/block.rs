//! Blocks: some thousand rows as sealed columns, and a head that tells which rows and what bounds their values.
//!
//! A block's columns never change. What is deleted from it is marked beside it ([`Marks`]); a row that is updated is
//! marked so and lives on as a row. The columns go when nobody reads the block any more: see [`Fate`].

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    buffer::Buffer,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
        TimestampMicrosecondType,
    },
};
use arrow_ipc::{reader::StreamDecoder, writer::StreamWriter};
use serde::{Deserialize, Serialize};

use super::{
    cells::{self, Entry},
    garbage::{Garbage, Shared},
    key::put_value,
    row::corrupted,
    schema::{Oid, RowId},
};
use crate::{
    error::{Error, Result},
    limits,
    tenant::{Batch, Table},
};

/// What is stored of a block beside its columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The rows in order: the first id of each run of following ids, and how many.
    pub runs: Vec<(RowId, u32)>,
    pub columns: Vec<ColumnHead>,
}

/// What bounds a column's values in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnHead {
    pub id: u16,
    /// Values it is stored in.
    pub parts: u16,
    pub nulls: u32,
    /// Not above any value, in the order of [`super::key`]; `None` if that is not known.
    pub min: Option<Vec<u8>>,
    /// Not below any value.
    pub max: Option<Vec<u8>>,
}

/// Bytes of a bound; a longer value is bounded by its beginning.
const BOUND_BYTES: usize = 32;
/// Bytes of one stored value of a column.
const PART_BYTES: usize = 4 << 20;
const _: () = assert!(PART_BYTES < limits::VALUE_BYTES);

impl ColumnHead {
    fn of(id: u16, parts: usize, array: &ArrayRef) -> Result<Self> {
        let mut head = Self {
            id,
            parts: u16::try_from(parts).map_err(Error::internal)?,
            nulls: array.logical_null_count() as u32,
            min: None,
            max: None,
        };
        if matches!(array.data_type(), DataType::List(_) | DataType::Null) {
            return Ok(head);
        }
        let Some((least, greatest)) = extremes(array)? else {
            return Ok(head);
        };
        let (mut min, mut max) = (Vec::new(), Vec::new());
        put_value(&mut min, array, least)?;
        put_value(&mut max, array, greatest)?;
        min.truncate(BOUND_BYTES);
        head.min = Some(min);
        head.max = match max.len() > BOUND_BYTES {
            true => after(&max[..BOUND_BYTES]),
            false => Some(max),
        };
        Ok(head)
    }
}

/// Where the least and the greatest value are, in the order of [`super::key`]; `None` if all are NULL.
fn extremes(array: &ArrayRef) -> Result<Option<(usize, usize)>> {
    macro_rules! of {
        ($array:expr) => {{
            let array = $array;
            let valid = || (0..array.len()).filter(|&at| array.is_valid(at));
            let (least, greatest) = (
                valid().min_by_key(|&at| array.value(at)),
                valid().max_by_key(|&at| array.value(at)),
            );
            Ok(least.zip(greatest))
        }};
    }
    match array.data_type() {
        DataType::Int16 => of!(array.as_primitive::<Int16Type>()),
        DataType::Int32 => of!(array.as_primitive::<Int32Type>()),
        DataType::Int64 => of!(array.as_primitive::<Int64Type>()),
        DataType::Date32 => of!(array.as_primitive::<Date32Type>()),
        DataType::Decimal128(..) => of!(array.as_primitive::<Decimal128Type>()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of!(array.as_primitive::<TimestampMicrosecondType>()),
        DataType::Utf8 => of!(array.as_string::<i32>()),
        DataType::Binary => of!(array.as_binary::<i32>()),
        _ => {
            let mut found = None::<(usize, Vec<u8>, usize, Vec<u8>)>;
            let mut value = Vec::new();
            for at in (0..array.len()).filter(|&at| array.is_valid(at)) {
                value.clear();
                put_value(&mut value, array, at)?;
                let (least, min, greatest, max) = found.get_or_insert_with(|| (at, value.clone(), at, value.clone()));
                if value < *min {
                    (*least, *min) = (at, value.clone());
                }
                if value > *max {
                    (*greatest, *max) = (at, value.clone());
                }
            }
            Ok(found.map(|(least, _, greatest, _)| (least, greatest)))
        }
    }
}

/// The first of all bytes that sort after those that begin like this.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// What becomes of a block's columns when nobody reads it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    /// Not committed: they go.
    Pending,
    /// They stay.
    Live,
    /// Another block took its rows: they go.
    Replaced,
}

/// One block.
pub(super) struct Block {
    pub storage: Oid,
    /// Never used again within the storage.
    pub no: u32,
    pub head: Head,
    /// The place of the first row of each run, and at the end the number of rows.
    starts: Vec<u32>,
    fate: AtomicU8,
    shared: Arc<Shared>,
}

impl Block {
    /// # Errors
    /// [`crate::error::Code::Corrupted`] for a head that holds no rows, or some twice.
    pub fn new(shared: Arc<Shared>, storage: Oid, no: u32, head: Head, fate: Fate) -> Result<Self> {
        let mut starts = Vec::with_capacity(head.runs.len() + 1);
        let (mut rows, mut next) = (0u32, 0);
        for &(first, count) in &head.runs {
            starts.push(rows);
            rows = rows.checked_add(count).ok_or_else(corrupted)?;
            if count == 0 || first < next || rows as usize > limits::BLOCK_ROWS {
                return Err(corrupted());
            }
            next = first.checked_add(u64::from(count)).ok_or_else(corrupted)?;
        }
        if rows == 0 {
            return Err(corrupted());
        }
        starts.push(rows);
        Ok(Self {
            storage,
            no,
            head,
            starts,
            fate: AtomicU8::new(fate as u8),
            shared,
        })
    }

    pub fn rows(&self) -> usize {
        self.starts.last().map_or(0, |&rows| rows as usize)
    }

    pub fn first(&self) -> RowId {
        self.head.runs.first().map_or(0, |run| run.0)
    }

    pub fn last(&self) -> RowId {
        self.head.runs.last().map_or(0, |run| run.0 + u64::from(run.1) - 1)
    }

    /// Where a row is in it.
    pub fn place(&self, row: RowId) -> Option<usize> {
        let run = self.head.runs.partition_point(|run| run.0 <= row).checked_sub(1)?;
        let (first, count) = self.head.runs[run];
        (row - first < u64::from(count)).then(|| self.starts[run] as usize + (row - first) as usize)
    }

    /// The rows in order.
    pub fn ids(&self) -> impl Iterator<Item = RowId> {
        self.head
            .runs
            .iter()
            .flat_map(|&(first, count)| first..first + u64::from(count))
    }

    /// A column, read unless it is at hand; `None` if the block is older than the column.
    ///
    /// # Errors
    /// Those of reading; [`crate::error::Code::Corrupted`] if it is not of the field's type.
    pub fn column(&self, id: u16, field: &Field) -> Result<Option<ArrayRef>> {
        let Some(head) = self.head.columns.iter().find(|column| column.id == id) else {
            return Ok(None);
        };
        let place = (self.storage, self.no, id);
        let array = match self.shared.cache.get(place) {
            Some(array) => array,
            None => {
                let (array, bytes) = self.read(head)?;
                self.shared.cache.put(place, array.clone(), bytes);
                array
            }
        };
        match array.len() == self.rows() && array.data_type() == field.data_type() {
            true => Ok(Some(array)),
            false => Err(corrupted()),
        }
    }

    fn read(&self, head: &ColumnHead) -> Result<(ArrayRef, usize)> {
        let mut bytes = Vec::new();
        for part in 0..head.parts {
            let key = cells::column(self.storage, self.no, head.id, part);
            let stored = self.shared.tenant.get(Table::Blocks, &key)?.ok_or_else(corrupted)?;
            match part {
                0 => bytes = stored.value,
                _ => bytes.extend_from_slice(&stored.value),
            }
        }
        let size = bytes.len();
        let mut buffer = Buffer::from_vec(bytes);
        let batch = StreamDecoder::new().decode(&mut buffer).map_err(|error| {
            tracing::error!(%error, "a stored column could not be read");
            corrupted()
        })?;
        match batch {
            Some(batch) if batch.num_columns() == 1 => Ok((batch.column(0).clone(), size)),
            Some(_) | None => Err(corrupted()),
        }
    }

    /// Puts into a batch that its columns are to be removed, unless it becomes live.
    pub fn put_pending(&self, batch: &mut Batch) -> Result<()> {
        let columns: Vec<_> = self
            .head
            .columns
            .iter()
            .map(|column| (column.id, column.parts))
            .collect();
        batch.put(
            Table::Catalog,
            &Entry::PendingBlock(self.storage, self.no).key(),
            cells::encode(&columns)?,
        );
        Ok(())
    }

    pub fn set_fate(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::Release);
    }

    /// Memory that it takes without its columns.
    pub fn bytes(&self) -> usize {
        let bounds =
            |column: &ColumnHead| column.min.as_ref().map_or(0, Vec::len) + column.max.as_ref().map_or(0, Vec::len);
        let columns: usize = self
            .head
            .columns
            .iter()
            .map(|c| size_of::<ColumnHead>() + bounds(c))
            .sum();
        size_of::<Self>() + self.head.runs.len() * 20 + columns
    }

    /// What its columns are stored in.
    pub fn garbage(&self) -> Garbage {
        Garbage::Block {
            storage: self.storage,
            no: self.no,
            columns: self
                .head
                .columns
                .iter()
                .map(|column| (column.id, column.parts))
                .collect(),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if *self.fate.get_mut() != Fate::Live as u8 {
            self.shared.discard(self.garbage());
        }
    }
}

/// Puts the columns of some rows (with the columns' ids) into a batch, and gives their head.
///
/// # Errors
/// [`crate::error::Code::Internal`] for types that no column has.
pub(super) fn write(
    batch: &mut Batch,
    storage: Oid,
    no: u32,
    runs: Vec<(RowId, u32)>,
    columns: &[(u16, ArrayRef)],
) -> Result<Head> {
    let mut heads = Vec::with_capacity(columns.len());
    for (id, array) in columns {
        let bytes = encode(array)?;
        let parts = bytes.chunks(PART_BYTES);
        heads.push(ColumnHead::of(*id, parts.len(), array)?);
        for (part, bytes) in parts.enumerate() {
            let key = cells::column(storage, no, *id, part as u16);
            batch.put(Table::Blocks, &key, bytes.to_vec());
        }
    }
    Ok(Head { runs, columns: heads })
}

/// A column in Arrow's IPC form.
fn encode(array: &ArrayRef) -> Result<Vec<u8>> {
    let field = Field::new("", array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![array.clone()]).map_err(Error::internal)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(Error::internal)?;
    writer.write(&batch).map_err(Error::internal)?;
    writer.into_inner().map_err(Error::internal)
}

/// Which rows of a block are no longer in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    bits: Vec<u64>,
    count: usize,
}

impl Marks {
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn contains(&self, place: usize) -> bool {
        self.bits
            .get(place / 64)
            .is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// Whether it was not marked.
    pub fn insert(&mut self, place: usize) -> bool {
        if self.contains(place) {
            return false;
        }
        if self.bits.len() <= place / 64 {
            self.bits.resize(place / 64 + 1, 0);
        }
        self.bits[place / 64] |= 1 << (place % 64);
        self.count += 1;
        true
    }
}
