use super::*;

const A: PortId = PortId {
    generation: 0,
    number: 1,
};

fn delayed(seed: u64) -> Impairment {
    Impairment {
        seed,
        ..Impairment::default()
    }
}

#[test]
fn the_last_impairment_of_a_way_counts_and_the_one_before_is_given_back() {
    let mut rules = Rules::default();
    let way = Way::between("a", "b");
    assert_eq!(rules.impair(way.clone(), Some(delayed(1))), Ok(None));
    let before = rules.impair(way.clone(), Some(delayed(2)));
    assert_eq!(before, Ok(Some(delayed(1))));
    assert_eq!(rules.impairments().len(), 1);
    assert_ne!(rules.impairments()[0].number, 1);
    assert_eq!(rules.impair(way.reversed(), None), Ok(None));
    assert_eq!(rules.impair(way, None), Ok(Some(delayed(2))));
    assert!(rules.is_empty());
}

#[test]
fn there_is_a_bound_to_rules() {
    let mut rules = Rules::default();
    for number in 0..RULES_MAX {
        let end = End::Named(number.to_string());
        assert_eq!(rules.impair(Way::From(end), Some(delayed(1))), Ok(None));
    }
    assert_eq!(rules.impair(Way::Every, Some(delayed(1))), Err(TooMany));
    let again = Way::From(End::from("7"));
    assert!(rules.impair(again, Some(delayed(2))).is_ok());
}

#[test]
fn a_port_has_the_settings_of_its_number_else_of_its_name() {
    let mut rules = Rules::default();
    let mtu = |mtu| PortSettings {
        mtu,
        ..PortSettings::default()
    };
    rules.set_port(End::from("a"), Some(mtu(1500))).unwrap();
    rules.set_port(End::Port(A), Some(mtu(9000))).unwrap();
    assert_eq!(rules.settings_of(A, "a"), mtu(9000));
    assert_eq!(rules.settings_of(A.next(), "a"), mtu(1500));
    assert_eq!(rules.settings_of(A.next(), "b"), PortSettings::default());
    rules.handle_port_gone(A);
    assert_eq!(rules.settings_of(A, "a"), mtu(1500));
}

#[test]
fn a_port_that_is_in_no_group_is_in_the_rest() {
    let mut rules = Rules::default();
    assert_eq!(rules.group_of(A, "a"), 0);
    let groups = vec![vec![End::from("a")], vec![End::from("b"), End::from("a")]];
    assert_eq!(rules.partition(Some(groups.clone())), None);
    assert!(rules.is_partitioned());
    let of = |name| rules.group_of(A, name);
    assert_eq!((of("a"), of("b"), of("c")), (1, 2, 0));
    assert_eq!(rules.partition(None), Some(groups));
}

#[test]
fn ways_print_as_people_say_them() {
    let way = Way::between("a", "b");
    assert_eq!(way.reversed().to_string(), "from `b` to `a`");
    assert_eq!(Way::From(End::Port(A)).to_string(), "from port 1");
    assert_eq!(
        Way::To(End::from("a")).reversed(),
        Way::From(End::from("a"))
    );
}
