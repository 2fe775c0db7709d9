//! Much output in little memory.

use crate::guest::{Guest, PATIENCE};
use crate::sys::peak;
use hotbed_console::{Command, Exit, Progress, Shell};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// More than the parser, its input and its output ever hold.
const MEMORY_MAX: usize = 1 << 20;

/// Answers the first command with this many groups of three bytes, as fast as it can.
fn fast_guest(groups: usize) -> Shell {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut to_host = theirs.try_clone().unwrap();
        to_host
            .write_all(b"Spawning backdoor root shell...\n")
            .unwrap();
        let mut lines = BufReader::new(theirs).lines().map(Result::unwrap);
        let name = lines
            .find_map(|line| Some(line.strip_prefix("_hb_i=")?.to_owned()))
            .unwrap();
        lines.find(|line| line.starts_with("_hb 1 ")).unwrap();
        write!(to_host, "<{name}.1 0 +:\x01").unwrap();
        let block = b"AAEC".repeat(1 << 16);
        let mut left = groups * 4;
        while left > 0 {
            let len = left.min(block.len());
            to_host.write_all(&block[..len]).unwrap();
            left -= len;
        }
        write!(to_host, "|{name}.1 0>").unwrap();
    });
    let mut shell = Shell::new(ours).unwrap();
    shell
        .poll_ready(Instant::now() + PATIENCE)
        .unwrap()
        .unwrap();
    shell
}

/// How long it takes to get this many groups of output.
fn time(groups: usize) -> Duration {
    let mut shell = fast_guest(groups);
    let start = Instant::now();
    shell
        .begin(&Command::new("true"), start + PATIENCE)
        .unwrap();
    let mut len = 0;
    loop {
        match shell.poll_output(Instant::now() + PATIENCE).unwrap() {
            Progress::Output(piece) => {
                assert_eq!(usize::from(piece[0]), len % 3);
                assert_eq!(
                    usize::from(piece[piece.len() - 1]),
                    (len + piece.len() - 1) % 3
                );
                len += piece.len();
            }
            Progress::Done(Exit { status: 0 }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(len, groups * 3);
    start.elapsed()
}

#[test]
fn gibibyte_of_output_takes_little_memory_and_linear_time() {
    let (small, _) = peak(|| time((1 << 30) / 3 / 8));
    let (large, memory) = peak(|| time((1 << 30) / 3));
    println!("1/8 GiB: {small:?}; 1 GiB: {large:?}, {memory} bytes at most");
    assert!(memory < MEMORY_MAX, "{memory} bytes were held");
    assert!(
        large < small * 24,
        "an eighth took {small:?}, all took {large:?}"
    );
}

#[test]
fn long_output_of_a_real_shell_comes_back() {
    let mut guest = Guest::start();
    let (status, output) = guest.run(&Command::new("seq 1 1000000; exit 3"));
    assert_eq!(status, 3);
    let mut lines = output.split(|byte| *byte == b'\n');
    assert!((1..=1_000_000).all(|number: u32| lines.next() == Some(number.to_string().as_bytes())));
}
