//! Where every node of a YAML text stands, and which keys are written twice.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScanError, Span};

use crate::base::problem::Place;
use crate::base::problem::{Mark, Problem};

/// How deep a document may nest; deeper ones are mistakes or attacks.
const DEPTH_MAX: usize = 64;
/// How many nodes the aliases of a document may stand for together; ~100 MB.
const ALIASED_MAX: usize = 500_000;

/// A node's place in the text, and those of its children.
#[derive(Debug, Clone)]
pub struct Marks {
    /// Where the node begins.
    pub mark: Mark,
    /// Its children.
    pub kind: MarksKind,
}

/// The children of a [`Marks`].
#[derive(Debug, Clone)]
pub enum MarksKind {
    /// A scalar.
    Leaf,
    /// A list.
    List(Vec<Marks>),
    /// A map: key, where the key stands, the value.
    Map(Vec<(String, Mark, Marks)>),
}

/// Reads the marks of `text`, which is file number `file`. Mistakes go to `problems`.
///
/// # Errors
/// The problem that ended the reading: a syntax error, nesting beyond 64 levels, or an alias that multiplies too far.
pub(super) fn read(
    text: &str,
    file: usize,
    problems: &mut Vec<Problem>,
) -> Result<Option<Marks>, Box<Problem>> {
    let mut reader = Reader {
        text,
        events: Parser::new_from_str(text),
        file,
        anchors: HashMap::new(),
        nodes: 0,
        aliased: 0,
        problems,
    };
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(None),
            (Event::DocumentStart(_) | Event::StreamStart | Event::Nothing, _) => {}
            (event, span) => {
                let marks = reader.node(&event, &span, 0)?;
                reader.end()?;
                return Ok(Some(marks));
            }
        }
    }
}

/// The most frequent reasons why a text is no YAML.
pub(super) const QUOTES: &str = "indent by spaces, close what is open, and quote a text that holds `{`, `}`, `[`, `]`, `,`, `#` or `: `";

struct Reader<'t, 'p> {
    text: &'t str,
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    file: usize,
    anchors: HashMap<usize, (Marks, usize)>,
    nodes: usize,
    aliased: usize,
    problems: &'p mut Vec<Problem>,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Box<Problem>> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Box::new(self.syntax(&error))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// A file is one document.
    fn end(&mut self) -> Result<(), Box<Problem>> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    let problem = Problem::error("E001", Place::root(), "a second document");
                    return Err(Box::new(
                        problem
                            .hint("take the `---` out, or put what follows into `conf.d`")
                            .mark(self.mark(&span)),
                    ));
                }
                _ => {}
            }
        }
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let marker = error.marker();
        let line = marker.line().max(1);
        let mark = |line: usize, col: usize| Mark {
            file: self.file,
            line,
            col,
            len: 1,
        };
        // The parser names where the text before the tab began.
        let tab = |text: &str| {
            let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
            text.get(..blank)?.find('\t')
        };
        let lines = self.text.lines().enumerate().skip(line - 1).take(2);
        let tab = lines
            .filter_map(|(index, text)| Some((index + 1, tab(text)? + 1)))
            .next();
        if let Some((line, col)) = tab.filter(|_| error.info().contains("tab")) {
            return Problem::error("E001", Place::root(), "a tab where spaces indent")
                .hint("YAML is indented with spaces only")
                .mark(mark(line, col));
        }
        let what = format!("not valid YAML: {}", error.info());
        let hint = match error.info().contains("anchor") {
            true => {
                "an alias `*name` stands below its anchor `&name`; quote a text that begins with `*` or `&`"
            }
            false => QUOTES,
        };
        Problem::error("E001", Place::root(), what)
            .hint(hint)
            .mark(mark(line, marker.col() + 1))
    }

    fn node(
        &mut self,
        event: &Event<'t>,
        span: &Span,
        depth: usize,
    ) -> Result<Marks, Box<Problem>> {
        let mark = self.mark(span);
        if depth > DEPTH_MAX {
            let what = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Box::new(
                Problem::error("E001", Place::root(), what)
                    .hint("nothing in this language nests so deep; is a bracket missing?")
                    .mark(mark),
            ));
        }
        self.nodes += 1;
        let before = self.nodes;
        let (anchor, kind) = match event {
            Event::Alias(id) => return self.alias(*id, mark),
            Event::SequenceStart(anchor, _) => (*anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (*anchor, self.map(depth)?),
            Event::Scalar(_, _, anchor, _) => (*anchor, MarksKind::Leaf),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => (0, MarksKind::Leaf),
        };
        let mark = match &kind {
            // A map without braces begins with its first key.
            MarksKind::Map(entries) => entries
                .first()
                .map(|(_, key, _)| *key)
                .filter(|key| (key.line, key.col) == (mark.line, mark.col))
                .unwrap_or(mark),
            MarksKind::Leaf | MarksKind::List(_) => mark,
        };
        let marks = Marks { mark, kind };
        if anchor > 0 {
            self.anchors
                .insert(anchor, (marks.clone(), self.nodes - before + 1));
        }
        Ok(marks)
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Result<Marks, Box<Problem>> {
        let Some(size) = self.anchors.get(&id).map(|(_, size)| *size) else {
            let problem =
                Problem::error("E001", Place::root(), "an alias within what it stands for");
            return Err(Box::new(problem.hint("write it out").mark(mark)));
        };
        // Counted before it is copied.
        self.count(size, mark)?;
        let copy = self.anchors.get(&id).map(|(marks, _)| marks.clone());
        Ok(copy.unwrap_or(Marks {
            mark,
            kind: MarksKind::Leaf,
        }))
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Box<Problem>> {
        self.nodes += nodes;
        self.aliased += nodes;
        if self.aliased <= ALIASED_MAX {
            return Ok(());
        }
        let what = format!("aliases that stand for more than {ALIASED_MAX} nodes");
        let hint =
            "write it out; an alias that repeats other aliases multiplies what it stands for";
        Err(Box::new(
            Problem::error("E001", Place::root(), what)
                .hint(hint)
                .mark(mark),
        ))
    }

    fn list(&mut self, depth: usize) -> Result<MarksKind, Box<Problem>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(MarksKind::List(items)),
                (event, span) => items.push(self.node(&event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<MarksKind, Box<Problem>> {
        let mut entries: Vec<(String, Mark, Marks)> = Vec::new();
        let mut seen: HashMap<String, (Mark, usize)> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            let key_mark = self.mark(&span);
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(MarksKind::Map(entries));
            }
            let key = if let Event::Scalar(text, ..) = event {
                text.into_owned()
            } else {
                self.node(&event, &span, depth + 1)?;
                let problem = Problem::error("E001", Place::root(), "a key has to be a word");
                let problem = problem.hint("write `word: value`; quote a key that holds a bracket");
                self.problems.push(problem.mark(key_mark));
                String::new()
            };
            let (event, span) = self.next()?;
            let value = self.node(&event, &span, depth + 1)?;
            if let Some((first, at)) = seen.get(&key).copied() {
                let what = format!("`{key}` is written twice");
                let hint = format!(
                    "the first is at line {}:{}; keep one of them",
                    first.line, first.col
                );
                self.problems.push(
                    Problem::error("E002", Place::root(), what)
                        .hint(hint)
                        .mark(key_mark),
                );
                // The other reader keeps the last one: marks and values are of the same.
                if let Some(entry) = entries.get_mut(at) {
                    *entry = (key, key_mark, value);
                }
                continue;
            }
            seen.insert(key.clone(), (key_mark, entries.len()));
            entries.push((key, key_mark, value));
        }
    }

    fn mark(&self, span: &Span) -> Mark {
        let one_line = span.start.line() == span.end.line();
        let len = if one_line {
            span.end.index().saturating_sub(span.start.index())
        } else {
            1
        };
        Mark {
            file: self.file,
            line: span.start.line().max(1),
            col: span.start.col() + 1,
            len: len.max(1),
        }
    }
}
