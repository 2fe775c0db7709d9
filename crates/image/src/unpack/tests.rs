//! A bzImage is made here around each compression.

use std::io::Write as _;

use super::*;

#[test]
fn a_kernel_comes_out_of_gzip() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(KERNEL).unwrap();
    assert_eq!(
        vmlinux(&bzimage(&packer.finish().unwrap())).unwrap(),
        KERNEL
    );
}

#[test]
fn a_kernel_comes_out_of_legacy_lz4_in_several_blocks() {
    let mut payload = LZ4_LEGACY.to_vec();
    for block in KERNEL.chunks(14) {
        // A block of literals alone: a token with their number, then they.
        payload.extend((u32::try_from(block.len()).unwrap() + 1).to_le_bytes());
        payload.push(u8::try_from(block.len()).unwrap() << 4);
        payload.extend(block);
    }
    payload.extend(u32::try_from(KERNEL.len()).unwrap().to_le_bytes());
    assert_eq!(vmlinux(&bzimage(&payload)).unwrap(), KERNEL);
}

#[test]
fn a_kernel_comes_out_of_xz_and_zstd() {
    for packed in [XZ_SAMPLE, ZSTD_SAMPLE] {
        let payload = [packed, &[0; 4]].concat();
        assert_eq!(vmlinux(&bzimage(&payload)).unwrap(), b"\x7fELF kernel\n");
        assert_eq!(module(packed).unwrap(), b"\x7fELF kernel\n");
    }
}

#[test]
fn what_is_no_kernel_is_refused_without_a_panic() {
    let whole = bzimage(KERNEL);
    assert!(
        vmlinux(&whole)
            .unwrap_err()
            .contains("compression is unknown")
    );
    for length in 0..whole.len() {
        vmlinux(&whole[..length]).unwrap_err();
    }
    let mut far = whole.clone();
    far[PAYLOAD_OFFSET_AT..PAYLOAD_OFFSET_AT + 4].fill(0xff);
    assert!(vmlinux(&far).unwrap_err().contains("outside"));
    let cut = [LZ4_LEGACY, &[0xff, 0xff, 0xff, 0x7f, 1, 2, 3]].concat();
    assert!(module(&cut).unwrap_err().contains("cut off"));
}

#[test]
fn an_uncompressed_module_stays_as_it_is() {
    assert_eq!(module(KERNEL).unwrap(), KERNEL);
}

fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 2 * SECTOR];
    image[SETUP_SECTORS_AT] = 1;
    image[HEADER_MAGIC_AT..HEADER_MAGIC_AT + 4].copy_from_slice(b"HdrS");
    image[PAYLOAD_OFFSET_AT..PAYLOAD_OFFSET_AT + 4].copy_from_slice(&0u32.to_le_bytes());
    let length = u32::try_from(payload.len()).unwrap();
    image[PAYLOAD_LENGTH_AT..PAYLOAD_LENGTH_AT + 4].copy_from_slice(&length.to_le_bytes());
    image.extend(payload);
    image
}

const KERNEL: &[u8] = b"\x7fELF, and then a kernel in a few bytes";
/// `printf '\x7fELF kernel\n' | xz --check=crc32 --x86 --lzma2`, as the kernel's build packs itself.
const XZ_SAMPLE: &[u8] = b"\xfd\x37\x7a\x58\x5a\x00\x00\x01\x69\x22\xde\x36\x02\x01\x04\x00\x21\x01\x10\x00\x8b\x21\x6f\x49\x01\x00\x0b\x7f\x45\x4c\x46\x20\x6b\x65\x72\x6e\x65\x6c\x0a\x00\xa5\xe3\x8e\xb4\x00\x01\x20\x0c\xa2\xdd\xb4\xbc\x90\x42\x99\x0d\x01\x00\x00\x00\x00\x01\x59\x5a";
/// The same through `zstd`.
const ZSTD_SAMPLE: &[u8] = b"\x28\xb5\x2f\xfd\x04\x58\x61\x00\x00\x7f\x45\x4c\x46\x20\x6b\x65\x72\x6e\x65\x6c\x0a\x3a\xc9\x93\xe1";
