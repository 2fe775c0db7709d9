//! What is taken for an agent, and what comes of it.

use super::*;

/// A program with one program header of this kind.
fn program(kind: u32) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[18..20].copy_from_slice(&X86_64.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.resize(64 + 56, 0);
    bytes
}

#[test]
fn only_a_static_program_is_an_agent() {
    assert_eq!(check(&program(1)), Ok(()));
    assert!(check(&program(PT_INTERP)).unwrap_err().contains("shared"));
    assert!(check(b"#!/bin/sh\n").unwrap_err().contains("x86-64"));
    // This test itself is linked with the C library.
    let own = std::env::current_exe().unwrap();
    assert!(matches!(Agent::read(&own), Err(Error::Malformed { .. })));
}

#[test]
fn every_beginning_of_a_program_is_refused_without_a_panic() {
    let whole = program(1);
    for length in 0..=64 {
        assert!(check(&whole[..length]).is_err(), "{length} bytes");
    }
    for place in [32, 54, 56] {
        let mut wrong = whole.clone();
        wrong[place..place + 2].fill(0xff);
        let _ = check(&wrong);
    }
}

#[test]
fn agent_follows_what_is_in_the_initramfs() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, initrd) = (folder.path().join("agent"), folder.path().join("initrd"));
    std::fs::write(&agent, program(1)).unwrap();
    std::fs::write(&initrd, b"before").unwrap();
    let agent = Agent::read(&agent).unwrap();
    agent.append_to(&initrd).unwrap();
    let found = std::fs::read(&initrd).unwrap();
    assert_eq!(found.strip_prefix(b"before"), Some(&agent.archive[..]));
    assert!(
        agent
            .archive
            .windows(12)
            .any(|name| name == PLACE.as_bytes())
    );
}
