//! The operator's tables as every tenant reads them: decoded once a generation, shared by all.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    error::Result,
    tenant::{Published, Tenant},
};

/// A table that the operator publishes, decoded.
pub trait FromRows: Sized {
    /// Which table.
    const KIND: Published;

    /// Decodes its rows of (key, value).
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted).
    fn from_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self>;
}

/// The newest generation seen of one published table. Holds nothing of any tenant.
pub struct Cached<T>(Mutex<Option<(u64, Arc<T>)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: FromRows> Cached<T> {
    /// The table as it is now.
    ///
    /// # Errors
    /// See [`FromRows::from_rows`].
    pub fn get(&self, tenant: &Tenant) -> Result<Arc<T>> {
        let publication = tenant.published(T::KIND);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, table)) = &*last
            && *generation == publication.generation
        {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(T::from_rows(&publication.rows)?);
        *last = Some((publication.generation, Arc::clone(&table)));
        Ok(table)
    }
}
