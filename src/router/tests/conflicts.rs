//! Which rules tie, and which can never match.

use super::*;

/// The pairs that tie.
fn conflicts(rules: Vec<Rule<u32>>) -> Vec<(u32, u32)> {
    let conflicts = build(rules).err().unwrap_or_default();
    conflicts
        .iter()
        .map(|conflict| (conflict.first, conflict.second))
        .collect()
}

/// The rules that can never match, each with what stands in its way.
fn shadows(texts: &[&str]) -> Vec<(u32, u32)> {
    let warnings = build(rules(texts))
        .unwrap_or_else(|c| panic!("{c:?}"))
        .warnings;
    let by = |warning: &Warning<u32>| match warning.reason {
        Reason::Shadowed { by } => Some((warning.rule, by)),
        Reason::NeverInTime | Reason::NoMethod => None,
    };
    warnings.iter().filter_map(by).collect()
}

#[test]
fn rules_that_nothing_tells_apart_conflict() {
    let tie = |texts: &[&str]| conflicts(rules(texts));
    assert_eq!(tie(&["/a", "/a"]), [(0, 1)]);
    assert_eq!(tie(&["x,y/a", "z,Y./a"]), [(0, 1)]);
    assert_eq!(tie(&["GET,POST /a", "HEAD,PUT /a"]), [(0, 1)]);
    assert_eq!(tie(&["PURGE /a", "/a"]), [(0, 1)]);
    assert_eq!(tie(&["/{x}", "/{y}"]), [(0, 1)]);
    assert_eq!(tie(&["/a/**", "/a//**"]), [(0, 1)]);
    assert_eq!(tie(&["/a/{x}/c", "/a/b/{y}"]), [(0, 1)]);
    assert_eq!(tie(&["/{x:[a-b]}/c", "/a/{y:[c-d]}"]), [(0, 1)]);
    assert_eq!(tie(&["/a/{x}/{r*}", "/{x}/b/{s*}"]), [(0, 1)]);
    assert_eq!(tie(&["x~/a.*", "x~/b.*"]), [(0, 1)]);
    assert_eq!(tie(&["GET /a", "POST /a", "PURGE /a", "BREW /a"]), []);
    assert_eq!(tie(&["x/a", "*.x/a", "/a"]), []);
    assert_eq!(tie(&["/a/{x}/c", "/b/{x}/c", "/a/{x}/d", "/a/b/{y}/c"]), []);
    assert_eq!(tie(&["/{x:[a-b]}/c", "/c/{y:[c-d]}"]), []);
    assert_eq!(tie(&["/a/{x}/", "/a/b/{y}"]), []);
    assert_eq!(tie(&["x~/a.*", "y~/a.*", "POST ~/", "PUT ~/"]), []);
}

#[test]
fn conditions_that_exclude_each_other_do_not_conflict() {
    type Change = fn(&mut Conditions, u32);
    let apart: [Change; 7] = [
        |c, i| c.headers = vec![("x-a".parse().unwrap(), Test::Exact(i.to_string().into()))],
        |c, i| c.query = vec![("a".into(), Test::Exact(i.to_string().into()))],
        |c, i| c.cookies = vec![("a".into(), Test::Exact(i.to_string().into()))],
        |c, i| c.client_ips = vec![format!("10.{}.{}.0/24", i / 256, i % 256).parse().unwrap()],
        |c, i| (c.after, c.before) = (Some(i64::from(i) * 10), Some(i64::from(i) * 10 + 10)),
        |c, i| c.version = Some(version(&[i.to_string(), format!("{i}b")])),
        |c, i| c.headers = vec![("x-a".parse().unwrap(), Test::Prefix(format!("{i}-").into()))],
    ];
    for change in apart {
        for (count, twin) in [(2_u32, 0_u32), (40, 0), (40, 39)] {
            let changed = (0..count).map(|i| {
                let mut rule = rule(i, "/a");
                change(&mut rule.conditions, i);
                rule
            });
            let mut list: Vec<_> = changed.collect();
            assert_eq!(conflicts(list.clone()), []);
            let mut second = list.iter().find(|rule| rule.id == twin).unwrap().clone();
            second.id = 100;
            list.push(second);
            assert_eq!(conflicts(list), [(twin, 100)]);
        }
    }
    let pair = |one: Option<VersionMatch>, two: Option<VersionMatch>| {
        let mut list = rules(&["/a", "/a"]);
        (list[0].conditions.version, list[1].conditions.version) = (one, two);
        conflicts(list).len()
    };
    let of = |texts: &str| {
        let texts: Vec<_> = texts.split(' ').map(str::to_owned).collect();
        Some(version(&texts))
    };
    assert_eq!(pair(of("1 none"), of("2 none")), 1);
    assert_eq!(pair(of("1 none"), of("2")), 0);
    assert_eq!(pair(of("1 3"), of("2 3")), 1);
}

/// `none` stands for requests that name no version.
fn version(any_of: &[String]) -> VersionMatch {
    VersionMatch {
        location: VersionLocation::Query("v".into()),
        any_of: any_of.iter().filter(|v| *v != "none").cloned().collect(),
        default: any_of.contains(&"none".to_owned()),
    }
}

#[test]
fn rules_that_others_cover_are_reported() {
    assert_eq!(shadows(&["/a/{r*}", "/a/b/**", "/a/**", "/a/b"]), [(1, 0)]);
    assert_eq!(shadows(&["/{r*}", "/**", "~/x"]), [(1, 0), (2, 0)]);
    assert_eq!(shadows(&["x/**", "x~/x", "~/x"]), [(1, 0)]);
    assert_eq!(
        shadows(&["GET /{x}/{r*}", "POST /a/{r*}", "GET,POST /a/b/**"]),
        [(2, 1)]
    );
    assert_eq!(
        shadows(&["GET /{x}/{r*}", "POST /a/{r*}", "GET,PUT /a/b/**"]),
        []
    );
    let mut list = rules(&["GET /a", "POST /a", "GET,POST /a", "x,y/a", "x/a", "y/a"]);
    list[0].priority = 2;
    list[1].priority = 1;
    list[4].priority = 1;
    list[5].priority = -1;
    let warnings = build(list.clone()).ok().unwrap().warnings;
    let by = |rule, by| Warning {
        rule,
        reason: Reason::Shadowed { by },
    };
    assert_eq!(warnings, [by(2, 0), by(5, 3)]);
    list[5].priority = 1;
    list[2].conditions.after = Some(5);
    list[2].conditions.before = Some(5);
    list[1].methods = Methods::none();
    let warnings = build(list).ok().unwrap().warnings;
    let reasons: Vec<_> = warnings.iter().map(|w| (w.rule, w.reason)).collect();
    assert_eq!(
        reasons,
        [
            (1, Reason::NoMethod),
            (2, Reason::NeverInTime),
            (3, Reason::Shadowed { by: 4 })
        ]
    );
}
