use super::*;

fn line(script: &str, timeout: Option<Duration>, repeat: Option<Repeat>) -> String {
    let command = Command {
        script,
        timeout,
        repeat,
    };
    command.line(7).unwrap()
}

#[test]
fn plain_script_runs_in_a_fork() {
    for script in [
        "true",
        "systemctl is-active nginx",
        "awk '{print $1}' /etc/passwd",
        "find ./x -name x.y",
        "a=$(uname); ls /usr/local/bin",
        "[ -e /proc/1 ] && kill $!",
    ] {
        assert_eq!(Place::of(script), Place::Fork, "{script}");
    }
}

#[test]
fn script_that_could_tell_has_a_bash_of_its_own() {
    for script in [
        "kill -9 $$",
        "echo ${$}",
        "eval \"kill \\$\\$\"",
        "source /root/x",
        ". /root/x",
        "true;. /root/x",
        "(. /root/x)",
        "true\n. /root/x",
        "true &&\t.\t/root/x",
        "echo $BASHPID $LINENO",
        "return 3",
        "declare -p",
        "echo $_hb_i",
    ] {
        assert_eq!(Place::of(script), Place::Bash, "{script}");
    }
}

#[test]
fn script_that_may_outlive_its_output_is_watched() {
    assert_eq!(Place::of("exec >/dev/null; sleep 1000"), Place::Escaping);
    let long = format!("# $$\n{}", "x".repeat(ARGUMENT_MAX));
    assert_eq!(
        Place::of(&long),
        Place::Escaping,
        "it is too long for an argument"
    );
}

#[test]
fn line_says_all_that_the_guest_needs() {
    assert_eq!(line("true", None, None), "_hb 7 f 'true'\n");
    assert_eq!(
        line("echo it's\n'", None, None),
        "_hb 7 f 'echo it'\\''s\n'\\'''\n"
    );
    assert_eq!(
        line("true", Some(Duration::from_secs(900)), None),
        "_hb 7 f 'true' 90000\n"
    );
    let repeat = Some(Repeat {
        until: Until::Failure,
        interval: Duration::from_millis(25),
        within: Duration::from_secs(2),
    });
    assert_eq!(line("$$", None, repeat), "_hb 7 x '$$' '' 1 3 200 100\n");
    assert_eq!(
        line("exec", Some(Duration::from_secs(1)), repeat),
        "_hb 7 e 'exec' 100 1 3 200 100\n"
    );
}

#[test]
fn time_is_rounded_up_and_never_nothing_or_forever() {
    assert_eq!(hundredths(Duration::ZERO), 1);
    assert_eq!(hundredths(Duration::from_nanos(1)), 1);
    assert_eq!(hundredths(Duration::from_micros(10_001)), 2);
    assert_eq!(hundredths(Duration::MAX), 365 * 24 * 3600 * 100);
}

#[test]
fn script_that_no_shell_could_hold_is_refused() {
    assert!(matches!(Command::new("\0").line(1), Err(Error::Nul)));
    assert!(matches!(put_line(1, "a\0", 0), Err(Error::Nul)));
    let long = "x".repeat(SCRIPT_MAX + 1);
    assert!(
        matches!(Command::new(&long).line(1), Err(Error::TooLong(len)) if len == SCRIPT_MAX + 1)
    );
}

#[test]
fn prelude_is_one_quoted_word_between_short_lines() {
    let prelude = prelude("name");
    let parts: Vec<&str> = prelude.split('\'').collect();
    assert_eq!(parts.len(), 3, "a single quote is inside");
    assert!(parts[0].ends_with("_hb_i=name\neval "));
    assert!(
        !parts[1].contains("\n#") && !parts[1].contains("\n "),
        "comments cost time"
    );
    assert!(
        prelude.len() < 6000,
        "{} bytes are read one by one",
        prelude.len()
    );
}

#[test]
fn only_a_script_that_could_tell_needs_a_bash_of_its_own() {
    for script in ["echo $$", "echo $BASHPID", ". /etc/profile", "source x"] {
        assert!(needs_own_bash(script), "{script}");
    }
    for script in ["true", "systemctl start nginx", "cat ./file | wc -l"] {
        assert!(!needs_own_bash(script), "{script}");
    }
}
