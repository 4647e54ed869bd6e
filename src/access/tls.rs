//! TLS towards readers, spoken by rustls: what exporter-toolkit's `tls_server_config` says, with Go's meaning.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::choice::{ClientAuth, Version};
use super::file::TlsSection;
use crate::source::{Source, SourceError};

/// A section that was followed, and what of it was not.
pub(super) struct Followed {
    pub(super) config: Arc<ServerConfig>,
    pub(super) warnings: Vec<String>,
    pub(super) clients: ClientAuth,
}

/// Makes what rustls needs from the section of a file.
///
/// # Errors
///
/// A file that cannot be read, or the first thing that cannot be followed.
pub(super) fn follow(section: &TlsSection, source: &Source) -> Result<Followed, SourceError> {
    Following { section, source, warnings: Vec::new() }.finish()
}

struct Following<'a> {
    section: &'a TlsSection,
    source: &'a Source,
    warnings: Vec<String>,
}

impl Following<'_> {
    fn finish(mut self) -> Result<Followed, SourceError> {
        let clients = self.section.client_auth_type.as_ref().map(|text| text.0).unwrap_or_default();
        let provider = self.provider()?;
        let versions = self.versions(&provider)?;
        let chain = self.pem("cert_file", self.section.cert_file.clone(), self.section.cert.as_deref())?;
        let chain =
            chain.ok_or_else(|| self.mistake("tls_server_config", "expected cert_file in tls_server_config"))?;
        let chain = self.certificates("cert_file", &chain)?;
        let key = self.section.key.as_ref().map(|key| key.0.as_str());
        let key = self.pem("key_file", self.section.key_file.clone(), key)?;
        let key = key.ok_or_else(|| self.mistake("tls_server_config", "expected key_file in tls_server_config"))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            self.mistake("key_file", "key_file: expected PEM in PKCS#8, PKCS#1 or SEC1 form without a passphrase")
        })?;
        let verifier = self.verifier(clients, &provider)?;
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .map_err(|error| self.mistake("tls_server_config", &format!("tls_server_config: {error}")))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| {
            self.mistake(
                "cert_file",
                &format!("cert_file and key_file do not belong together or cannot be used: {error}"),
            )
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = self.section.prefer_server_cipher_suites.unwrap_or(true);
        Ok(Followed { config: Arc::new(config), warnings: self.warnings, clients })
    }

    fn mistake(&self, key: &str, reason: &str) -> SourceError {
        self.source.mistake(self.source.text.find(key).unwrap_or_default(), reason)
    }

    /// The bytes of a file, whose name is relative to the configuration, or those that stand in its place.
    fn pem(&self, key: &str, file: Option<PathBuf>, inline: Option<&str>) -> Result<Option<Vec<u8>>, SourceError> {
        let file = file.filter(|file| !file.as_os_str().is_empty());
        let inline = inline.filter(|text| !text.is_empty());
        match (file, inline) {
            (Some(_), Some(_)) => {
                let short = key.trim_end_matches("_file");
                Err(self.mistake(key, &format!("expected {key} or {short}, not both")))
            }
            (Some(file), None) => {
                let path = self.source.file.parent().unwrap_or(Path::new("")).join(file);
                std::fs::read(&path)
                    .map(Some)
                    .map_err(|error| self.mistake(key, &format!("{key}: read {}: {error}", path.display())))
            }
            (None, inline) => Ok(inline.map(|text| text.as_bytes().to_vec())),
        }
    }

    fn certificates(&self, key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SourceError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(self.mistake(key, &format!("{key}: expected certificates in PEM form"))),
        }
    }

    fn provider(&mut self) -> Result<CryptoProvider, SourceError> {
        let mut provider = rustls::crypto::ring::default_provider();
        if let Some(wanted) = self.section.cipher_suites.as_deref().filter(|wanted| !wanted.is_empty()) {
            let known = wanted.iter().filter_map(|suite| suite.spoken);
            // As in Go, those of TLS 1.3 are not chosen.
            let tls13 = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).copied();
            provider.cipher_suites = known.chain(tls13).collect();
            for suite in wanted.iter().filter(|suite| suite.spoken.is_none() && !suite.is_tls13) {
                self.warnings.push(format!("cipher suite {} is left out, rustls does not have it", suite.name));
            }
        }
        if let Some(wanted) = self.section.curve_preferences.as_deref().filter(|wanted| !wanted.is_empty()) {
            provider.kx_groups = wanted.iter().filter_map(|curve| curve.spoken).collect();
            if provider.kx_groups.is_empty() {
                return Err(self.mistake("curve_preferences", "expected X25519, CurveP256 or CurveP384 among them"));
            }
            for curve in wanted.iter().filter(|curve| curve.spoken.is_none()) {
                self.warnings.push(format!("curve {} is left out, ring does not have it", curve.name));
            }
        }
        Ok(provider)
    }

    fn versions(&mut self, provider: &CryptoProvider) -> Result<Vec<&'static SupportedProtocolVersion>, SourceError> {
        let least = self.section.min_version.as_ref().map_or(Version::Tls12, |text| text.0);
        let most = self.section.max_version.as_ref().map_or(Version::Tls13, |text| text.0);
        if least == Version::Old {
            self.warnings.push("TLS 1.0 and 1.1 are left out: 1.2 is the oldest that rustls speaks".to_owned());
        }
        let mut versions: Vec<_> =
            Version::SPOKEN.into_iter().filter(|(spoken, _)| (least..=most).contains(spoken)).collect();
        if versions.is_empty() {
            return Err(
                self.mistake("max_version", "expected a max_version of TLS12 or TLS13, and not below min_version")
            );
        }
        if provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            versions.retain(|(version, _)| *version != Version::Tls12);
            if versions.is_empty() {
                return Err(
                    self.mistake("cipher_suites", "expected an ECDHE suite with AES-GCM or CHACHA20 among them")
                );
            }
        }
        Ok(versions.into_iter().map(|(_, version)| version).collect())
    }

    fn verifier(
        &mut self,
        clients: ClientAuth,
        provider: &CryptoProvider,
    ) -> Result<Arc<dyn ClientCertVerifier>, SourceError> {
        let authorities =
            self.pem("client_ca_file", self.section.client_ca_file.clone(), self.section.client_ca.as_deref())?;
        let names = self.section.client_allowed_sans.clone();
        if clients == ClientAuth::No {
            let idle = [("client_ca", authorities.is_some()), ("client_allowed_sans", names.is_some())];
            return match idle.iter().find(|(_, given)| *given) {
                Some((key, _)) => {
                    Err(self.mistake(key, &format!("{key}: expected a client_auth_type that asks for certificates")))
                }
                None => Ok(WebPkiClientVerifier::no_client_auth()),
            };
        }
        let mut verifier = Clients {
            inner: None,
            pinned: Vec::new(),
            names,
            must: matches!(clients, ClientAuth::RequireAny | ClientAuth::RequireAndVerify),
            algorithms: provider.signature_verification_algorithms,
        };
        if matches!(clients, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify) {
            verifier.pinned = if let Some(pem) = &authorities {
                self.certificates("client_ca_file", pem)?
            } else {
                self.warnings.push(
                    "without client_ca_file, every client with a certificate of a public authority is taken".to_owned(),
                );
                rustls_native_certs::load_native_certs().certs
            };
            let mut store = RootCertStore::empty();
            let (added, _) = store.add_parsable_certificates(verifier.pinned.iter().cloned());
            if added == 0 {
                return Err(self.mistake("client_ca_file", "client_ca_file: expected certificates that can be used"));
            }
            let inner =
                WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::new(provider.clone())).build();
            verifier.inner =
                Some(inner.map_err(|error| self.mistake("client_ca_file", &format!("client_ca_file: {error}")))?);
        }
        Ok(Arc::new(verifier))
    }
}

/// Looks at the certificates of clients.
#[derive(Debug)]
struct Clients {
    /// None takes every certificate.
    inner: Option<Arc<dyn ClientCertVerifier>>,
    /// Certificates that are trusted as they stand: the usual self-signed certificate is its own authority.
    pinned: Vec<CertificateDer<'static>>,
    /// Alternative names, of which a certificate has to have one.
    names: Option<Vec<String>>,
    must: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.must
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.as_ref().map_or(&[], |inner| inner.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(inner) = &self.inner {
            match inner.verify_client_cert(end_entity, intermediates, now) {
                // `openssl req -x509` makes every certificate a CA, which webpki does not take from a client; it has
                // checked the dates by then.
                Err(error) if is_ca_as_client(&error) && self.pinned.iter().any(|known| known == end_entity) => {}
                outcome => {
                    outcome?;
                }
            }
        }
        let is_allowed =
            |allowed: &Vec<String>| alternative_names(end_entity).iter().any(|name| allowed.contains(name));
        if self.names.as_ref().is_none_or(is_allowed) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// webpki's own error type is hidden behind rustls', but for its name.
fn is_ca_as_client(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other))
        if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// Names of hosts, addresses, mail addresses and URIs, as exporter-toolkit compares them.
fn alternative_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate.get::<SubjectAltName>() else {
        return Vec::new();
    };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(text) | GeneralName::Rfc822Name(text) | GeneralName::UniformResourceIdentifier(text) => {
            Some(text.to_string())
        }
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(|four| std::net::IpAddr::from(four).to_string());
            four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|all| std::net::IpAddr::from(all).to_string())).ok()
        }
        _ => None,
    };
    names.iter().filter_map(text).collect()
}
