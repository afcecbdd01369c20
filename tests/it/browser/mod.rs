//! Real web servers behind the gateway, and a real browser in front of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::support::{
    Browser, Gateway, Nginx, Node, Origin, PythonFiles, Reply, chromium_dump, free_port,
};

/// The application behind `/app`.
const APP: &str = include_str!("app.cjs");

/// A picture of 2 x 3 points.
const PICTURE: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"2\" height=\"3\"/>";

/// One page of an index, its style, its script, a module that the script brings, a picture and a table of data.
const INDEX: &str = r#"<!doctype html>
<link rel="stylesheet" href="style/main.css">
<script src="/app/script.js"></script>
<img id="picture" src="./style/../picture.svg?v=1">
<p id="coloured">text</p>
<p><a href="docs">docs</a></p>"#;

/// What that page is made of, told when everything has come.
const INDEX_REPORT: &str = r#"
  await new Promise(done => document.readyState === "complete" ? done() : addEventListener("load", done));
  const { part } = await import("./part.mjs");
  return {
    style: getComputedStyle(document.getElementById("coloured")).color,
    picture: [picture.naturalWidth, picture.naturalHeight],
    script: window.fromScript,
    module: part,
    data: await (await fetch("data.json")).json(),
  };"#;

#[test]
fn pages_of_python_come_with_their_parts() {
    let files = tempfile::tempdir().unwrap();
    write_site(files.path());
    let python = PythonFiles::start(files.path());
    assert_eq!(Site::new(&python.url(), "").report("/app/"), site_report());
}

#[test]
fn pages_of_nginx_come_with_their_parts() {
    let nginx = Nginx::start(
        "types { text/html html; text/css css; text/javascript js mjs; image/svg+xml svg; application/json json; }
         gzip on; gzip_min_length 1; gzip_proxied any; gzip_types text/css text/javascript application/json;",
    );
    write_site(nginx.dir());
    assert_eq!(Site::new(&nginx.url(), "").report("/app/"), site_report());
}

#[test]
fn pages_of_node_come_with_their_parts() {
    let node = Node::start(
        r#"const http = require("http"), fs = require("fs");
        const types = { html: "text/html", css: "text/css", js: "text/javascript", mjs: "text/javascript", svg: "image/svg+xml" };
        const server = http.createServer((request, response) => {
          const name = request.url.split("?")[0].replace(/\/$/, "/index.html");
          response.setHeader("content-type", types[name.split(".").pop()] ?? "text/plain");
          fs.createReadStream("." + name).pipe(response);
        });
        server.listen(0, "127.0.0.1", () => console.log(server.address().port));"#,
    );
    write_site(node.dir());
    assert_eq!(Site::new(&node.url(), "").report("/app/"), site_report());
}

#[test]
fn a_listing_of_python_is_browsed_by_its_links() {
    let files = tempfile::tempdir().unwrap();
    let docs = files.path().join("docs");
    std::fs::create_dir_all(docs.join("sub")).unwrap();
    for (name, text) in [
        ("a b.html", "spaced"),
        ("50%.html", "percent"),
        ("grün.html", "green"),
        ("x+y&z=1.html", "signs"),
    ] {
        std::fs::write(docs.join(name), text).unwrap();
    }
    std::fs::write(docs.join("sub/deep.html"), "deep").unwrap();
    let script = r#"
      const frame = document.createElement("iframe");
      const go = act => new Promise(done => { frame.onload = () => done(frame.contentDocument); act(); });
      const link = name => [...frame.contentDocument.querySelectorAll("a")].find(a => a.textContent === name);
      frame.src = "docs";
      const list = await go(() => document.body.append(frame));
      const found = { title: list.title, at: list.location.pathname, names: [...list.querySelectorAll("a")].map(a => a.textContent) };
      for (const name of found.names.filter(name => name !== "sub/")) {
        found[name] = (await go(() => link(name).click())).body.textContent;
        await go(() => frame.contentWindow.history.back());
      }
      found.sub = (await go(() => link("sub/").click())).title;
      found.deep = (await go(() => link("deep.html").click())).body.textContent;
      return found;"#;
    std::fs::write(files.path().join("index.html"), page("", script)).unwrap();
    let python = PythonFiles::start(files.path());
    let found = Site::new(&python.url(), "").report("/app/");
    let expected = json!({
        "title": "Directory listing for /docs/",
        "at": "/app/docs/",
        "names": ["50%.html", "a b.html", "grün.html", "sub/", "x+y&z=1.html"],
        "50%.html": "percent", "a b.html": "spaced", "grün.html": "green", "x+y&z=1.html": "signs",
        "sub": "Directory listing for /docs/sub/",
        "deep": "deep",
    });
    assert_eq!(found, expected);
}

#[test]
fn redirects_lead_back_through_the_gateway() {
    let script = r#"
      const found = {};
      for (const name of ["absolute", "path", "relative", "chain"]) {
        const response = await fetch(`redirect/${name}`);
        found[name] = [response.status, response.url.replace(location.origin, "")];
      }
      for (const name of ["see-other", "keep"]) {
        const response = await fetch(`redirect/${name}`, { method: "POST", body: "sent" });
        found[name] = await response.json();
      }
      return found;"#;
    let site = Site::node("", script);
    let expected = json!({
        "absolute": [200, "/app/landed?from=absolute"],
        "path": [200, "/app/landed?from=path"],
        "relative": [200, "/app/landed?from=relative"],
        "chain": [200, "/app/landed?from=path"],
        "see-other": { "method": "GET", "url": "/landed?from=see-other", "body": "" },
        "keep": { "method": "POST", "url": "/landed?from=keep", "body": "sent" },
    });
    assert_eq!(site.report("/app/page.html"), expected);
}

#[test]
fn a_page_is_reached_by_a_redirect() {
    let site = Site::node("", "return 'the wrong page'");
    site.write(
        "landed.html",
        &page("", "return location.href.replace(location.origin, '')"),
    );
    assert_eq!(
        site.report("/app/redirect/page"),
        "/app/landed.html?from=page#part"
    );
}

#[test]
fn nginx_sends_to_a_folder_through_the_gateway() {
    let nginx = Nginx::start("types { text/html html; }");
    std::fs::create_dir(nginx.dir().join("docs")).unwrap();
    let script = "return location.href.replace(location.origin, '')";
    std::fs::write(nginx.dir().join("docs/index.html"), page("", script)).unwrap();
    let site = Site::new(&nginx.url(), "");
    assert_eq!(site.report("/app/docs?a=1"), "/app/docs/?a=1");
}

#[test]
fn cookies_of_the_upstream_become_cookies_of_the_gateway() {
    let script = r#"
      await fetch("login");
      const seen = document.cookie;
      const me = await (await fetch("account/me")).json();
      const other = await (await fetch("other")).json();
      const outside = await (await fetch("/outside")).text();
      return { seen, me, other, outside };"#;
    let site = Site::node_with("host: app.internal", "", script);
    let expected = json!({
        // `session` is hidden from scripts, and belongs to another path.
        "seen": "theme=dark; here=1",
        "me": { "cookie": "session=s1; theme=dark; here=1", "host": "app.internal" },
        "other": { "cookie": "theme=dark; here=1" },
        // The application's cookies are not for its neighbours.
        "outside": "",
    });
    assert_eq!(site.report("/app/page.html"), expected);
}

#[test]
fn a_form_uploads_its_files() {
    let script = r#"
      const bytes = new Uint8Array(5_000_000).map((_, i) => (i * 31 + (i >> 8)) & 255);
      const digest = await crypto.subtle.digest("SHA-256", bytes);
      const form = new FormData();
      form.set("title", "Grüße");
      form.set("empty", new File([], "none.txt"));
      form.set("picture", new File([bytes], "big picture.bin", { type: "application/octet-stream" }));
      const answer = await (await fetch("upload", { method: "POST", body: form })).json();
      answer.same = answer.parts[2].sha256 === [...new Uint8Array(digest)].map(b => b.toString(16).padStart(2, "0")).join("");
      for (const part of answer.parts) delete part.sha256;
      answer.whole = answer.length > 5_000_000;
      delete answer.length;
      return answer;"#;
    let site = Site::node("", script);
    let expected = json!({
        "parts": [
            { "name": "title", "file": null, "size": 7, "text": "Grüße" },
            { "name": "empty", "file": "none.txt", "size": 0, "text": "" },
            { "name": "picture", "file": "big picture.bin", "size": 5_000_000, "text": null },
        ],
        "same": true,
        "whole": true,
    });
    assert_eq!(site.report("/app/page.html"), expected);
}

#[test]
fn a_form_without_scripts_is_sent() {
    let markup = r#"<iframe name="result"></iframe>
      <form action="uploaded.html" method="post" enctype="multipart/form-data" target="result">
        <input name="city" value="Köln"><button name="go" value="now">Send</button>
      </form>"#;
    let script = r#"
      const frame = document.querySelector("iframe");
      const loaded = new Promise(done => frame.addEventListener("load", done));
      document.querySelector("button").click();
      await loaded;
      return JSON.parse(frame.contentDocument.querySelector("pre").textContent).map(part => [part.name, part.text]);"#;
    let site = Site::node(markup, script);
    assert_eq!(
        site.report("/app/page.html"),
        json!([["city", "Köln"], ["go", "now"]])
    );
}

#[test]
fn server_sent_events_come_one_by_one() {
    // The application sends an event only when the page says that it has the one before: one that is held back
    // anywhere on the way is the last.
    let script = r#"
      const source = new EventSource("events");
      const events = [];
      await new Promise(done => {
        source.onmessage = async event => {
          events.push([event.lastEventId, event.data]);
          if (events.length === 5) return done();
          await fetch("ack", { method: "POST", body: event.lastEventId });
        };
      });
      source.close();
      return events;"#;
    let site = Site::node("", script);
    // The stream ends after the third; the browser comes back and says what it had.
    let expected = json!([
        ["1", "event 1"],
        ["2", "event 2"],
        ["3", "event 3"],
        ["4", "event 4"],
        ["5", "event 5"]
    ]);
    assert_eq!(site.report("/app/page.html"), expected);
}

#[test]
fn a_web_socket_echoes() {
    let script = r#"
      const socket = new WebSocket(new URL("socket", location.href).href.replace("http", "ws"), ["echo"]);
      socket.binaryType = "arraybuffer";
      const message = () => new Promise(done => { socket.onmessage = event => done(event.data); });
      await new Promise((done, fail) => { socket.onopen = done; socket.onerror = () => fail("no connection"); });
      const texts = [];
      for (const text of ["hello", "Grüße", "x".repeat(1000)]) {
        socket.send(text);
        texts.push((await message()) === text);
      }
      const bytes = new Uint8Array(300_000).map((_, i) => i * 7);
      socket.send(bytes);
      const back = new Uint8Array(await message());
      const closed = new Promise(done => { socket.onclose = event => done([event.code, event.reason, event.wasClean]); });
      socket.close(1000, "enough");
      return { protocol: socket.protocol, texts, bytes: back.length === bytes.length && back.every((b, i) => b === bytes[i]), closed: await closed };"#;
    let site = Site::node("", script);
    let expected = json!({ "protocol": "echo", "texts": [true, true, true], "bytes": true, "closed": [1000, "enough", true] });
    assert_eq!(site.report("/app/page.html"), expected);
}

#[test]
fn nginx_ranges_and_revalidation_pass() {
    let nginx = Nginx::start(
        "types { text/html html; text/plain txt; } add_header cache-control no-cache;",
    );
    std::fs::write(nginx.dir().join("text.txt"), "0123456789").unwrap();
    let script = r#"
      const part = await fetch("text.txt", { headers: { range: "bytes=2-4" } });
      const first = await fetch("text.txt");
      const found = { part: [part.status, await part.text(), part.headers.get("content-range")], first: await first.text() };
      const again = await fetch("text.txt");
      found.again = await again.text();
      const by_tag = await fetch("text.txt", { cache: "no-store", headers: { "if-none-match": first.headers.get("etag") } });
      found.by_tag = by_tag.status;
      return found;"#;
    std::fs::write(nginx.dir().join("page.html"), page("", script)).unwrap();
    let found = Site::new(&nginx.url(), "").report("/app/page.html");
    let expected = json!({ "part": [206, "234", "bytes 2-4/10"], "first": "0123456789", "again": "0123456789", "by_tag": 304 });
    assert_eq!(found, expected);
}

#[test]
fn browsers_get_a_page_for_what_is_not_there() {
    let site = Site::new("http://127.0.0.1:9", "");
    let dom = chromium_dump(&site.url("/nothing-here"), &[]);
    assert!(dom.contains("<h1>404 "), "{dom}");
    assert!(dom.contains("<title>404 "), "{dom}");
    assert!(dom.contains("<small>Request "), "{dom}");
}

#[test]
fn browsers_get_a_page_when_the_upstream_is_down() {
    let site = Site::new(&format!("http://127.0.0.1:{}", free_port()), "");
    let dom = chromium_dump(&site.url("/app/"), &[]);
    assert!(dom.contains("<h1>502 "), "{dom}");
    assert!(
        !dom.contains("127.0.0.1"),
        "the page tells where the upstream is: {dom}"
    );
}

#[test]
fn error_pages_of_the_upstream_are_its_own() {
    let nginx = Nginx::start("error_page 404 /sorry.html; types { text/html html; }");
    std::fs::write(nginx.dir().join("sorry.html"), "<h1>Sorry of nginx</h1>").unwrap();
    let site = Site::new(&nginx.url(), "");
    let dom = chromium_dump(&site.url("/app/nothing"), &[]);
    assert!(dom.contains("<h1>Sorry of nginx</h1>"), "{dom}");
}

/// What a page of another origin can do with `/api`, told to the gateway of the address behind its `?`.
const CROSS_ORIGIN: &str = r#"
  const gateway = "http://" + location.search.slice(1), found = {};
  const ask = async (name, path, init) => {
    try {
      const answer = await fetch(gateway + path, init);
      found[name] = [answer.status, answer.headers.get("x-total"), answer.headers.get("x-other")];
    } catch { found[name] = "refused"; }
  };
  await ask("simple", "/api/a", { credentials: "include" });
  await ask("preflighted", "/api/a", { method: "PUT", headers: { "x-token": "t" } });
  await ask("method", "/api/a", { method: "DELETE" });
  await ask("header", "/api/a", { headers: { "x-unknown": "t" } });
  await ask("closed", "/closed", { method: "PUT" });
  await ask("dead", "/dead", { method: "PUT" });
  await ask("nothing", "/nothing");
  return found;"#;

#[test]
fn pages_of_other_origins_read_what_they_may() {
    let asked =
        Origin::answer(|_| Reply::fixed(200, &[("x-total", "7"), ("x-other", "8")], "read"));
    let script = CROSS_ORIGIN.replace("return found;", "await fetch(gateway + '/report', { method: 'POST', mode: 'no-cors', body: JSON.stringify(found) });");
    let html = format!(
        "<!doctype html><link rel=\"icon\" href=\"data:,\"><script type=\"module\">{script}</script>"
    );
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("index.html"), html).unwrap();
    let pages = [0, 1].map(|_| PythonFiles::start(files.path()));
    let reports = Origin::answer(|_| Reply::fixed(204, &[], ""));
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams:\n  o: {{ targets: [{{ url: \"{}\" }}] }}\n  reports: {{ targets: [{{ url: \"{}\" }}] }}\n\
         \x20 dead: {{ targets: [{{ url: \"http://127.0.0.1:{}\" }}] }}\n\
         defaults: {{ routes: {{ cors: {{ origins: [\"{}\"], methods: [GET, PUT], headers: [x-token], expose: [x-total], credentials: true }} }} }}\n\
         routes:\n  - {{ name: api, match: {{ path_prefix: /api, methods: [GET, PUT] }}, upstream: o }}\n\
         \x20 - {{ name: closed, match: {{ path: /closed }}, upstream: o, maintenance: {{}} }}\n\
         \x20 - {{ name: dead, match: {{ path: /dead }}, upstream: dead }}\n\
         \x20 - {{ name: report, match: {{ path: /report, methods: [POST] }}, upstream: reports }}\n",
        asked.url(),
        reports.url(),
        free_port(),
        pages[0].url()
    ));
    let report = |page: &PythonFiles, nth: u64| {
        let browser = Browser::open(&format!("{}/?{}", page.url(), gateway.addr()));
        let report = reports.wait_for(nth).pop().unwrap();
        drop(browser);
        report.json()
    };
    let read = json!([200, "7", null]);
    let expected = json!({
        "simple": read, "preflighted": read, "method": "refused", "header": "refused",
        "closed": [503, null, null], "dead": [502, null, null], "nothing": [404, null, null],
    });
    assert_eq!(report(&pages[0], 1), expected);
    // Without credentials of its own, and without asking the upstream: one request for each that passed.
    assert_eq!(asked.count(), 2);
    let foreign = report(&pages[1], 2);
    let answers = foreign.as_object().unwrap();
    assert_eq!(answers.len(), 7);
    assert!(
        answers.values().all(|answer| answer == "refused"),
        "{foreign}"
    );
    let methods: Vec<String> = asked
        .requests()
        .iter()
        .map(|request| request.method.clone())
        .collect();
    // What changes nothing is sent by a browser without asking; what may is not sent at all.
    assert_eq!(methods, ["GET", "PUT", "GET"]);
}

/// A gateway with an application behind `/app`, and an origin to which pages tell what they found.
struct Site {
    gateway: Gateway,
    reports: Origin,
    node: Option<Node>,
}

impl Site {
    /// The application at that URL believes to be at the root: `/app` is taken off. `request` may change more.
    fn new(url: &str, request: &str) -> Self {
        let reports = Origin::answer(|_| Reply::fixed(204, &[], ""));
        let gateway = Gateway::spawn(&format!(
            r#"
version: 1
listeners: {{ public: {{ address: "127.0.0.1:0" }} }}
upstreams:
  app: {{ targets: [{{ url: "{url}" }}] }}
  reports: {{ targets: [{{ url: "{}" }}] }}
routes:
  - {{ name: app, match: {{ path_prefix: /app }}, request: {{ path: "{{path}}", {request} }}, upstream: app }}
  - {{ name: outside, match: {{ path: /outside }}, respond: {{ text: "{{request.headers.cookie}}" }} }}
  - {{ name: report, match: {{ path: /report, methods: [POST] }}, upstream: reports }}
"#,
            reports.url()
        ));
        Self {
            gateway,
            reports,
            node: None,
        }
    }

    /// The application of `app.cjs`, with one page.
    fn node(markup: &str, script: &str) -> Self {
        Self::node_with("", markup, script)
    }

    fn node_with(request: &str, markup: &str, script: &str) -> Self {
        let node = Node::start(APP);
        let mut site = Self::new(&node.url(), request);
        site.node = Some(node);
        site.write("page.html", &page(markup, script));
        site
    }

    fn write(&self, name: &str, text: &str) {
        let node = self.node.as_ref().expect("a site of node");
        std::fs::write(node.dir().join(name), text).unwrap();
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.gateway.addr())
    }

    /// Opens a page and waits for what it has to tell.
    #[track_caller]
    fn report(&self, target: &str) -> Json {
        let browser = Browser::open(&self.url(target));
        let report = self.reports.wait_for(1).remove(0);
        drop(browser);
        report.json()
    }
}

/// A page that tells what its script returns, or what stopped it.
fn page(markup: &str, script: &str) -> String {
    format!(
        r#"<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>{markup}<script type="module">
const report = value => fetch("/report", {{ method: "POST", body: JSON.stringify(value) }});
(async () => {{{script}}})().then(report, error => report({{ error: String(error?.stack ?? error) }}));
</script>"#
    )
}

fn write_site(dir: &Path) {
    std::fs::create_dir(dir.join("style")).unwrap();
    for (name, text) in [
        ("index.html", page(INDEX, INDEX_REPORT).as_bytes()),
        ("style/main.css", b"#coloured { color: rgb(1, 2, 3) }"),
        ("script.js", b"window.fromScript = 'ran'"),
        ("part.mjs", b"export const part = 'imported'"),
        ("data.json", br#"{"rows":[1,2]}"#),
        ("picture.svg", PICTURE),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

fn site_report() -> Json {
    json!({
        "style": "rgb(1, 2, 3)",
        "picture": [2, 3],
        "script": "ran",
        "module": "imported",
        "data": { "rows": [1, 2] },
    })
}
