//! The files of the certificate that clients are shown, read again while they change.

use std::{io, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use tokio::{fs, sync::watch, time::sleep};
use zeroize::Zeroizing;

use crate::http::Certificate;

/// How often they are read. A kubelet takes a minute to renew what it mounts.
const EVERY: Duration = Duration::from_secs(10);

/// A certificate and its key, each in a file.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate's.
    pub certificate: PathBuf,
    /// The key's.
    pub key: PathBuf,
}

/// What was read last, whether or not it was good: of the same thing nobody is told twice.
type Print = [u8; 32];

impl Files {
    /// Reads them, and goes on to do so as long as somebody wants to know.
    ///
    /// # Errors
    /// If there is nothing to begin with. What is bad later is told, and the one before stays.
    pub async fn follow(self) -> anyhow::Result<watch::Receiver<Certificate>> {
        let (mut last, first) = self.read().await.with_context(|| self.remedy())?;
        let (sender, receiver) = watch::channel(first.with_context(|| self.remedy())?);
        tokio::spawn(async move {
            while !sender.is_closed() {
                sleep(EVERY).await;
                self.look(&mut last, &sender).await;
            }
        });
        Ok(receiver)
    }

    /// Takes what is new, if it is good.
    async fn look(&self, last: &mut Option<Print>, sender: &watch::Sender<Certificate>) {
        let (print, read) = match self.read().await {
            Ok((print, read)) => (print, read),
            Err(error) => (None, Err(error)),
        };
        if print == *last {
            return;
        }
        *last = print;
        let file = self.certificate.display();
        match read {
            Ok(certificate) => {
                tracing::info!(%file, "took a new certificate");
                sender.send_replace(certificate);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(%file, %error, "keeps the certificate before, as this one is bad");
            }
        }
    }

    async fn read(&self) -> anyhow::Result<(Option<Print>, anyhow::Result<Certificate>)> {
        let named = |path: &PathBuf, error: io::Error| {
            anyhow::Error::new(error).context(format!("reading {}", path.display()))
        };
        let chain = fs::read(&self.certificate).await;
        let chain = chain.map_err(|error| named(&self.certificate, error))?;
        let key = fs::read(&self.key).await.map(Zeroizing::new);
        let key = key.map_err(|error| named(&self.key, error))?;
        ensure!(!key.is_empty(), "{} is empty", self.key.display());
        let print = Sha256::new().chain_update(&chain).chain_update(&*key);
        let certificate = Certificate::read(&chain, &key).map_err(anyhow::Error::new);
        Ok((Some(print.finalize().into()), certificate))
    }

    fn remedy(&self) -> String {
        format!(
            "there is no certificate to serve with: --tls-cert-file={} and --tls-key-file={} must be \
             PEM and belong together",
            self.certificate.display(),
            self.key.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn write(files: &Files, name: &str) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&files.certificate, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test]
    async fn f16_what_is_new_is_taken_and_what_is_bad_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        let error = files.clone().follow().await.err().unwrap();
        assert!(format!("{error:#}").contains("--tls-cert-file="), "{error}");

        write(&files, "one.test");
        let (mut last, first) = files.read().await.unwrap();
        let (sender, mut receiver) = watch::channel(first.unwrap());
        files.look(&mut last, &sender).await;
        assert!(!receiver.has_changed().unwrap(), "it is the same");

        // Half of a renewal: this key is not of that certificate.
        let key = std::fs::read(&files.key).unwrap();
        write(&files, "two.test");
        std::fs::write(&files.key, key).unwrap();
        files.look(&mut last, &sender).await;
        assert!(!receiver.has_changed().unwrap(), "it does not fit");
        std::fs::remove_file(&files.key).unwrap();
        files.look(&mut last, &sender).await;
        assert!(!receiver.has_changed().unwrap(), "it is gone");

        write(&files, "three.test");
        files.look(&mut last, &sender).await;
        assert!(receiver.has_changed().unwrap(), "it is good");
        receiver.mark_unchanged();
        files.look(&mut last, &sender).await;
        assert!(!receiver.has_changed().unwrap(), "it is taken once");
    }
}
