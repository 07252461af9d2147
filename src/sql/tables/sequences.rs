//! CREATE and ALTER SEQUENCE.

use std::sync::Arc;

use super::{
    ddl::{Kind, Name, SequenceOptions},
    definitions::{Change, wrong_kind},
    rights::require_owner,
    types::declared,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    table::schema::{Relation, SequenceDef},
};

/// Whether numbers of a sequence can be of this type.
pub(super) fn is_integer(pg_type: PgType) -> bool {
    matches!(pg_type, PgType::Scalar(Scalar::Int2 | Scalar::Int4 | Scalar::Int8))
}

fn range(pg_type: PgType) -> (i64, i64) {
    match pg_type {
        PgType::Scalar(Scalar::Int2) => (i16::MIN.into(), i16::MAX.into()),
        PgType::Scalar(Scalar::Int4) => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

fn invalid<T>(text: String) -> Result<T> {
    Err(Error::new(Code::InvalidParameterValue, text))
}

impl Change<'_> {
    /// CREATE SEQUENCE.
    pub(super) fn create_sequence(
        &mut self,
        name: &Name,
        if_not_exists: bool,
        temporary: bool,
        options: &SequenceOptions,
    ) -> Result<()> {
        let schema = self.creation_schema(name, temporary)?;
        if self.skip_existing(&schema, &name.name, if_not_exists)? {
            return Ok(());
        }
        let mut sequence = self.new_sequence(&schema, &name.name, None, options)?;
        self.own(&mut sequence, options)?;
        self.catalog
            .relations
            .insert(sequence.oid, Relation::Sequence(Arc::new(sequence)));
        Ok(())
    }

    /// A sequence as its options say, of `pg_type` unless they name one.
    pub(super) fn new_sequence(
        &self,
        schema: &str,
        name: &str,
        pg_type: Option<PgType>,
        options: &SequenceOptions,
    ) -> Result<SequenceDef> {
        let mut sequence = SequenceDef {
            oid: self.oid(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            owner: self.world.user.name.clone(),
            pg_type: pg_type.unwrap_or(PgType::Scalar(Scalar::Int8)),
            start: 1,
            increment: 1,
            min: 1,
            max: i64::MAX,
            cycle: false,
            owned_by: None,
            comment: None,
        };
        let mut options = options.clone();
        // What is not said is as if NO was said, or the start at the lowest (highest) value.
        options.min.get_or_insert(None);
        options.max.get_or_insert(None);
        set_options(&mut sequence, &options, true)?;
        Ok(sequence)
    }

    /// OWNED BY.
    fn own(&self, sequence: &mut SequenceDef, options: &SequenceOptions) -> Result<()> {
        match &options.owned_by {
            None => {}
            Some(None) => sequence.owned_by = None,
            Some(Some((table, column))) => {
                let table = self.owned_table(table)?;
                let column = table.column(column).ok_or_else(|| {
                    let text = format!("column \"{column}\" of relation \"{}\" does not exist", table.name);
                    Error::new(Code::UndefinedColumn, text)
                })?;
                sequence.owned_by = Some((table.oid, column.id));
            }
        }
        Ok(())
    }

    /// ALTER SEQUENCE with options. Gives what RESTART asks for: the value that comes next.
    pub(super) fn alter_sequence(
        &mut self,
        name: &Name,
        if_exists: bool,
        options: &SequenceOptions,
    ) -> Result<Option<(Arc<SequenceDef>, i64)>> {
        let Some(found) = self.find(name)? else {
            if if_exists {
                self.notice("00000", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(None);
            }
            return Err(super::definitions::undefined(Kind::Table, name));
        };
        let Relation::Sequence(found) = found else {
            return Err(wrong_kind(&name.name, Kind::Sequence));
        };
        let mut sequence = SequenceDef::clone(found);
        require_owner(self.world, Kind::Sequence, &sequence.owner, &sequence.name)?;
        set_options(&mut sequence, options, false)?;
        self.own(&mut sequence, options)?;
        let sequence = Arc::new(sequence);
        self.catalog
            .relations
            .insert(sequence.oid, Relation::Sequence(sequence.clone()));
        let restart = options.restart.map(|at| at.unwrap_or(sequence.start));
        if let Some(at) = restart
            && !(sequence.min..=sequence.max).contains(&at)
        {
            let (word, bound, name) = match at < sequence.min {
                true => ("less", sequence.min, "MINVALUE"),
                false => ("greater", sequence.max, "MAXVALUE"),
            };
            return invalid(format!("RESTART value ({at}) cannot be {word} than {name} ({bound})"));
        }
        Ok(restart.map(|at| (sequence, at)))
    }
}

/// Applies what is said, and checks that it fits together.
fn set_options(sequence: &mut SequenceDef, options: &SequenceOptions, new: bool) -> Result<()> {
    if let Some(data_type) = &options.data_type {
        let pg_type = declared(data_type)?.pg_type;
        if !is_integer(pg_type) {
            return invalid("sequence type must be smallint, integer, or bigint".to_owned());
        }
        let (low, high) = range(sequence.pg_type);
        // A bound that was the old type's follows the new one.
        if sequence.max == high {
            sequence.max = range(pg_type).1;
        }
        if sequence.min == low {
            sequence.min = range(pg_type).0;
        }
        sequence.pg_type = pg_type;
    }
    if let Some(increment) = options.increment {
        if increment == 0 {
            return invalid("INCREMENT must not be zero".to_owned());
        }
        sequence.increment = increment;
    }
    let (low, high) = range(sequence.pg_type);
    let up = sequence.increment > 0;
    if let Some(min) = options.min {
        sequence.min = min.unwrap_or(if up { 1 } else { low });
    }
    if let Some(max) = options.max {
        sequence.max = max.unwrap_or(if up { high } else { -1 });
    }
    for (bound, word) in [(sequence.max, "MAXVALUE"), (sequence.min, "MINVALUE")] {
        if !(low..=high).contains(&bound) {
            let of = super::expressions::type_name(sequence.pg_type, -1);
            return invalid(format!("{word} ({bound}) is out of range for sequence data type {of}"));
        }
    }
    if sequence.min >= sequence.max {
        return invalid(format!(
            "MINVALUE ({}) must be less than MAXVALUE ({})",
            sequence.min, sequence.max
        ));
    }
    if new {
        sequence.start = if up { sequence.min } else { sequence.max };
    }
    if let Some(start) = options.start {
        sequence.start = start;
    }
    if sequence.start < sequence.min {
        return invalid(format!(
            "START value ({}) cannot be less than MINVALUE ({})",
            sequence.start, sequence.min
        ));
    }
    if sequence.start > sequence.max {
        return invalid(format!(
            "START value ({}) cannot be greater than MAXVALUE ({})",
            sequence.start, sequence.max
        ));
    }
    if let Some(cycle) = options.cycle {
        sequence.cycle = cycle;
    }
    Ok(())
}
