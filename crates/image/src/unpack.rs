//! Decompression of what distributions ship: kernels in a bzImage, modules.

use std::io::Read;

/// Takes the uncompressed kernel (an ELF) out of a bzImage.
///
/// The format is the kernel's `Documentation/arch/x86/boot.rst`: after the real-mode sectors lies the compressed
/// kernel; its offset and length are in the header.
pub(crate) fn vmlinux(bzimage: &[u8]) -> Result<Vec<u8>, String> {
    if bzimage.get(HEADER_MAGIC_AT..HEADER_MAGIC_AT + 4) != Some(b"HdrS") {
        return Err("it is not a bzImage: the magic `HdrS` is missing".to_owned());
    }
    let sectors = usize::from(
        *bzimage
            .get(SETUP_SECTORS_AT)
            .ok_or("it ends in its header")?,
    );
    let sectors = if sectors == 0 {
        SETUP_SECTORS_DEFAULT
    } else {
        sectors
    };
    let offset = u32_at(bzimage, PAYLOAD_OFFSET_AT)?;
    let length = u32_at(bzimage, PAYLOAD_LENGTH_AT)?;
    let start = ((sectors + 1) * SECTOR)
        .checked_add(offset)
        .ok_or("its payload lies outside")?;
    let end = start
        .checked_add(length)
        .ok_or("its payload lies outside")?;
    let payload = bzimage.get(start..end).ok_or("its payload lies outside")?;
    // The kernel's build appends the uncompressed size to every format but gzip, which ends in it by itself.
    let kernel = if payload.starts_with(GZIP) {
        decompress(payload)?
    } else {
        decompress(
            payload
                .get(..payload.len().saturating_sub(4))
                .ok_or("its payload is empty")?,
        )?
    };
    if !kernel.starts_with(b"\x7fELF") {
        return Err("its payload is not an ELF file".to_owned());
    }
    Ok(kernel)
}

/// Takes a kernel module out of its compression; one that is not compressed stays as it is.
pub(crate) fn module(file: &[u8]) -> Result<Vec<u8>, String> {
    if file.starts_with(b"\x7fELF") {
        Ok(file.to_owned())
    } else {
        decompress(file)
    }
}

fn decompress(packed: &[u8]) -> Result<Vec<u8>, String> {
    if packed.starts_with(LZ4_LEGACY) {
        lz4_legacy(packed)
    } else if packed.starts_with(ZSTD) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(packed)
            .map_err(|error| format!("zstd: {error}"))?;
        read_bounded(decoder, "zstd")
    } else if packed.starts_with(XZ) {
        read_bounded(
            lzma_rust2::XzReader::new_mem_limit(packed, false, XZ_MEMORY_MAX_KIB),
            "xz",
        )
    } else if packed.starts_with(GZIP) {
        read_bounded(flate2::read::GzDecoder::new(packed), "gzip")
    } else {
        Err(format!(
            "its compression is unknown (it starts with {:02x?})",
            packed.get(..8).unwrap_or(packed)
        ))
    }
}

/// The `lz4 -l` format: blocks of at most 8 MiB each, behind their compressed size.
fn lz4_legacy(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let mut rest = &packed[LZ4_LEGACY.len()..];
    while rest.len() >= 4 {
        let size = u32_at(rest, 0)?;
        let block = rest.get(4..4 + size).ok_or("lz4: a block is cut off")?;
        rest = &rest[4 + size..];
        let filled = unpacked.len();
        if filled + LZ4_BLOCK_MAX > UNPACKED_MAX {
            return Err("lz4: it unpacks to too much".to_owned());
        }
        unpacked.resize(filled + LZ4_BLOCK_MAX, 0);
        let written = lz4_flex::block::decompress_into(block, &mut unpacked[filled..])
            .map_err(|error| format!("lz4: {error}"))?;
        unpacked.truncate(filled + written);
    }
    Ok(unpacked)
}

fn read_bounded(reader: impl Read, format: &str) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let limit = UNPACKED_MAX as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(|error| format!("{format}: {error}"))?;
    if unpacked.len() > UNPACKED_MAX {
        return Err(format!("{format}: it unpacks to too much"));
    }
    Ok(unpacked)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| <[u8; 4]>::try_from(field).ok());
    field
        .map(|field| u32::from_le_bytes(field) as usize)
        .ok_or_else(|| "it is cut off".to_owned())
}

const SECTOR: usize = 512;
const SETUP_SECTORS_AT: usize = 0x1f1;
const SETUP_SECTORS_DEFAULT: usize = 4;
const HEADER_MAGIC_AT: usize = 0x202;
const PAYLOAD_OFFSET_AT: usize = 0x248;
const PAYLOAD_LENGTH_AT: usize = 0x24c;

const LZ4_LEGACY: &[u8] = b"\x02\x21\x4c\x18";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const XZ: &[u8] = b"\xfd7zXZ\0";
const GZIP: &[u8] = b"\x1f\x8b\x08";
const LZ4_BLOCK_MAX: usize = 8 << 20;

/// No kernel or module of a distribution is near this size unpacked.
const UNPACKED_MAX: usize = 256 << 20;

/// The dictionary of an xz file that distributions ship is 64 MiB at most.
const XZ_MEMORY_MAX_KIB: u32 = 256 << 10;

#[cfg(test)]
mod tests;
