//! A program of 145 bytes that has the kernel seed its random numbers anew from all that it was given.
//!
//! What a shell writes to `/dev/urandom` is mixed in, but counts only when the kernel takes a new seed, which it does when it likes.
//! A machine that was restored from a snapshot needs it at once, and `micro` has no other program that can ask for it.

/// Makes the program: `ioctl(0, RNDRESEEDCRNG)`, with the error's number as its status.
pub(crate) fn program() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes()); // A program, for x86-64.
    }
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // The entry, the program headers, no sections.
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes()); // Sizes and numbers of headers.
    }
    for half in [1_u32, 5] {
        elf.extend_from_slice(&half.to_le_bytes()); // To be loaded, to be read and run.
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes()); // All of the file, at this address.
    }
    elf.extend_from_slice(&CODE);
    elf
}

/// Where it is loaded.
const BASE: u64 = 0x40_0000;
/// The ELF header and one program header.
const HEADERS: u64 = 64 + 56;
/// What it does.
#[rustfmt::skip]
const CODE: [u8; 25] = [
    0x31, 0xff,                   // xor edi, edi        standard input
    0xbe, 0x07, 0x52, 0x00, 0x00, // mov esi, 0x5207     RNDRESEEDCRNG
    0xb8, 0x10, 0x00, 0x00, 0x00, // mov eax, 16         ioctl
    0x0f, 0x05,                   // syscall
    0x89, 0xc7,                   // mov edi, eax
    0xf7, 0xdf,                   // neg edi
    0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60         exit
    0x0f, 0x05,                   // syscall
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_types, reason = "the kernel is to run it")]
    fn the_kernel_runs_it_and_it_tells_what_the_kernel_said() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reseed");
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // /dev/null does not know the request: ENOTTY.
        let mut command = std::process::Command::new(path);
        let status = command.stdin(std::process::Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(25));
        assert_eq!(program().len(), 145);
    }
}
