//! Who may ask at all: networks, files of them, countries, pages, programs and paths.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::support::{Client, Gateway, Origin, Reply, Setup, countries, run_cli, scale};

fn setup(origin: &Origin, access: &str) -> Setup {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1/32] }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\nroutes:\n\
         \x20 - {{ name: all, match: {{ path_prefix: / }}, upstream: o, access: {{ {access} }} }}\n",
        origin.url()
    ))
}

fn origin() -> Origin {
    Origin::answer(|_| Reply::ok("o"))
}

/// The status of a request of `ip`, as a trusted proxy tells it.
fn status_of(gateway: &Gateway, ip: &str) -> u16 {
    asked(gateway, "/", &[("X-Forwarded-For", ip)])
}

fn asked(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> u16 {
    gateway.client().request("GET", path, headers, b"").status
}

#[test]
fn networks_are_let_in_and_kept_out() {
    let origin = origin();
    let access = "allow_ips: [10.0.0.0/8, \"2001:db8::/32\", 192.0.2.7], deny_ips: [10.6.6.0/24, \"2001:db8:6::/48\"]";
    let gateway = setup(&origin, access).spawn();
    for (ip, status) in [
        ("10.1.2.3", 200),
        ("10.6.6.255", 403),
        ("10.6.7.0", 200),
        ("11.0.0.1", 403),
        ("192.0.2.7", 200),
        ("192.0.2.8", 403),
        ("2001:db8::1", 200),
        ("2001:db8:6::1", 403),
        ("2001:db9::1", 403),
        ("::ffff:10.1.2.3", 200),
        ("::ffff:10.6.6.1", 403),
    ] {
        assert_eq!(status_of(&gateway, ip), status, "{ip}");
    }
    let passed = origin.count();
    // Who is no proxy of ours says what it likes.
    let mut stranger = Client::from([127, 0, 0, 2], gateway.addr());
    let told = stranger.request("GET", "/", &[("X-Forwarded-For", "10.1.2.3")], b"");
    assert_eq!(
        told.expect(403).json()["type"],
        "urn:doorward:error:forbidden"
    );
    assert_eq!(origin.count(), passed);
}

#[test]
fn pages_programs_and_paths_are_kept_out() {
    let origin = origin();
    let access = "origins: [\"https://app.test\", \"https://*.app.test\"], deny_user_agents: [badbot, \"^curl/\"], deny_paths: ['\\.git', '^/admin(/|$)']";
    let gateway = setup(&origin, access).spawn();
    for (path, headers, status) in [
        ("/", &[][..], 200),
        ("/", &[("User-Agent", "Mozilla/5.0 (like curl/8)")], 200),
        ("/", &[("User-Agent", "Mozilla/5.0 BadBot/2")], 403),
        ("/", &[("User-Agent", "curl/8.0")], 403),
        (
            "/",
            &[("User-Agent", "good"), ("User-Agent", "badbot")],
            403,
        ),
        ("/.git/config", &[], 403),
        ("/%2egit/config", &[], 403),
        ("/a/../.git", &[], 403),
        ("/git", &[], 200),
        ("/admin", &[], 403),
        ("/x/..//admin/users", &[], 403),
        ("/administration", &[], 200),
        ("/", &[("Origin", "https://app.test")], 200),
        ("/", &[("Origin", "https://evil.test")], 403),
        (
            "/",
            &[
                ("Origin", "https://app.test"),
                ("Origin", "https://app.test"),
            ],
            403,
        ),
        ("/", &[("Referer", "https://x.app.test/page?a=b")], 200),
        (
            "/",
            &[("Referer", "https://evil.test/https://app.test/")],
            403,
        ),
    ] {
        assert_eq!(asked(&gateway, path, headers), status, "{path} {headers:?}");
    }
}

#[test]
fn countries_are_let_in() {
    let origin = origin();
    let networks = [
        ("192.0.2.0/24", "DE"),
        ("198.51.100.0/25", "FR"),
        ("2001:db8::/32", "DE"),
    ];
    let clause = "countries: [DE] } }\ngeoip: { file: countries.mmdb }\n#";
    let gateway = setup(&origin, clause)
        .file("countries.mmdb", countries(&networks))
        .spawn();
    for (ip, status) in [
        ("192.0.2.1", 200),
        ("198.51.100.1", 403),
        // Of no country that is known.
        ("198.51.100.200", 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
    ] {
        assert_eq!(status_of(&gateway, ip), status, "{ip}");
    }
}

#[test]
fn a_file_of_networks_is_read_again_when_it_changes() {
    let origin = origin();
    // As many as stand in a public list, and one more.
    let mut text = "# a list\n".to_owned();
    let networks = u32::try_from(scale(50_000)).unwrap();
    for at in 0..networks {
        let ip = Ipv4Addr::from_bits(0x0b00_0000 + at * 512);
        writeln!(text, "{ip}/24 ; number {at}").unwrap();
    }
    let gateway = setup(&origin, "ip_files: [bad.txt, more.txt]")
        .file("bad.txt", &text)
        .file("more.txt", "198.51.100.0/24\n")
        .spawn();
    let listed = Ipv4Addr::from_bits(0x0b00_0000 + (networks - 1) * 512 + 7).to_string();
    let statuses = || [&*listed, "198.51.100.1", "192.0.2.1"].map(|ip| status_of(&gateway, ip));
    assert_eq!(statuses(), [403, 403, 200]);
    // Written anew, and put in its place.
    let read_again = |file: &str| {
        gateway.process().wait_line(file, |line| {
            (line.contains("read again") && line.contains(file)).then_some(())
        });
    };
    std::fs::write(gateway.dir().join("bad.txt"), "192.0.2.0/24\n").unwrap();
    read_again("bad.txt");
    assert_eq!(statuses(), [200, 403, 403]);
    let new = gateway.dir().join("new.txt");
    std::fs::write(&new, "192.0.2.128/25\n").unwrap();
    std::fs::rename(&new, gateway.dir().join("more.txt")).unwrap();
    read_again("more.txt");
    assert_eq!(statuses(), [200, 200, 403]);
    // One that is broken changes nothing, and neither does one that is gone.
    let broken = "198.51.100.0/24\n192.0.2.0/33\n";
    std::fs::write(gateway.dir().join("bad.txt"), broken).unwrap();
    let said = gateway.process().wait_log("those before hold on");
    assert!(said.contains("line 2"), "{said}");
    assert_eq!(statuses(), [200, 200, 403]);
    std::fs::remove_file(gateway.dir().join("more.txt")).unwrap();
    gateway.process().wait_log("No such file");
    assert_eq!(status_of(&gateway, "192.0.2.200"), 403);
    // A reload refuses what would not be read.
    let reload = run_cli(&["check"], gateway.dir());
    assert_eq!(reload.code, 78, "{}", reload.stderr);
    assert!(
        reload.stderr.contains("E030") && reload.stderr.contains("E007"),
        "{}",
        reload.stderr
    );
}

#[test]
fn the_gateway_tells_why_somebody_is_kept_out() {
    let origin = origin();
    let gateway = setup(&origin, "deny_ips: [127.0.0.0/8]").spawn();
    let told = run_cli(&["explain", "GET", "http://127.0.0.1/"], gateway.dir()).stdout;
    let why = "access: refused (its network is one of `deny_ips`)";
    assert!(told.contains(why), "{told}");
}
