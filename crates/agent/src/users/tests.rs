//! Users in files.

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\n7:x:8:9::/seven:\nalice:x:1000:100::/home/alice:/bin/zsh\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:bob,alice\nusers:x:100:alice\nbad:x:-1:alice\n";

#[test]
fn a_user_is_found_by_name_with_its_groups() {
    let user = find_in("alice", PASSWD, GROUP).unwrap();
    assert_eq!(
        (user.home.as_str(), user.shell.as_str()),
        ("/home/alice", "/bin/zsh")
    );
    let groups: Vec<u32> = user
        .credentials
        .groups
        .iter()
        .map(|gid| gid.as_raw())
        .collect();
    assert_eq!(groups, [100, 10]);
}

#[test]
fn a_name_goes_before_a_number_and_a_number_needs_no_name() {
    assert_eq!(
        find_in("7", PASSWD, GROUP)
            .unwrap()
            .credentials
            .uid
            .as_raw(),
        8
    );
    assert_eq!(find_in("1000", PASSWD, GROUP).unwrap().name, "alice");
    assert_eq!(
        find_in("4242", PASSWD, GROUP)
            .unwrap()
            .credentials
            .uid
            .as_raw(),
        4242
    );
}

#[test]
fn nobody_is_an_error() {
    assert_eq!(
        find_in("mallory", PASSWD, GROUP).unwrap_err().kind,
        FailureKind::NotFound
    );
    assert_eq!(
        find_in("4294967295", PASSWD, GROUP).unwrap_err().kind,
        FailureKind::Invalid
    );
}
