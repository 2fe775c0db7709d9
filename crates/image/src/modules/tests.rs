//! A kernel of four modules: net needs failover and ring, failover needs ring, ring needs bus (or has it built in).

use super::*;

fn kernel(name: &str) -> Result<Option<Vec<u8>>, String> {
    let needs = match name {
        "net" => "failover,ring",
        "failover" | "blk" => "ring",
        "ring" => "bus-core",
        "bus_core" | "alone" => "",
        "loop_a" => "loop_b",
        "loop_b" => "loop_a",
        "bad" => "absent",
        _ => return Ok(None),
    };
    Ok(Some(
        format!("\x7fELF\0license=GPL\0depends={needs}\0name={name}\0").into_bytes(),
    ))
}

fn order(wanted: &[&str], built_in: &[&str]) -> Result<Vec<String>, String> {
    let built_in = built_in.iter().map(|&name| name.to_owned()).collect();
    let modules = resolve(wanted, &built_in, &mut kernel)?;
    Ok(modules.into_iter().map(|module| module.name).collect())
}

#[test]
fn what_a_module_needs_comes_before_it_and_once() {
    assert_eq!(
        order(&["net", "blk"], &[]).unwrap(),
        ["bus_core", "ring", "failover", "net", "blk"]
    );
}

#[test]
fn what_is_built_in_needs_no_file_and_what_is_missing_is_named() {
    assert_eq!(
        order(&["alone", "console"], &["console"]).unwrap(),
        ["alone"]
    );
    assert_eq!(
        order(&["console"], &[]).unwrap_err(),
        "the kernel has no module console"
    );
    assert_eq!(
        order(&["bad"], &[]).unwrap_err(),
        "the kernel has no module absent"
    );
}

#[test]
fn a_circle_is_an_error_and_not_an_endless_loop() {
    assert!(
        order(&["loop_a"], &[])
            .unwrap_err()
            .contains("needs itself")
    );
}

#[test]
fn the_dep_file_lists_what_is_loaded_first_last() {
    let modules = resolve(&["net"], &BTreeSet::new(), &mut kernel).unwrap();
    let expected = "bus_core.ko:\nring.ko: bus_core.ko\nfailover.ko: ring.ko bus_core.ko\n\
        net.ko: failover.ko ring.ko bus_core.ko\n";
    assert_eq!(dep_file(&modules), expected);
}

#[test]
fn file_names_of_every_distribution_give_the_same_module() {
    for file in ["virtio-rng.ko", "virtio-rng.ko.xz", "virtio_rng.ko.zst"] {
        assert_eq!(canonical(file), "virtio_rng");
    }
}
