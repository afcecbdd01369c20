//! Problems as a person reads them: file:line:col, the line itself, a caret, a hint.

use std::io::IsTerminal as _;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value as Json, json};

use super::args::{Color, Format, Global};
use super::{print, say};
use crate::base::problem::{Mark, Problem, Severity};
use crate::config::{Loaded, Veil};

/// Prints what is wrong with a config.
pub(crate) fn problems(loaded: &Loaded, global: &Global) {
    match global.format {
        Format::Human => {
            let text = human(loaded, &renderer(global.color));
            if !text.is_empty() {
                say(text.trim_end());
            }
        }
        Format::Json => print(&format!("{}\n", json_report(loaded))),
    }
}

/// The report for people, without colours.
#[must_use]
pub fn plain(loaded: &Loaded) -> String {
    human(loaded, &Renderer::plain())
}

fn renderer(color: Color) -> Renderer {
    if colored(color) {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
}

/// Whether to use colours.
fn colored(color: Color) -> bool {
    use crate::config::source::Environment;
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && !Environment::is_set("NO_COLOR"),
    }
}

/// The report for people.
#[must_use]
fn human(loaded: &Loaded, renderer: &Renderer) -> String {
    let mut out = String::new();
    let veil = loaded.veil();
    for problem in sorted(loaded) {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        out.push_str(&one((loaded, &veil), problem, level, renderer));
        out.push_str("\n\n");
    }
    let more = loaded.problems.left_out();
    if more > 0 {
        out.push_str(&format!("and {more} more\n"));
    }
    let errors = loaded
        .problems
        .list()
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    match errors.count() + more {
        0 => {}
        1 => out.push_str("1 error\n"),
        errors => out.push_str(&format!("{errors} errors\n")),
    }
    out
}

fn sorted(loaded: &Loaded) -> Vec<&Problem> {
    let mut problems: Vec<&Problem> = loaded.problems.list().iter().collect();
    problems.sort_by_key(|problem| (problem.severity == Severity::Warning, loaded.mark(problem)));
    problems
}

/// The findings of an audit, each with its weight.
pub(super) fn findings(loaded: &Loaded, findings: &[(&Problem, &str)], global: &Global) {
    let renderer = renderer(global.color);
    let veil = loaded.veil();
    for (problem, weight) in findings {
        let level = match *weight {
            "high" => Level::ERROR,
            "medium" => Level::WARNING,
            _ => Level::NOTE,
        };
        print(&one(
            (loaded, &veil),
            problem,
            level.with_name(*weight),
            &renderer,
        ));
        print("\n\n");
    }
}

fn one(
    (loaded, veil): (&Loaded, &Veil),
    problem: &Problem,
    level: Level<'_>,
    renderer: &Renderer,
) -> String {
    let mark = loaded.mark(problem);
    let words = |words: &str| veil.words(problem, words);
    let what = words(&problem.what);
    let hint = problem.hint.as_deref().map(words);
    let label = problem.label.as_deref().map(words);
    let title = level.primary_title(what.as_str()).id(problem.code);
    let mut group = Group::with_title(title);
    let help = || Level::HELP.with_name("hint");
    let Some(source) = loaded.sources.get(mark.file) else {
        if let Some(hint) = &hint {
            group = group.element(help().message(hint.as_str()));
        }
        return renderer.render(&[group]);
    };
    let path = source.path.display().to_string();
    let text = veil.text(mark.file);
    let mut annotation = AnnotationKind::Primary.span(span(text, mark));
    if let Some(label) = &label {
        annotation = annotation.label(label.as_str());
    }
    let mut snippet = Snippet::source(text)
        .path(path.as_str())
        .fold(true)
        .annotation(annotation);
    let also = problem
        .also
        .as_ref()
        .map(|(place, label)| (loaded.mark_of(place), label));
    if let Some((other, label)) = also.filter(|(other, _)| other.file == mark.file) {
        let span = span(text, other);
        snippet = snippet.annotation(AnnotationKind::Context.span(span).label(label.as_str()));
    }
    group = group.element(snippet);
    if let Some((other, label)) = also {
        let file = loaded
            .sources
            .get(other.file)
            .map(|source| source.path.display().to_string())
            .unwrap_or_default();
        let note = format!("{label} at {file}:{}:{}", other.line, other.col);
        group = group.element(Level::NOTE.message(note));
    }
    if let Some(hint) = &hint {
        group = group.element(help().message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// A mark as bytes of the text: at least one character, at most the rest of the line.
fn span(text: &str, mark: Mark) -> std::ops::Range<usize> {
    let mut start = 0;
    for _ in 1..mark.line {
        let rest = text.get(start..).unwrap_or_default();
        start += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }
    let line = text
        .get(start..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    let from = byte_of(line, mark.col.saturating_sub(1));
    let to = byte_of(line, mark.col.saturating_sub(1) + mark.len).max((from + 1).min(line.len()));
    start + from..start + to
}

fn byte_of(line: &str, chars: usize) -> usize {
    line.char_indices()
        .nth(chars)
        .map_or(line.len(), |(at, _)| at)
}

/// The report for programs.
#[must_use]
pub fn json_report(loaded: &Loaded) -> Json {
    let veil = loaded.veil();
    let problems: Vec<Json> = sorted(loaded)
        .into_iter()
        .map(|problem| {
            let severity = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            json((loaded, &veil), problem, severity)
        })
        .collect();
    json!({ "ok": !loaded.problems.any_error(), "problems": problems, "left_out": loaded.problems.left_out() })
}

/// One problem for programs.
#[must_use]
pub(super) fn json((loaded, veil): (&Loaded, &Veil), problem: &Problem, severity: &str) -> Json {
    let mark = loaded.mark(problem);
    let words = |words: &str| veil.words(problem, words);
    let source = loaded.sources.get(mark.file);
    json!({
        "code": problem.code,
        "severity": severity,
        "file": source.map(|source| source.path.display().to_string()),
        "line": mark.line,
        "column": mark.col,
        "place": problem.place.to_string(),
        "message": words(&problem.what),
        "hint": problem.hint.as_deref().map(words),
    })
}
