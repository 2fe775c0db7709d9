//! Users, from `/etc/passwd` and `/etc/group`: a static program has no name service.

use crate::failure::Failure;
use crate::sys::Credentials;
use hotbed_console::agent::wire::FailureKind;
use rustix::process::{Gid, Uid};

#[cfg(test)]
mod tests;

/// The most groups that a user is in.
const GROUPS_MAX: usize = 1024;

/// A user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) home: String,
    pub(crate) shell: String,
    pub(crate) credentials: Credentials,
}

/// Finds a user by name or number.
pub(crate) fn find(wanted: &str) -> Result<User, Failure> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group").unwrap_or_default();
    find_in(wanted, &passwd, &group)
}

fn read(path: &str) -> Result<String, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::os(format_args!("cannot read {path}"), error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn find_in(wanted: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let number: Option<u32> = wanted.parse().ok();
    let mut found = None;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, uid, gid, _, home, shell] = fields.as_slice() else {
            continue;
        };
        let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>()) else {
            continue;
        };
        if name == wanted || (number == Some(uid) && found.is_none()) {
            found = Some((name, uid, gid, home, shell));
            if name == wanted {
                break;
            }
        }
    }
    // A number need not have a name.
    let unnamed = number.map(|number| (wanted, number, number, "/", "/bin/sh"));
    let Some((name, uid, gid, home, shell)) = found.or(unnamed) else {
        let message = format!("there is no user {wanted}");
        return Err(Failure::new(FailureKind::NotFound, message));
    };
    let mut groups = vec![gid];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let &[_, _, gid, members] = fields.as_slice() else {
            continue;
        };
        if let Ok(gid) = gid.parse()
            && members.split(',').any(|member| member == name)
            && !groups.contains(&gid)
        {
            groups.push(gid);
        }
    }
    groups.truncate(GROUPS_MAX);
    // All ones means "leave it as it is" to the kernel.
    if uid == u32::MAX || groups.contains(&u32::MAX) {
        let message = format!("there is no user {wanted}");
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    Ok(User {
        name: name.to_owned(),
        home: home.to_owned(),
        shell: if shell.is_empty() { "/bin/sh" } else { shell }.to_owned(),
        credentials: Credentials {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        },
    })
}
