//! The VXLAN header of RFC 7348: eight bytes in front of a frame, in a UDP datagram.

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// The UDP port that IANA has assigned.
pub const PORT: u16 = 4789;

/// The highest network identifier.
pub const NETWORK_MAX: u32 = 0xff_ffff;

/// The flag that says that there is a network identifier.
const HAS_NETWORK: u8 = 0x08;

/// Builds the header of a network.
pub fn header(network: u32) -> [u8; HEADER_LEN] {
    let [_, high, middle, low] = network.to_be_bytes();
    [HAS_NETWORK, 0, 0, 0, high, middle, low, 0]
}

/// Gives the network of a datagram; `None` if it has no whole header, or no network. What is reserved is not looked at.
pub fn network_of(datagram: &[u8]) -> Option<u32> {
    let [flags, _, _, _, high, middle, low, _] = *datagram.first_chunk()?;
    (flags & HAS_NETWORK != 0).then(|| u32::from_be_bytes([0, high, middle, low]))
}

/// What the fuzzer does with its bytes: a header that was read is built the same, but for what is reserved.
pub fn fuzz(bytes: &[u8]) {
    if let Some(network) = network_of(bytes) {
        assert!(network <= NETWORK_MAX && bytes.len() >= HEADER_LEN);
        let built = header(network);
        assert_eq!(network_of(&built), Some(network));
        assert_eq!(built[4..7], bytes[4..7]);
    }
}
