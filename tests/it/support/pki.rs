//! An authority of the tests' own: it issues certificates, revokes them, and writes its list.
#![expect(
    clippy::disallowed_methods,
    reason = "a test reads what another program wrote"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DEADLINE, run};

/// An authority in a folder of its own.
pub(crate) struct Pki {
    dir: tempfile::TempDir,
    /// Its certificate in PEM form.
    pub(crate) ca: String,
}

/// A certificate with its key, both in PEM form.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
    file: PathBuf,
}

impl Pair {
    /// A certificate from elsewhere.
    pub(crate) fn of(cert: &str, key: &str) -> Self {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        let file = PathBuf::new();
        Self { cert, key, file }
    }
}

const CONFIG: &str = "[ca]\ndefault_ca = own\n[own]\ndir = .\ndatabase = index.txt\nserial = serial\ncrlnumber = crlnumber\n\
     new_certs_dir = .\ncertificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\ndefault_days = 90\n\
     default_crl_days = 30\npolicy = any\ncopy_extensions = copyall\nunique_subject = no\n\
     [any]\ncommonName = supplied\n[req]\ndistinguished_name = dn\n[dn]\n";

impl Pki {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.cnf", CONFIG),
            ("index.txt", ""),
            ("serial", "1000\n"),
            ("crlnumber", "01\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        openssl(
            dir.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=tests -config ca.cnf -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign",
        );
        let ca = fs::read_to_string(dir.path().join("ca.pem")).unwrap();
        Self { dir, ca }
    }

    /// A certificate for 90 days; names are hosts or addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_until(names, None, "")
    }

    /// One that names whom to ask about it.
    pub(crate) fn issue_with_responder(&self, names: &[&str], url: &str) -> Pair {
        let extension = format!(" -addext authorityInfoAccess=OCSP;URI:{url}");
        self.issue_until(names, None, &extension)
    }

    /// One that may answer questions about others of this authority.
    pub(crate) fn issue_delegate(&self) -> Pair {
        self.issue_until(
            &["ocsp.test"],
            None,
            " -addext extendedKeyUsage=OCSPSigning",
        )
    }

    /// A certificate that was over long ago.
    pub(crate) fn expired(&self, names: &[&str]) -> Pair {
        self.issue_until(names, Some("20200201000000Z"), "")
    }

    fn issue_until(&self, names: &[&str], until: Option<&str>, extension: &str) -> Pair {
        let dir = self.dir.path();
        let number = fs::read_to_string(dir.join("serial")).unwrap();
        let number = number.trim();
        let alternatives = names.iter().map(|name| {
            let kind = if name.parse::<std::net::IpAddr>().is_ok() {
                "IP"
            } else {
                "DNS"
            };
            format!("{kind}:{name}")
        });
        let alternatives = alternatives.collect::<Vec<_>>().join(",");
        openssl(
            dir,
            &format!(
                "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {number}.key -out {number}.csr -subj /CN={} -config ca.cnf -addext subjectAltName={alternatives}{extension}",
                names[0]
            ),
        );
        let time = until.map_or_else(String::new, |until| {
            format!(" -startdate 20200101000000Z -enddate {until}")
        });
        openssl(
            dir,
            &format!("ca -batch -notext -config ca.cnf -in {number}.csr -out {number}.crt{time}"),
        );
        let file = dir.join(format!("{number}.crt"));
        Pair {
            cert: fs::read_to_string(&file).unwrap(),
            key: fs::read_to_string(dir.join(format!("{number}.key"))).unwrap(),
            file,
        }
    }

    /// What this authority answers a question of OCSP with; `signer` signs, or else the authority, and `args` are more
    /// words for `openssl ocsp`.
    pub(crate) fn answer(&self, question: &[u8], signer: Option<&Pair>, args: &str) -> Vec<u8> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("question"), question).unwrap();
        let (mut cert, mut key) = ("ca.pem".to_owned(), "ca.key".to_owned());
        if let Some(signer) = signer {
            (cert, key) = (at("signer.pem"), at("signer.key"));
            fs::write(&cert, &signer.cert).unwrap();
            fs::write(&key, &signer.key).unwrap();
        }
        openssl(
            self.dir.path(),
            &format!(
                "ocsp -index index.txt -CA ca.pem -rsigner {cert} -rkey {key} -reqin {} -respout {}{args}",
                at("question"),
                at("answer")
            ),
        );
        fs::read(at("answer")).unwrap()
    }

    /// A command that answers for this authority at `port`, until it is stopped.
    pub(crate) fn responder(&self, port: u16) -> Command {
        let mut command = Command::new("openssl");
        let args = format!(
            "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -ndays 7 -port {port}"
        );
        command.args(args.split(' ')).current_dir(self.dir.path());
        command
    }

    /// Takes a certificate back; `crl` says so from now on.
    pub(crate) fn revoke(&self, pair: &Pair) {
        openssl(
            self.dir.path(),
            &format!("ca -config ca.cnf -revoke {}", pair.file.display()),
        );
    }

    /// The list of what was taken back, in PEM form.
    pub(crate) fn crl(&self) -> String {
        openssl(self.dir.path(), "ca -config ca.cnf -gencrl -out crl.pem");
        fs::read_to_string(self.dir.path().join("crl.pem")).unwrap()
    }
}

fn openssl(dir: &Path, args: &str) {
    let done = run(
        Command::new("openssl")
            .args(args.split(' '))
            .current_dir(dir),
        DEADLINE,
    );
    assert_eq!(done.code, 0, "openssl {args}\n{}", done.stderr);
}
