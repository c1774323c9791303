//! A strict reader of what `/metrics` answers, in either format: what the grammars allow and larder never writes is refused, too.

use std::collections::{BTreeMap, BTreeSet};

/// A family as it was told.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// All families by the name that they are told under, or the line that is wrong, and why.
pub fn read(text: &str, is_open: bool) -> Result<BTreeMap<String, Family>, String> {
    let body = match (text.strip_suffix("# EOF\n"), is_open) {
        (Some(body), true) => body,
        (None, false) => text,
        _ => return Err("only OpenMetrics ends with EOF, and always".into()),
    };
    let body = body.strip_suffix('\n').ok_or("the last line has no end")?;
    let mut reader = Reader { is_open, ..Reader::default() };
    for line in body.split('\n') {
        reader.line(line).map_err(|why| format!("{why}: {line}"))?;
    }
    reader.end_family()?;
    Ok(reader.families)
}

/// Labels in the order in which they are told.
type Labels = Vec<(String, String)>;

#[derive(Default)]
struct Reader {
    is_open: bool,
    families: BTreeMap<String, Family>,
    /// The family that lines belong to, and whether its type was told.
    current: Option<(String, bool)>,
    series: BTreeSet<(String, Labels)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(about) = line.strip_prefix("# ") else { return self.sample(line) };
        let mut words = about.splitn(3, ' ');
        let (Some(what), Some(name), Some(text)) = (words.next(), words.next(), words.next()) else {
            return Err("not enough words".into());
        };
        if !is_name(name, true) {
            return Err("no name".into());
        }
        match what {
            "HELP" => {
                self.end_family()?;
                let quotes: &[char] = if self.is_open { &['\\', 'n', '"'] } else { &['\\', 'n'] };
                unescape(text, quotes, self.is_open)?;
                self.current = Some((name.to_owned(), false));
                match self.families.insert(name.to_owned(), Family::default()) {
                    None => Ok(()),
                    Some(_) => Err("a family twice".into()),
                }
            }
            "TYPE" => {
                let Some((current, told @ false)) = &mut self.current else { return Err("a type without a help before".into()) };
                *told = true;
                let known: &[&str] =
                    if self.is_open { &["counter", "gauge", "histogram", "info"] } else { &["counter", "gauge", "histogram"] };
                if current != name || !known.contains(&text) {
                    return Err("a type of another family, or an unknown one".into());
                }
                self.families.get_mut(name).expect("its help was told").kind = text.to_owned();
                Ok(())
            }
            "UNIT" if self.is_open => {
                let is_own = self.current.as_ref().is_some_and(|(current, told)| current == name && *told);
                let ends = name.strip_suffix(text).is_some_and(|before| before.ends_with('_'));
                if is_own && ends { Ok(()) } else { Err("a unit that its family does not end with".into()) }
            }
            _ => Err("neither help, type nor unit".into()),
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let Some((family, true)) = self.current.clone() else { return Err("a sample before its type".into()) };
        let name_end = line.find(['{', ' ']).ok_or("no value")?;
        let name = &line[..name_end];
        let (labels, value) =
            if line[name_end..].starts_with('{') { labels(&line[name_end + 1..])? } else { (Vec::new(), &line[name_end..]) };
        let value = value.strip_prefix(' ').ok_or("no space before the value")?;
        let value: f64 = match value {
            "+Inf" => f64::INFINITY,
            plain if plain.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'e')) => {
                plain.parse().map_err(|_| "no number")?
            }
            _ => return Err("no number".into()),
        };
        let kind = self.families[&family].kind.clone();
        let endings: &[&str] = match (kind.as_str(), self.is_open) {
            ("counter", true) => &["_total"],
            ("info", true) => &["_info"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        if !endings.iter().any(|ending| name.strip_suffix(ending) == Some(family.as_str())) {
            return Err(format!("a sample of another family than {family}"));
        }
        if kind == "counter" && !(name.ends_with("_total") && value.is_finite() && value >= 0.0) {
            return Err("no counter".into());
        }
        let mut sorted = labels.clone();
        sorted.sort();
        if !self.series.insert((name.to_owned(), sorted)) {
            return Err("a series twice".into());
        }
        let count = labels.len();
        let labels: BTreeMap<String, String> = labels.into_iter().collect();
        if labels.len() != count || labels.contains_key("le") != name.ends_with("_bucket") {
            return Err("a label twice, or a bound where none belongs".into());
        }
        self.families.get_mut(&family).expect("it is current").samples.push(Sample { name: name.to_owned(), labels, value });
        Ok(())
    }

    /// Whether the family that ends here is whole.
    fn end_family(&mut self) -> Result<(), String> {
        let Some((name, told)) = self.current.take() else { return Ok(()) };
        let family = &self.families[&name];
        if !told || family.samples.is_empty() {
            return Err(format!("{name} has no type, or no samples"));
        }
        if family.kind != "histogram" {
            return Ok(());
        }
        let mut each: BTreeMap<BTreeMap<String, String>, Vec<&Sample>> = BTreeMap::new();
        for sample in &family.samples {
            let mut labels = sample.labels.clone();
            labels.remove("le");
            each.entry(labels).or_default().push(sample);
        }
        for (labels, samples) in each {
            let wrong = |why: &str| Err(format!("{name}{labels:?}: {why}"));
            let (buckets, rest): (Vec<&Sample>, Vec<&Sample>) = samples.into_iter().partition(|sample| sample.labels.contains_key("le"));
            let bound = |sample: &Sample| {
                if sample.labels["le"] == "+Inf" { f64::INFINITY } else { sample.labels["le"].parse().unwrap_or(f64::NAN) }
            };
            let rising = buckets.windows(2).all(|two| bound(two[0]) < bound(two[1]) && two[0].value <= two[1].value);
            if !rising || buckets.iter().any(|bucket| bound(bucket).is_nan()) {
                return wrong("its buckets do not rise");
            }
            let of = |ending: &str| rest.iter().find(|sample| sample.name == format!("{name}{ending}")).map(|sample| sample.value);
            let last = buckets.last().filter(|bucket| bound(bucket).is_infinite()).map(|bucket| bucket.value);
            if rest.len() != 2 || of("_sum").is_none() || of("_count").is_none() || last != of("_count") {
                return wrong("its last bucket is not all that there are");
            }
        }
        Ok(())
    }
}

/// Labels behind their brace, and what comes behind them.
fn labels(text: &str) -> Result<(Labels, &str), String> {
    let (mut rest, mut labels) = (text, Vec::new());
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name, false) {
            return Err("no name of a label".into());
        }
        let end =
            (0..after.len()).find(|at| after.as_bytes()[*at] == b'"' && !is_escaped(&after[..*at])).ok_or("a label without an end")?;
        labels.push((name.to_owned(), unescape(&after[..end], &['\\', 'n', '"'], true)?));
        match after[end + 1..].split_at_checked(1) {
            Some((",", more)) => rest = more,
            Some(("}", more)) => return Ok((labels, more)),
            _ => return Err("labels without an end".into()),
        }
    }
}

fn is_escaped(before: &str) -> bool {
    before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn unescape(text: &str, known: &[char], quotes_escaped: bool) -> Result<String, String> {
    let (mut plain, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().filter(|escaped| known.contains(escaped)) {
                Some('n') => plain.push('\n'),
                Some(escaped) => plain.push(escaped),
                None => return Err("an unknown escape".into()),
            },
            '"' if quotes_escaped => return Err("a bare quote".into()),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

fn is_name(text: &str, with_colons: bool) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || (with_colons && c == ':');
    text.chars().all(good) && text.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

#[test]
fn what_is_wrong_is_found() {
    let good = "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1.0\"} 1\na_bucket{le=\"+Inf\"} 2\na_sum 3.5\na_count 2\n\
        # HELP b_total B.\n# TYPE b_total counter\nb_total{n=\"x\\\"\\\\\\n\"} 2\nb_total{n=\"y\"} 1\n";
    let read_good = read(good, false).unwrap();
    assert_eq!(read_good["b_total"].samples[0].labels["n"], "x\"\\\n");
    assert!(read(&format!("{good}# EOF\n"), false).is_err() && read(good, true).is_err());
    for (part, broken) in [
        ("a_count 2", "a_count 3"),
        ("a_sum 3.5\n", ""),
        ("{le=\"1.0\"} 1", "{le=\"1.0\"} 3"),
        ("{le=\"1.0\"} 1", "{le=\"+Inf\"} 1"),
        ("{n=\"y\"} 1", "{n=\"x\\\"\\\\\\n\"} 1"),
        ("{n=\"y\"} 1", "{n=\"y\",n=\"z\"} 1"),
        ("{n=\"y\"} 1", "{n=\"y\"}"),
        ("{n=\"y\"} 1", "{n=\"\\y\"} 1"),
        ("{n=\"y\"} 1", "{n=\"y} 1"),
        ("{n=\"y\"} 1", "{1n=\"y\"} 1"),
        ("{n=\"y\"} 1", "{n=\"y\"} -1"),
        ("{n=\"y\"} 1", "{n=\"y\"} one"),
        ("{n=\"y\"} 1", "{n=\"y\"} 1\n"),
        ("{n=\"y\"} 1", "{n=\"y\"} 1\nc 1"),
        ("# TYPE b_total counter\n", ""),
        ("# HELP b_total B.\n", ""),
        ("# TYPE b_total counter", "# TYPE b_total number"),
        ("# HELP b_total B.\n# TYPE b_total counter", "# HELP a A.\n# TYPE a counter"),
        ("b_total", "b"),
    ] {
        assert!(good.contains(part));
        assert!(read(&good.replace(part, broken), false).is_err(), "{part:?} -> {broken:?} is not noticed");
    }
}
