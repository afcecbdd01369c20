//! Under systemd: the unit is one that it takes and shuts in, and it hears how far the gateway is.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::support::{DEADLINE, Output, Setup, debian, run};

/// `systemd-analyze` on the unit, with the binary under test in the place of the installed one.
fn analyze(words: &[&str]) -> Output {
    let dir = TempDir::new().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/doorward.service");
    let unit = std::fs::read_to_string(path).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/doorward run\n"), "{unit}");
    let unit = unit
        .replace("/usr/bin/doorward", env!("CARGO_BIN_EXE_doorward"))
        // The manual page is not installed where tests run.
        .replace("man:doorward(1) ", "");
    let copy = dir.path().join("doorward.service");
    std::fs::write(&copy, unit).unwrap();
    let mut command = Command::new(debian("systemd", "systemd-analyze"));
    run(command.args(words).arg(&copy), DEADLINE)
}

#[test]
fn the_unit_has_nothing_that_systemd_complains_of() {
    let verified = analyze(&["verify"]);
    let said = verified.stdout + &verified.stderr;
    let about_us: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("doorward"))
        .collect();
    assert_eq!((verified.code, about_us), (0, Vec::new()), "{said}");
}

#[test]
fn the_unit_leaves_little_open() {
    let judged = analyze(&["security", "--offline=true", "--threshold=20"]);
    let said = judged.stdout + &judged.stderr;
    assert!(said.contains("Overall exposure level"), "{said}");
    // The threshold is in tenths: beyond 2.0 it ends with an error.
    assert_eq!(judged.code, 0, "{said}");
}

#[test]
fn systemd_hears_when_it_is_ready_reloading_and_stopping() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = || {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let config = "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\n\
                  routes: [{ name: a, match: { path: /a }, respond: {} }]\n";
    let setup = Setup::new(config).env("NOTIFY_SOCKET", path.to_str().unwrap());
    let gateway = setup.spawn();
    let ready = hear();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(ready.contains("STATUS=generation 1 is in force"), "{ready}");
    for (text, status) in [
        (config.to_owned(), "STATUS=generation 2 is in force"),
        (
            config.replace("path:", "pth:"),
            "STATUS=the new config is invalid, the old one was kept",
        ),
        (
            format!("{config}admin: {{ socket: admin.sock }}\n"),
            "STATUS=the new config needs a restart, the old one was kept",
        ),
    ] {
        gateway.write_config(&text);
        gateway.process().signal("HUP");
        let reloading = hear();
        assert!(reloading.starts_with("RELOADING=1"), "{reloading}");
        let done = hear();
        assert!(
            done.starts_with("READY=1\n") && done.contains(status),
            "{done}"
        );
    }
    gateway.process().signal("TERM");
    let stopping = hear();
    assert!(stopping.starts_with("STOPPING=1"), "{stopping}");
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}

/// A socket that hears what systemd would, and how to listen to it.
fn systemd(dir: &TempDir) -> (String, impl Fn() -> String) {
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = move || {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(message.get(..length).unwrap()).into_owned()
    };
    (path.to_str().unwrap().to_owned(), hear)
}

const CONFIG: &str = "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\n\
                      routes: [{ name: a, match: { path: /a }, respond: {} }]\n";

#[test]
fn the_watchdog_hears_that_the_process_lives_until_it_ends() {
    let dir = TempDir::new().unwrap();
    let (socket, hear) = systemd(&dir);
    let gateway = Setup::new(CONFIG)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "40000")
        .spawn();
    let mut heard = vec![hear()];
    assert!(heard[0].starts_with("READY=1\n"), "{heard:?}");
    let beats = |heard: &[String]| heard.iter().filter(|m| m.trim() == "WATCHDOG=1").count();
    while beats(&heard) < 3 {
        heard.push(hear());
    }
    // It goes on while the process waits for a client that is idle.
    let client = gateway.client();
    gateway.client().get("/a").expect(200);
    gateway.process().signal("TERM");
    while !hear().starts_with("STOPPING=1\nSTATUS=stopping, ") {}
    heard.clear();
    while beats(&heard) < 3 {
        heard.push(hear());
    }
    drop(client);
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}

#[test]
fn the_watchdog_of_another_process_hears_nothing() {
    for (usec, pid) in [(None, None), (Some("2000"), Some("1")), (Some("0"), None)] {
        let dir = TempDir::new().unwrap();
        let (socket, hear) = systemd(&dir);
        let mut setup = Setup::new(CONFIG).env("NOTIFY_SOCKET", &socket);
        for (name, value) in [("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)] {
            if let Some(value) = value {
                setup = setup.env(name, value);
            }
        }
        let gateway = setup.spawn();
        let mut heard = vec![hear()];
        // In this time there would be hundreds of beats.
        let client = gateway.client();
        gateway.process().signal("TERM");
        assert_eq!(gateway.process().wait_exit().code(), Some(0));
        drop(client);
        while !heard.last().unwrap().starts_with("STOPPING=1") {
            heard.push(hear());
        }
        assert!(
            !heard.iter().any(|message| message.contains("WATCHDOG")),
            "{heard:?}"
        );
    }
}

#[test]
fn the_unit_gives_the_process_time_to_end() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/doorward.service");
    let unit = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    let seconds = |key: &str| -> u64 {
        let value = unit.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap().parse().unwrap()
    };
    // `runtime.drain` has 60 s at most unless it is said otherwise.
    assert!(seconds("TimeoutStopSec=") > 60);
    assert!(seconds("WatchdogSec=") > 0);
}
