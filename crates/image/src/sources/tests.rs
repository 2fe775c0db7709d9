//! Sources as Debian 12, its cloud images, Debian 13 and Ubuntu 24.04 have them.

use super::*;

fn lines(sources: &[Source]) -> Vec<String> {
    sources.iter().map(Source::line).collect()
}

#[test]
fn one_line_sources_keep_their_keyring_and_lose_comments_and_sources_of_source() {
    let text = "# deb http://old/debian bookworm main\n\
        deb [arch=amd64 signed-by=/usr/share/keyrings/m.gpg] http://mirror/debian bookworm main contrib # ours\n\
        deb-src http://mirror/debian bookworm main\n\
        deb http://mirror/debian\n";
    let expected =
        ["deb [signed-by=/usr/share/keyrings/m.gpg] http://mirror/debian bookworm main contrib"];
    assert_eq!(lines(&parse_list(text)), expected);
}

#[test]
fn a_paragraph_is_a_source_for_each_address_and_suite() {
    let text = "Types: deb deb-src\n# http://snapshot\nURIs: http://deb.debian.org/debian\n\
        Suites: trixie trixie-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\
        \nEnabled: no\nTypes: deb\nURIs: http://off\nSuites: trixie\nComponents: main\n";
    let expected = [
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie-updates main",
    ];
    assert_eq!(lines(&parse_paragraphs(text)), expected);
}

#[test]
fn a_key_written_into_a_paragraph_is_not_taken_for_a_path() {
    let text = "Types: deb\nURIs: http://m/debian\nSuites: trixie\nComponents: main\nSigned-By:\n \
        -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n";
    assert_eq!(
        lines(&parse_paragraphs(text)),
        ["deb http://m/debian trixie main"]
    );
}

#[test]
fn other_vendors_and_other_releases_are_left_out() {
    let text = "deb http://deb.debian.org/debian/ bookworm main non-free\n\
        deb http://deb.debian.org/debian/ bookworm-backports main\n\
        deb mirror+file:/etc/apt/mirrors/debian-security.list bookworm-security main\n\
        deb https://download.docker.com/linux/debian bookworm stable\n\
        deb https://apt.releases.hashicorp.com bookworm main\n\
        deb http://deb.debian.org/debian trixie main\n";
    let expected = [
        "deb http://deb.debian.org/debian/ bookworm main",
        "deb mirror+file:/etc/apt/mirrors/debian-security.list bookworm-security main",
    ];
    assert_eq!(
        lines(&of_release(parse_list(text), "debian", "bookworm")),
        expected
    );
}
