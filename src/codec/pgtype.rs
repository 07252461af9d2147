//! PostgreSQL's types as this server speaks them, and their place in Arrow.
//!
//! A column's Arrow [`Field`] carries the PostgreSQL type in its metadata wherever the Arrow type
//! alone does not tell it (`uuid`, `json`, `jsonb`, `vector`, `name`, ... are kept in plainer types).
//! OIDs are PostgreSQL's own (`pg_type.dat`); `vector` and `halfvec`, which PostgreSQL numbers at
//! `CREATE EXTENSION`, have fixed ones here.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Metadata key under which a [`Field`] names its PostgreSQL type.
pub const PG_TYPE: &str = "pg";
/// Metadata key under which a [`Field`] keeps its type modifier (`atttypmod`), where it has one.
pub const TYPE_MODIFIER: &str = "pg.typmod";

macro_rules! types {
    ($( $variant:ident $name:literal $oid:literal $array:literal $size:literal $category:literal; )*) => {
        /// A scalar type of the wire. `PgType::array` of it is `PgType::Array`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Scalar { $( #[doc = $name] $variant, )* }

        impl Scalar {
            /// Every scalar type.
            pub const ALL: &'static [Scalar] = &[ $( Scalar::$variant, )* ];
            /// The name in `pg_type.typname`.
            pub const fn name(self) -> &'static str { match self { $( Scalar::$variant => $name, )* } }
            /// The OID in `pg_type`.
            pub const fn oid(self) -> u32 { match self { $( Scalar::$variant => $oid, )* } }
            /// The OID of the array of it (0 where there is none).
            pub const fn array_oid(self) -> u32 { match self { $( Scalar::$variant => $array, )* } }
            /// `pg_type.typlen`: bytes, -1 for varying, -2 for NUL-terminated.
            pub const fn size(self) -> i16 { match self { $( Scalar::$variant => $size, )* } }
            /// `pg_type.typcategory`.
            pub const fn category(self) -> char { match self { $( Scalar::$variant => $category, )* } }
        }
    };
}

types! {
    Bool "bool" 16 1000 1 'B';
    Bytea "bytea" 17 1001 -1 'U';
    Char "char" 18 1002 1 'Z';
    Name "name" 19 1003 64 'S';
    Int8 "int8" 20 1016 8 'N';
    Int2 "int2" 21 1005 2 'N';
    Int4 "int4" 23 1007 4 'N';
    Int2vector "int2vector" 22 1006 -1 'A';
    Regproc "regproc" 24 1008 4 'N';
    Text "text" 25 1009 -1 'S';
    Oid "oid" 26 1028 4 'N';
    Oidvector "oidvector" 30 1013 -1 'A';
    Json "json" 114 199 -1 'U';
    Float4 "float4" 700 1021 4 'N';
    Float8 "float8" 701 1022 8 'N';
    Unknown "unknown" 705 0 -2 'X';
    Aclitem "aclitem" 1033 1034 16 'U';
    Bpchar "bpchar" 1042 1014 -1 'S';
    Varchar "varchar" 1043 1015 -1 'S';
    Date "date" 1082 1182 4 'D';
    Time "time" 1083 1183 8 'D';
    Timestamp "timestamp" 1114 1115 8 'D';
    Timestamptz "timestamptz" 1184 1185 8 'D';
    Interval "interval" 1186 1187 16 'T';
    Numeric "numeric" 1700 1231 -1 'N';
    Regclass "regclass" 2205 2210 4 'N';
    Regtype "regtype" 2206 2211 4 'N';
    Void "void" 2278 0 4 'P';
    Uuid "uuid" 2950 2951 16 'U';
    Tsvector "tsvector" 3614 3643 -1 'U';
    Tsquery "tsquery" 3615 3645 -1 'U';
    Jsonb "jsonb" 3802 3807 -1 'U';
    Vector "vector" 16385 16386 -1 'U';
    Halfvec "halfvec" 16387 16388 -1 'U';
}

/// A type of the wire: a scalar or a one-dimensional array of scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PgType {
    /// One value.
    Scalar(Scalar),
    /// An array of them.
    Array(Scalar),
}

impl From<Scalar> for PgType {
    fn from(scalar: Scalar) -> Self {
        Self::Scalar(scalar)
    }
}

impl PgType {
    /// `text`, the type of anything that is not known better.
    pub const TEXT: PgType = PgType::Scalar(Scalar::Text);

    /// The OID sent in RowDescription and ParameterDescription.
    pub const fn oid(self) -> u32 {
        match self {
            Self::Scalar(s) => s.oid(),
            Self::Array(s) => s.array_oid(),
        }
    }

    /// `pg_type.typlen`.
    pub const fn size(self) -> i16 {
        match self {
            Self::Scalar(s) => s.size(),
            Self::Array(_) => -1,
        }
    }

    /// The type of an OID, or `None` for one that is not served (0 included).
    pub fn from_oid(oid: u32) -> Option<Self> {
        Scalar::ALL.iter().find_map(|&s| match oid {
            0 => None,
            _ if s.oid() == oid => Some(Self::Scalar(s)),
            _ if s.array_oid() == oid => Some(Self::Array(s)),
            _ => None,
        })
    }

    /// The type of a name as in `pg_type.typname`, without a schema.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.strip_prefix('_') {
            Some(element) => Scalar::ALL
                .iter()
                .find(|s| s.name() == element)
                .map(|&s| Self::Array(s)),
            None => Scalar::ALL.iter().find(|s| s.name() == name).map(|&s| Self::Scalar(s)),
        }
    }

    /// `typname`: arrays have an underscore in front.
    pub fn name(self) -> String {
        match self {
            Self::Scalar(s) => s.name().to_owned(),
            Self::Array(s) => format!("_{}", s.name()),
        }
    }

    /// The PostgreSQL type of an Arrow field: its metadata, else the natural match of its type.
    pub fn of(field: &Field) -> Self {
        if let Some(named) = field.metadata().get(PG_TYPE).and_then(|n| Self::from_name(n)) {
            return named;
        }
        Self::of_arrow(field.data_type())
    }

    /// The natural match of an Arrow type that carries no metadata.
    pub fn of_arrow(data_type: &DataType) -> Self {
        let scalar = match data_type {
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Scalar::Text,
            DataType::Boolean => Scalar::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Scalar::Int2,
            DataType::UInt16 | DataType::Int32 => Scalar::Int4,
            DataType::UInt32 | DataType::Int64 => Scalar::Int8,
            DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) => Scalar::Numeric,
            DataType::Decimal128(..) | DataType::Decimal256(..) => Scalar::Numeric,
            DataType::Float16 | DataType::Float32 => Scalar::Float4,
            DataType::Float64 => Scalar::Float8,
            DataType::Date32 | DataType::Date64 => Scalar::Date,
            DataType::Time32(_) | DataType::Time64(_) => Scalar::Time,
            DataType::Timestamp(_, None) => Scalar::Timestamp,
            DataType::Timestamp(_, Some(_)) => Scalar::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => Scalar::Interval,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Scalar::Bytea,
            DataType::FixedSizeBinary(16) => Scalar::Uuid,
            DataType::FixedSizeBinary(_) => Scalar::Bytea,
            DataType::Dictionary(_, value) => return Self::of_arrow(value),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                return match Self::of(item) {
                    Self::Scalar(s) => Self::Array(s),
                    nested @ Self::Array(_) => nested,
                };
            }
            _ => Scalar::Text,
        };
        Self::Scalar(scalar)
    }

    /// The Arrow type in which values of this type are kept and computed.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Array(s) => DataType::List(Arc::new(Field::new("item", s.arrow(), true))),
            Self::Scalar(s) => s.arrow(),
        }
    }

    /// A field of this type, with the metadata that [`PgType::of`] reads back.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        if Self::of_arrow(field.data_type()) == self {
            return field;
        }
        field.with_metadata(HashMap::from([(PG_TYPE.to_owned(), self.name())]))
    }

    /// The same with a type modifier (`atttypmod`, -1 for none), which [`modifier_of`] reads back.
    /// `numeric(p,s)` is kept with its own precision and scale.
    pub fn field_of(self, name: &str, nullable: bool, type_modifier: i32) -> Field {
        let mut field = self.field(name, nullable);
        if type_modifier < 0 {
            return field;
        }
        if let (Self::Scalar(Scalar::Numeric), Some((precision, scale))) = (self, numeric_modifier(type_modifier)) {
            field = field.with_data_type(DataType::Decimal128(precision, scale));
        }
        let mut metadata = field.metadata().clone();
        metadata.insert(TYPE_MODIFIER.to_owned(), type_modifier.to_string());
        field.with_metadata(metadata)
    }
}

/// The type modifier of a field; -1 for none.
pub fn modifier_of(field: &Field) -> i32 {
    let modifier = field.metadata().get(TYPE_MODIFIER).and_then(|m| m.parse().ok());
    modifier.unwrap_or(-1)
}

/// Precision and scale in the modifier of a `numeric(p,s)`; `None` where a value of it may need more than the 38
/// digits that are kept.
pub fn numeric_modifier(type_modifier: i32) -> Option<(u8, i8)> {
    let packed = type_modifier.checked_sub(4)?;
    let precision = u8::try_from(packed >> 16).ok()?;
    let scale = i8::try_from(packed & 0x7ff).ok()?;
    (precision <= DECIMAL128_MAX_PRECISION && (0..=precision.cast_signed()).contains(&scale))
        .then_some((precision, scale))
}

/// Stored as its OID.
impl Serialize for PgType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.oid().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PgType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let oid = u32::deserialize(deserializer)?;
        Self::from_oid(oid).ok_or_else(|| de::Error::custom(format!("no type has OID {oid}")))
    }
}

impl Scalar {
    /// The element of `int2vector` and `oidvector`, which are arrays with another text form.
    pub const fn vector_item(self) -> Option<Scalar> {
        match self {
            Self::Int2vector => Some(Self::Int2),
            Self::Oidvector => Some(Self::Oid),
            _ => None,
        }
    }

    /// See [`PgType::arrow`]. `uuid`, `json` and `jsonb` are text in their canonical form; a
    /// `vector` is a list of 4-byte floats.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Bytea => DataType::Binary,
            Self::Int2 => DataType::Int16,
            Self::Int4 | Self::Oid | Self::Regproc | Self::Regclass | Self::Regtype => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Numeric => DataType::Decimal128(38, 9),
            Self::Vector | Self::Halfvec => DataType::List(Arc::new(Field::new("item", DataType::Float32, true))),
            Self::Int2vector => DataType::List(Arc::new(Field::new("item", DataType::Int16, true))),
            Self::Oidvector => DataType::List(Arc::new(Field::new("item", DataType::Int32, true))),
            Self::Void => DataType::Null,
            Self::Aclitem | Self::Tsvector | Self::Tsquery => DataType::Utf8,
            Self::Char | Self::Name | Self::Text | Self::Json | Self::Unknown | Self::Bpchar => DataType::Utf8,
            Self::Varchar | Self::Uuid | Self::Jsonb => DataType::Utf8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_again_by_oid_name_and_field() {
        for &scalar in Scalar::ALL {
            let one = PgType::Scalar(scalar);
            assert_eq!(PgType::from_oid(one.oid()), Some(one));
            assert_eq!(PgType::from_name(&one.name()), Some(one));
            if scalar.array_oid() != 0 {
                let many = PgType::Array(scalar);
                assert_eq!(PgType::from_oid(many.oid()), Some(many));
                assert_eq!(PgType::from_name(&many.name()), Some(many));
                assert_eq!(PgType::of(&many.field("c", true)), many);
            }
            if scalar != Scalar::Void {
                assert_eq!(PgType::of(&one.field("c", true)), one);
            }
        }
        let money = PgType::from(Scalar::Numeric).field_of("c", true, ((10 << 16) | 2) + 4);
        assert_eq!(money.data_type(), &DataType::Decimal128(10, 2));
        assert_eq!(
            (PgType::of(&money), modifier_of(&money)),
            (Scalar::Numeric.into(), 655_366)
        );
        assert_eq!(numeric_modifier(((100 << 16) | 2) + 4), None);
        assert_eq!(PgType::from_oid(0), None);
        assert_eq!(PgType::from_oid(1), None);
    }
}
