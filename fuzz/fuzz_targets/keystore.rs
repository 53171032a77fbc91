//! A keystore, JKS or PKCS#12, as identity and as trust: keys, or a sentence.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use weir::config::{KeyFile, Secret, Tls, Trust, Verify};
use weir::net::{ClientTls, ServerTls};

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        directory.keep().join("fuzzed")
    })
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(file(), bytes).expect("the temporary file");
    let password = || Secret::new("wso2carbon");
    let tls = Tls {
        identity: Some(KeyFile::Keystore {
            file: file().clone(),
            password: password(),
            alias: None,
            key_password: None,
        }),
        trust: Trust::Keystore {
            file: file().clone(),
            password: password(),
        },
        verify: Verify::Full,
    };
    for said in [
        ServerTls::load(&tls).err().map(|e| e.to_string()),
        ClientTls::load(&tls).err().map(|e| e.to_string()),
    ] {
        assert!(said.is_none_or(|text| !text.is_empty()));
    }
});
