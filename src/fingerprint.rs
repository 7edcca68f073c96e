//! Numbers that tell contents apart, the same in every version of the program.

/// A fingerprint of bytes (FNV-1a): other bytes give another number.
pub fn fingerprint(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
