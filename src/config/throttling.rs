//! `[apim.throttling]` and `[super_admin]`: the part of a gateway's deployment.toml that says where events go.
//!
//! These tables are WSO2's, so keys unknown to weir are let pass here and nowhere else.

use super::problem::Bad;
use super::raw::Section;
use super::url_groups::{Found, from_strings, from_table};
use super::{Secret, values};

/// What the two tables say.
pub(super) struct Throttling<'a> {
    /// In the order of the file.
    pub(super) groups: Vec<Found>,
    /// Credentials of the receivers; `None` where they could not be had (noted).
    pub(super) credentials: Option<(String, Secret)>,
    /// The table itself, for `throttle_decision_endpoints`.
    pub(super) section: Section<'a>,
}

/// Reads both tables of a file. Groups may still have names in common and no endpoints.
pub(super) fn read<'a>(top: &Section<'a>, weirs_own: bool) -> Throttling<'a> {
    let apim = top.section("apim");
    let section = apim.section("throttling");
    if weirs_own {
        refuse_other_tables(&apim);
    }
    let credentials = credentials(&section, &top.section("super_admin"));
    let strings = section.has("receiver_url");
    let tables = section.tables("url_group");
    let groups = match (strings, section.given("receiver_url")) {
        (true, Some(given)) => from_strings(&section, &given),
        (true, None) => Vec::new(),
        (false, _) => tables
            .iter()
            .enumerate()
            .map(|(n, table)| from_table(n, table))
            .collect(),
    };
    section.has("receiver_auth_url");
    if section.exists() && !strings && !section.has("url_group") {
        let hint = "write [[apim.throttling.url_group]] with traffic_manager_urls = [\"tcp://HOST:9611\"]";
        section.missing(
            "url_group",
            "is missing: weir does not know where to deliver",
            hint,
        );
    } else if !strings && tables.is_empty() && section.is_empty_array("url_group") {
        section.problem(
            "url_group",
            "names no Traffic Manager",
            "write [[apim.throttling.url_group]]",
        );
    }
    section.has("throttle_decision_endpoints");
    section.finish_leniently();
    Throttling {
        groups,
        credentials,
        section,
    }
}

fn refuse_other_tables(apim: &Section<'_>) {
    for (name, table) in apim.sections() {
        if name != "throttling" {
            let near = strsim::normalized_damerau_levenshtein("throttling", name) >= 0.7;
            let bad = match near {
                true => Bad::new("no such table", "did you mean [apim.throttling]?"),
                false => Bad::new(
                    "weir reads only [apim.throttling] of the gateway's settings",
                    "remove it, or hand over the gateway's own file with --deployment-toml",
                ),
            };
            let place = apim.place_of(name);
            apim.context.problem(place.as_ref(), &table.path, bad);
        }
    }
}

/// receiver_username defaults to username, that to super_admin's; the same for the password.
fn credentials(section: &Section<'_>, super_admin: &Section<'_>) -> Option<(String, Secret)> {
    if !section.exists() {
        return None;
    }
    let tables = [
        (section, "receiver_username", "receiver_password"),
        (section, "username", "password"),
        (super_admin, "username", "password"),
    ];
    let username = tables
        .iter()
        .find(|(s, key, _)| s.has(key))
        .map(|(s, key, _)| s.maybe(key, values::text));
    let password = tables
        .iter()
        .find(|(s, _, key)| s.has(key))
        .map(|(s, _, key)| s.maybe(key, values::secret));
    for (missing, key) in [(username.is_none(), "username"), (password.is_none(), "password")] {
        if missing {
            let hint = format!("set {key} here, or [super_admin] {key} in the same file");
            section.missing(
                key,
                "is missing: weir logs in to the Traffic Managers with it",
                &hint,
            );
        }
    }
    let (username, password) = (username??, password??);
    if !username.is_ascii() || !password.expose().is_ascii() {
        section.warning(
            "username",
            "user name or password has characters outside ASCII; Traffic Managers count characters, not bytes, and may misread them",
            "use ASCII only",
        );
    }
    Some((username, password))
}
