use super::{Picture, SCALE, Variant};

/// Two pixels side by side, dark grey and light grey.
const PPM: &[u8] = b"P6\n2 1\n255\n\x20\x20\x20\xa0\xa0\xa0";

fn greys(picture: &Picture) -> Vec<u8> {
    picture.0.to_luma8().into_raw()
}

#[test]
fn a_picture_survives_as_png() {
    let picture = Picture::from_ppm(PPM).unwrap();
    let png = picture.to_png().unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n"));
    assert_eq!(image::load_from_memory(&png).unwrap(), picture.0);
}

#[test]
fn variants_are_larger_and_go_from_black_to_white() {
    let picture = Picture::from_ppm(PPM).unwrap();
    assert_eq!(picture.variant(Variant::Raw), picture);
    let (positive, negative) = (
        picture.variant(Variant::Positive),
        picture.variant(Variant::Negative),
    );
    let (positive, negative) = (greys(&positive), greys(&negative));
    assert_eq!(positive.len(), 2 * usize::try_from(SCALE * SCALE).unwrap());
    assert_eq!((positive[0], positive[5]), (0, 255));
    assert_eq!(
        negative,
        positive.iter().map(|grey| 255 - grey).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_no_picture_is_refused() {
    for bytes in [
        &b""[..],
        b"P6",
        b"P6\n2 2\n255\nshort",
        b"P6\n99999 99999\n255\n",
        b"\x89PNG\r\n",
    ] {
        assert!(Picture::from_ppm(bytes).is_err(), "{bytes:?}");
    }
}
