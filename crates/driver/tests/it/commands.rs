//! Commands, waits and copies, as every guest takes them: this module is compiled twice, and the fake guest of
//! `commands_by_agent` has an agent.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use hotbed_driver::machine::Execute;
use hotbed_driver::{Error, Machine};

use crate::support::{Bed, SHORT, SOON, Took, call, has_agent, run, test_failure, timed};

/// A fake guest, with an agent or without one.
fn guest() -> Bed {
    if module_path!().ends_with("by_agent") && has_agent() {
        Bed::fake("agent")
    } else {
        Bed::fake("guest")
    }
}

#[test]
fn commands_have_the_words_and_results_of_the_nixos_driver() {
    let bed = guest();
    let m = bed.m();
    assert_eq!(
        m.succeed(&["echo a", "echo b"], None, &call()).unwrap(),
        "a\nb\n"
    );
    assert_eq!(m.fail(&["echo no; false"], None, &call()).unwrap(), "no\n");
    assert_eq!(
        test_failure(m.succeed(&["echo why; exit 7"], None, &call())),
        "command `echo why; exit 7` failed (exit code 7)"
    );
    assert_eq!(
        test_failure(m.fail(&["true"], None, &call())),
        "command `true` unexpectedly succeeded"
    );
    let log = bed.log();
    for line in [
        "m: must succeed: echo a\n",
        "m: (finished: must succeed: echo b, in 0.",
        "m: must fail: true\n",
        "m: output: why\n",
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
    assert!(!log.contains("(finished: must fail: true"));
}

#[test]
fn commands_run_under_set_euo_pipefail_with_an_empty_stdin() {
    let bed = guest();
    assert_ne!(run(bed.m(), "false | true").0, 0);
    assert_ne!(run(bed.m(), "echo $no_such_variable").0, 0);
    assert_eq!(run(bed.m(), "cat; echo end"), (0, "end\n".to_owned()));
}

#[test]
fn results_that_are_not_wanted_are_not_waited_for() {
    let bed = guest();
    let execute = |command: &str, options| bed.m().execute(command, &options, &call()).unwrap();
    let no_return = execute(
        "echo out; false",
        Execute {
            check_return: false,
            ..Execute::default()
        },
    );
    assert_eq!(
        (no_return.status, no_return.stdout.as_slice()),
        (-1, &b"out\n"[..])
    );
    let (no_output, time) = timed(|| {
        execute(
            "sleep 0.5",
            Execute {
                check_output: false,
                ..Execute::default()
            },
        )
    });
    assert_eq!((no_output.status, no_output.stdout.len()), (-2, 0));
    time.at_most(Duration::from_millis(300));
    assert_eq!(run(bed.m(), "echo in step"), (0, "in step\n".to_owned()));
}

#[test]
fn timeout_of_a_command_is_kept_by_the_guest() {
    let bed = guest();
    bed.m().connect(&call()).unwrap();
    let options = Execute {
        timeout: Some(Duration::from_millis(300)),
        ..Execute::default()
    };
    let (output, time) = timed(|| {
        bed.m()
            .execute("echo a; sleep 100", &options, &call())
            .unwrap()
    });
    assert_eq!(output.status, 124);
    time.at_most(Duration::from_secs(1));
}

#[test]
fn waits_for_commands_repeat_until_the_result_is_there() {
    let bed = guest();
    let m = bed.m();
    let file = bed.directory.path().join("there");
    let look = format!("test -e {} && echo found", file.display());
    m.connect(&call()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            std::fs::write(&file, "").unwrap();
        });
        let (text, time) = timed(|| m.wait_until_succeeds(&look, SOON, &call()).unwrap());
        assert_eq!(text, "found\n");
        time.at_least(Duration::from_millis(250));
        time.at_most(Duration::from_millis(700));
    });
    m.wait_for_file(&file.display().to_string(), SOON, &call())
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    m.wait_until_fails(&look, SOON, &call()).unwrap();
    let (message, time) = timed(|| test_failure(m.wait_until_succeeds(&look, SHORT, &call())));
    assert!(
        message.starts_with("action timed out after ")
            && message.ends_with(" seconds (timeout=0.6)"),
        "{message}"
    );
    time.at_most(Duration::from_secs(2));
    let (message, time) =
        timed(|| test_failure(m.wait_until_succeeds("sleep 100", SHORT, &call())));
    assert!(message.starts_with("action timed out after "), "{message}");
    time.at_most(Duration::from_millis(2500));
}

/// Opens something 0.3 s from now, and gives how long `wait` took to notice.
fn notices<T: Send>(open: impl FnOnce() -> T + Send, wait: impl FnOnce()) -> Took {
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            open()
        });
        let ((), time) = timed(wait);
        drop(opened.join().unwrap());
        time
    })
}

fn wait_for_port(m: &Machine, port: u16, address: &str) {
    m.wait_for_open_port(port, address, SOON, &call()).unwrap();
}

#[test]
fn open_port_is_noticed_within_100_ms() {
    let bed = guest();
    let m = bed.m();
    m.connect(&call()).unwrap();
    for (bind, address) in [
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
    ] {
        let port = TcpListener::bind((bind, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let time = notices(
            || TcpListener::bind((bind, port)).unwrap(),
            || wait_for_port(m, port, address),
        );
        time.at_least(Duration::from_millis(280));
        time.at_most(Duration::from_millis(400));
    }
}

#[test]
fn closed_port_is_noticed_and_one_that_hangs_is_not_open() {
    let bed = guest();
    let m = bed.m();
    m.connect(&call()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let time = notices(
        move || drop(listener),
        || {
            m.wait_for_closed_port(port, "localhost", SOON, &call())
                .unwrap()
        },
    );
    time.at_least(Duration::from_millis(280));
    time.at_most(Duration::from_millis(450));
    let (message, time) =
        timed(|| test_failure(m.wait_for_open_port(port, "localhost", SHORT, &call())));
    assert!(message.ends_with("(timeout=0.6)"), "{message}");
    time.at_most(Duration::from_secs(1));
}

#[test]
fn port_that_answers_nobody_does_not_outlast_the_timeout() {
    let bed = guest();
    let m = bed.m();
    m.connect(&call()).unwrap();
    // A full backlog: the kernel drops what comes, and the client tries for minutes.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let _full: Vec<_> = (0..2)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)))
        .collect();
    let (message, time) = timed(|| {
        test_failure(m.wait_for_open_port(
            address.port(),
            "127.0.0.1",
            Duration::from_secs(2),
            &call(),
        ))
    });
    assert!(message.ends_with("(timeout=2.0)"), "{message}");
    time.at_most(Duration::from_secs(3));
    drop(_full);
    let (_, _) = (listener.accept().unwrap(), m);
    wait_for_port(m, address.port(), "127.0.0.1");
}

#[test]
fn unix_sockets_are_noticed_by_kind() {
    let bed = guest();
    let m = bed.m();
    m.connect(&call()).unwrap();
    let wait = |path: &str, datagram, timeout| {
        m.wait_for_open_unix_socket(path, datagram, timeout, &call())
    };
    let (stream, datagram) = (
        bed.directory.path().join("s"),
        bed.directory.path().join("d"),
    );
    let path = stream.display().to_string();
    let time = notices(
        || UnixListener::bind(&stream).unwrap(),
        || wait(&path, false, SOON).unwrap(),
    );
    time.at_least(Duration::from_millis(280));
    time.at_most(Duration::from_millis(450));
    let socket = UnixDatagram::bind(&datagram).unwrap();
    let roundabout = format!(
        "{}/../{}/d",
        bed.directory.path().display(),
        bed.directory.path().file_name().unwrap().to_string_lossy()
    );
    wait(&roundabout, true, SOON).unwrap();
    assert!(test_failure(wait(&roundabout, false, SHORT)).ends_with("(timeout=0.6)"));
    drop(socket);
}

#[test]
fn files_go_in_and_come_out_with_their_modes() {
    let bed = guest();
    let m = bed.m();
    let host = bed.directory.path().join("host");
    let guest = bed.directory.path().join("guest");
    let inside = |name: &str| guest.join(name).display().to_string();
    std::fs::create_dir_all(host.join("dir/sub")).unwrap();
    let data: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    std::fs::write(host.join("dir/sub/data"), &data).unwrap();
    std::fs::write(host.join("dir/run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(host.join("dir/run"), std::fs::Permissions::from_mode(0o751)).unwrap();
    m.copy_from_host(&host.join("dir/run"), &inside("new/parents/run"), &call())
        .unwrap();
    assert_eq!(
        run(m, &format!("stat -c %a {}", inside("new/parents/run"))),
        (0, "751\n".to_owned())
    );
    m.copy_from_host(&host.join("dir/run"), &inside("new"), &call())
        .unwrap();
    assert!(
        guest.join("new/run").is_file(),
        "into a directory that is there"
    );
    m.copy_from_host(&host.join("dir"), &inside("copy"), &call())
        .unwrap();
    assert_eq!(std::fs::read(guest.join("copy/sub/data")).unwrap(), data);
    m.copy_from_host(&host.join("dir"), &inside("new"), &call())
        .unwrap();
    assert!(guest.join("new/dir/run").is_file());
    m.copy_from_host_via_shell(&host.join("dir/sub/data"), &inside("via/shell"), &call())
        .unwrap();
    assert_eq!(std::fs::read(guest.join("via/shell")).unwrap(), data);

    let out = bed.directory.path();
    m.copy_from_machine(&inside("copy/sub/data"), "results", &call())
        .unwrap();
    assert_eq!(std::fs::read(out.join("results/data")).unwrap(), data);
    m.copy_from_machine(&inside("copy"), "", &call()).unwrap();
    assert_eq!(std::fs::read(out.join("copy/sub/data")).unwrap(), data);
    assert_eq!(
        std::fs::metadata(out.join("copy/run"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o751
    );
    let again = m.copy_from_machine(&inside("copy"), "", &call());
    assert!(
        matches!(&again, Err(Error::Host { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists),
        "{again:?}"
    );
    test_failure(m.copy_from_machine("/no/such/file", "", &call()));
    assert!(
        m.copy_from_host(&host.join("no-such-file"), "/tmp/x", &call())
            .is_err()
    );
}
