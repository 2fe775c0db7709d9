use super::*;

#[test]
fn every_message_is_understood_or_refused() {
    let mut understood = 0;
    for event in 0..=u16::MAX {
        for value in [0, 1, 2, 0x100, 0xffff_u16] {
            let mut bytes = [7, 6, 5, 4, 0, 0, 0, 0];
            bytes[4..6].copy_from_slice(&event.to_le_bytes());
            bytes[6..].copy_from_slice(&value.to_le_bytes());
            match FromDriver::parse(&bytes) {
                Ok(message) => {
                    assert!(matches!(event, 0 | 3 | 6) && value < 2, "{message:?}");
                    understood += 1;
                    if event > 0 {
                        assert_eq!(message.encode(), bytes);
                    }
                }
                Err(BadMessage::Value { .. }) => assert!(value > 1),
                Err(_) => assert!(!matches!(event, 0 | 3 | 6)),
            }
        }
    }
    assert_eq!(understood, 6);
}

#[test]
fn message_may_be_longer_but_not_shorter() {
    let bytes = [&FromDriver::PortOpen(1, true).encode()[..], b"more"].concat();
    for len in 0..bytes.len() {
        let parsed = FromDriver::parse(&bytes[..len]);
        match len < CONTROL_LEN {
            true => assert_eq!(parsed, Err(BadMessage::Short(len))),
            false => assert_eq!(parsed, Ok(FromDriver::PortOpen(1, true))),
        }
    }
}

#[test]
fn messages_of_the_device_are_the_bytes_of_the_standard() {
    let mut bytes = [0xff; MESSAGE_MAX];
    let mut encoded = |message: FromDevice<'_>| {
        let len = message.encode(&mut bytes);
        bytes[..len].to_vec()
    };
    assert_eq!(
        encoded(FromDevice::PortAdd(0x0102)),
        [2, 1, 0, 0, 1, 0, 1, 0]
    );
    assert_eq!(
        encoded(FromDevice::PortOpen(3, false)),
        [3, 0, 0, 0, 6, 0, 0, 0]
    );
    assert_eq!(
        encoded(FromDevice::PortName(1, "ab")),
        [1, 0, 0, 0, 7, 0, 1, 0, b'a', b'b']
    );
    let long = "n".repeat(PORT_NAME_MAX + 1);
    assert_eq!(encoded(FromDevice::PortName(1, &long)).len(), MESSAGE_MAX);
}
