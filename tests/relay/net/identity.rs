//! Weir's own certificate: from every kind of file, from nothing, and the ones it must refuse.

use weir::config::{KeyFile, Secret, Trust, Verify};
use weir::net::{Acceptor, ClientTls, ServerTls};

use crate::support::certificates::{
    Files, SOON, client, dial, echo, echo_back, expired, keystore, leaf, password, pem, self_signed, tls,
    vector, version_1,
};

fn load(identity: Option<KeyFile>) -> Result<ServerTls, String> {
    ServerTls::load(&tls(identity, Trust::System, Verify::Full)).map_err(|e| e.to_string())
}

/// A gateway that trusts `trust` talks to a weir with `server`.
async fn talks(server: &ServerTls, client: ClientTls, cap: bool) {
    let acceptor = Acceptor::new(server, cap);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await.unwrap();
        echo_back(acceptor.handshake(Box::new(tcp), SOON).await.unwrap()).await
    };
    let ask = async { echo(&mut dial(client, "localhost", addr).await.unwrap()).await };
    tokio::time::timeout(SOON, async { tokio::join!(serve, ask) })
        .await
        .unwrap();
}

#[tokio::test]
async fn jks_and_pkcs12_keystores_of_wso2_serve_and_are_trusted() {
    let kinds: &[&str] = if cfg!(feature = "pkcs12") {
        &["rsa2048.jks", "rsa2048.p12"]
    } else {
        &["rsa2048.jks"]
    };
    for file in kinds {
        let server = load(Some(keystore(file))).unwrap();
        assert_eq!(server.certificate().sans, ["localhost", "127.0.0.1"]);
        assert_eq!(server.certificate().key, "RSA 2048");
        assert_eq!(server.certificate().signature, "SHA256withRSA");
        assert_eq!(server.certificate().last_day(), "2051-07-13");
        assert_eq!(
            server.certificate().pin(),
            "b0a1ef584e46ceed3c03e1c1669439a6bf03fa672b1f371f09c64f1670eb9551",
            "as keytool -list -v says"
        );
        assert_eq!(server.notice(), None);
        let trust = Trust::Keystore {
            file: vector(file),
            password: password(),
        };
        for cap in [false, true] {
            let client = ClientTls::load(&tls(None, trust.clone(), Verify::Full)).unwrap();
            assert_eq!(client.anchors(), 1);
            talks(&server, client, cap).await;
        }
    }
}

#[test]
fn the_truststore_of_wso2_loads_whole() {
    let trust = Trust::Keystore {
        file: vector("client-truststore.jks"),
        password: password(),
    };
    assert_eq!(
        ClientTls::load(&tls(None, trust, Verify::Full))
            .unwrap()
            .anchors(),
        37
    );
}

#[test]
fn the_old_keystore_of_wso2_is_refused_with_the_reason_and_the_remedy() {
    let e = load(Some(keystore("wso2carbon.jks"))).unwrap_err();
    for word in [
        "wso2carbon.jks",
        "alias wso2carbon",
        "RSA 1024",
        "SHA-1",
        "keytool -genkeypair",
    ] {
        assert!(e.contains(word), "{word}: {e}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_with_the_pem_of_the_notice() {
    let server = load(None).unwrap();
    let notice = server.notice().unwrap();
    assert!(notice.contains("keytool -importcert"), "{notice}");
    assert!(notice.contains(&server.certificate().pin()));
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(server.certificate().sans.iter().any(|n| n == name), "{name}");
    }
    let pem = &notice[notice.find("-----BEGIN").unwrap()..];
    let files = Files::new();
    let trust = Trust::Pem(files.put("weir.pem", pem));
    talks(
        &server,
        ClientTls::load(&tls(None, trust, Verify::Full)).unwrap(),
        true,
    )
    .await;
    assert_ne!(
        load(None).unwrap().certificate().sha256,
        server.certificate().sha256
    );
}

#[tokio::test]
async fn a_pem_pair_serves_also_with_a_version_1_certificate() {
    let files = Files::new();
    for made in [self_signed(leaf(&["localhost"])), version_1()] {
        let server = load(Some(files.identity(&made))).unwrap();
        talks(&server, client(&[&made], Verify::Chain), false).await;
    }
}

#[test]
fn a_key_of_another_certificate_and_an_expired_certificate_are_refused() {
    let files = Files::new();
    let (one, other) = (self_signed(leaf(&["a"])), self_signed(leaf(&["a"])));
    let crossed = KeyFile::Pem {
        certificate: files.put("one.pem", &one.pem),
        key: files.put("other.key", other.key.serialize_pem()),
    };
    let e = load(Some(crossed)).unwrap_err();
    assert!(e.contains("one.pem: the private key does not belong"), "{e}");
    let e = load(Some(files.identity(&self_signed(expired(leaf(&["a"])))))).unwrap_err();
    assert!(e.contains("has expired on 2020-01-01"), "{e}");
}

#[test]
fn wrong_passwords_aliases_and_files_are_reported_as_such() {
    let with = |file: &str, password: &str, alias: Option<&str>, key_password: Option<&str>| {
        load(Some(KeyFile::Keystore {
            file: vector(file),
            password: Secret::new(password),
            alias: alias.map(Into::into),
            key_password: key_password.map(Secret::new),
        }))
    };
    let jks = "rsa2048.jks";
    with(jks, "wso2carbon", Some("WSO2Carbon"), Some("wso2carbon")).unwrap();
    let e = with(jks, "secret!", None, None).unwrap_err();
    assert!(
        e.contains("rsa2048.jks: the password is wrong") && !e.contains("secret!"),
        "{e}"
    );
    let e = with(jks, "wso2carbon", None, Some("secret!")).unwrap_err();
    assert!(
        e.contains("the key password is wrong") && !e.contains("secret!"),
        "{e}"
    );
    let e = with(jks, "wso2carbon", Some("weir"), None).unwrap_err();
    assert!(
        e.contains("no private key with alias weir; it has: wso2carbon"),
        "{e}"
    );
    let e = with("client-truststore.jks", "wso2carbon", None, None).unwrap_err();
    assert!(e.contains("no private key, only 37"), "{e}");
    let e = with("absent.jks", "wso2carbon", None, None).unwrap_err();
    assert!(e.contains("absent.jks: it cannot be read"), "{e}");
}

#[test]
fn a_certificate_that_is_not_x509_is_refused() {
    let files = Files::new();
    let made = self_signed(leaf(&["a"]));
    let nonsense = KeyFile::Pem {
        certificate: files.put("no.pem", pem("CERTIFICATE", b"hello")),
        key: files.put("key.pem", made.key.serialize_pem()),
    };
    assert!(load(Some(nonsense)).unwrap_err().contains("cannot be parsed"));
}
