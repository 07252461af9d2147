//! What the operator publishes to all tenants: tiers, models, prices, providers.

use std::sync::{Arc, PoisonError, RwLock};

use super::{committer::Request, plane::Plane, table::Table};
use crate::error::Result;

/// A table that every tenant may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// [`Table::Tiers`].
    Tiers,
    /// [`Table::Models`].
    Models,
    /// [`Table::Prices`].
    Prices,
    /// [`Table::Providers`]: what a call of a model needs. No relation shows their keys.
    Providers,
}

impl Published {
    const ALL: [Self; 4] = [Self::Tiers, Self::Models, Self::Prices, Self::Providers];

    const fn table(self) -> Table {
        match self {
            Self::Tiers => Table::Tiers,
            Self::Models => Table::Models,
            Self::Prices => Table::Prices,
            Self::Providers => Table::Providers,
        }
    }
}

/// The rows of a published table after some commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Counts up with every change.
    pub generation: u64,
    /// Keys and values in key order.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The current publications.
pub(super) struct Publications {
    operator: Arc<Plane>,
    current: [RwLock<Arc<Publication>>; 4],
}

impl Publications {
    pub fn load(operator: Arc<Plane>) -> Result<Self> {
        let publications = Self {
            operator,
            current: Default::default(),
        };
        Published::ALL
            .iter()
            .try_for_each(|&published| publications.reload(published))?;
        Ok(publications)
    }

    pub fn get(&self, published: Published) -> Arc<Publication> {
        self.current[published as usize]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets a commit that touches these tables publish them before it is acknowledged.
    pub fn reload_after(self: &Arc<Self>, request: &mut Request, tables: impl Iterator<Item = Table>) {
        let tables: Vec<Table> = tables.collect();
        for published in Published::ALL
            .into_iter()
            .filter(|published| tables.contains(&published.table()))
        {
            let publications = self.clone();
            request.on_durable.push(Box::new(move || {
                if let Err(error) = publications.reload(published) {
                    tracing::error!(%error, ?published, "could not be read again; the old rows stay published");
                }
            }));
        }
    }

    fn reload(&self, published: Published) -> Result<()> {
        let rows = self
            .operator
            .scan(published.table(), &[])
            .map(|row| row.map(|(key, stored)| (key, stored.value)));
        let rows = rows.collect::<Result<_>>()?;
        let mut current = self.current[published as usize]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(Publication {
            generation: current.generation + 1,
            rows,
        });
        Ok(())
    }
}
