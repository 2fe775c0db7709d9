//! All processes that a command has started, and how they end: also those that left its process group or its session.
//!
//! Where there is a cgroup (version 2) file system, each command with a process of its own gets a group, and the kernel ends all in it at
//! once. Elsewhere, and where a group cannot be made, its process takes in the orphans below it (`PR_SET_CHILD_SUBREAPER`), as we take in what it leaves when it ends: so
//! all are found in `/proc`, wherever they went.

use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// How often the processes are looked for anew, until none is left.
const PASSES_MAX: usize = 64;

/// Which groups there are to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those that the guest has.
    #[default]
    Yes,
    /// The same, and where nothing is mounted, we do so.
    Mounted,
    /// None.
    No,
}

/// Where groups are made, if they can be.
#[derive(Debug)]
pub(crate) struct Groups {
    wanted: Wanted,
    /// None until it was looked for.
    base: Option<Option<PathBuf>>,
    next: u64,
    /// Groups in which something still runs, whose command has ended.
    left: Vec<PathBuf>,
}

/// The group of one command, and the list of what is in it.
#[derive(Debug, Default)]
pub(crate) struct Group(Option<(PathBuf, File)>);

impl Group {
    /// None at all.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Groups {
    /// Groups that are not looked for yet: the kernel's first ones take it a while.
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            base: None,
            next: 1,
            left: Vec::new(),
        }
    }

    /// Finds out where groups can be made, unless that is known.
    pub(crate) fn find(&mut self) -> Option<&Path> {
        let wanted = self.wanted;
        let base = self.base.get_or_insert_with(|| match wanted {
            Wanted::No => None,
            Wanted::Yes => find_base(),
            Wanted::Mounted => {
                mount();
                find_base()
            }
        });
        base.as_deref()
    }

    /// Makes a group, and opens the file by which a process joins.
    pub(crate) fn make(&mut self) -> (Group, Option<File>) {
        self.left.retain(|path| std::fs::remove_dir(path).is_err());
        let name = format!("hotbed-{}-{}", std::process::id(), self.next);
        let Some(base) = self.find() else {
            return (Group(None), None);
        };
        let path = base.join(name);
        self.next += 1;
        let opened = std::fs::create_dir(&path).and_then(|()| {
            let procs = path.join("cgroup.procs");
            Ok((
                File::open(&procs)?,
                File::options().write(true).open(procs)?,
            ))
        });
        match opened {
            Ok((list, joined)) => (Group(Some((path, list))), Some(joined)),
            Err(_) => (Group(None), None),
        }
    }

    /// Forgets a group whose command has ended. What still runs there goes on.
    pub(crate) fn release(&mut self, group: Group) {
        if let Some((path, _)) = group.0
            && std::fs::remove_dir(&path).is_err()
        {
            self.left.push(path);
        }
    }
}

/// Where the cgroup file system of version 2 goes.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Mounts the cgroup file system where nothing is.
fn mount() {
    if Path::new(CGROUPS).is_dir() && !Path::new(CGROUPS).join("cgroup.procs").exists() {
        let flags = rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC;
        let data = None::<&std::ffi::CStr>;
        let _ = rustix::mount::mount("cgroup2", CGROUPS, "cgroup2", flags, data);
    }
}

/// Finds the folder of our own group, if the kernel can end groups.
fn find_base() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let root = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let is_wanted = kind.starts_with("cgroup2 ");
        is_wanted.then(|| fields.split(' ').nth(4)).flatten()
    })?;
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let base = Path::new(root).join(path);
    // The group at the top has no such file, but its children have.
    let probe = base.join(format!("hotbed-{}", std::process::id()));
    std::fs::create_dir(&probe).ok()?;
    let can_kill = probe.join("cgroup.kill").exists();
    let _ = std::fs::remove_dir(&probe);
    can_kill.then_some(base)
}

/// What is known of a command's processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) group: &'a Group,
    /// The process at the root, if it is there. Without a group, orphans below it become its children.
    pub(crate) root: Option<Pid>,
    /// Without a group: what the root has left, when it has ended.
    pub(crate) orphans: &'a [Pid],
    /// Not to be touched: the shell that waits for the command.
    pub(crate) spare: Option<Pid>,
}

impl Tree<'_> {
    /// Ends all processes, also one that is to be spared otherwise.
    pub(crate) fn kill(&self) {
        if let Some((path, _)) = &self.group.0
            && std::fs::write(path.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        kill_below(&self.roots(), None);
    }

    /// Sends a signal to all processes.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.all() {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Whether the spared process has children. All that is left is below it: orphans become its children.
    pub(crate) fn has_left(&self) -> bool {
        self.spare.is_some_and(|spare| !children(spare).is_empty())
    }

    /// Whether a process that is left still holds one of these pipes.
    pub(crate) fn holds_pipe(&self, pipes: &[u64]) -> bool {
        self.all().iter().any(|pid| holds(pid.as_raw_pid(), pipes))
    }

    fn roots(&self) -> Vec<Pid> {
        self.root
            .into_iter()
            .chain(self.orphans.iter().copied())
            .collect()
    }

    fn all(&self) -> Vec<Pid> {
        let mut all = match &self.group.0 {
            Some((_, list)) => members(list),
            None => {
                let roots = self.roots();
                let mut all = below(&roots, None);
                all.extend(roots);
                all
            }
        };
        all.retain(|pid| Some(*pid) != self.spare);
        all
    }
}

/// Ends these processes and all below them, but not `spare` and what is below that.
///
/// Each of them takes in the orphans below it, or is ourselves, who do. So they go last, and stand still until then: whatever is started
/// meanwhile is found in the next pass, and what was killed starts nothing.
pub(crate) fn kill_below(roots: &[Pid], spare: Option<Pid>) {
    let own = rustix::process::getpid();
    let others = || roots.iter().filter(|root| **root != own);
    for root in others() {
        let _ = rustix::process::kill_process(*root, Signal::STOP);
    }
    let mut killed = BTreeSet::new();
    for _ in 0..PASSES_MAX {
        let mut is_new = false;
        for pid in below(roots, spare) {
            if killed.insert(pid.as_raw_pid()) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                is_new = true;
            }
        }
        if !is_new {
            break;
        }
    }
    for root in others() {
        let _ = rustix::process::kill_process(*root, Signal::KILL);
    }
}

/// The processes of a group.
fn members(list: &File) -> Vec<Pid> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(len) = list.read_at(&mut piece, bytes.len() as u64)
        && len > 0
    {
        bytes.extend_from_slice(&piece[..len]);
    }
    let text = String::from_utf8_lossy(&bytes);
    let pids = text.lines().filter_map(|line| line.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// The processes below these, but for `spare` and what is below that.
fn below(roots: &[Pid], spare: Option<Pid>) -> Vec<Pid> {
    let table = processes();
    let mut known: BTreeSet<i32> = roots.iter().map(|pid| pid.as_raw_pid()).collect();
    let spare = spare.map(|pid| pid.as_raw_pid());
    let mut found = Vec::new();
    let mut before = 0;
    while before < known.len() {
        before = known.len();
        for process in &table {
            if known.contains(&process.parent)
                && Some(process.pid) != spare
                && known.insert(process.pid)
            {
                found.push(process.pid);
            }
        }
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}

/// The children of a process that are not dead.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let raw = pid.as_raw_pid();
    let list = std::fs::read_to_string(format!("/proc/{raw}/task/{raw}/children"));
    let all: Vec<i32> = match list {
        Ok(list) => {
            let pids = list.split_ascii_whitespace();
            pids.filter_map(|pid| pid.parse().ok()).collect()
        }
        // The kernel was built without that.
        Err(_) => {
            let table = processes();
            let children = table.iter().filter(|process| process.parent == raw);
            children.map(|process| process.pid).collect()
        }
    };
    all.into_iter()
        .filter(|pid| process(*pid).is_some())
        .filter_map(Pid::from_raw)
        .collect()
}

/// The session of a process.
pub(crate) fn session(pid: Pid) -> Option<Pid> {
    process(pid.as_raw_pid()).and_then(|process| Pid::from_raw(process.session))
}

struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// All processes that are not dead.
fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process {
        pid,
        parent,
        session,
    })
}

/// Whether a process has one of these pipes open.
fn holds(pid: i32, pipes: &[u64]) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.any(|link| {
        let inode = link
            .to_str()
            .and_then(|link| link.strip_prefix("pipe:["))
            .and_then(|link| link.strip_suffix(']'))
            .and_then(|number| number.parse().ok());
        inode.is_some_and(|inode: u64| pipes.contains(&inode))
    })
}

/// Writes to the log that something of our own does not work.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "hotbed-agent: {message}");
}
