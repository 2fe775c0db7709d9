//! Where the host gets its packages from: `sources.list` and the files in `sources.list.d`.

/// One archive, suite and set of components, as apt's sources name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) uri: String,
    pub(crate) suite: String,
    pub(crate) components: Vec<String>,
    /// The path of a keyring; keys that are written into the sources themselves are not taken over.
    pub(crate) signed_by: Option<String>,
}

impl Source {
    /// The line of a `sources.list`.
    pub(crate) fn line(&self) -> String {
        let options = self
            .signed_by
            .as_ref()
            .map(|path| format!("[signed-by={path}] "))
            .unwrap_or_default();
        format!(
            "deb {options}{} {} {}",
            self.uri,
            self.suite,
            self.components.join(" ")
        )
    }
}

/// Reads the one-line form (`*.list`).
pub(crate) fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uri,
        suite,
        components: words.collect(),
        signed_by: signed_by.and_then(keyring),
    })
}

/// Reads the form of paragraphs (`*.sources`, deb822).
pub(crate) fn parse_paragraphs(text: &str) -> Vec<Source> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    without_comments
        .split(|line| line.trim().is_empty())
        .flat_map(parse_paragraph)
        .collect()
}

fn parse_paragraph(lines: &[&str]) -> Vec<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |wanted: &str| {
        fields
            .iter()
            .find(|(name, _)| name == wanted)
            .map_or("", |(_, value)| value.as_str())
    };
    let words = |wanted: &str| {
        field(wanted)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    if !words("types").iter().any(|word| word == "deb")
        || matches!(field("enabled"), "no" | "false" | "0")
    {
        return Vec::new();
    }
    let signed_by = keyring(field("signed-by"));
    let mut sources = Vec::new();
    for uri in words("uris") {
        for suite in words("suites") {
            let (uri, components) = (uri.clone(), words("components"));
            sources.push(Source {
                uri,
                suite,
                components,
                signed_by: signed_by.clone(),
            });
        }
    }
    sources
}

/// The path of one keyring; a key block or a fingerprint is none.
fn keyring(value: &str) -> Option<String> {
    let is_path = value.starts_with('/') && !value.contains([',', ' ']);
    is_path.then(|| value.to_owned())
}

/// Keeps what belongs to the distribution itself, of one release: its archive, its updates, its security fixes.
///
/// Other vendors' archives may use the same suites, so the address or the mirror list must bear the distribution's name.
pub(crate) fn of_release(sources: Vec<Source>, distribution: &str, codename: &str) -> Vec<Source> {
    let suites =
        ["", "-updates", "-security", "/updates"].map(|suffix| format!("{codename}{suffix}"));
    let mut kept: Vec<Source> = Vec::new();
    for mut source in sources {
        let last = source
            .uri
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        if !last.contains(distribution) || !suites.contains(&source.suite) {
            continue;
        }
        source
            .components
            .retain(|component| COMPONENTS.contains(&component.as_str()));
        if !source.components.is_empty() && !kept.contains(&source) {
            kept.push(source);
        }
    }
    kept
}

const COMPONENTS: [&str; 4] = ["main", "universe", "contrib", "non-free-firmware"];

#[cfg(test)]
mod tests;
