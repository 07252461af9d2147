//! Queries that need no plan at each run: one key of one table, or the rows nearest to a vector.

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        datatypes::DataType,
    },
    common::ScalarValue,
    logical_expr::LogicalPlan,
};

use super::{point::Point, search::Search};
use crate::{
    error::Result,
    sql::{complaints::from_datafusion, session::Session},
};

/// How such a query is answered.
pub(in crate::sql) enum Direct {
    Key(Box<Point>),
    Nearest(Box<Search>),
}

impl Direct {
    /// `None` where a plan does more. `parameters` are the types of its placeholders.
    ///
    /// # Errors
    /// Those of the expressions.
    pub(in crate::sql) fn find(session: &Session, plan: &LogicalPlan, parameters: &[DataType]) -> Result<Option<Self>> {
        if let Some(point) = Point::find(session, plan, parameters)? {
            return Ok(Some(Self::Key(Box::new(point))));
        }
        let search = Search::find(session, plan, parameters)?;
        Ok(search.map(|search| Self::Nearest(Box::new(search))))
    }

    /// The answer; `None` where it takes a plan now, whatever was so when this was made.
    ///
    /// # Errors
    /// Those of a scan of the table, and of the expressions.
    pub(in crate::sql) async fn read(&self, session: &Session, params: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        match self {
            Self::Key(point) => point.read(session, params).await,
            Self::Nearest(search) => search.read(session, params).await,
        }
    }
}

/// The parameters, of the types that a plan wants.
pub(super) fn cast(params: &[ArrayRef], wanted: &[DataType]) -> Result<Vec<ArrayRef>> {
    let each = params.iter().zip(wanted).map(|(array, wanted)| {
        if array.data_type() == wanted {
            return Ok(array.clone());
        }
        let value = ScalarValue::try_from_array(array, 0).and_then(|value| value.cast_to(wanted)?.to_array());
        value.map_err(from_datafusion)
    });
    each.collect()
}
