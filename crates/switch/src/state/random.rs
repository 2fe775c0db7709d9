//! Draws that depend on a seed and a counter alone: Philox 4×32 with ten rounds (Salmon, Moraes, Dror and Shaw,
//! "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11).
//!
//! There is no state between draws: whoever asks for the draws of frame 5,000,000 gets them, in any order, on any
//! machine. That is what makes an impaired run repeatable.

/// Gives four random words for each counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

impl Philox {
    /// Makes the generator of one of many streams of a seed.
    pub fn new(seed: u64, stream: u64) -> Philox {
        let mixed = mix(seed ^ mix(stream));
        Philox {
            key: [mixed as u32, (mixed >> 32) as u32],
        }
    }

    /// Gives the draws for a number, of which there are `u32::MAX` independent blocks.
    #[inline]
    pub fn draw(&self, number: u64, block: u32) -> [u32; 4] {
        philox(self.key, [number as u32, (number >> 32) as u32, block, 0])
    }
}

#[inline]
fn philox(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let first = u64::from(MULTIPLIERS[0]) * u64::from(a);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(c);
        counter = [
            (second >> 32) as u32 ^ b ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ d ^ key[1],
            first as u32,
        ];
        key[0] = key[0].wrapping_add(WEYL[0]);
        key[1] = key[1].wrapping_add(WEYL[1]);
    }
    counter
}

/// Spreads every bit over all others: the finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Folds bytes to a number: FNV-1a with 64 bits.
pub fn fold(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_the_authors_known_answer_tests() {
        // `kat_vectors` of Random123, lines `philox4x32 10`.
        assert_eq!(
            philox([0; 2], [0; 4]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 2], [u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(
            philox([0xa409_3822, 0x299f_31d0], counter),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_seeds_and_blocks_have_draws_of_their_own() {
        let draws = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (1, 1, 1)]
            .map(|(seed, stream, block)| Philox::new(seed, stream).draw(0, block));
        for (place, draw) in draws.iter().enumerate() {
            assert!(!draws[..place].contains(draw));
        }
    }
}
