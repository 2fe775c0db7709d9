//! Much output in little memory.

use crate::guest::{Guest, PATIENCE};
use crate::sys::peak;
use hotbed_console::wire::BLOCK_MAX;
use hotbed_console::{Command, Exit, Progress, Shell};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A gibibyte.
const BLOCKS: usize = (1 << 30) / BLOCK_MAX;

/// More than the parser, its input and its output ever hold.
const MEMORY_MAX: usize = 1 << 20;

/// Answers the first command with this many blocks, as fast as it may.
fn fast_guest(blocks: usize) -> Shell {
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
        write!(to_host, "<{name}.1 0 +:").unwrap();
        let bytes = (0..=255).cycle().take(BLOCK_MAX).collect();
        let block = [bytes, format!("|{name}.1 #{BLOCK_MAX}>").into_bytes()].concat();
        for _ in 0..blocks {
            to_host.write_all(&block).unwrap();
            assert_eq!(lines.next().unwrap(), format!(": {name} ok"));
        }
        write!(to_host, "|{name}.1 #0>|{name}.1 0>").unwrap();
    });
    let mut shell = Shell::new(ours).unwrap();
    shell
        .poll_ready(Instant::now() + PATIENCE)
        .unwrap()
        .unwrap();
    shell
}

/// How long it takes to get this many blocks of output.
fn time(blocks: usize) -> Duration {
    let mut shell = fast_guest(blocks);
    let start = Instant::now();
    shell
        .begin(&Command::new("true"), start + PATIENCE)
        .unwrap();
    let mut len = 0;
    loop {
        match shell.poll_output(Instant::now() + PATIENCE).unwrap() {
            Progress::Output(piece) => {
                assert!(piece.len() <= BLOCK_MAX && piece[0] == 0 && piece[piece.len() - 1] == 255);
                len += piece.len();
            }
            Progress::Done(Exit { status: 0 }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(len, blocks * BLOCK_MAX);
    start.elapsed()
}

#[test]
fn gibibyte_of_output_takes_little_memory_and_linear_time() {
    let (small, _) = peak(|| time(BLOCKS / 8));
    let (large, memory) = peak(|| time(BLOCKS));
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
