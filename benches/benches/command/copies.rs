//! Files into the guest and out of it, beside what a virtio port carries raw.
//!
//! - `copy/{in,out}/{agent,shell}`: 100 MiB by `put` and `get`. `…/base64`: less, as the NixOS driver does it.
//! - `copy/in/raw_to_file`: `dd` from a port of its own to a file, in the same guest as the agent, and on the same file system:
//!   that is what a put is to be compared with. `raw_to_null`: the guest writes nothing.
//! - `copy/out/raw_from_file`, `raw_from_zero`: the other way.

#![expect(
    clippy::disallowed_types,
    reason = "a bench talks to a port by its socket"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use hotbed_benches::guest::Guest;
use hotbed_benches::machines::call;
use hotbed_benches::plain::PlainGuest;

use super::{group, is_test};

const MIB: usize = 1 << 20;
/// How much is copied.
const COPY: usize = 100 * MIB;
/// How much by base64: a command line must hold it.
const BASE64_PIECE: usize = 60 << 10;
/// How much `dd` moves at a time.
const BLOCK: usize = 64 << 10;

/// How much is copied if it is only to be seen that it is.
fn most(len: usize) -> usize {
    if is_test() { len.min(MIB) } else { len }
}

fn copy_group<'c>(c: &'c mut Criterion, name: &str, len: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = group(c, name, 10);
    group.throughput(Throughput::Bytes(len as u64));
    group
}

pub(super) fn files(c: &mut Criterion, way: &str, guest: &Guest) {
    let len = most(COPY);
    let directory = tempfile::tempdir().expect("a directory");
    let (source, target) = (directory.path().join("in"), directory.path().join("out"));
    let data: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(i) >> 9) as u8).collect();
    std::fs::write(&source, &data).expect("room for the file");
    let mut group = copy_group(c, "copy/in", len);
    group.bench_function(way, |b| {
        b.iter(|| guest.m().put(&source, "/tmp/file", &call()).expect("a put"));
    });
    group.finish();
    let mut group = copy_group(c, "copy/out", len);
    group.bench_function(way, |b| {
        b.iter(|| guest.m().get("/tmp/file", &target, &call()).expect("a get"));
    });
    group.finish();
    // The filter of the command line may have left the copies out.
    if let Ok(copy) = std::fs::read(&target) {
        assert!(copy == data, "other bytes");
    }
    guest.succeed("rm -f /tmp/file");
}

/// A virtio port that nobody speaks a protocol on.
pub(super) struct RawPort {
    directory: tempfile::TempDir,
}

impl RawPort {
    pub(super) fn new() -> RawPort {
        let directory = tempfile::tempdir().expect("a directory");
        RawPort { directory }
    }

    fn socket(&self) -> String {
        self.directory.path().join("raw").display().to_string()
    }

    /// The line in a machine's head that gives it the port, on a controller of its own.
    pub(super) fn head(&self) -> String {
        let arguments = [
            "-chardev",
            &format!("socket,id=raw,server=on,wait=off,path={}", self.socket()),
            "-device",
            "virtio-serial-pci,id=raw,max_ports=2",
            "-device",
            "virtserialport,bus=raw.0,nr=1,chardev=raw,name=raw",
        ];
        format!("qemu_args = {arguments:?}")
    }
}

pub(super) fn raw(c: &mut Criterion, guest: &Guest, port: &RawPort) {
    let len = most(COPY);
    let socket = UnixStream::connect(port.socket()).expect("QEMU listens");
    let find = "for p in /sys/class/virtio-ports/*; do [ \"$(cat $p/name)\" != raw ] || echo /dev/${p##*/}; done";
    let device = guest.output(find);
    let device = device.trim();
    let dd = |from: &str, to: &str| {
        let count = len / BLOCK;
        guest.succeed(&format!(
            "dd if={from} of={to} bs={BLOCK} count={count} iflag=fullblock 2>/dev/null"
        ));
    };
    let block = vec![0x5a; MIB];
    let mut group = copy_group(c, "copy/in", len);
    for (name, target) in [("raw_to_file", "/tmp/raw"), ("raw_to_null", "/dev/null")] {
        group.bench_function(name, |b| {
            b.iter(|| {
                guest.succeed("rm -f /tmp/raw"); // As a put makes a new file.
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..len / MIB {
                            (&socket).write_all(&block).expect("the guest reads");
                        }
                    });
                    dd(device, target);
                });
            });
        });
    }
    group.finish();
    guest.succeed(&format!(
        "dd if=/dev/zero of=/tmp/raw bs={BLOCK} count={} 2>/dev/null",
        len / BLOCK
    ));
    let mut group = copy_group(c, "copy/out", len);
    for (name, source) in [
        ("raw_from_file", "/tmp/raw"),
        ("raw_from_zero", "/dev/zero"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut buffer = vec![0; MIB];
                        let mut left = len;
                        while left > 0 {
                            let most = left.min(MIB);
                            let read = (&socket).read(&mut buffer[..most]).expect("bytes");
                            assert!(read > 0, "the guest died");
                            left -= read;
                        }
                    });
                    dd(source, device);
                });
            });
        });
    }
    group.finish();
}

pub(super) fn base64(c: &mut Criterion, guest: &mut PlainGuest) {
    let text = "QUJD".repeat(BASE64_PIECE / 3);
    let mut group = copy_group(c, "copy/in", BASE64_PIECE);
    group.bench_function("base64", |b| {
        let command = format!("echo -n {text} | base64 -d >/tmp/piece");
        b.iter(|| assert_eq!(guest.execute(&command).0, 0));
    });
    group.finish();
    let len = most(8 * MIB);
    let (status, _) = guest.execute(&format!("head -c {len} /dev/zero >/tmp/file"));
    assert_eq!(status, 0);
    let mut group = copy_group(c, "copy/out", len);
    group.bench_function("base64", |b| {
        b.iter(|| {
            let (status, text) = guest.execute("cat /tmp/file");
            assert_eq!((status, text.len()), (0, len.div_ceil(3) * 4));
        });
    });
    group.finish();
}
