//! Keys that sort as their values do, and of which none is a prefix of another.
//!
//! Integers are big-endian with the sign bit turned; strings are escaped and end with two zero
//! bytes (FoundationDB's tuple layer describes the technique).

/// Appends a string or bytes: 0x00 becomes 0x00 0xFF, and 0x00 0x01 ends it.
pub fn put_bytes(key: &mut Vec<u8>, bytes: &[u8]) {
    for &b in bytes {
        key.push(b);
        if b == 0 {
            key.push(0xFF);
        }
    }
    key.extend_from_slice(&[0, 1]);
}

/// Appends a signed integer so that byte order is number order.
pub fn put_i64(key: &mut Vec<u8>, n: i64) {
    key.extend_from_slice(&((n as u64) ^ (1 << 63)).to_be_bytes());
}

/// Reads what [`put_i64`] wrote; the rest of the key follows.
pub fn take_i64(key: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = key.split_first_chunk::<8>()?;
    Some(((u64::from_be_bytes(*head) ^ (1 << 63)) as i64, rest))
}

/// Reads what [`put_bytes`] wrote; the rest of the key follows.
pub fn take_bytes(key: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut bytes = Vec::new();
    let mut i = 0;
    loop {
        match (key.get(i)?, key.get(i + 1)) {
            (0, Some(0xFF)) => {
                bytes.push(0);
                i += 2;
            }
            (0, Some(1)) => return Some((bytes, &key[i + 2..])),
            (0, _) => return None,
            (&b, _) => {
                bytes.push(b);
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_and_content_survive(a: Vec<u8>, b: Vec<u8>, m: i64, n: i64) {
            let key = |bytes: &[u8], n| { let mut k = Vec::new(); put_bytes(&mut k, bytes); put_i64(&mut k, n); k };
            let (x, y) = (key(&a, m), key(&b, n));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b).then(m.cmp(&n)));
            prop_assert!(x == y || !y.starts_with(&x));
            let (bytes, rest) = take_bytes(&x).expect("what was put");
            prop_assert_eq!(bytes, a);
            prop_assert_eq!(take_i64(rest), Some((m, &[][..])));
        }
    }
}
