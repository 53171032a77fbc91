//! Certificates made on the spot, and servers and clients that use them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ServerConfig, SupportedProtocolVersion};
use weir::config::{KeyFile, Scheme, Secret, Tls, Trust, Url, Verify};
use weir::net::{ClientTls, DialError, Dialer, ServerTls, SocketOptions, Stream};

pub const SOON: Duration = Duration::from_secs(20);
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

pub struct Made {
    pub params: CertificateParams,
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub key: KeyPair,
}

impl Made {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    pub fn pin(&self) -> [u8; 32] {
        weir::net::sha256(&self.der)
    }
}

/// A leaf's parameters; no names: CN only.
pub fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params
}

pub fn ca_params() -> CertificateParams {
    let mut params = leaf(&[]);
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
    params
}

pub fn self_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (der, pem) = (certificate.der().clone(), certificate.pem());
    Made {
        params,
        der,
        pem,
        key,
    }
}

pub fn signed_by(ca: &Made, params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&ca.params, &ca.key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let (der, pem) = (certificate.der().clone(), certificate.pem());
    Made {
        params,
        der,
        pem,
        key,
    }
}

/// Files that live as long as the value.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Files {
        Files(TempDir::new().unwrap())
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn identity(&self, made: &Made) -> KeyFile {
        KeyFile::Pem {
            certificate: self.put("cert.pem", &made.pem),
            key: self.put("key.pem", made.key.serialize_pem()),
        }
    }
}

pub fn vector(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

pub fn password() -> Secret {
    Secret::new("wso2carbon")
}

pub fn keystore(name: &str) -> KeyFile {
    KeyFile::Keystore {
        file: vector(name),
        password: password(),
        alias: None,
        key_password: None,
    }
}

pub fn tls(identity: Option<KeyFile>, trust: Trust, verify: Verify) -> Tls {
    Tls {
        identity,
        trust,
        verify,
    }
}

/// A client that trusts these certificates.
pub fn client(trusted: &[&Made], verify: Verify) -> ClientTls {
    let files = Files::new();
    let bundle: String = trusted.iter().map(|made| made.pem.as_str()).collect();
    let trust = Trust::Pem(files.put("trust.pem", bundle));
    ClientTls::load(&tls(None, trust, verify)).unwrap()
}

pub fn url(host: &str, addr: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Ssl,
        host: host.to_owned(),
        port: addr.port(),
    }
}

pub async fn dial(tls: ClientTls, host: &str, addr: SocketAddr) -> Result<Stream, DialError> {
    let dialer = Dialer::new(tls, SocketOptions::default());
    dialer.dial(&url(host, addr), SOON, SOON).await
}

/// An echo server on bare rustls, which shows whatever it is told to, good or bad.
pub async fn bare_server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> SocketAddr {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let mut buf = [0; 64];
                while let Ok(n @ 1..) = tls.read(&mut buf).await {
                    tls.write_all(&buf[..n]).await.unwrap();
                    tls.flush().await.unwrap();
                }
            }
        }
    });
    addr
}

pub async fn echo(stream: &mut Stream) {
    stream.write_all(b"throttle").await.unwrap();
    stream.flush().await.unwrap();
    let mut got = [0; 8];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"throttle");
}

/// Echoes once.
pub async fn echo_back(mut stream: Stream) -> Stream {
    let mut got = [0; 8];
    stream.read_exact(&mut got).await.unwrap();
    stream.write_all(&got).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Weir's own server settings with this certificate.
pub fn server_tls(made: &Made) -> ServerTls {
    let files = Files::new();
    ServerTls::load(&tls(Some(files.identity(made)), Trust::System, Verify::Full)).unwrap()
}

/// A self-signed X.509 version 1 certificate, which no library here will make: built by hand.
pub fn version_1() -> Made {
    let key = KeyPair::generate().unwrap();
    let algorithm = tlv(0x30, &hex("06082a8648ce3d040302")); // ecdsa-with-SHA256
    let name = tlv(
        0x30,
        &tlv(
            0x31,
            &tlv(0x30, &[hex("0603550403"), tlv(0x0c, b"localhost")].concat()),
        ),
    );
    let dates = tlv(
        0x30,
        &[tlv(0x17, b"200101000000Z"), tlv(0x17, b"490101000000Z")].concat(),
    );
    let spki = {
        use rcgen::PublicKeyData;
        key.subject_public_key_info()
    };
    let tbs = tlv(
        0x30,
        &[tlv(2, &[7]), algorithm.clone(), name.clone(), dates, name, spki].concat(),
    );
    let pkcs8 = key.serialize_der();
    use ::aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).unwrap();
    let signature = signer
        .sign(&::aws_lc_rs::rand::SystemRandom::new(), &tbs)
        .unwrap();
    let bits = tlv(3, &[&[0], signature.as_ref()].concat());
    let der = CertificateDer::from(tlv(0x30, &[tbs, algorithm, bits].concat()));
    let pem = pem("CERTIFICATE", &der);
    Made {
        params: leaf(&[]),
        der,
        pem,
        key,
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut out = vec![tag];
    match length {
        0..=127 => out.push(length as u8),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    // DER wants the shortest length.
    if (128..=255).contains(&length) {
        out.splice(1.., [0x81, length as u8]);
    }
    out.extend(content);
    out
}

pub fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let n = (u32::from(chunk[0]) << 16)
            | (u32::from(*chunk.get(1).unwrap_or(&0)) << 8)
            | u32::from(*chunk.get(2).unwrap_or(&0));
        for i in 0..4 {
            let digit = char::from(ALPHABET[(n >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
