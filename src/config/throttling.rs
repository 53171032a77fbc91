//! `[apim.throttling]` and `[super_admin]`: the part of a gateway's deployment.toml that says where events go.
//!
//! Url groups stand in `[[apim.throttling.url_group]]` tables, or in the strings `receiver_url` and `receiver_auth_url`,
//! which win. Keys that weir does not know are ignored in these tables, which are WSO2's, and nowhere else.

use toml::de::DeValue;

use super::kinds::{secret, text, url};
use super::problem::{Bad, Place};
use super::receiver_url::{self, UrlGroup};
use super::section::{Given, Section};
use super::{Endpoint, Policy, Scheme, Secret, Url};

/// What the two tables say.
pub(super) struct Throttling<'a> {
    /// In the order of the file.
    pub(super) groups: Vec<Found>,
    /// Credentials of the receivers; `None` where they are missing or wrong (noted).
    pub(super) credentials: Option<(String, Secret)>,
    /// The table itself, for `throttle_decision_endpoints`.
    pub(super) section: Section<'a>,
}

/// A url group as it was found; it may have no endpoints, or the name of another one.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) policy: Policy,
    /// Each with the places of its data URL and its auth URL; the same one twice where there is no auth URL.
    pub(super) endpoints: Vec<(Endpoint, [Place; 2])>,
    /// The place of the group.
    pub(super) place: Option<Place>,
    /// Full path of what defines it.
    pub(super) key: String,
}

/// Reads both tables of a file. `own`: of weir.toml.
pub(super) fn read<'a>(top: &Section<'a>, own: bool) -> Throttling<'a> {
    let apim = top.section("apim");
    let section = apim.section("throttling");
    if own {
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
    if section.exists() && !strings {
        match section.value("url_group") {
            None => section.missing(
                "url_group",
                "is missing: weir does not know where to deliver",
                "write [[apim.throttling.url_group]] with traffic_manager_urls = [\"tcp://HOST:9611\"]",
            ),
            Some(DeValue::Array(items)) if items.is_empty() => {
                section.problem(
                    "url_group",
                    "names no Traffic Manager",
                    "write [[apim.throttling.url_group]]",
                );
            }
            Some(_) => {}
        }
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
            apim.context.problem(table.place.as_ref(), &table.path, bad);
        }
    }
}

/// receiver_username defaults to username, that to super_admin's; the same for the password.
fn credentials(section: &Section<'_>, super_admin: &Section<'_>) -> Option<(String, Secret)> {
    if !section.exists() {
        return None;
    }
    let first = |keys: [&'static str; 3]| {
        let tables = [section, section, super_admin].into_iter().zip(keys);
        let found = tables.into_iter().find(|(table, key)| table.has(key));
        if found.is_none() {
            let [_, key, _] = keys;
            let hint = format!("set {key} here, or [super_admin] {key} in the same file");
            section.missing(
                key,
                "is missing: weir logs in to the Traffic Managers with it",
                &hint,
            );
        }
        found
    };
    let username = first(["receiver_username", "username", "username"]);
    let password = first(["receiver_password", "password", "password"]);
    let username = username.map(|(table, key)| table.maybe(key, |given| text().parse(given)));
    let password = password.map(|(table, key)| table.maybe(key, |given| secret().parse(given)));
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

/// One `[[apim.throttling.url_group]]`.
fn from_table(index: usize, table: &Section<'_>) -> Found {
    let name = table.maybe("name", group_name);
    let policy = table.maybe("type", |given| {
        let text = given.text()?;
        let is = |word: &str| text.trim().eq_ignore_ascii_case(word);
        if !is("loadbalance") && !is("failover") {
            let message = format!("{} is taken as failover, as WSO2 does", given.quote());
            table.warning("type", &message, "write \"loadbalance\" or \"failover\"");
        }
        Ok(match is("loadbalance") {
            true => Policy::Loadbalance,
            false => Policy::Failover,
        })
    });
    let data = table.array("traffic_manager_urls");
    let auth = table.array("traffic_manager_auth_urls");
    table.finish_leniently();
    match &data {
        None => {
            let hint = "write traffic_manager_urls = [\"tcp://HOST:9611\"]";
            table.missing("traffic_manager_urls", "is missing", hint);
        }
        Some(urls) if urls.is_empty() => {
            let hint = "write [\"tcp://HOST:9611\"]";
            table.problem("traffic_manager_urls", "names no Traffic Manager", hint);
        }
        Some(_) => {}
    }
    let data = data.unwrap_or_default();
    let differ = |auth: &&Vec<Given>| !data.is_empty() && auth.len() != data.len();
    if let Some(auth) = auth.as_ref().filter(differ) {
        let message = format!("has {} for {}", many(auth.len()), many(data.len()));
        table.problem("traffic_manager_auth_urls", message, DROP_AUTH);
    }
    let mut found = Found {
        name: name.unwrap_or_else(|| format!("group{}", index + 1)),
        policy: policy.unwrap_or(Policy::Failover),
        endpoints: Vec::new(),
        place: table.place.clone(),
        key: table.path.clone(),
    };
    let single = |given: &Given| {
        let text = table.accept(given, given.text())?;
        if text.contains([',', '|']) {
            let hint = "one URL in each string: [\"tcp://a:9611\", \"tcp://b:9611\"]";
            table.refuse(given, Bad::new("holds more than one URL", hint));
            return None;
        }
        table.accept(given, url(given, &text))
    };
    for (n, data) in data.iter().enumerate() {
        let auth = auth
            .as_ref()
            .and_then(|auth| auth.get(n))
            .map(|given| (given, single(given)));
        found.push(table, (data, single(data)), auth);
    }
    found
}

/// Names go into metrics and into paths of the admin port.
fn group_name(given: &Given) -> Result<String, Bad> {
    let text = given.text()?;
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(sound) {
        let message = format!("{} is not a valid group name", given.quote());
        return Err(Bad::new(
            message,
            "use up to 64 letters, digits, dots, dashes, underscores",
        ));
    }
    Ok(text)
}

/// Groups from `receiver_url`.
fn from_strings(section: &Section<'_>, data: &Given) -> Vec<Found> {
    let cut = |given: &Given| -> Option<Vec<UrlGroup>> {
        let text = section.accept(given, given.text())?;
        section.accept(given, receiver_url::parse(&text))
    };
    let auth = section.given("receiver_auth_url");
    let (data_groups, auth_groups) = (cut(data).unwrap_or_default(), auth.as_ref().and_then(cut));
    if let (Some(given), Some(groups)) = (&auth, &auth_groups) {
        agree(section, given, &data_groups, groups);
    }
    let mut all = Vec::new();
    for (n, group) in data_groups.iter().enumerate() {
        let mut found = Found {
            name: format!("group{}", n + 1),
            policy: group.policy,
            endpoints: Vec::new(),
            place: Some(data.place.clone()),
            key: data.key.clone(),
        };
        let parse = |given, text: &String| section.accept(given, url(given, text));
        let auth_urls = auth_groups
            .as_ref()
            .and_then(|groups| groups.get(n))
            .map(|group| &group.urls);
        for (m, text) in group.urls.iter().enumerate() {
            let auth_url = |given| auth_urls?.get(m).and_then(|text| parse(given, text));
            let auth = auth.as_ref().map(|given| (given, auth_url(given)));
            found.push(section, (data, parse(data, text)), auth);
        }
        all.push(found);
    }
    all
}

const DROP_AUTH: &str = "give every data URL its auth URL, or leave them all out (the port + 100, ssl://)";

/// As many groups, of the same kind, with as many URLs.
fn agree(section: &Section<'_>, given: &Given, data: &[UrlGroup], auth: &[UrlGroup]) {
    if data.len() != auth.len() {
        let message = format!("has {} groups, receiver_url has {}", auth.len(), data.len());
        section.refuse(given, Bad::new(message, DROP_AUTH));
        return;
    }
    for (n, (data, auth)) in (1..).zip(data.iter().zip(auth)) {
        if data.urls.len() != auth.urls.len() {
            let message = format!(
                "group {n} has {} for {}",
                many(auth.urls.len()),
                many(data.urls.len())
            );
            section.refuse(given, Bad::new(message, DROP_AUTH));
        } else if data.policy != auth.policy {
            let message = format!("group {n} is not of the same kind as in receiver_url");
            let hint = "use the same sign in both: comma = loadbalance, bar = failover";
            section.refuse(given, Bad::new(message, hint));
        }
    }
}

fn many(urls: usize) -> String {
    let s = if urls == 1 { "" } else { "s" };
    format!("{urls} URL{s}")
}

impl Found {
    /// Adds an endpoint whose URLs are valid. Without an auth URL the login goes to the port + 100, with TLS.
    fn push(
        &mut self,
        section: &Section<'_>,
        (data_given, data): (&Given, Option<Url>),
        auth: Option<(&Given, Option<Url>)>,
    ) {
        let Some(data) = data else { return };
        let (auth_given, auth) = auth.unwrap_or_else(|| {
            let message = || format!("port {} is too high for the login port (+ 100)", data.port);
            let port = data.port.checked_add(100);
            let port = port.ok_or_else(|| Bad::new(message(), "write the auth URL out"));
            let auth = section.accept(data_given, port).map(|port| Url {
                scheme: Scheme::Ssl,
                host: data.host.clone(),
                port,
            });
            (data_given, auth)
        });
        if let Some(auth) = auth {
            let name = data.address();
            let places = [data_given, auth_given].map(|given| given.place.clone());
            self.endpoints.push((Endpoint { name, data, auth }, places));
        }
    }
}
