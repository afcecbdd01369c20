//! `Accept-Encoding` (RFC 9110 section 12.5.3).

use super::Coding;

/// More codings than these nobody names.
const ITEMS_MAX: usize = 32;

/// What a client gives for a coding, in thousandths; 0 = never.
type Weight = u16;

/// The coding that the client likes best among `offered`, whose order decides where it likes two the same. `None`: the body
/// as it is, because the client likes that better, or takes nothing else. `lines` are those of `Accept-Encoding`.
#[must_use]
pub fn choose(lines: &mut dyn Iterator<Item = &str>, offered: &[Coding]) -> Option<Coding> {
    let mut named = [None; 3];
    let (mut others, mut identity) = (None, None);
    for item in lines.flat_map(|line| line.split(',')).take(ITEMS_MAX) {
        let (name, weight) = parse(item)?;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let place = offered
            .iter()
            .position(|coding| is(coding.name()) || (*coding == Coding::Gzip && is("x-gzip")));
        match place.and_then(|at| named.get_mut(at)) {
            Some(slot) => *slot = Some(weight),
            None if is("*") => others = Some(weight),
            None if is("identity") => identity = Some(weight),
            None => {}
        }
    }
    let weights = offered.iter().zip(named);
    let weights = weights.map(|(coding, weight)| (*coding, weight.or(others).unwrap_or(0)));
    let best = weights.fold(None, |best: Option<(Coding, Weight)>, (coding, weight)| {
        let better = best.is_none_or(|(_, before)| weight > before);
        if better && weight > 0 {
            Some((coding, weight))
        } else {
            best
        }
    });
    // What is not named is taken, but liked least.
    best.filter(|(_, weight)| identity.is_none_or(|identity| *weight >= identity))
        .map(|(coding, _)| coding)
}

/// One item: a name, and how much it is liked. `None`: it cannot be read, and so nothing of the line is believed.
fn parse(item: &str) -> Option<(&str, Weight)> {
    let (name, parameter) = match item.split_once(';') {
        Some((name, parameter)) => (name.trim(), Some(parameter.trim())),
        None => (item.trim(), None),
    };
    let Some(parameter) = parameter else {
        return Some((name, 1000));
    };
    let value = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let part = format!("{part:0<3}").parse::<Weight>().ok()?;
    match (whole, part) {
        _ if !digits => None,
        ("0", part) => Some((name, part)),
        ("1", 0) => Some((name, 1000)),
        _ => None,
    }
}
