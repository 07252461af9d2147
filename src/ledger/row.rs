//! How a row becomes a stored value: a version byte, then postcard.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Code, Error, Result};

const VERSION: u8 = 1;

pub(crate) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>> {
    postcard::to_extend(row, vec![VERSION]).map_err(Error::internal)
}

/// `what` names the kind of row in the complaint.
pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T> {
    let damaged = || Error::new(Code::Corrupted, format!("a stored {what} cannot be read"));
    match value.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((row, [])) => Ok(row),
            Ok(_) => Err(damaged()),
            Err(e) => Err(damaged().with_source(e)),
        },
        Some((other, _)) => Err(damaged().with_hint(format!("its format is {other}, this program reads {VERSION}"))),
        None => Err(damaged()),
    }
}

/// A UUID as its 16 bytes, for `#[serde(with = ...)]`.
pub(super) mod uuid {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        id.as_bytes().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        <[u8; 16]>::deserialize(from).map(Uuid::from_bytes)
    }
}

/// The same for one that may be absent.
pub(super) mod optional_uuid {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(id: &Option<Uuid>, to: S) -> Result<S::Ok, S::Error> {
        id.as_ref().map(Uuid::as_bytes).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Uuid>, D::Error> {
        Ok(Option::<[u8; 16]>::deserialize(from)?.map(Uuid::from_bytes))
    }
}
