//! TLS as libpq's `sslmode` understands it, spoken by rustls.
//!
//! Known differences from OpenSSL: certificates of X.509 version 1 cannot be verified (they are fine for
//! `sslmode=require`), and TLS is 1.2 or newer.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::Certificate;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::oid::db::rfc5912::ID_CE_SUBJECT_ALT_NAME;
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::options::{RootCertificate, SslMode, TlsOptions};

/// A setting of TLS that cannot be followed: a file that is missing, unreadable or no certificate.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsFailure(String);

/// The TLS configuration of one server, made when it is first needed and again when one of its files has changed.
#[derive(Debug, Default)]
pub struct TlsCache(Mutex<Option<Entry>>);

type Stamps = [Option<(SystemTime, u64)>; 4];

struct Entry {
    options: TlsOptions,
    stamps: Stamps,
    connect: MakeRustlsConnect,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

impl TlsCache {
    pub(super) fn connector(&self, options: &TlsOptions) -> Result<MakeRustlsConnect, TlsFailure> {
        let stamps = stamps(options);
        let mut entry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entry.as_ref().filter(|entry| entry.options == *options && entry.stamps == stamps) {
            return Ok(entry.connect.clone());
        }
        let connect = MakeRustlsConnect::new(client_config(options)?);
        *entry = Some(Entry { options: options.clone(), stamps, connect: connect.clone() });
        Ok(connect)
    }
}

fn stamps(options: &TlsOptions) -> Stamps {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.ino()))
    };
    let root = match &options.root {
        Some(RootCertificate::File(path)) => stamp(path),
        _ => None,
    };
    let (certificate, key) = options.identity.as_ref().map_or((None, None), |(c, k)| (stamp(c), stamp(k)));
    [root, options.revoked.as_ref().and_then(stamp), certificate, key]
}

/// What rustls needs to know of a server, whatever it serves.
///
/// # Errors
///
/// A file that is missing, unreadable or no certificate.
pub fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsFailure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFailure(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity(options)? {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| TlsFailure(format!("client certificate and key do not serve: {error}")))?,
        None => builder.with_no_client_auth(),
    };
    if options.direct {
        // As the server demands, so that no other protocol's server can be taken for one of PostgreSQL.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    // A connection lives for an hour and the next one is rare: what resumption would keep costs more than it saves.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn verifier(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsFailure> {
    let must = matches!(options.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let roots = match &options.root {
        Some(RootCertificate::System) => system_roots()?,
        Some(RootCertificate::File(path)) if path.exists() => certificates(path)?,
        Some(RootCertificate::File(path)) if must => {
            return Err(TlsFailure(format!("root certificate file {} does not exist", path.display())));
        }
        None if must => return Err(TlsFailure("sslrootcert is needed to verify the server".to_owned())),
        _ => return Ok(Arc::new(Unverified(Arc::clone(provider)))),
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 {
        return Err(TlsFailure("no root certificate can be used".to_owned()));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .with_crls(revoked(options)?)
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| TlsFailure(error.to_string()))?;
    let pinned = match &options.root {
        Some(RootCertificate::File(_)) => roots,
        _ => Vec::new(),
    };
    Ok(Arc::new(Verified { inner, pinned, name: options.mode == SslMode::VerifyFull }))
}

/// As in libpq there is nothing to look up where there is no such file.
fn revoked(options: &TlsOptions) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFailure> {
    let Some(path) = options.revoked.as_ref().filter(|path| path.exists()) else { return Ok(Vec::new()) };
    let failure =
        |reason: &dyn std::fmt::Display| TlsFailure(format!("revocation list in {}: {reason}", path.display()));
    let found: Vec<_> = CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error: rustls::pki_types::pem::Error| failure(&error))?;
    if found.is_empty() { Err(failure(&"the file holds none in PEM form")) } else { Ok(found) }
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, TlsFailure> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(found.certs);
    }
    // Without them every server would look like an impostor.
    let none = || "there are none on this host, name a file of them instead".to_owned();
    let reason = found.errors.first().map_or_else(none, ToString::to_string);
    Err(TlsFailure(format!("system certificates: {reason}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFailure> {
    let failure = |reason: &dyn std::fmt::Display| TlsFailure(format!("certificates in {}: {reason}", path.display()));
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error: rustls::pki_types::pem::Error| failure(&error))?;
    if found.is_empty() { Err(failure(&"the file holds none in PEM form")) } else { Ok(found) }
}

/// Our own certificate and key; as in libpq none is sent when there is no certificate file.
fn identity(
    options: &TlsOptions,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, TlsFailure> {
    let Some((certificate, key)) = options.identity.as_ref().filter(|(certificate, _)| certificate.exists()) else {
        return Ok(None);
    };
    let failure = |reason: &dyn std::fmt::Display| TlsFailure(format!("private key {}: {reason}", key.display()));
    let metadata = fs::metadata(key).map_err(|error: io::Error| failure(&error.kind()))?;
    // libpq's rule: others may read nothing, the group only a key that belongs to root.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(failure(&"group or others can read it; make it 0600"));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| failure(&"not a PEM file in PKCS#8, PKCS#1 or SEC1 form without a passphrase"))?;
    Ok(Some((certificates(certificate)?, private)))
}

/// Encrypts to whoever is there, as `sslmode=require` does without a root certificate. What the server signs is not
/// checked either: that would bind the session to a certificate that is not checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain, and the host's name if `name`.
#[derive(Debug)]
struct Verified {
    inner: Arc<WebPkiServerVerifier>,
    /// Certificates that are trusted as they stand: the usual self-signed server certificate is its own root.
    pinned: Vec<CertificateDer<'static>>,
    name: bool,
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map(|_| ());
        let outcome = match outcome {
            // `openssl req -x509` makes every certificate a CA, which webpki does not take from a server; it has
            // checked the dates by then.
            Err(error) if is_ca_as_server(&error) && self.pinned.iter().any(|known| known == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
            }
            outcome => outcome,
        };
        match outcome {
            // The name is looked at last, so the chain is good here.
            Err(error) if is_wrong_name(&error) && (!self.name || is_named_for_libpq(end_entity, server_name)) => {}
            outcome => outcome?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_wrong_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
    )
}

/// webpki's own error type is hidden behind rustls', but for its name.
fn is_ca_as_server(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other))
        if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// libpq's rule, where rustls finds no name that fits: a host given as address may stand as text among the DNS names, and
/// the common name counts unless there is an alternative name of the host's own kind. rustls, as the browsers, has given
/// up common names.
fn is_named_for_libpq(certificate: &CertificateDer<'_>, server_name: &ServerName<'_>) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let fields = certificate.tbs_certificate;
    let is_address = matches!(server_name, ServerName::IpAddress(_));
    let host = server_name.to_str();
    let mut of_kind = false;
    for extension in fields.extensions.iter().flatten().filter(|it| it.extn_id == ID_CE_SUBJECT_ALT_NAME) {
        let Ok(SubjectAltName(names)) = SubjectAltName::from_der(extension.extn_value.as_bytes()) else { return false };
        for name in names {
            match name {
                GeneralName::DnsName(name) if is_address && name.as_str() == host => return true,
                GeneralName::DnsName(_) => of_kind |= !is_address,
                GeneralName::IpAddress(_) => of_kind |= is_address,
                _ => {}
            }
        }
    }
    if of_kind {
        return false;
    }
    let names = fields.subject.0.iter().flat_map(|part| part.0.iter()).filter(|part| part.oid == COMMON_NAME);
    names.filter(|name| matches!(name.value.tag(), Tag::Utf8String | Tag::PrintableString)).any(|name| {
        let Ok(name) = std::str::from_utf8(name.value.value()) else { return false };
        match (name.strip_prefix("*."), host.split_once('.')) {
            (Some(_), _) if is_address => false,
            (Some(domain), Some((label, rest))) => !label.is_empty() && domain.eq_ignore_ascii_case(rest),
            _ => name.eq_ignore_ascii_case(&host),
        }
    })
}
