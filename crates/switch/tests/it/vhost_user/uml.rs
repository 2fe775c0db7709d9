//! User-mode Linux, a kernel that is a program, as the guest and its front end: Linux's own driver, and its own vhost-user.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use hotbed_testing::{UserModeLinux, Vmm};

use super::listen;
use crate::namespace::{is_inside, run};
use crate::support::Lan;

/// What a guest does first.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done
until [ -e /sys/class/net/eth0 ]; do usleep 1000; done
"#;

/// What it does last: it stays, for others may have to do with it.
const END: &str = "\nwhile :; do sleep 1000; done\n";

/// Bytes that one guest sends to the other.
const BULK: &str = "seq 1 1000000";

/// What `md5sum` says of them.
const BULK_SUM: &str = "8a7095c1c23bfadc311fe6b16d950582";

/// A guest that does what the script says, or why there can be none.
fn start(lan: &Lan, name: &str, script: &str) -> Result<Vmm, String> {
    let folder = lan.path(&format!("{name}.uml"));
    std::fs::create_dir(&folder).unwrap();
    let guest = UserModeLinux {
        folder: &folder,
        name,
        modules: &[
            "net/core/failover",
            "drivers/net/net_failover",
            "drivers/net/virtio_net",
        ],
        init: &[INIT, script, END].concat(),
        programs: &[],
        device: &format!("{}:1", listen(lan, name).display()),
    };
    guest.start()
}

#[test]
fn user_mode_linux_pings_and_sends_through_the_switch() {
    let lan = Lan::start();
    let _watcher = lan.client("watcher");
    // A file goes from the file system to the card without a stop, in frames as long as may be.
    let server = format!(
        "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up\n\
         {BULK} >/tmp/bulk; httpd -p 80 -h /tmp; echo \"I am up\""
    );
    let client = "ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up\n\
         until ping -c 1 -W 1 10.0.0.1 >/dev/null; do :; done\n\
         echo \"I pinged $(ping -c 5 -i 0.1 10.0.0.1 | grep received)\"\n\
         echo \"I got $(wget -q -O - http://10.0.0.1/bulk | md5sum)\"";
    let server = match start(&lan, "server", &server) {
        Ok(server) => server,
        Err(why) => return println!("SKIPPED: no guest of User-mode Linux: {why}"),
    };
    server.wait_said("I am up").unwrap();
    let client = start(&lan, "client", client).unwrap();
    let pinged = client.wait_said("I pinged ").unwrap();
    assert!(
        pinged.starts_with("5 packets transmitted, 5 packets received"),
        "{pinged}"
    );
    let got = client.wait_said("I got ").unwrap();
    assert!(got.starts_with(BULK_SUM), "{got}");
    let counters = lan.counters("client");
    let mean = counters.bytes_out / counters.frames_out;
    assert!(mean > 1514, "frames went uncut: {counters:?}");
    assert_eq!(lan.switch.lost_ports(), []);
}

#[test]
fn user_mode_linux_and_the_host_s_kernel_send_through_the_switch() {
    const TEST: &str =
        "vhost_user::uml::user_mode_linux_and_the_host_s_kernel_send_through_the_switch";
    if !is_inside(TEST) {
        return;
    }
    let lan = Lan::start();
    lan.switch.add_tap("hb%d").unwrap();
    run("ip addr add 10.0.0.9/24 dev hb0 && ip link set hb0 up");
    let listener = TcpListener::bind("10.0.0.9:5001").unwrap();
    let script = format!(
        "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up\n\
         until ping -c 1 -W 1 10.0.0.9 >/dev/null; do :; done\n\
         {BULK} | nc 10.0.0.9 5001\n\
         echo \"I got $(nc 10.0.0.9 5001 </dev/null | md5sum)\""
    );
    let guest = match start(&lan, "guest", &script) {
        Ok(guest) => guest,
        Err(why) => return println!("SKIPPED: no guest of User-mode Linux: {why}"),
    };
    let bulk: Vec<u8> = (1..=1_000_000)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    let (mut stream, _) = listener.accept().unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == bulk, "{} bytes of {}", got.len(), bulk.len());
    drop(stream);
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&bulk).unwrap();
    drop(stream);
    let got = guest.wait_said("I got ").unwrap();
    assert!(got.starts_with(BULK_SUM), "{got}");
    let tap = lan.counters("hb0");
    assert!(
        tap.bytes_out / tap.frames_out <= 1514,
        "frames were cut: {tap:?}"
    );
    assert_eq!(lan.switch.lost_ports(), []);
}
