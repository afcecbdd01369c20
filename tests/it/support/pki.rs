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
        self.issue_until(names, None)
    }

    /// A certificate that was over long ago.
    pub(crate) fn expired(&self, names: &[&str]) -> Pair {
        self.issue_until(names, Some("20200201000000Z"))
    }

    fn issue_until(&self, names: &[&str], until: Option<&str>) -> Pair {
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
                "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {number}.key -out {number}.csr -subj /CN={} -config ca.cnf -addext subjectAltName={alternatives}",
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
