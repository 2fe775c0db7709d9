//! Open files travel beside commands.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::thread;

use hotbed_qmp::Error;
use hotbed_qmp::commands::{AddFd, GetFd};
use hotbed_qmp::state::FILES_MAX;
use serde_json::{Value, json};

use crate::support::{echo, fake, late};

fn file_with(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Reads a file that the fake was given.
fn text_of(file: &std::os::fd::OwnedFd) -> String {
    let mut file = File::from(file.try_clone().unwrap());
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn file_arrives_with_its_command_and_stays_open_here() {
    let (qemu, client) = fake(|request| match request.command.as_str() {
        "add-fd" => json!({"fdset-id": 3, "fd": 12}).into(),
        _ => json!({}).into(),
    });
    let mut file = file_with("ram");
    client
        .call(
            &GetFd {
                fdname: "ram",
                file: file.as_fd(),
            },
            late(),
        )
        .unwrap();
    let added = client
        .call(
            &AddFd {
                file: file.as_fd(),
                fdset_id: None,
                opaque: Some("r"),
            },
            late(),
        )
        .unwrap();
    assert_eq!((added.fdset_id, added.fd), (3, 12));
    let requests = qemu.requests();
    assert_eq!(requests[0].arguments, json!({"fdname": "ram"}));
    assert_eq!(requests[1].arguments, json!({"opaque": "r"}));
    for request in &requests {
        assert_eq!(request.files.as_slice().len(), 1);
        assert_eq!(text_of(&request.files.as_slice()[0]), "ram");
    }
    file.rewind().unwrap();
}

#[test]
fn files_of_many_threads_go_with_their_own_commands() {
    let (qemu, client) = fake(|_| json!({}).into());
    thread::scope(|scope| {
        for number in 0..16 {
            let client = client.clone();
            scope.spawn(move || {
                let name = format!("f{number}");
                let file = file_with(&name);
                client
                    .call(
                        &GetFd {
                            fdname: &name,
                            file: file.as_fd(),
                        },
                        late(),
                    )
                    .unwrap();
                client.execute("stop", Value::Null, late()).unwrap();
            });
        }
    });
    for request in qemu.requests() {
        let files: Vec<_> = request.files.as_slice().iter().map(text_of).collect();
        match request.command.as_str() {
            "getfd" => assert_eq!(files, [request.arguments["fdname"].as_str().unwrap()]),
            _ => assert!(files.is_empty()),
        }
    }
}

#[test]
fn large_command_carries_its_files_once() {
    let (qemu, client) = fake(echo);
    let (first, second) = (file_with("first"), file_with("second"));
    let large = json!({ "text": "x".repeat(4 << 20) });
    let fds = [first.as_fd(), second.as_fd()];
    client
        .execute_with_fds("large", large, &fds, late())
        .unwrap();
    let requests = qemu.requests();
    let files: Vec<_> = requests[0].files.as_slice().iter().map(text_of).collect();
    assert_eq!(files, ["first", "second"]);
}

#[test]
fn too_many_files_are_refused() {
    let (_qemu, client) = fake(echo);
    let file = file_with("");
    let fds = vec![file.as_fd(); FILES_MAX + 1];
    let error = client
        .execute_with_fds("add-fd", Value::Null, &fds, late())
        .unwrap_err();
    assert!(
        matches!(error, Error::TooManyFiles { files: 17, .. }),
        "{error}"
    );
    client
        .execute_with_fds("add-fd", Value::Null, &fds[1..], late())
        .unwrap();
}
