//! The one table of each key: `settings!` declares a table of weir.toml as a struct, one row for each key, and makes of it
//! the struct, its reader, its part of [`keys()`] (for the documentation) and of [`Change`](super::Change).
//!
//! A row is `"key" field: Type = what it may hold, or DEFAULT, Reload, "help";`. `eg EXAMPLE` in place of `or DEFAULT`
//! is a key without a default; its type is an `Option`. Defaults and examples are TOML.

use std::path::Path;
use std::sync::LazyLock;

use super::context::Context;
use super::document::Document;
use super::parse::Source;
use super::section::Section;
use super::{admin, auth, decisions, ingress, link, queue, tls};

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// With the reload.
    Now,
    /// With a reload, for connections and handshakes made from then on.
    NextConnection,
    /// When weir is started again.
    Restart,
}

/// One key of weir's own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Full path; `NAME` stands for the name of a group, `[]` for one of several tables.
    pub path: &'static str,
    /// Default as TOML; `None` = not set.
    pub default: Option<&'static str>,
    /// A value as TOML; the default where there is one.
    pub example: &'static str,
    /// What may be written, in Markdown.
    pub form: String,
    /// When a changed value takes effect.
    pub reload: Reload,
    /// What it does.
    pub help: &'static str,
}

/// Every key of weir's own tables, in the order of `config/weir.toml`.
#[must_use]
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let tables = [
            super::Config::keys,
            ingress::Ingress::keys,
            auth::Auth::keys,
            auth::UserKeys::keys,
            tls::TlsKeys::keys,
            tls::KeystoreKeys::keys,
            tls::TrustKeys::keys,
            tls::TruststoreKeys::keys,
            queue::Queue::keys,
            queue::GroupKeys::keys,
            link::Link::keys,
            admin::AdminPort::keys,
            admin::Admin::keys,
            decisions::Decisions::keys,
            admin::Log::keys,
        ];
        tables.into_iter().flat_map(|keys| keys()).collect()
    });
    &KEYS
}

/// What a key may hold.
pub(super) trait Field {
    type Value;

    /// Reads the key; `None` when it is missing, or wrong (noted).
    fn read(&self, s: &Section<'_>, key: &'static str) -> Option<Self::Value>;

    /// What may be written, in Markdown.
    fn form(&self) -> String;
}

/// What is common to the structs that `settings!` makes.
pub(super) trait Settings {
    fn keys() -> Vec<Key>;

    /// The keys whose values differ.
    fn differences(&self, new: &Self) -> Vec<(&'static str, Reload)>;
}

/// The value that a default means. `None` if it is not valid, which a test rules out.
pub(super) fn default_of<F: Field>(field: &F, key: &'static str, default: &str) -> Option<F::Value> {
    let text = format!("{key} = {default}");
    let (document, _) = Document::parse(Path::new(""), &text);
    let (source, files) = (Source::default(), [document]);
    let context = Context::new(&source, &files);
    field.read(&Section::top(&context, Some(0)), key)
}

/// Declares one table; see the top of this file. `documented` rows are keys that are read elsewhere, `and` fields are
/// given to the reader.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident($table:literal) {
            $($key:literal $field:ident: $type:ty = $kind:expr, $how:ident $toml:tt, $reload:ident, $help:literal;)*
        }
        $(documented { $($dkey:literal = $form:expr, $dhow:ident $dtoml:tt, $dreload:ident, $dhelp:literal;)* })?
        $(and { $($(#[$ameta:meta])* $afield:ident: $atype:ty,)* })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $(#[doc = $help] pub $field: $type,)*
            $($($(#[$ameta])* pub $afield: $atype,)*)?
        }

        impl $name {
            /// Reads its keys from a table; those that are missing are as in `base`, else at their defaults.
            #[allow(clippy::too_many_arguments, reason = "one for each table of the file")]
            pub(in $crate::config) fn read(
                s: &$crate::config::section::Section<'_>,
                base: Option<&Self>,
                $($($afield: $atype),*)?
            ) -> Option<Self> {
                // Where no row has a default.
                let _ = base;
                Some(Self {
                    $($field: settings!(@read $how s, base, $field, $key, $kind, $toml),)*
                    $($($afield,)*)?
                })
            }
        }

        impl $crate::config::settings::Settings for $name {
            fn keys() -> Vec<$crate::config::Key> {
                use $crate::config::settings::Field as _;
                vec![
                    $(settings!(@key $how $table, $key, $kind.form(), $toml, $reload, $help),)*
                    $($(settings!(@key $dhow $table, $dkey, $form.to_owned(), $dtoml, $dreload, $dhelp),)*)?
                ]
            }

            fn differences(&self, new: &Self) -> Vec<(&'static str, $crate::config::Reload)> {
                let all = [$((concat!($table, $key), self.$field != new.$field, $crate::config::Reload::$reload)),*];
                all.into_iter().filter(|(_, differs, _)| *differs).map(|(key, _, when)| (key, when)).collect()
            }
        }
    };
    (@read or $s:ident, $base:ident, $field:ident, $key:literal, $kind:expr, $default:tt) => {{
        let kind = $kind;
        let read = $crate::config::settings::Field::read(&kind, $s, $key);
        match read.or_else(|| $base.map(|base: &Self| base.$field.clone())) {
            Some(value) => value,
            None => $crate::config::settings::default_of(&kind, $key, stringify!($default))?,
        }
    }};
    (@read eg $s:ident, $base:ident, $field:ident, $key:literal, $kind:expr, $example:tt) => {
        $crate::config::settings::Field::read(&$kind, $s, $key)
    };
    (@key or $table:literal, $key:literal, $form:expr, $default:tt, $reload:ident, $help:literal) => {
        $crate::config::Key {
            default: Some(stringify!($default)),
            ..settings!(@key eg $table, $key, $form, $default, $reload, $help)
        }
    };
    (@key eg $table:literal, $key:literal, $form:expr, $example:tt, $reload:ident, $help:literal) => {
        $crate::config::Key {
            path: concat!($table, $key),
            default: None,
            example: stringify!($example),
            form: $form,
            reload: $crate::config::Reload::$reload,
            help: $help,
        }
    };
}

pub(super) use settings;
