//! The keys and certificates of one cluster, made fresh at every start.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

/// The files that [`write`] leaves in the folder.
pub mod file {
    /// The cluster's own authority.
    pub const CA: &str = "ca.crt";
    /// The API server's certificate and key.
    pub const SERVER: (&str, &str) = ("apiserver.crt", "apiserver.key");
    /// What the API server shows to a kubelet.
    pub const KUBELET_CLIENT: (&str, &str) = ("kubelet-client.crt", "kubelet-client.key");
    /// What verifies the tokens of ServiceAccounts, and what signs them.
    pub const ACCOUNTS: (&str, &str) = ("service-accounts.pub", "service-accounts.key");
}

/// Makes everything; the API server may be called by any of `names`, host names and addresses. Returns the authority's PEM.
pub fn write(folder: &Path, names: &[String]) -> Result<String> {
    let authority = authority()?;
    let pem = authority.pem();
    save(folder, file::CA, &pem)?;
    leaf(folder, file::SERVER, &authority, server(names)?)?;
    leaf(
        folder,
        file::KUBELET_CLIENT,
        &authority,
        client("kube-apiserver-kubelet-client", "system:masters"),
    )?;
    let accounts = KeyPair::generate()?;
    save(folder, file::ACCOUNTS.0, &accounts.public_key_pem())?;
    save(folder, file::ACCOUNTS.1, &accounts.serialize_pem())?;
    Ok(pem)
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("zenop-cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
        .context("making the cluster's authority")
}

fn server(names: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = common_name("kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn client(user: &str, group: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(user);
    params
        .distinguished_name
        .push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn leaf(
    folder: &Path,
    (certificate, key): (&str, &str),
    authority: &CertifiedIssuer<'_, KeyPair>,
    mut params: CertificateParams,
) -> Result<()> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Python's strict verification insists on it.
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate()?;
    let signed = params
        .signed_by(&pair, authority)
        .with_context(|| format!("signing {certificate}"))?;
    save(folder, certificate, &signed.pem())?;
    save(folder, key, &pair.serialize_pem())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn save(folder: &Path, name: &str, text: &str) -> Result<()> {
    private(&folder.join(name), text)
}

/// Writes a file that only its owner can read.
pub fn private(path: &Path, text: &str) -> Result<()> {
    let file = fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| io_write(&mut file, text))
        .with_context(|| format!("writing {}", path.display()))
}

fn io_write(file: &mut fs::File, text: &str) -> std::io::Result<()> {
    std::io::Write::write_all(file, text.as_bytes())
}
