//! `receiver_url` and `receiver_auth_url`: url groups in one string, as WSO2 wrote them before `url_group`.
//!
//! `{tcp://a:9611,tcp://b:9611},{tcp://c:9611|tcp://d:9611}`: braces hold a group, a comma inside means
//! loadbalance, a bar failover; without braces the whole string is one group.

use super::Policy;
use super::problem::Bad;

/// One group of a string: its URLs, not yet parsed, and how they share the events. A group of one URL has no
/// sign for a policy and is failover, as a missing `type` is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UrlGroup {
    pub(super) policy: Policy,
    pub(super) urls: Vec<String>,
}

/// Cuts the string.
pub(super) fn parse(text: &str) -> Result<Vec<UrlGroup>, Bad> {
    let text = text.trim();
    if !text.contains(['{', '}']) {
        return Ok(vec![group(text)?]);
    }
    let mut groups = Vec::new();
    let mut rest = text;
    loop {
        let opened = rest
            .trim_start()
            .strip_prefix('{')
            .ok_or_else(|| wrong("a group must begin with {"))?;
        let (inside, after) = opened
            .split_once('}')
            .ok_or_else(|| wrong("a group is never closed with }"))?;
        if inside.contains('{') {
            return Err(wrong("a group is never closed with }"));
        }
        groups.push(group(inside)?);
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(groups);
        }
        rest = after
            .strip_prefix(',')
            .ok_or_else(|| wrong("groups must be separated by a comma"))?;
    }
}

fn group(inside: &str) -> Result<UrlGroup, Bad> {
    let (comma, bar) = (inside.contains(','), inside.contains('|'));
    if comma && bar {
        return Err(Bad::new(
            "mixes commas and bars in one group",
            "comma = loadbalance, bar = failover; a group is one or the other",
        ));
    }
    let urls: Vec<String> = inside
        .split([',', '|'])
        .map(|url| url.trim().to_owned())
        .collect();
    if urls.iter().any(|url| url.is_empty()) {
        return Err(wrong("a group has an empty place where a URL should be"));
    }
    let policy = if comma {
        Policy::Loadbalance
    } else {
        Policy::Failover
    };
    Ok(UrlGroup { policy, urls })
}

fn wrong(message: &str) -> Bad {
    Bad::new(
        message,
        "write {tcp://a:9611,tcp://b:9611},{tcp://c:9611|tcp://d:9611}",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<(Policy, String)> {
        let groups = parse(text).unwrap();
        groups.iter().map(|g| (g.policy, g.urls.join(" "))).collect()
    }

    #[test]
    fn a_comma_is_loadbalance_a_bar_failover_and_braces_make_groups() {
        assert_eq!(
            shape("{tcp://a:1,tcp://b:1}, {tcp://c:1|tcp://d:1} ,{tcp://e:1}"),
            [
                (Policy::Loadbalance, "tcp://a:1 tcp://b:1".into()),
                (Policy::Failover, "tcp://c:1 tcp://d:1".into()),
                (Policy::Failover, "tcp://e:1".into()),
            ]
        );
    }

    #[test]
    fn without_braces_the_string_is_one_group() {
        assert_eq!(shape("a,b"), [(Policy::Loadbalance, "a b".into())]);
        assert_eq!(shape("a|b"), [(Policy::Failover, "a b".into())]);
        assert_eq!(shape(" a "), [(Policy::Failover, "a".into())]);
    }

    #[test]
    fn broken_strings_are_refused_with_the_reason() {
        for (text, reason) in [
            ("{a,b|c}", "mixes commas and bars in one group"),
            ("{a", "a group is never closed with }"),
            ("{a{b}", "a group is never closed with }"),
            ("a}", "a group must begin with {"),
            ("{a}{b}", "groups must be separated by a comma"),
            ("{a},", "a group must begin with {"),
            ("{}", "a group has an empty place where a URL should be"),
            ("{a,,b}", "a group has an empty place where a URL should be"),
            ("", "a group has an empty place where a URL should be"),
        ] {
            assert_eq!(parse(text).unwrap_err().message, reason, "{text}");
        }
    }
}
