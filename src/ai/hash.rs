//! A hash that must never change: the built-in embedder's stored vectors depend on it.

/// FNV-1a (Fowler, Noll, Vo) over `label` and the bytes, finished with the mixer of MurmurHash3 so
/// that every bit depends on every byte. The same on every machine and in every version. Not for
/// secrets: collisions can be made on purpose, and only blur the maker's own search results.
pub(super) fn stable_hash(label: u8, bytes: &[u8]) -> u64 {
    let fnv = std::iter::once(&label)
        .chain(bytes)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    mix(fnv)
}

/// The hash of an ordered pair.
pub(super) fn stable_pair(first: u64, second: u64) -> u64 {
    mix(first.rotate_left(23) ^ second.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_data_depends_on_these_numbers() {
        assert_eq!(stable_hash(0, b""), 0xb903_4ad3_7056_f5fb);
        assert_eq!(stable_hash(1, b"bulkhead"), 0xd1b8_1b2c_0a4a_fdad);
        assert_eq!(stable_pair(1, 2), 0x348d_c975_4e2f_0635);
        assert_ne!(stable_pair(1, 2), stable_pair(2, 1));
    }
}
