//! The rows of one cursor, and where it stands among them.

use std::sync::Arc;

use datafusion::arrow::{array::RecordBatch, compute::concat_batches};
use futures::StreamExt;
use tokio::sync::Mutex;

use super::Way;
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::session::RowStream,
};

/// Rows of one batch that goes backwards.
const BACKWARD_ROWS: usize = 1024;

/// A query's rows as a cursor walks over them.
///
/// The first row has number 1. A cursor stands on a row, before the first (0) or after the last.
pub(super) struct Rows {
    /// What is not read yet; `None` at the end.
    stream: Option<RowStream>,
    /// Rows that are read: all of them if it scrolls, else those that nobody has fetched.
    kept: Vec<RecordBatch>,
    /// How many rows were read from the stream.
    read: u64,
    /// Bytes of `kept`.
    bytes: usize,
    /// Whether it goes backwards.
    scroll: bool,
    /// The row it stands on; one more than there are is after the last.
    position: u64,
}

impl Rows {
    pub(super) fn new(stream: RowStream, scroll: bool) -> Self {
        Self {
            stream: Some(stream),
            kept: Vec::new(),
            read: 0,
            bytes: 0,
            scroll,
            position: 0,
        }
    }

    /// Reads one more batch; false at the end.
    async fn read(&mut self) -> Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        match stream.next().await.transpose() {
            Ok(Some(batch)) => {
                self.read += batch.num_rows() as u64;
                self.bytes += batch.get_array_memory_size();
                self.kept.push(batch);
                Ok(true)
            }
            Ok(None) => {
                self.stream = None;
                Ok(false)
            }
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }

    fn check_size(&self) -> Result<()> {
        match self.bytes > limits::CURSOR_BYTES {
            false => Ok(()),
            true => Err(
                Error::new(Code::OutOfMemory, "the rows of a cursor take too much memory")
                    .with_hint("declare it with NO SCROLL and WITHOUT HOLD, or ask for fewer rows"),
            ),
        }
    }

    /// Reads everything, for a cursor whose transaction ends.
    pub(super) async fn read_all(&mut self) -> Result<()> {
        while self.read().await? {
            self.check_size()?;
        }
        Ok(())
    }

    /// The next rows, at most so many; `None` when there are no more. For cursors that go forward only.
    pub(super) async fn next(&mut self, most: Option<u64>) -> Result<Option<RecordBatch>> {
        loop {
            let Some(first) = self.kept.first() else {
                if self.read().await? {
                    continue;
                }
                self.position = self.read + 1;
                return Ok(None);
            };
            let rows = first.num_rows() as u64;
            let count = most.map_or(rows, |most| most.min(rows));
            let given = first.slice(0, count as usize);
            match count == rows {
                true => {
                    let gone = self.kept.remove(0);
                    self.bytes = self.bytes.saturating_sub(gone.get_array_memory_size());
                }
                false => self.kept[0] = first.slice(count as usize, (rows - count) as usize),
            }
            if count > 0 {
                self.position += count;
                return Ok(Some(given));
            }
        }
    }

    /// Moves, and gives the rows on the way.
    pub(super) async fn fetch(&mut self, way: Way) -> Result<Vec<RecordBatch>> {
        let way = way.plain();
        match self.scroll {
            true => self.scroll(way).await,
            false => Ok(self.forward_only(way, true).await?.0),
        }
    }

    /// Moves, and says how many rows were on the way.
    pub(super) async fn skip(&mut self, way: Way) -> Result<u64> {
        let way = way.plain();
        match self.scroll {
            true => Ok(self
                .scroll(way)
                .await?
                .iter()
                .map(|batch| batch.num_rows() as u64)
                .sum()),
            false => Ok(self.forward_only(way, false).await?.1),
        }
    }

    async fn forward_only(&mut self, way: Way, keep: bool) -> Result<(Vec<RecordBatch>, u64)> {
        let backward = || {
            Error::new(Code::NotReady, "cursor can only scan forward")
                .with_hint("Declare it with SCROLL option to enable backward scan.")
        };
        let (skip, wanted) = match way {
            Way::Forward(Some(0)) | Way::Backward(_) | Way::Relative(..=0) | Way::Absolute(..=0) => {
                return Err(backward());
            }
            Way::Forward(count) => (0, count),
            Way::Relative(count) => (count.unsigned_abs() - 1, Some(1)),
            Way::Absolute(row) => {
                let row = row.unsigned_abs();
                if row <= self.position {
                    return Err(backward());
                }
                (row - self.position - 1, Some(1))
            }
        };
        self.take(Some(skip), false).await?;
        self.take(wanted, keep).await
    }

    /// So many of the next rows, or all, and their number.
    async fn take(&mut self, mut wanted: Option<u64>, keep: bool) -> Result<(Vec<RecordBatch>, u64)> {
        let (mut taken, mut count) = (Vec::new(), 0);
        while wanted != Some(0) {
            let Some(batch) = self.next(wanted).await? else { break };
            let rows = batch.num_rows() as u64;
            wanted = wanted.map(|left| left.saturating_sub(rows));
            count += rows;
            if keep {
                taken.push(batch);
            }
        }
        Ok((taken, count))
    }

    async fn scroll(&mut self, way: Way) -> Result<Vec<RecordBatch>> {
        let position = self.position;
        // The row to reach; what is not there yet is read.
        let reach = match way {
            Way::Forward(Some(count)) => Some(position.saturating_add(count)),
            Way::Absolute(row @ 0..) => Some(row.unsigned_abs()),
            Way::Relative(count) => Some(position.saturating_add_signed(count)),
            Way::Backward(_) => Some(0),
            Way::Forward(None) | Way::Absolute(_) => None,
        };
        while reach.is_none_or(|reach| self.read < reach) && self.read().await? {
            self.check_size()?;
        }
        let total = self.read;
        let after = total + 1;
        // Rows `from..=to` in this direction, and where it stands then.
        let (from, to, forward, stands) = match way {
            Way::Forward(Some(0)) | Way::Relative(0) => (position, position, true, position),
            Way::Forward(None) => (position + 1, total, true, after),
            Way::Forward(Some(count)) => {
                let to = position.saturating_add(count);
                (position + 1, to.min(total), true, to.min(after))
            }
            Way::Backward(count) => {
                let to = count.map_or(0, |count| position.saturating_sub(count));
                (to.max(1), position.saturating_sub(1), false, to)
            }
            Way::Relative(count) => {
                let row = position.saturating_add_signed(count).min(after);
                (row, row, true, row)
            }
            Way::Absolute(row) => {
                let row = match row {
                    0.. => row.unsigned_abs(),
                    _ => after.saturating_add_signed(row),
                };
                (row, row, true, row.min(after))
            }
        };
        self.position = stands;
        match from >= 1 && from <= to && to <= total {
            true => self.between(from, to, forward),
            false => Ok(Vec::new()),
        }
    }

    /// The kept rows `from..=to`, in this direction.
    fn between(&self, from: u64, to: u64, forward: bool) -> Result<Vec<RecordBatch>> {
        let mut found = Vec::new();
        let mut before = 0;
        for batch in &self.kept {
            let rows = batch.num_rows() as u64;
            let (first, last) = (from.max(before + 1), to.min(before + rows));
            if first <= last {
                found.push(batch.slice((first - before - 1) as usize, (last - first + 1) as usize));
            }
            before += rows;
        }
        if forward {
            return Ok(found);
        }
        let backward: Vec<RecordBatch> = found
            .iter()
            .rev()
            .flat_map(|batch| (0..batch.num_rows()).rev().map(|row| batch.slice(row, 1)))
            .collect();
        backward
            .chunks(BACKWARD_ROWS)
            .map(|rows| concat_batches(&rows[0].schema(), rows).map_err(Error::internal))
            .collect()
    }
}

/// The next rows of a cursor as they come.
pub(super) fn forward(rows: Arc<Mutex<Rows>>, count: Option<u64>) -> RowStream {
    let next = |(rows, left): (Arc<Mutex<Rows>>, Option<u64>)| async move {
        if left == Some(0) {
            return None;
        }
        let batch = rows.lock().await.next(left).await.transpose()?;
        let taken = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        Some((batch, (rows, left.map(|left| left.saturating_sub(taken)))))
    };
    Box::pin(futures::stream::unfold((rows, count), next))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{AsArray, Int64Array},
        datatypes::Int64Type,
    };

    use super::*;

    fn rows(scroll: bool) -> Rows {
        let batch = |values: Vec<i64>| {
            let array: datafusion::arrow::array::ArrayRef = Arc::new(Int64Array::from(values));
            RecordBatch::try_from_iter([("n", array)])
        };
        let batches = [vec![1, 2, 3], vec![], vec![4], vec![5, 6, 7]].map(|v| Ok(batch(v).unwrap()));
        Rows::new(Box::pin(futures::stream::iter(batches)), scroll)
    }

    async fn fetch(rows: &mut Rows, way: Way) -> Vec<i64> {
        let batches = rows.fetch(way).await.unwrap();
        let column = |b: &RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
        batches.iter().flat_map(column).collect()
    }

    // Each line is what PostgreSQL 16 gives for the same cursor over generate_series(1, 7).
    #[tokio::test]
    async fn a_scrolling_cursor_goes_where_postgresql_goes() {
        let mut rows = rows(true);
        for (way, expected) in [
            (Way::Forward(Some(2)), vec![1, 2]),
            (Way::Forward(Some(0)), vec![2]),
            (Way::Backward(Some(1)), vec![1]),
            (Way::Backward(Some(1)), vec![]),
            (Way::Forward(Some(0)), vec![]),
            (Way::Forward(Some(1)), vec![1]),
            (Way::Absolute(5), vec![5]),
            (Way::Relative(-2), vec![3]),
            (Way::Relative(0), vec![3]),
            (Way::Forward(None), vec![4, 5, 6, 7]),
            (Way::Forward(Some(1)), vec![]),
            (Way::Backward(Some(3)), vec![7, 6, 5]),
            (Way::Absolute(-1), vec![7]),
            (Way::Absolute(-7), vec![1]),
            (Way::Absolute(-8), vec![]),
            (Way::Forward(Some(1)), vec![1]),
            (Way::Absolute(99), vec![]),
            (Way::Backward(None), vec![7, 6, 5, 4, 3, 2, 1]),
            (Way::Forward(Some(u64::MAX)), vec![1, 2, 3, 4, 5, 6, 7]),
            (Way::Absolute(0), vec![]),
            (Way::Relative(2), vec![2]),
            (Way::Relative(50), vec![]),
            (Way::Relative(-1), vec![7]),
        ] {
            assert_eq!(fetch(&mut rows, way).await, expected, "{way:?}");
        }
    }

    #[tokio::test]
    async fn one_that_goes_forward_keeps_nothing_and_does_not_go_back() {
        let mut rows = rows(false);
        assert_eq!(fetch(&mut rows, Way::Forward(Some(2))).await, [1, 2]);
        for way in [
            Way::Backward(Some(1)),
            Way::Relative(0),
            Way::Relative(-1),
            Way::Absolute(2),
            Way::Absolute(-1),
            Way::Forward(Some(0)),
        ] {
            assert_eq!(rows.fetch(way).await.unwrap_err().code(), Code::NotReady, "{way:?}");
        }
        assert_eq!(fetch(&mut rows, Way::Relative(2)).await, [4]);
        assert!(rows.kept.is_empty());
        assert_eq!(fetch(&mut rows, Way::Absolute(6)).await, [6]);
        assert_eq!(fetch(&mut rows, Way::Forward(None)).await, [7]);
        assert_eq!(fetch(&mut rows, Way::Forward(Some(1))).await, [] as [i64; 0]);
    }

    #[tokio::test]
    async fn what_is_fetched_lazily_is_read_no_further_than_asked() {
        let shared = Arc::new(Mutex::new(rows(false)));
        let first: Vec<_> = forward(shared.clone(), Some(2)).collect().await;
        assert_eq!(first.len(), 1);
        assert_eq!(shared.lock().await.read, 3, "one batch was read");
        let rest: Vec<_> = forward(shared, None).collect().await;
        let rest: usize = rest.into_iter().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rest, 5);
    }
}
