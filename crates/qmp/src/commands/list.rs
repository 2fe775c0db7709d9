//! The commands themselves, in the order of what they are about.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ChardevAdded, ChardevInfo, Command, CommandInfo, CpuInfo, Empty, FdSet, KvmInfo, MemorySize,
    MigrationCapabilityInfo, MigrationInfo, NameInfo, ObjectProperty, ObjectType, StatusInfo,
};
use crate::schema::Schema;
use crate::wire::Version;

/// Makes a type for each command: `Type = "name" -> Answer { required } [ optional ] rest`.
///
/// A field is `name: type = "name of the argument"`. `rest` is a map of further arguments, which depend on the
/// driver or type that the command names. [`ARGUMENTS`] lists what was made, so that a test can hold all of it
/// against QEMU's schema.
macro_rules! commands {
    ($(
        $(#[$about:meta])*
        $name:ident $(<$life:lifetime>)? = $wire:literal -> $answer:ty {
            $( $(#[$field_about:meta])* $field:ident: $type:ty = $argument:literal, )*
        } $([
            $( $(#[$option_about:meta])* $option:ident: $option_type:ty = $option_argument:literal, )*
        ])? $(+ $rest:ident)? ;
    )*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Default, PartialEq, Serialize)]
            pub struct $name $(<$life>)? {
                $( $(#[$field_about])* #[serde(rename = $argument)] pub $field: $type, )*
                $( $(
                    $(#[$option_about])*
                    #[serde(rename = $option_argument, skip_serializing_if = "Option::is_none")]
                    pub $option: Option<$option_type>,
                )* )?
                $(
                    /// Further arguments, by name.
                    #[serde(flatten)]
                    pub $rest: Map<String, Value>,
                )?
            }

            impl $(<$life>)? Command for $name $(<$life>)? {
                const NAME: &'static str = $wire;
                type Answer = $answer;
            }
        )*

        /// Each command that has a type here, with the names of the arguments that it always sends, and of those
        /// that it may send.
        pub const ARGUMENTS: &[(&str, &[&str], &[&str])] = &[
            $( ($wire, &[$($argument),*], &[$($($option_argument),*)?]), )*
            ("getfd", &["fdname"], &[]),
            ("add-fd", &[], &["fdset-id", "opaque"]),
        ];
    };
}

commands! {
    // The machine.

    /// Ends QEMU, whatever the guest is doing.
    Quit = "quit" -> Empty {};
    /// Presses the guest's power button; the guest may take its time, or not react.
    SystemPowerdown = "system_powerdown" -> Empty {};
    /// Resets the guest as its reset button would.
    SystemReset = "system_reset" -> Empty {};
    /// Wakes a suspended guest.
    SystemWakeup = "system_wakeup" -> Empty {};
    /// Stops the guest's processors.
    Stop = "stop" -> Empty {};
    /// Lets the guest's processors run.
    Cont = "cont" -> Empty {};
    /// Sends a non-maskable interrupt, which makes many guests print where they are.
    InjectNmi = "inject-nmi" -> Empty {};
    /// Says what QEMU does when the guest reboots, shuts down, panics, or its watchdog fires.
    SetAction<'a> = "set-action" -> Empty {} [
        /// `reset` or `shutdown`.
        reboot: &'a str = "reboot",
        /// `poweroff` or `pause`.
        shutdown: &'a str = "shutdown",
        /// `none`, `pause`, `shutdown` or `exit-failure`.
        panic: &'a str = "panic",
        /// `reset`, `shutdown`, `poweroff`, `pause`, `debug`, `none` or `inject-nmi`.
        watchdog: &'a str = "watchdog",
    ];
    /// Asks whether the guest runs.
    QueryStatus = "query-status" -> StatusInfo {};
    /// Asks which QEMU this is.
    QueryVersion = "query-version" -> Version {};
    /// Asks for the guest's name.
    QueryName = "query-name" -> NameInfo {};
    /// Asks whether KVM runs the guest.
    QueryKvm = "query-kvm" -> KvmInfo {};
    /// Asks for the guest's processors, and the host's threads that run them.
    QueryCpus = "query-cpus-fast" -> Vec<CpuInfo> {};
    /// Asks how much memory the guest has.
    QueryMemorySize = "query-memory-size-summary" -> MemorySize {};
    /// Asks for the names of the commands that this QEMU knows.
    QueryCommands = "query-commands" -> Vec<CommandInfo> {};
    /// Asks for all that this QEMU can be told, and can tell.
    QuerySchema = "query-qmp-schema" -> Schema {};
    /// Runs a command of the human monitor, and gives what it prints.
    HumanMonitorCommand<'a> = "human-monitor-command" -> String {
        /// The command with its arguments.
        command_line: &'a str = "command-line",
    } [
        /// The processor that it is about.
        cpu_index: i64 = "cpu-index",
    ];

    // Screen and keyboard.

    /// Writes a picture of the screen to a file of the host.
    Screendump<'a> = "screendump" -> Empty {
        /// Where to write it, as QEMU sees the file system.
        filename: &'a str = "filename",
    } [
        /// The display device, if there are several.
        device: &'a str = "device",
        /// The head of the device, if it has several.
        head: i64 = "head",
        /// `ppm`, or `png` where QEMU was built with it.
        format: &'a str = "format",
    ];
    /// Presses keys together, and lets them go.
    SendKey = "send-key" -> Empty {
        /// The keys.
        keys: Vec<Key> = "keys",
    } [
        /// For how many milliseconds to hold them; 100 when not said.
        hold_time: i64 = "hold-time",
    ];

    // Devices and back ends.

    /// Plugs a network device's cable in, or pulls it.
    SetLink<'a> = "set_link" -> Empty {
        /// The network device, or the network back end.
        name: &'a str = "name",
        /// Whether the cable is in.
        up: bool = "up",
    };
    /// Plugs a device in.
    DeviceAdd<'a> = "device_add" -> Empty {
        /// The device's type.
        driver: &'a str = "driver",
    } [
        /// A name for it.
        id: &'a str = "id",
        /// Where to plug it in.
        bus: &'a str = "bus",
    ] + properties;
    /// Asks the guest to let go of a device; event `DEVICE_DELETED` says that it did.
    DeviceDel<'a> = "device_del" -> Empty {
        /// The device's name, or its path.
        id: &'a str = "id",
    };
    /// Makes an object: memory, a secret, an I/O thread, ….
    ObjectAdd<'a> = "object-add" -> Empty {
        /// The object's type.
        qom_type: &'a str = "qom-type",
        /// A name for it.
        id: &'a str = "id",
    } + properties;
    /// Removes an object.
    ObjectDel<'a> = "object-del" -> Empty {
        /// The object's name.
        id: &'a str = "id",
    };
    /// Makes a network back end.
    NetdevAdd<'a> = "netdev_add" -> Empty {
        /// Its type: `stream`, `dgram`, `user`, ….
        kind: &'a str = "type",
        /// A name for it.
        id: &'a str = "id",
    } + properties;
    /// Removes a network back end.
    NetdevDel<'a> = "netdev_del" -> Empty {
        /// Its name.
        id: &'a str = "id",
    };
    /// Makes a character device.
    ChardevAdd<'a> = "chardev-add" -> ChardevAdded {
        /// A name for it.
        id: &'a str = "id",
        /// What it is: `{"type": …, "data": {…}}`.
        backend: Value = "backend",
    };
    /// Removes a character device.
    ChardevRemove<'a> = "chardev-remove" -> Empty {
        /// Its name.
        id: &'a str = "id",
    };
    /// Asks for the character devices.
    QueryChardev = "query-chardev" -> Vec<ChardevInfo> {};

    // Files that QEMU was given; `GetFd` and `AddFd` give them.

    /// Closes a file that QEMU was given by name.
    CloseFd<'a> = "closefd" -> Empty {
        /// The name.
        fdname: &'a str = "fdname",
    };
    /// Takes a file, or all files, from a set.
    RemoveFd = "remove-fd" -> Empty {
        /// The set.
        fdset_id: i64 = "fdset-id",
    } [
        /// QEMU's own descriptor of the one to take.
        fd: i64 = "fd",
    ];
    /// Asks for the sets of files.
    QueryFdSets = "query-fdsets" -> Vec<FdSet> {};

    // Migration: how a machine is saved and restored.

    /// Starts to send the guest away. The answer comes at once; event `MIGRATION` (if the capability `events`
    /// is on) and [`QueryMigrate`] say how it goes.
    Migrate<'a> = "migrate" -> Empty {
        /// Where to: `exec:…`, `fd:…`, `unix:…`, and `file:…` from QEMU 8.2.
        uri: &'a str = "uri",
    } [
        /// Whether to go on with a postcopy migration that was paused.
        resume: bool = "resume",
    ];
    /// Starts to receive a guest, in a QEMU that was started with `-incoming defer`.
    MigrateIncoming<'a> = "migrate-incoming" -> Empty {
        /// Where from.
        uri: &'a str = "uri",
    };
    /// Gives up a migration that is under way.
    MigrateCancel = "migrate_cancel" -> Empty {};
    /// Lets a migration go on that stopped in `state`.
    MigrateContinue<'a> = "migrate-continue" -> Empty {
        /// The state it stopped in, such as `pre-switchover`.
        state: &'a str = "state",
    };
    /// Switches abilities of the migration on or off.
    MigrateSetCapabilities<'a> = "migrate-set-capabilities" -> Empty {
        /// Which, and how.
        capabilities: Vec<MigrationCapability<'a>> = "capabilities",
    };
    /// Asks which abilities of the migration are on.
    QueryMigrateCapabilities = "query-migrate-capabilities" -> Vec<MigrationCapabilityInfo> {};
    /// Sets limits of the migration.
    MigrateSetParameters = "migrate-set-parameters" -> Empty {} [
        /// Bytes a second at most; 0 is no limit.
        max_bandwidth: u64 = "max-bandwidth",
        /// For how many milliseconds the guest may stand still.
        downtime_limit: u64 = "downtime-limit",
        /// How many channels `multifd` uses.
        multifd_channels: u64 = "multifd-channels",
    ] + parameters;
    /// Asks for the limits of the migration.
    QueryMigrateParameters = "query-migrate-parameters" -> Map<String, Value> {};
    /// Asks how far the migration is.
    QueryMigrate = "query-migrate" -> MigrationInfo {};

    // QEMU's object tree.

    /// Asks for the types of objects that this QEMU can make.
    QomListTypes<'a> = "qom-list-types" -> Vec<ObjectType> {} [
        /// Only types that are a kind of this one.
        implements: &'a str = "implements",
        /// Whether to list types that only serve as parents, too.
        is_abstract: bool = "abstract",
    ];
    /// Asks for the properties of an object.
    QomList<'a> = "qom-list" -> Vec<ObjectProperty> {
        /// The object's path, such as `/machine`.
        path: &'a str = "path",
    };
    /// Asks for one property of an object.
    QomGet<'a> = "qom-get" -> Value {
        /// The object's path.
        path: &'a str = "path",
        /// The property's name.
        property: &'a str = "property",
    };
    /// Sets one property of an object.
    QomSet<'a> = "qom-set" -> Empty {
        /// The object's path.
        path: &'a str = "path",
        /// The property's name.
        property: &'a str = "property",
        /// What it shall hold.
        value: Value = "value",
    };
    /// Asks which properties a type of device has: whether this QEMU knows an option.
    DeviceListProperties<'a> = "device-list-properties" -> Vec<ObjectProperty> {
        /// The device's type.
        typename: &'a str = "typename",
    };
}

/// A key of the guest's keyboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "lowercase")]
pub enum Key {
    /// By QEMU's name for it, such as `ctrl` or `ret`.
    Qcode(String),
    /// By its scan code.
    Number(i64),
}

/// An ability of the migration, to be switched on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MigrationCapability<'a> {
    /// QEMU's name for it, such as `x-ignore-shared`.
    pub capability: &'a str,
    /// Whether it shall be on.
    pub state: bool,
}
