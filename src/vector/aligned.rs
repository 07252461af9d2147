//! Rows of numbers in one allocation that begins at a cache line.

use super::kernel::{self, LINE_BYTES};

/// Equal-length rows, one after the other. Filled once and then read.
pub(super) struct Rows<T> {
    buffer: Vec<T>,
    /// Where the first row begins, so that it begins a cache line.
    start: usize,
    width: usize,
}

impl<T: Copy + Default> Rows<T> {
    /// Room for `rows` rows of `width` values. A row beyond that would move all others.
    pub fn with_capacity(width: usize, rows: usize) -> Self {
        let slack = LINE_BYTES / size_of::<T>();
        let mut buffer: Vec<T> = Vec::with_capacity(width * rows + slack);
        kernel::large_pages(buffer.spare_capacity_mut());
        // Where no offset aligns, the rows are right all the same.
        let start = buffer.as_ptr().align_offset(LINE_BYTES).min(slack);
        buffer.resize(start, T::default());
        Self { buffer, start, width }
    }

    /// With so many rows of zeros.
    pub fn zeroed(width: usize, rows: usize) -> Self {
        let mut made = Self::with_capacity(width, rows);
        made.buffer.resize(made.start + width * rows, T::default());
        made
    }

    /// Appends a row of the right width.
    pub fn push(&mut self, row: &[T]) {
        debug_assert_eq!(row.len(), self.width);
        self.buffer.extend_from_slice(row);
    }

    /// One row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[T] {
        let at = self.start + row * self.width;
        &self.buffer[at..at + self.width]
    }

    /// One row, to be written.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        let at = self.start + row * self.width;
        &mut self.buffer[at..at + self.width]
    }

    /// All rows.
    pub fn all(&self) -> &[T] {
        &self.buffer[self.start..]
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.buffer.capacity() * size_of::<T>()
    }
}
